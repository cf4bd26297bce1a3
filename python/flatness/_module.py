"""A module as it is given: its wrappers, its arguments, and a copy of it on the CPU."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ._errors import ExportError
from ._smallest import first_line

# Names of arguments that have only a place.
_PLACE = "args_"


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside `DataParallel`, `DistributedDataParallel` and `torch.compile`."""
    while True:
        if isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            module = module.module
        elif hasattr(module, "_orig_mod"):
            module = module._orig_mod  # type: ignore[assignment]
        else:
            return module


def argument_names(module: nn.Module) -> list[str] | None:
    """Names of the arguments of `forward`; `None` where it takes any."""
    parameters = inspect.signature(unwrapped(module).forward).parameters.values()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.POSITIONAL_ONLY, p.KEYWORD_ONLY)]
    return None if not names or any(p.kind == p.VAR_POSITIONAL for p in parameters) else names


@dataclass
class Subject:
    """A copy of a module on the CPU in eval mode, and rows for it."""

    module: nn.Module
    arguments: list[str]
    values: list[Tensor]
    """By the names of `arguments`, `[N, …]` each, with two rows or more and no storage in common."""
    constants: dict[str, Any]
    """What else `forward` is given."""
    notes: list[str]

    @classmethod
    def of(cls, module: nn.Module, inputs: Any) -> Subject:
        if not isinstance(module, nn.Module):
            raise ExportError(f"{type(module).__name__} is not a torch.nn.Module", "pass the module itself")
        if isinstance(module, torch.jit.ScriptModule):
            raise ExportError("TorchScript cannot be traced", "pass the module that the script was made of")
        notes: list[str] = []
        copied = _copied(unwrapped(module), notes).eval()
        if isinstance(inputs, Mapping) and "labels" in inputs and hasattr(getattr(copied, "config", None), "to_dict"):
            inputs = {key: value for key, value in inputs.items() if key != "labels"}
            notes.append("`labels` are targets, not an input: the loss that the model itself computes is left out")
        arguments, values, constants = _arguments(copied, inputs)
        rows = {len(value) for value in values}
        if len(rows) != 1:
            hint = "rows lie along axis 0 of each"
            raise ExportError(f"the inputs have different numbers of rows: {sorted(rows)}", hint)
        subject = cls(copied, arguments, [], constants, notes)
        subject.values = [grown(subject.cast(value)) for value in values]
        return subject

    def cast(self, value: Tensor) -> Tensor:
        """Floats in the module's precision, if it has one: flatness reads data in any."""
        dtypes = {parameter.dtype for parameter in self.module.parameters() if parameter.is_floating_point()}
        return value.to(next(iter(dtypes))) if value.is_floating_point() and len(dtypes) == 1 else value

    def call(self, module: nn.Module, values: Sequence[Tensor], buffers: Mapping[str, Tensor] | None = None) -> Any:
        """What `module`, this one or a copy, returns for `values`; with `buffers` in the place of its own."""
        by_name = {**dict(zip(self.arguments, values)), **self.constants}
        places = [by_name.pop(name) for name in self.arguments if name.removeprefix(_PLACE).isdigit()]
        if buffers:
            return torch.func.functional_call(module, dict(buffers), tuple(places), by_name)
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
        if any(p.kind in (p.VAR_POSITIONAL, p.POSITIONAL_ONLY) for p in parameters.values()):
            names = [f"{_PLACE}{place}" for place in range(len(placed))]
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


def grown(x: Tensor) -> Tensor:
    """At least two rows, as a batch of one makes torch.export fix the size; no tensor twice, as it would be one input."""
    x = x.detach().cpu()
    return torch.cat([x, x]) if len(x) == 1 else x.clone()


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
    try:
        copied = duplicate(module, memo)
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
        notes.append(f"hooks are traced as part of the module: {some(hooked)}")
    _export_attention(copied, notes)
    return copied.cpu()


def duplicate(module: nn.Module, memo: dict[int, Any] | None = None) -> nn.Module:
    """A deep copy, also of modules that keep tensors with a history, such as the weight of an old weight_norm."""
    memo = {} if memo is None else memo
    for part in module.modules():
        for value in vars(part).values():
            if isinstance(value, Tensor) and value.grad_fn is not None:
                memo[id(value)] = value.detach().cpu().clone()
    return copy.deepcopy(module, memo)


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


def some(names: Sequence[str]) -> str:
    """The first few."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
