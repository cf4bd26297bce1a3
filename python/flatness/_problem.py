"""A module with its rows and its loss, as the native part holds them."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from . import _native
from ._errors import FlatnessError
from ._export import Traced, argument_names, trace, unwrapped
from ._losses import default, shift_labels
from ._rows import Array, Rows, collect
from ._safetensors import write
from ._weights import reweighted

# Rows that are enough to trace a module.
_SAMPLE = 3


@dataclass(frozen=True)
class Problem:
    """A traced module with its weights, and the rows of its loss."""

    name: str
    network: _native.Network
    rows: _native.Rows
    traced: Traced
    module: Any
    arrays: dict[str, Array]
    notes: list[str]

    @classmethod
    def of(cls, model: Any, data: Any, loss: Any, *, num_rows: int | None, weight_decay: float) -> Problem:
        """Traces the module, unless it is traced already, and reads the rows."""
        if data is None:
            raise FlatnessError("there are no data", "pass a loader, (inputs, targets), or a dict of tensors")
        if isinstance(model, Traced):
            if loss is not None or weight_decay:
                raise FlatnessError("the module is traced already", "give loss and weight_decay to flatness.export")
            traced, module = model, None
            rows = collect(data, num_rows=num_rows, names=traced.arguments)
        else:
            if not isinstance(model, torch.nn.Module):
                raise FlatnessError(f"the model is a {type(model).__name__}", "pass a torch.nn.Module")
            module = model
            rows, loss = _rows_and_loss(model, data, loss, num_rows)
            inputs = {name: torch.from_numpy(values[:_SAMPLE]) for name, values in rows.inputs.items()}
            targets = None if rows.targets is None else torch.from_numpy(rows.targets[:_SAMPLE])
            by_place = argument_names(model) is None
            sample = tuple(inputs.values()) if by_place else inputs
            traced = trace(model, sample, loss=loss, targets=targets, weight_decay=weight_decay)
        arrays = _arrays(traced, rows)
        name = json.loads(traced.content)["name"]
        network = _native.Network(name, traced.content, traced.tensors)
        notes = [*traced.notes, *rows.notes]
        return cls(name, network, _native.Rows(arrays), traced, module, arrays, notes)

    def updated(self, model: Any) -> Problem:
        """The same graphs and rows with new weights."""
        model = self.module if model is None else model
        if model is None:
            raise FlatnessError("there is no module to take weights from", "pass a module or a state dict")
        traced = reweighted(self.traced, model)
        return replace(self, network=_native.Network(self.name, traced.content, traced.tensors), traced=traced)

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Writes network and rows as files that the command reads; returns their paths."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FlatnessError(f"cannot write {folder}: {error.strerror}", "choose another folder with out") from error
        network, rows = folder / "network.safetensors", folder / "rows.safetensors"
        tensors = {name: torch.from_numpy(values) for name, values in self.traced.tensors.items()}
        write(network, tensors, {"flatness.export": self.traced.content})
        write(rows, {name: torch.from_numpy(values) for name, values in self.arrays.items()}, {})
        return network, rows


def _rows_and_loss(model: Any, data: Any, loss: Any, num_rows: int | None) -> tuple[Rows, Any]:
    """The rows by the module's names, and the loss, which a model of transformers brings."""
    rows = collect(data, num_rows=num_rows, names=argument_names(model))
    if loss is None:
        loss, is_shifted = default(unwrapped(model))
        if is_shifted and rows.targets is not None:
            rows = replace(rows, targets=shift_labels(rows.targets))
    return rows, loss


def _arrays(traced: Traced, rows: Rows) -> dict[str, Array]:
    """The rows under the names of the program, as row-major arrays."""
    names = dict(zip(traced.arguments, traced.inputs))
    arrays = {names.get(name, name): values for name, values in rows.inputs.items()}
    if rows.targets is not None:
        arrays["y"] = rows.targets
    return {name: _plain(values) for name, values in arrays.items()}


def _plain(values: Array) -> Array:
    """Row-major, in the machine's byte order."""
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    return values if values.flags.c_contiguous else values.copy(order="C")
