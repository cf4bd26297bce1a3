"""A module with its rows and its loss, as the native part holds them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from . import _export, _losses, _native, _rows
from ._errors import FlatnessError


@dataclass(frozen=True)
class Problem:
    """A traced module with its weights, and the rows of its loss."""

    name: str
    network: _native.Network
    rows: _native.Rows
    traced: _export.Traced
    module: Any
    notes: list[str]

    @classmethod
    def of(cls, model: Any, data: Any, loss: Any, *, num_rows: int | None, weight_decay: float) -> Problem:
        """Traces the module, unless it is traced already, and reads the rows."""
        if data is None:
            raise FlatnessError("there are no data", "pass a loader, (inputs, targets), or a dict of tensors")
        if isinstance(model, _export.Traced):
            traced, module = model, None
            rows = _rows.collect(data, num_rows=num_rows, names=traced.arguments)
        else:
            module = model
            rows = _rows.collect(data, num_rows=num_rows, names=_export.arguments(module))
            if loss is None:
                loss, shifted = _losses.default(module)
                if shifted and rows.targets is not None:
                    rows = replace(rows, targets=_losses.shift_labels(rows.targets))
            traced = _export.trace(module, rows, loss=loss, weight_decay=weight_decay)
        arrays = {traced.inputs[traced.arguments.index(name)]: array for name, array in rows.inputs.items()}
        if rows.targets is not None:
            arrays["y"] = rows.targets
        return cls(
            name=traced.name,
            network=_native.Network(traced.name, traced.content, traced.tensors),
            rows=_native.Rows(arrays),
            traced=traced,
            module=module,
            notes=[*traced.notes, *rows.notes],
        )

    def updated(self, model: Any) -> Problem:
        """The same graphs and rows with new weights."""
        model = self.module if model is None else model
        if model is None:
            raise FlatnessError("there is no module to take weights from", "pass a module or a state dict")
        traced = _export.reweighted(self.traced, model)
        network = _native.Network(traced.name, traced.content, traced.tensors)
        return replace(self, network=network, traced=traced)
