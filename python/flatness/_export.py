"""A PyTorch module as what flatness reads: its weights, and the graphs of torch.export of eval and training mode."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import sympy  # type: ignore[import-untyped]
import torch
from torch import Tensor, nn
from torch._export.serde import schema, serialize
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from ._errors import ExportError
from ._losses import RowLoss, describe, is_log_likelihood
from ._module import Subject, argument_names, duplicate, some, unwrapped
from ._program import Program, logits, own
from ._safetensors import write

__all__ = ["ExportError", "Traced", "argument_names", "export", "trace", "unwrapped"]

# What NumPy lacks.
_WIDENED = {torch.bfloat16, *(getattr(torch, name) for name in dir(torch) if name.startswith(("float8", "float4")))}


@dataclass(frozen=True)
class Traced:
    """A module as flatness reads it."""

    content: str
    """JSON: the graphs and what else the metadata entry `flatness.export` holds."""
    tensors: dict[str, np.ndarray[Any, Any]]
    """Weights, buffers and constants by name, once each; bfloat16 and 8-bit floats as float32."""
    arguments: list[str]
    """Names of `forward`'s arguments that are inputs of the program, in its order."""
    inputs: list[str]
    """Names of these inputs in the program, in the same order. A traced loss has one more input, the targets `y`."""
    loss: dict[str, Any] | None
    """The description of the loss; `{"kind": "program"}` where it is traced with the module."""
    notes: list[str] = field(default_factory=list)


def trace(
    module: nn.Module,
    inputs: Any,
    *,
    loss: Any = None,
    targets: Any = None,
    name: str | None = None,
    normalisation: Mapping[str, Any] | None = None,
    weight_decay: float = 0.0,
    training: bool = True,
) -> Traced:
    """The weights of `module` and what it computes, with its state and mode left as they are.

    `inputs` is a tensor, a tuple of tensors, or a dict by the names of `forward`'s arguments: a few rows `[N, …]`, tensors or
    arrays. What is no tensor is passed on as a constant. `loss` is what [`describe`] takes; a function `f(outputs, targets)`
    is traced with the module and needs `targets` of these rows, `[N, …]`. With `training=False` the graph of training mode is
    left out. `name`, `normalisation` and `weight_decay` are kept for titles and training (docs/models.md).

    The module may lie on any device and in half precision, behind `DataParallel`, `DistributedDataParallel` or `torch.compile`.
    """
    subject = Subject.of(module, inputs)
    about = {"name": name, "normalisation": normalisation, "weight_decay": weight_decay}
    found = _found(subject, loss, targets, training, about)
    wide = [key for key, tensor in found.tensors.items() if tensor.dtype in _WIDENED]
    if wide:
        subject.notes.append(f"widened to float32, which holds the same values: {some(wide)}")
    tensors = {key: (t.float() if t.dtype in _WIDENED else t).numpy() for key, t in found.tensors.items()}
    text = json.dumps(found.content)
    return Traced(text, tensors, subject.arguments, found.inputs, found.content["loss"], subject.notes)


def export(
    module: nn.Module,
    inputs: Any,
    path: str | os.PathLike[str] | None = None,
    loss: Any = None,
    name: str | None = None,
    normalisation: Mapping[str, Any] | None = None,
    weight_decay: float = 0.0,
    *,
    targets: Any = None,
    training: bool = True,
) -> Any:
    """Writes `module` to `path` (.safetensors) and its outputs on `inputs` beside it; returns both paths.

    Arguments as of [`trace`], whose result comes back without a path. Weights keep their precision in the file. The second
    file, `….reference.safetensors`, holds the inputs and PyTorch's outputs, in float64 where the module can run in it:
    `flatness check net.safetensors --against net.reference.safetensors` compares. Notes go to Python's warnings.
    """
    about: dict[str, Any] = {"name": name, "normalisation": normalisation, "weight_decay": weight_decay}
    if path is None:
        return trace(module, inputs, loss=loss, targets=targets, training=training, **about)
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ExportError(f"{path} does not end in .safetensors", "name the file so: it is of that format")
    subject = Subject.of(module, inputs)
    found = _found(subject, loss, targets, training, about)
    reference = path.with_suffix(".reference.safetensors")
    outputs = _reference(subject, found)
    write(path, found.tensors, {"flatness.export": json.dumps(found.content)})
    write(reference, outputs, {})
    for note in subject.notes:
        warnings.warn(note, stacklevel=2)
    return path, reference


@dataclass
class _Found:
    """What goes into the file."""

    content: dict[str, Any]
    tensors: dict[str, Tensor]
    inputs: list[str]
    targets: dict[str, Tensor]


def _found(subject: Subject, loss: Any, targets: Any, training: bool, about: dict[str, Any]) -> _Found:
    """Both graphs over one set of tensors."""
    described = describe(loss, subject.notes)
    row_loss = described if isinstance(described, RowLoss) else None
    if is_log_likelihood(loss):
        _check_log_probabilities(subject)
    program = Program(subject, row_loss, targets)
    analysis = program.of_eval_mode()
    program.check_rows()
    if program.fresh:
        subject.notes.append(f"buffers that the module writes start from their values each time: {some(program.fresh)}")
    trained = program.of_training_mode() if training else None
    if isinstance(trained, str):
        subject.notes.append(f"not exported in training mode ({trained})")
        trained = None
    kept = _Kept()
    graphs = [None if p is None else _graph(p, kept.names(p)) for p in (analysis, trained)]
    content = {
        "analysis": graphs[0],
        "training": graphs[1],
        "frozen": [own(key) for key in analysis.state_dict if not _trains(subject.module, key)],
        "tied": kept.tied,
        "loss": described if row_loss is None else {"kind": "program"},
        **about,
        "name": about["name"] or type(subject.module).__name__,
    }
    names = list(analysis.graph_signature.user_inputs)
    count = len(subject.arguments)
    read = {name: _plain(value) for name, value in zip(names[count:], program.values[count:])}
    return _Found(content, {key: _plain(tensor) for key, tensor in kept.tensors.items()}, names[:count], read)


def _trains(module: nn.Module, key: str) -> bool:
    """Whether a name of [`Program`] is a parameter of the module with a gradient; those of a loss are held fixed."""
    owner, _, leaf = own(key).rpartition(".")
    tensor = getattr(module.get_submodule(owner), leaf, None) if key.startswith("module.") else None
    return isinstance(tensor, nn.Parameter) and tensor.requires_grad


class _Float64(TorchFunctionMode):
    """Casts to float32 inside a module become casts to float64: flatness keeps the value."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = tree_map(lambda a: torch.float64 if a is torch.float32 else a, (args, kwargs or {}))
        return (torch.Tensor.double if func is torch.Tensor.float else func)(*args, **kwargs)


def _check_log_probabilities(subject: Subject) -> None:
    """The error of outputs that cross-entropy would normalise; half precision is off by less than 0.01."""
    with torch.no_grad():
        outputs = logits(subject.call(duplicate(subject.module), subject.values))
    if outputs.dim() < 2 or float(outputs.float().logsumexp(1).abs().max()) > 0.01:
        raise ExportError(
            "the negative log-likelihood needs log-probabilities, but the outputs do not sum to 1 after exp",
            "use cross_entropy for logits, or end the module with log_softmax",
        )


def _reference(subject: Subject, found: _Found) -> dict[str, Tensor]:
    """Inputs under the program's names, targets that it reads, and outputs: in float64 where the module allows it."""
    values = [x.double() if x.is_floating_point() else x for x in subject.values]
    with torch.no_grad():
        try:
            with _Float64():
                result = logits(subject.call(duplicate(subject.module).double(), values))
        except Exception:  # whatever a module does in float64
            values = subject.values
            result = logits(subject.call(duplicate(subject.module), values))
    inputs = {name: _plain(x) for name, x in zip(found.inputs, values)}
    return {**inputs, **found.targets, "outputs": _plain(result)}


@dataclass
class _Kept:
    """The tensors of programs, each stored once."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    tied: dict[str, str] = field(default_factory=dict)
    named: dict[str, Tensor] = field(default_factory=dict)
    places: dict[Any, str] = field(default_factory=dict)

    def names(self, program: Any) -> dict[str, str]:
        """Adds the tensors of a program; returns the names that they have here."""
        names = {}
        for key, tensor in {**program.state_dict, **program.constants}.items():
            if not isinstance(tensor, Tensor):
                raise ExportError(
                    f"`{key}` is a constant of the type {type(tensor).__name__}", "register it as a buffer"
                )
            name = own(key)
            # Constants of both modes are numbered from 0 in each.
            while name in self.named and not _equal(self.named[name], tensor):
                name += "_"
            names[key], self.named[name] = name, tensor.detach()
            place = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
            twin = self.places.setdefault(place, name) if tensor.numel() else name
            if twin == name:
                self.tensors[name] = tensor.detach()
            else:
                self.tied[name] = twin
        return names


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.data_ptr() == b.data_ptr() or (a.dtype == b.dtype and torch.equal(a, b))


def _graph(program: Any, names: dict[str, str]) -> Any:
    """torch.export's own JSON of the graph, without places in source files, and sizes in the form of torch 2.15."""
    serializer = serialize.GraphModuleSerializer(program.graph_signature, program.module_call_graph)
    plain: Any = serialize._dataclass_to_dict
    graph = plain(serializer.serialize(program.graph_module))
    for spec in graph["signature"]["input_specs"]:
        for content in spec.values():
            for key in ("parameter_name", "buffer_name", "tensor_constant_name"):
                if key in content:
                    content[key] = names[content[key]]
    major, minor = schema.SCHEMA_VERSION
    calls = [{"signature": {"out_spec": graph["module_call_graph"][0]["signature"]["out_spec"]}}]
    graph = {"graph": graph["graph"], "signature": graph["signature"], "module_call_graph": calls}
    graph = {"graph_module": graph, "schema_version": {"major": major, "minor": minor}}
    return json.loads(json.dumps(graph, cls=serialize.EnumEncoder), object_hook=_cleaned)


def _stack(stack: str) -> str:
    """The modules around an operation, from the user's own on."""
    inner = [entry.split(",", 2) for entry in stack.split(";")[1:]]
    return ";".join(",".join([key, "" if path == "module" else own(path), kind]) for key, path, kind in inner)


def _cleaned(found: dict[str, Any]) -> dict[str, Any]:
    """An object of the JSON: a node, a size, or another."""
    if "target" in found and "metadata" in found:
        found["metadata"] = {k: _stack(v) for k, v in found["metadata"].items() if k == "nn_module_stack"}
    if "Symbol" not in found.get("expr_str", "Symbol"):
        found["expr_str"] = sympy.srepr(sympy.sympify(found["expr_str"]))
    return found


def _plain(tensor: Tensor) -> Tensor:
    """Floats as they are, everything else as 64-bit whole numbers or bytes."""
    if tensor.dtype == torch.bool:
        tensor = tensor.to(torch.uint8)
    elif not tensor.is_floating_point():
        tensor = tensor.to(torch.int64)
    return tensor.detach().cpu().contiguous()
