"""A PyTorch module as what flatness reads: its weights, and the graphs of torch.export of eval and training mode."""

from __future__ import annotations

import copy
import inspect
import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import sympy
import torch
from torch import Tensor, nn
from torch._export.serde import schema, serialize

from ._errors import ExportError
from ._losses import RowLoss, describe
from ._safetensors import write
from ._smallest import explained, exported, first_line


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
    work = _Work.of(module, inputs, loss, targets)
    found = work.found(name, normalisation, weight_decay, training)
    wide = [key for key, tensor in found.tensors.items() if tensor.dtype in (torch.bfloat16, *_eight_bits())]
    if wide:
        work.notes.append(f"widened to float32, which holds the same values: {_some(wide)}")
    tensors = {key: _array(tensor) for key, tensor in found.tensors.items()}
    return Traced(json.dumps(found.content), tensors, work.arguments, found.inputs, found.content["loss"], work.notes)


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
    more: dict[str, Any] = {"name": name, "normalisation": normalisation, "weight_decay": weight_decay}
    if path is None:
        return trace(module, inputs, loss=loss, targets=targets, training=training, **more)
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ExportError(f"{path} does not end in .safetensors", "name the file so: it is of that format")
    work = _Work.of(module, inputs, loss, targets)
    found = work.found(name, normalisation, weight_decay, training)
    reference = path.with_suffix(".reference.safetensors")
    outputs = work.reference(found.inputs)
    write(path, found.tensors, {"flatness.export": json.dumps(found.content)})
    write(reference, outputs, {})
    for note in work.notes:
        warnings.warn(note, stacklevel=2)
    return path, reference


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside `DataParallel`, `DistributedDataParallel` and `torch.compile`."""
    while True:
        if isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            module = module.module
        elif hasattr(module, "_orig_mod"):
            module = module._orig_mod
        else:
            return module


def argument_names(module: nn.Module) -> list[str] | None:
    """Names of the arguments of `forward`; `None` where it takes any."""
    parameters = inspect.signature(unwrapped(module).forward).parameters.values()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.POSITIONAL_ONLY, p.KEYWORD_ONLY)]
    return None if not names or any(p.kind == p.VAR_POSITIONAL for p in parameters) else names


@dataclass
class _Found:
    """What goes into the file."""

    content: dict[str, Any]
    tensors: dict[str, Tensor]
    inputs: list[str]


@dataclass
class _Work:
    """A copy of the module on the CPU, and rows for it."""

    module: nn.Module
    arguments: list[str]
    values: list[Tensor]
    constants: dict[str, Any]
    loss: dict[str, Any] | RowLoss | None
    targets: Tensor | None
    notes: list[str]

    @classmethod
    def of(cls, module: nn.Module, inputs: Any, loss: Any, targets: Any) -> _Work:
        if not isinstance(module, nn.Module):
            raise ExportError(f"{type(module).__name__} is not a torch.nn.Module", "pass the module itself")
        notes: list[str] = []
        described = describe(loss, notes)
        copied = _copied(unwrapped(module), notes)
        arguments, values, constants = _arguments(copied, inputs)
        if isinstance(described, RowLoss) and targets is None:
            raise ExportError(
                "a loss that is a function is traced with targets", "pass targets=, of the rows of `inputs`"
            )
        used = torch.as_tensor(targets) if isinstance(described, RowLoss) else None
        rows = {len(value) for value in (*values, *([] if used is None else [used]))}
        if len(rows) != 1:
            raise ExportError(
                f"the inputs have different numbers of rows: {sorted(rows)}", "rows lie along axis 0 of each"
            )
        values, used = [_grown(value) for value in values], None if used is None else _grown(used)
        dtypes = {p.dtype for p in copied.parameters() if p.is_floating_point()}
        if len(dtypes) == 1:  # as the data are read in any precision
            values = [value.to(*dtypes) if value.is_floating_point() else value for value in values]
        if used is not None and not used.is_floating_point():
            used = used.to(torch.int64)
        return cls(copied, arguments, values, constants, described, used, notes)

    def found(
        self, name: str | None, normalisation: Mapping[str, Any] | None, weight_decay: float, training: bool
    ) -> _Found:
        """Both graphs over one set of tensors."""
        analysis = self._analysis()
        training = self._training() if training else None
        kept = _Kept()
        graphs = [program and _graph(program, kept.names(program)) for program in (analysis, training)]
        content = {
            "analysis": graphs[0],
            "training": graphs[1],
            "frozen": [_own(key) for key in analysis.state_dict if not self._trains(_own(key))],
            "tied": kept.tied,
            "name": name or type(self.module).__name__,
            "loss": {"kind": "program"} if isinstance(self.loss, RowLoss) else self.loss,
            "normalisation": normalisation,
            "weight_decay": weight_decay,
        }
        names = list(analysis.graph_signature.user_inputs)
        tensors = {key: _plain(tensor) for key, tensor in kept.tensors.items()}
        return _Found(content, tensors, names[: len(self.arguments)])

    def _analysis(self) -> Any:
        """The program of eval mode."""
        try:
            return _Program(self).eval().exported()
        except ExportError:
            raise
        except Exception as error:  # torch.export's own, of many kinds
            call = lambda module: _called(module, self.arguments, self.values, self.constants)
            raise explained(self.module, call, len(self.values[0]), error) from error

    def _training(self) -> Any:
        """The program of training mode; without it, everything but training works."""
        try:
            return _Program(self).train().exported()
        except Exception as error:  # whatever a module does
            self.notes.append(f"not exported in training mode ({first_line(error)})")
            return None
        finally:
            self.module.eval()

    def _trains(self, key: str) -> bool:
        owner, _, leaf = key.rpartition(".")
        try:
            tensor = getattr(self.module.get_submodule(owner), leaf, None)
        except AttributeError:  # of the loss, whose parameters are not the network's
            return False
        return isinstance(tensor, nn.Parameter) and tensor.requires_grad

    def reference(self, names: list[str]) -> dict[str, Tensor]:
        """Inputs under the program's names, and outputs: in float64 where the module allows it."""

        def outputs(module: nn.Module, values: list[Tensor]) -> Tensor:
            with torch.no_grad():
                return _logits(_called(module, self.arguments, values, self.constants))

        values = self.values
        try:
            values = [x.double() if x.is_floating_point() else x for x in self.values]
            result = outputs(copy.deepcopy(self.module).double(), values)
        except RuntimeError:
            values = self.values
            result = outputs(self.module, values)
        return {**{name: _plain(x) for name, x in zip(names, values)}, "outputs": _plain(result)}


class _Program(nn.Module):
    """The module with its inputs under names of ours, and with its loss for each row where that is traced too."""

    def __init__(self, work: _Work) -> None:
        super().__init__()
        self.module = work.module
        loss = work.loss.function if isinstance(work.loss, RowLoss) else None
        if isinstance(loss, nn.Module):
            self.row_loss = loss
        of_pytorch = isinstance(work.loss, RowLoss) and work.loss.of_pytorch
        # `y` is what the targets are called in the data.
        names = ["y_input" if name == "y" else name for name in work.arguments]
        names += [] if work.targets is None else ["y"]
        self.values = [*work.values, *([] if work.targets is None else [work.targets])]

        def forward(*values: Tensor) -> Any:
            result = _called(work.module, work.arguments, list(values[: len(work.arguments)]), work.constants)
            if loss is None:
                return _tensors(result)
            losses = loss(_logits(result) if of_pytorch else result, values[-1])
            losses = _per_row(losses, of_pytorch)
            output = _logits(result, None)
            return losses if output is None else (output, losses)

        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        forward.__signature__ = inspect.Signature([inspect.Parameter(name, kind) for name in names])  # type: ignore[attr-defined]
        self.forward = forward

    def exported(self) -> Any:
        rows = torch.export.Dim("rows", min=2)
        return exported(self, tuple(self.values), {}, tuple({0: rows} for _ in self.values))


@dataclass
class _Kept:
    """The tensors of programs, each stored once."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    tied: dict[str, str] = field(default_factory=dict)
    places: dict[Any, str] = field(default_factory=dict)

    def names(self, program: Any) -> dict[str, str]:
        """Adds the tensors of a program; returns the names that they have here."""
        names = {}
        for key, tensor in {**program.state_dict, **program.constants}.items():
            if not isinstance(tensor, Tensor):
                raise ExportError(
                    f"`{key}` is a constant of the type {type(tensor).__name__}", "register it as a buffer"
                )
            name = _own(key)
            # Constants of both modes are numbered from 0 in each.
            while name in self.tensors and not _equal(self.tensors[name], tensor):
                name += "_"
            names[key] = name
            place = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
            twin = self.places.setdefault(place, name) if tensor.numel() else name
            if twin == name:
                self.tensors[name] = tensor.detach()
            else:
                self.tied[name] = twin
        return names


def _per_row(losses: Any, of_pytorch: bool) -> Tensor:
    """`[N]`, from `[N, …]` by the mean where PyTorch's own `reduction="mean"` is that."""
    if not isinstance(losses, Tensor):
        raise ExportError(
            f"the loss gives a {type(losses).__name__}", "it has to give a tensor [N], a loss for each row"
        )
    if losses.dim() == 0:
        raise ExportError(
            "the loss gives one number for all rows",
            "give a loss for each row, [N]: with reduction='none', and without .mean() over the rows",
        )
    if losses.dim() > 1 and not of_pytorch:
        raise ExportError(
            f"the loss gives {losses.dim()} axes, but should give [N], one loss for each row",
            "end it with .flatten(1).mean(1), or .sum(1), as the objective has it",
        )
    return losses.flatten(1).mean(1) if losses.dim() > 1 else losses


def _called(module: nn.Module, arguments: list[str], values: list[Tensor], constants: dict[str, Any]) -> Any:
    """The module on values by the names of `forward`'s arguments; `*0`, `*1`, … are places."""
    by_name = {**dict(zip(arguments, values)), **constants}
    places = [by_name.pop(name) for name in list(by_name) if name.startswith("args_")]
    return module(*places, **by_name)


def _arguments(module: nn.Module, inputs: Any) -> tuple[list[str], list[Tensor], dict[str, Any]]:
    """Names and tensors of the inputs, and what else `forward` is given."""
    parameters = inspect.signature(module.forward).parameters
    if isinstance(inputs, Mapping):
        given = {str(key): value for key, value in inputs.items()}
        takes_any = any(p.kind == p.VAR_KEYWORD for p in parameters.values())
        unknown = [] if takes_any else sorted(set(given) - set(parameters))
        if unknown:
            raise ExportError(
                f"{type(module).__name__} does not take {', '.join(unknown)}",
                f"its arguments are {', '.join(parameters)}",
            )
    else:
        placed = list(inputs) if isinstance(inputs, (tuple, list)) else [inputs]
        names = [p.name for p in parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        if any(p.kind == p.VAR_POSITIONAL for p in parameters.values()) or any(
            p.kind == p.POSITIONAL_ONLY for p in parameters.values()
        ):
            names = [f"args_{place}" for place in range(len(placed))]
        if len(placed) > len(names):
            raise ExportError(
                f"{type(module).__name__} takes {len(names)} inputs ({', '.join(names)}), but {len(placed)} are given",
                "pass one tensor for each, or a dict by their names",
            )
        given = dict(zip(names, placed))
    tensors = {key: torch.as_tensor(v) for key, v in given.items() if isinstance(v, (Tensor, np.ndarray))}
    constants = {key: value for key, value in given.items() if key not in tensors and value is not None}
    for key, value in constants.items():
        if isinstance(value, (tuple, list, Mapping)):
            raise ExportError(
                f"the input `{key}` is a {type(value).__name__}", "inputs are tensors: give each a name of its own"
            )
    if "use_cache" in parameters:  # of transformers: what it keeps for the next token is no output
        constants.setdefault("use_cache", False)
    if not tensors:
        raise ExportError("there is no input", "pass a tensor, a tuple of tensors, or a dict of them")
    for key, value in tensors.items():
        if value.dim() == 0 or len(value) == 0:
            raise ExportError(f"the input `{key}` has no rows", "inputs are [N, …], with the rows along axis 0")
    return list(tensors), [value.detach().cpu() for value in tensors.values()], constants


def _grown(x: Tensor) -> Tensor:
    """At least two rows, as a batch of one makes torch.export fix the size; no tensor twice, as it would be one input."""
    return torch.cat([x, x]) if len(x) == 1 else x.detach().cpu().clone()


def _copied(module: nn.Module, notes: list[str]) -> nn.Module:
    """A copy on the CPU, without a second copy on the module's device."""
    memo: dict[int, Any] = {}
    stored: dict[Any, Tensor] = {}
    tensors: list[tuple[str, Tensor]] = [*module.named_parameters(remove_duplicate=False)]
    tensors += [*module.named_buffers(remove_duplicate=False)]
    for key, tensor in tensors:
        if nn.parameter.is_lazy(tensor):
            raise ExportError(f"`{key}` has no shape yet", "call the module once on a batch, then load its weights")
        if tensor.is_meta:
            raise ExportError(f"`{key}` has no values: it is on the device meta", "load the weights first")
        if type(tensor).__name__ == "DTensor" or hasattr(tensor, "full_tensor"):
            raise ExportError(
                f"`{key}` is distributed over processes", "gather the full state dict into a module of its own"
            )
        place = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, tensor.device)
        if place not in stored or tensor.numel() == 0:
            stored[place] = tensor.detach().cpu().clone()
        value = stored[place]
        memo[id(tensor)] = nn.Parameter(value, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else value
    for part in module.modules():
        for value in vars(part).values():
            if isinstance(value, Tensor) and value.grad_fn is not None:  # such as the weight of an old weight_norm
                memo[id(value)] = value.detach().cpu().clone()
    try:
        copied = copy.deepcopy(module, memo)
    except Exception as error:
        raise ExportError(
            f"{type(module).__name__} cannot be copied ({first_line(error)})",
            "remove what cannot be copied from it, such as open files, locks and loggers",
        ) from error
    for path, part in list(copied.named_modules()):
        if path and hasattr(part, "_orig_mod"):
            owner, _, leaf = path.rpartition(".")
            setattr(copied.get_submodule(owner), leaf, part._orig_mod)
    hooked = [path or type(module).__name__ for path, part in copied.named_modules() if _hooks(part)]
    if hooked:
        notes.append(f"hooks are traced as part of the module: {_some(hooked)}")
    _export_attention(copied, notes)
    return copied.cpu()


def _hooks(part: nn.Module) -> bool:
    return bool(part._forward_hooks or part._forward_pre_hooks)


def _export_attention(module: nn.Module, notes: list[str]) -> None:
    """Attention of transformers in a form that torch.export knows: its kernels for GPUs give the same values."""
    for part in module.modules():
        config = getattr(part, "config", None)
        kind = getattr(config, "_attn_implementation", None)
        if isinstance(kind, str) and kind not in ("eager", "sdpa"):
            config._attn_implementation = "eager"  # type: ignore[union-attr]
            note = f"attention is traced in its plain form, not as {kind}"
            notes.extend([note] if note not in notes else [])


def _own(key: str) -> str:
    """A name in the module, from that in `_Program`."""
    return key.removeprefix("module.")


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.data_ptr() == b.data_ptr() or (a.dtype == b.dtype and torch.equal(a, b))


def _graph(program: Any, names: dict[str, str]) -> Any:
    """torch.export's own JSON of the graph, without places in source files, and sizes in the form of torch 2.15."""
    serializer = serialize.GraphModuleSerializer(program.graph_signature, program.module_call_graph)
    graph = serialize._dataclass_to_dict(serializer.serialize(program.graph_module))
    for node in graph["graph"]["nodes"]:
        node["metadata"] = {k: _stack(v) for k, v in node["metadata"].items() if k == "nn_module_stack"}
    for spec in graph["signature"]["input_specs"]:
        for content in spec.values():
            for key in ("parameter_name", "buffer_name", "tensor_constant_name"):
                if key in content:
                    content[key] = names[content[key]]
    major, minor = schema.SCHEMA_VERSION
    calls = [{"signature": {"out_spec": graph["module_call_graph"][0]["signature"]["out_spec"]}}]
    graph = {"graph": graph["graph"], "signature": graph["signature"], "module_call_graph": calls}
    graph = {"graph_module": graph, "schema_version": {"major": major, "minor": minor}}
    return json.loads(json.dumps(graph, cls=serialize.EnumEncoder), object_hook=_size)


def _stack(stack: str) -> str:
    """The modules around an operation, from the user's own on."""
    inner = [entry.split(",", 2) for entry in stack.split(";")[1:]]
    return ";".join(",".join([key, "" if path == "module" else _own(path), kind]) for key, path, kind in inner)


def _size(found: dict[str, Any]) -> dict[str, Any]:
    text = found.get("expr_str", "Symbol")
    return found if "Symbol" in text else {**found, "expr_str": sympy.srepr(sympy.sympify(text))}


def _plain(tensor: Tensor) -> Tensor:
    """Floats as they are, everything else as 64-bit whole numbers or bytes."""
    if tensor.dtype == torch.bool:
        tensor = tensor.to(torch.uint8)
    elif not tensor.is_floating_point():
        tensor = tensor.to(torch.int64)
    return tensor.detach().cpu().contiguous()


def _eight_bits() -> set[torch.dtype]:
    return {getattr(torch, name) for name in dir(torch) if name.startswith("float8") or name.startswith("float4")}


def _array(tensor: Tensor) -> np.ndarray[Any, Any]:
    wide = tensor.float() if tensor.dtype in (torch.bfloat16, *_eight_bits()) else tensor
    return wide.numpy()


def _tensors(result: Any) -> Any:
    """What a module returns, without entries that are not tensors at the top level, such as caches."""
    if isinstance(result, Mapping):
        return {key: value for key, value in result.items() if isinstance(value, Tensor)}
    return result


def _logits(result: Any, otherwise: Any = ...) -> Any:
    """The output that losses are of: the only one of floats, or that named `logits`; else `otherwise`, if it is given."""
    if isinstance(result, Tensor):
        return result
    fields = result.items() if isinstance(result, Mapping) else enumerate(result)
    floats = {k: x for k, x in fields if isinstance(x, Tensor) and x.is_floating_point()}
    if "logits" in floats or len(floats) == 1:
        return floats.get("logits", next(iter(floats.values())))
    if otherwise is not ...:
        return otherwise
    names = ", ".join(map(str, floats)) or "none"
    raise ExportError(f"the module has several outputs ({names})", "return the one that the loss is of")


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
