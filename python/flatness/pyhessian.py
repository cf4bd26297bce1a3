"""PyHessian's interface (Yao et al., 2020) on this engine: change the import, keep the script.

    from flatness.pyhessian import hessian      # was: from pyhessian import hessian

Return values have PyHessian's shapes. They differ from PyHessian's own numbers in this: eigenvalues come from Lanczos with
a checked residual instead of power iteration, so pairs close in size are separated; a loader's batches are weighted by their
rows; the spectral density re-orthogonalises its basis, so that no eigenvalue appears twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from ._errors import FlatnessError
from ._objective import Hessian, Objective

# Probes of one pass over the rows.
_BLOCK = 8


class hessian:  # noqa: N801 (PyHessian's name)
    """The Hessian of `criterion` on one batch `data = (inputs, targets)` or on all of a `dataloader`, in eval mode.

    `cuda` says where the vectors come back; the computation runs on the CPU. `seed` and further options are those of
    `flatness.Objective`.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        criterion: Any,
        data: Any = None,
        dataloader: Iterable[Any] | None = None,
        cuda: bool = False,
        *,
        seed: int = 0,
        **more: Any,
    ) -> None:
        if (data is None) == (dataloader is None):
            raise FlatnessError("data and dataloader are both given, or neither", "pass one of them")
        rows = data if dataloader is None else dataloader
        self.objective = Objective(model, rows, criterion, seed=seed, **more)
        self.matrix = Hessian(self.objective)
        self.seed = seed
        self.device = "cuda" if cuda and torch.cuda.is_available() else "cpu"

    def eigenvalues(
        self, maxIter: int = 100, tol: float = 1e-3, top_n: int = 1  # noqa: N803 (PyHessian's names)
    ) -> tuple[list[float], list[list[torch.Tensor]]]:
        """The `top_n` eigenvalues of the largest size, and their unit eigenvectors as lists of tensors by parameter.

        `tol` bounds residuals relative to the largest |eigenvalue|, `maxIter` the products for each eigenvalue.
        """
        dim = self.matrix.shape[0]
        if not 1 <= top_n <= dim:
            raise FlatnessError(f"top_n is {top_n}", f"use 1 to {dim}")
        # The largest in size may lie at either end.
        top, bottom = (top_n, min(top_n, dim - top_n))
        pairs = self.matrix.eigenpairs(
            top, bottom, tolerance=tol, max_matvecs=max(maxIter * top_n, 4 * (top + bottom)), seed=self.seed
        )
        order = np.argsort(-np.abs(pairs.values), kind="stable")[:top_n]
        return [float(pairs.values[place]) for place in order], [self._parts(pairs.vectors[place]) for place in order]

    def trace(self, maxIter: int = 100, tol: float = 1e-3) -> list[float]:  # noqa: N803
        """`v @ H @ v` for random signs `v`: their mean is the trace.

        Probes are added until the mean changes by less than `tol` relative to itself, at most `maxIter` of them.
        """
        samples: list[float] = []
        mean = 0.0
        while len(samples) < maxIter:
            count = min(_BLOCK, max(2, maxIter - len(samples)))
            fresh = self.matrix.trace(count, seed=self.seed + 1 + len(samples)).samples
            for sample in fresh[: maxIter - len(samples)]:
                samples.append(float(sample))
                last, mean = mean, float(np.mean(samples))
                if len(samples) > 1 and abs(mean - last) / (abs(last) + 1e-6) < tol:
                    return samples
        return samples

    def density(self, iter: int = 100, n_v: int = 1) -> tuple[list[list[float]], list[list[float]]]:
        """Nodes and weights of `n_v` Gauss rules of `iter` steps each, by Lanczos quadrature: weights of a rule add up to 1."""
        if n_v < 1 or iter < 1:
            raise FlatnessError(f"iter is {iter} and n_v {n_v}", "use 1 or more")
        steps = min(iter, self.matrix.shape[0])
        rules = self.matrix.quadrature(max(n_v, 2), steps, seed=self.seed)
        nodes, weights = rules.nodes[:n_v], rules.weights[:n_v]
        return [rule.tolist() for rule in nodes], [rule.tolist() for rule in weights]

    def _parts(self, vector: Any) -> list[torch.Tensor]:
        parts = self.objective.tensors(vector).values()
        return [torch.from_numpy(part.copy()).to(self.device) for part in parts]
