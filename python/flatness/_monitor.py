"""Curvature while a module trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ._errors import FlatnessError
from ._objective import Curvature, GGN, Hessian, Objective

_QUANTITIES = ("lambda_max", "lambda_min", "trace", "ggn_lambda_max", "loss", "gradient_norm", "parameter_norm")


class Monitor:
    """Curvature of a module on fixed rows, every few steps of any training loop.

    `monitor(step)` returns a flat dict such as `{"flatness/lambda_max": 12.3, "flatness/lambda_max_residual": 0.01}` at
    step 0 and every `every` steps, else an empty one: `wandb.log(monitor(step), step=step)` and the loggers of TensorBoard and
    MLflow take it as it is. Rows and graph are read once; each time, the current weights are copied.

    Quantities: `lambda_max`, `lambda_min` and `ggn_lambda_max` by Lanczos from the last eigenvector on, each with `_residual`,
    the norm `|Hv - lambda v|`, within which there is an eigenvalue; `trace` by Hutchinson with `probes` probes, the same each
    time, and its standard error `_std_err`; `loss`, `gradient_norm` and `parameter_norm`, exact. Cost: at most `products`
    products for each eigenvalue and `probes` for the trace, over the rows given.
    """

    def __init__(
        self,
        model: Any,
        batch: Any,
        loss: Any = None,
        *,
        every: int = 500,
        quantities: Sequence[str] = ("lambda_max", "trace", "loss"),
        products: int = 30,
        probes: int = 8,
        seed: int = 0,
        prefix: str = "flatness/",
        **more: Any,
    ) -> None:
        unknown = [name for name in quantities if name not in _QUANTITIES]
        if unknown:
            raise FlatnessError(f"there is no quantity `{unknown[0]}`", f"use {', '.join(_QUANTITIES)}")
        if every < 1 or products < 4 or probes < 2:
            raise FlatnessError(
                f"every is {every}, products {products}, probes {probes}", "use 1, 4 and 2 or more of them"
            )
        self.objective = Objective(model, batch, loss, seed=seed, **more)
        self.every, self.quantities, self.products, self.probes = every, tuple(quantities), products, probes
        self.seed, self.prefix = seed, prefix
        self._starts: dict[str, Any] = {}

    def __call__(self, step: int) -> dict[str, float]:
        """The quantities at the current weights where `step` is due, else nothing."""
        return self.measure() if step % self.every == 0 else {}

    def measure(self) -> dict[str, float]:
        """The quantities at the current weights."""
        self.objective.update()
        found: dict[str, float] = {}
        hessian = Hessian(self.objective)
        for name in self.quantities:
            if name in ("lambda_max", "lambda_min"):
                self._extreme(hessian, name, found)
            elif name == "ggn_lambda_max":
                self._extreme(GGN(self.objective), name, found)
            elif name == "trace":
                trace = hessian.trace(self.probes, seed=self.seed)
                found["trace"], found["trace_std_err"] = trace.value, trace.std_err_numeric
            elif name == "loss":
                found["loss"] = self.objective.loss().value
            elif name == "gradient_norm":
                found["gradient_norm"] = float(np.linalg.norm(self.objective.gradient().astype(np.float64)))
            else:
                found["parameter_norm"] = float(np.linalg.norm(self.objective.weights().astype(np.float64)))
        return {self.prefix + name: value for name, value in found.items()}

    def _extreme(self, matrix: Curvature, name: str, found: dict[str, float]) -> None:
        """An extreme eigenvalue, from the last eigenvector on."""
        top = 1 if name.endswith("max") else 0
        pairs = matrix.eigenpairs(
            top, 1 - top, max_matvecs=self.products, seed=self.seed, start=self._starts.get(name)
        )
        self._starts[name] = pairs.vectors
        found[name], found[f"{name}_residual"] = float(pairs.values[0]), float(pairs.residual_norms[0])
