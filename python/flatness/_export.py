"""A PyTorch module as what flatness reads: its weights, and the graphs of torch.export of eval and training mode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


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
