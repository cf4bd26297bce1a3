"""The state of an optimiser, as a file that the commands read."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ._errors import FlatnessError
from ._objective import Objective

_KEY = "optimizer_state"


@contextmanager
def with_optimizer(model: Any, more: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The keywords `more`, with a path in place of an optimiser of PyTorch; its file lives as long as the block."""
    optimizer = more.get(_KEY)
    if not hasattr(optimizer, "state_dict"):
        yield more
        return
    import torch

    with tempfile.TemporaryDirectory(prefix="flatness-") as folder:
        path = Path(folder) / "optimizer.pth"
        torch.save(_named(optimizer, model), path)
        yield {**more, _KEY: path}


def _named(optimizer: Any, model: Any) -> dict[str, Any]:
    """Its state, where each parameter has its name in the module: then no order matters."""
    from ._export import unwrapped

    state: dict[str, Any] = optimizer.state_dict()
    module = model._problem.module if isinstance(model, Objective) else model
    if not hasattr(module, "named_parameters"):
        return state
    names = {id(param): name for name, param in unwrapped(module).named_parameters()}
    for group, saved in zip(optimizer.param_groups, state["param_groups"]):
        found = [names.get(id(param)) for param in group["params"]]
        if None in found:
            raise FlatnessError("the optimiser has parameters that the module has not", "pass the module's own optimiser")
        saved["param_names"] = found
    return state
