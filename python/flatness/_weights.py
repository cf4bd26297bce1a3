"""New weights for a module that is traced already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ._errors import FlatnessError
from ._export import Traced
from ._module import unwrapped
from ._safetensors import read


def reweighted(traced: Traced, source: Any) -> Traced:
    """The same graphs with the weights and buffers of `source`, a module or its state dict."""
    state = _state(source)
    tensors = {}
    for name, old in traced.tensors.items():
        if name not in state:
            tensors[name] = old  # a constant of the graph
            continue
        new = state[name].detach().cpu()
        new = new.float() if new.is_floating_point() and new.element_size() < 4 else new
        if tuple(new.shape) != old.shape:
            raise FlatnessError(
                f"`{name}` has shape {list(new.shape)}, but the traced module has {list(old.shape)}",
                "trace the new module: it is another network",
            )
        tensors[name] = new.numpy().astype(old.dtype)  # a copy: the module trains on
    return replace(traced, tensors=tensors)


def _state(source: Any) -> dict[str, torch.Tensor]:
    if isinstance(source, torch.nn.Module):
        module = unwrapped(source)
        named = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
        return {name.replace("_orig_mod.", ""): tensor for name, tensor in named}
    if isinstance(source, Mapping):
        state = {name.removeprefix("module.").removeprefix("_orig_mod."): t for name, t in source.items()}
        return {name: t for name, t in state.items() if isinstance(t, torch.Tensor)}
    raise FlatnessError(f"{type(source).__name__} has no weights", "pass a module or a state dict")


def weights(path: str | Path) -> dict[str, torch.Tensor]:
    """The tensors of a `.safetensors` file, or of the checkpoint in a folder of `train`, as a state dict."""
    path = Path(path)
    path = path / "checkpoint.safetensors" if path.is_dir() else path
    try:
        return read(path)
    except OSError as error:
        raise FlatnessError(f"cannot read {path}: {error.strerror}", "check the path") from error
    except (ValueError, KeyError, TypeError, RuntimeError, OverflowError, MemoryError) as error:
        raise FlatnessError(f"{path} is damaged or not a .safetensors file", "copy the file again") from error
