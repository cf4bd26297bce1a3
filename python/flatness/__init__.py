"""How flat is this minimum, how sure are we, and is it flatter than that one?

    report = flatness.analyze(model, loader, loss="cross_entropy", top=10)   # tables, figures, numbers with their errors
    H = flatness.Hessian(model, loader, loss="cross_entropy")                # H @ v, scipy.sparse.linalg.eigsh(H)

NumPy alone is required; modules need PyTorch 2.5 or later. `python -m flatness` is the command line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import _native
from ._commands import analyze, check, compare, evaluate, landscape, llc, sharpness, train
from ._errors import ExportError, FlatnessError
from ._monitor import Monitor
from ._objective import (
    GGN,
    Curvature,
    Eigenpairs,
    EmpiricalFisher,
    GradientCovariance,
    Hessian,
    MCFisher,
    Objective,
    Quadrature,
    Residual,
    Trace,
    Value,
)
from ._report import Estimate, Figure, Report, read
from ._rows import Rows, collect
from ._tables import Table

if TYPE_CHECKING:
    from ._export import Traced, export, trace
    from ._weights import weights

__version__: str = _native.__version__
__all__ = [
    "GGN",
    "Curvature",
    "Eigenpairs",
    "EmpiricalFisher",
    "Estimate",
    "ExportError",
    "Figure",
    "FlatnessError",
    "GradientCovariance",
    "Hessian",
    "MCFisher",
    "Monitor",
    "Objective",
    "Quadrature",
    "Report",
    "Residual",
    "Rows",
    "Table",
    "Trace",
    "Traced",
    "Value",
    "analyze",
    "check",
    "collect",
    "compare",
    "evaluate",
    "export",
    "landscape",
    "llc",
    "read",
    "sharpness",
    "trace",
    "train",
    "weights",
]
# What needs PyTorch, imported when it is used.
_LATE = {"Traced": "_export", "export": "_export", "trace": "_export", "weights": "_weights"}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module 'flatness' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_LATE[name]}", __name__), name)
