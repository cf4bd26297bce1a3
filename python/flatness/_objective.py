"""The mean loss of a module over rows, and its curvature matrices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import _native
from ._errors import FlatnessError
from ._options import options

if TYPE_CHECKING:
    import torch

Array = np.ndarray[Any, Any]


class Value(NamedTuple):
    """A mean over rows with its standard error over them."""

    value: float
    std_err: float


@dataclass(frozen=True)
class Eigenpairs:
    """Extreme eigenpairs, the largest eigenvalues first and then the smallest."""

    values: Array
    """Eigenvalues `[k]`: descending from the largest, then ascending from the smallest."""
    residual_norms: Array
    """`|Hv - lambda v|` `[k]` of unit `v`: within it there is an eigenvalue."""
    std_err_data: Array
    """Standard errors `[k]` from the choice of rows; NaN where there is one shard only."""
    converged: Array
    """Whether the residual norms are within the tolerance `[k]`."""
    vectors: Array
    """Unit eigenvectors as rows `[k, n]`."""
    num_matvecs: int
    """Products."""


@dataclass(frozen=True)
class Trace:
    """An estimate of a trace."""

    value: float
    std_err_numeric: float
    """Standard error from the probes."""
    std_err_data: float
    """Standard error from the choice of rows; NaN where there is one shard only."""
    samples: Array
    """`z @ H @ z` of each probe."""
    num_matvecs: int


@dataclass(frozen=True)
class Quadrature:
    """Gauss rules of the spectral measure: sums of `weights * f(nodes)` estimate the mean of `f` over the eigenvalues."""

    nodes: list[Array]
    """Ascending nodes of each rule."""
    weights: list[Array]
    """Their weights, which add up to 1."""
    num_matvecs: int


class Objective:
    """The mean loss of a module over rows, at a snapshot of its weights.

    `model` is a `torch.nn.Module` (it is traced by `torch.export`, and never changed) or what `flatness.export` gave for
    one; `data` is a loader, a tensor pair, a dict or anything else that `flatness.collect` reads, once; `loss` a name, a
    loss module of PyTorch, or a function `f(outputs, targets)` that gives a loss for each row. Without `loss`, whole-number
    targets mean cross-entropy, and a model of transformers its own loss.

    The weights are copied. After a change of the module, `update()` takes the new ones without tracing it again.

    Further options are those of `flatness analyze` on data, loss and computation, such as `threads=4`, `memory="4GiB"`,
    `subset=500` or `batch_norm="train"`. `weight_decay` adds `wd/2 |theta|^2` to the loss.
    """

    def __init__(
        self,
        model: Any,
        data: Any = None,
        loss: Any = None,
        *,
        num_rows: int | None = None,
        dtype: str = "float32",
        weight_decay: float = 0.0,
        **more: Any,
    ) -> None:
        from ._problem import Problem  # PyTorch is imported here at the earliest

        self._problem = Problem.of(model, data, loss, num_rows=num_rows, weight_decay=weight_decay)
        self._arguments = options({"dtype": _precision(dtype), "l2": "in" if weight_decay else None, **more})
        self._open()

    def _open(self) -> None:
        network, rows = self._problem.network, self._problem.rows
        self._native = _native.Objective(network, rows, [self._problem.name, *self._arguments])
        self._shapes: dict[str, tuple[int, ...]] = {name: tuple(shape) for name, shape in network.parameters}
        self._dim = sum(int(np.prod(shape)) for shape in self._shapes.values())

    @property
    def notes(self) -> list[str]:
        """What was noticed while the module was traced and the rows were read."""
        return [*self._problem.notes, *self._problem.network.notes]

    @property
    def statement(self) -> str:
        """Loss, rows and precision in one sentence, as reports state them."""
        return self._native.statement

    @property
    def num_params(self) -> int:
        """Number of parameters `n`."""
        return self._dim

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return self._native.num_rows

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of vectors and products."""
        return np.dtype(self._native.dtype)

    @property
    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the parameters by name, in the order of the flat vector."""
        return dict(self._shapes)

    def loss(self) -> Value:
        """The mean loss with its standard error over rows."""
        loss, std_err, _, _ = self._native.evaluate()
        return Value(loss, std_err)

    def accuracy(self) -> Value:
        """The share of right labels with its standard error over rows; NaN where targets are not classes."""
        _, _, accuracy, std_err = self._native.evaluate()
        return Value(accuracy, std_err)

    def gradient(self) -> Array:
        """The gradient `[n]` of the mean loss."""
        gradient: Array = self._native.gradient()
        return gradient

    def weights(self) -> Array:
        """The parameters `[n]`."""
        weights: Array = self._native.weights()
        return weights

    def update(self, model: Any = None) -> None:
        """Takes new weights: those that the traced module has now, or those of `model`, a module or a state dict.

        Matrices that were made before keep the old weights; theirs is an `update()` too.
        """
        self._problem = self._problem.updated(model)
        self._open()

    def vector(self, tensors: Mapping[str, Any]) -> Array:
        """The flat vector `[n]` of tensors by parameter name, such as a state dict or gradients; others are left out."""
        missing = [name for name in self._shapes if name not in tensors]
        if missing:
            raise FlatnessError(f"there is no tensor `{missing[0]}`", f"the parameters are {', '.join(self._shapes)}")
        parts = []
        for name, shape in self._shapes.items():
            part = as_array(tensors[name])
            if part.shape != shape:
                raise FlatnessError(f"`{name}` has shape {list(part.shape)}, but the parameter is {list(shape)}")
            parts.append(part.reshape(-1))
        return np.concatenate(parts).astype(self.dtype, copy=False) if parts else np.empty(0, self.dtype)

    def tensors(self, vector: Any) -> dict[str, Array]:
        """The parts of a flat vector `[n]` by parameter name, in the parameters' shapes: the inverse of `vector`."""
        flat = as_array(vector)
        if flat.shape != (self._dim,):
            raise FlatnessError(f"the vector has shape {list(flat.shape)}", f"give [{self._dim}]")
        parts, start = {}, 0
        for name, shape in self._shapes.items():
            size = int(np.prod(shape))
            parts[name] = flat[start : start + size].reshape(shape)
            start += size
        return parts

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._problem.name}, {self._dim:,} parameters: {self.statement})"


class Curvature:
    """A symmetric matrix `[n, n]` of an objective, known by its products.

    Made from an `Objective`, or from what one is made of: `Hessian(model, loader, loss="cross_entropy")`. SciPy's
    `eigsh`, `lobpcg` and `cg` take it as it is.
    """

    _curvature = ""

    def __init__(self, model: Any, data: Any = None, loss: Any = None, **more: Any) -> None:
        if isinstance(model, Objective):
            if data is not None or loss is not None or more:
                raise FlatnessError("an objective has its data and its loss already", "pass the objective alone")
            self.objective = model
        else:
            self.objective = Objective(model, data, loss, **more)
        self._native = self.objective._native.operator(self._curvature)

    def update(self, model: Any = None) -> None:
        """Takes new weights, as `Objective.update` does."""
        self.objective.update(model)
        self._native = self.objective._native.operator(self._curvature)

    @property
    def shape(self) -> tuple[int, int]:
        """`(n, n)`."""
        return (self.objective.num_params, self.objective.num_params)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of products."""
        return self.objective.dtype

    def matmat(self, vectors: Any) -> Array:
        """Products with the columns of `[n, k]`, all in one pass over the rows."""
        block = as_array(vectors)
        if block.ndim != 2 or block.shape[0] != self.shape[0]:
            raise FlatnessError(f"the vectors have shape {list(block.shape)}", f"give columns: [{self.shape[0]}, k]")
        if block.shape[1] == 0:
            return np.empty(block.shape, self.dtype)
        if np.iscomplexobj(block):
            raise FlatnessError("the vectors are complex", "the matrix is real: multiply real and imaginary part apart")
        rows = np.ascontiguousarray(block.T, dtype=self.dtype)
        products: Array = self._native.products(rows)
        return products.T

    def matvec(self, vector: Any) -> Array:
        """The product with `[n]` or `[n, 1]`, in the same shape."""
        flat = as_array(vector)
        if flat.shape not in ((self.shape[0],), (self.shape[0], 1)):
            raise FlatnessError(f"the vector has shape {list(flat.shape)}", f"give [{self.shape[0]}]")
        return self.matmat(flat.reshape(-1, 1)).reshape(flat.shape)

    # The matrix is symmetric.
    rmatvec = matvec
    rmatmat = matmat

    def __matmul__(self, other: Any) -> Any:
        product = self.matvec(other) if as_array(other).ndim == 1 else self.matmat(other)
        return _like(product, other)

    def __call__(self, other: Any) -> Any:
        return self @ other

    def dot(self, other: Any) -> Any:
        """The same as `@`."""
        return self @ other

    def eigenpairs(
        self,
        top: int = 5,
        bottom: int = 0,
        *,
        tolerance: float = 1e-4,
        max_matvecs: int = 1000,
        seed: int = 0,
        start: Any = None,
    ) -> Eigenpairs:
        """The `top` largest and the `bottom` smallest eigenvalues with their vectors.

        Block Lanczos with thick restarts (Wu and Simon, 2000). A pair has converged when its residual norm is at most
        `tolerance` times the largest |eigenvalue|; `max_matvecs` bounds the products. `start` `[k, n]` or `[n]` are vectors
        to begin with, such as those of an earlier result; others are random, by `seed`.
        """
        _not_negative(top=top, bottom=bottom, max_matvecs=max_matvecs, seed=seed)
        if not 0.0 < tolerance < np.inf:
            raise FlatnessError(f"tolerance is {tolerance}", "use a number above 0")
        rows = None
        if start is not None:
            rows = np.ascontiguousarray(np.atleast_2d(as_array(start)), dtype=self.dtype)
            if rows.ndim != 2 or rows.shape[1] != self.shape[0]:
                raise FlatnessError(f"start has shape {list(rows.shape)}", f"give rows: [k, {self.shape[0]}]")
            if not np.isfinite(rows).all():
                raise FlatnessError("start holds NaN or infinity", "leave it out to begin with random vectors")
        if top + bottom == 0:
            raise FlatnessError("no eigenvalues are asked for", "set top or bottom to 1 or more")
        asked = {"top": top, "bottom": bottom, "tolerance": tolerance, "max_matvecs": max_matvecs, "seed": seed}
        return Eigenpairs(**self._native.eigenpairs({**asked, "start": rows}))

    def trace(self, probes: int = 32, *, seed: int = 0) -> Trace:
        """Hutchinson's (1989) estimate of the trace: the mean of `z @ H @ z` over random signs `z`, with both errors.

        `analyze` gives the exact trace where there is one, at the price of a few gradients.
        """
        _not_negative(probes=probes, seed=seed)
        return Trace(**self._native.trace(probes, seed))

    def quadrature(self, probes: int = 10, steps: int = 80, *, seed: int = 0) -> Quadrature:
        """Gauss rules of the spectral measure by Lanczos quadrature (Ubaru, Chen and Saad, 2017), one for each probe.

        Cost: `probes * steps` products.
        """
        _not_negative(seed=seed)
        if probes < 2 or not 1 <= steps <= self.shape[0]:
            raise FlatnessError(f"probes is {probes} and steps {steps}", f"use 2 or more, and 1 to {self.shape[0]}")
        return Quadrature(**self._native.quadrature(probes, steps, seed))

    @property
    def T(self) -> Curvature:  # noqa: N802 (NumPy's name)
        """The matrix itself."""
        return self

    @property
    def H(self) -> Curvature:  # noqa: N802 (SciPy's name)
        """The matrix itself."""
        return self

    def aslinearoperator(self) -> Any:
        """As an operator of SciPy, which can be added, scaled and composed."""
        from scipy.sparse.linalg import aslinearoperator

        return aslinearoperator(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}{self.shape} of {self.objective.statement}"


class Hessian(Curvature):
    """The Hessian of the mean loss."""

    _curvature = "hessian"


class GGN(Curvature):
    """The generalised Gauss-Newton matrix: the Hessian with the network linearised at the weights (Schraudolph, 2002)."""

    _curvature = "ggn"


class Residual(Curvature):
    """The Hessian less the Gauss-Newton matrix."""

    _curvature = "residual"


class EmpiricalFisher(Curvature):
    """The mean of the outer products of the rows' gradients, at the labels of the data."""

    _curvature = "empirical_fisher"


class MCFisher(Curvature):
    """The Fisher matrix by one label for each row, drawn from the model; cross-entropy alone."""

    _curvature = "mc_fisher"


class GradientCovariance(Curvature):
    """The covariance of the rows' gradients: the empirical Fisher matrix less the outer product of the mean gradient."""

    _curvature = "gradient_covariance"


def as_array(value: Any) -> Array:
    """A tensor or array as an array, without a copy where it lies on the CPU."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) in ("torch.bfloat16", "torch.float16") else value
        return np.asarray(value.numpy())
    return np.asarray(value)


def _not_negative(**counts: int) -> None:
    """Refuses a negative number by its name."""
    for name, count in counts.items():
        if count < 0:
            raise FlatnessError(f"{name} is {count}", "use 0 or more")


def _like(product: Array, other: Any) -> Array | torch.Tensor:
    """An array for an array, a tensor for a tensor, on its device and of its type."""
    if not hasattr(other, "detach"):
        return product
    import torch

    return torch.from_numpy(np.ascontiguousarray(product)).to(device=other.device, dtype=other.dtype)


def _precision(dtype: Any) -> str:
    text = str(dtype).removeprefix("torch.").removeprefix("<class 'numpy.").removesuffix("'>")
    known = {"float32": "f32", "f32": "f32", "float64": "f64", "f64": "f64"}
    if text not in known:
        raise FlatnessError(f"dtype is {text}", "use float32 or float64")
    return known[text]
