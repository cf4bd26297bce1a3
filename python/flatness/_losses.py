"""Losses as PyTorch's users have them, as the description that flatness reads or as a function for each row."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._errors import FlatnessError

# Kinds and their settings, with PyTorch's defaults (docs/models.md, "Losses").
KINDS: dict[str, dict[str, Any]] = {
    "cross_entropy": {"weight": None, "ignore_index": -100, "label_smoothing": 0.0, "class_axis": None},
    "mse": {},
    "l1": {},
    "huber": {"delta": 1.0},
    "smooth_l1": {"beta": 1.0},
    "bce_with_logits": {"pos_weight": None},
    "program": {},
}
_ALIASES = {"bce": "bce_with_logits", "ce": "cross_entropy"}
# The same losses as classes and as functions of torch.nn.
_CLASSES = {
    "CrossEntropyLoss": "cross_entropy",
    "NLLLoss": "cross_entropy",
    "MSELoss": "mse",
    "L1Loss": "l1",
    "HuberLoss": "huber",
    "SmoothL1Loss": "smooth_l1",
    "BCEWithLogitsLoss": "bce_with_logits",
}
_FUNCTIONS = {
    "cross_entropy": "cross_entropy",
    "nll_loss": "cross_entropy",
    "mse_loss": "mse",
    "l1_loss": "l1",
    "huber_loss": "huber",
    "smooth_l1_loss": "smooth_l1",
    "binary_cross_entropy_with_logits": "bce_with_logits",
}
# Settings that only say how rows are summed; the objective is the mean over what counts.
_REDUCTIONS = {"reduction", "size_average", "reduce"}
# Models of transformers whose names do not say that they are causal, and those of one label for each row.
_CAUSAL = {"GPT2LMHeadModel", "OpenAIGPTLMHeadModel", "CTRLLMHeadModel", "BertLMHeadModel"}
_CLASSIFIERS = tuple(f"For{what}Classification" for what in ("Sequence", "Image", "Video", "Audio"))
_NLL_NOTE = (
    "the negative log-likelihood is taken as cross-entropy, which is the same where the outputs are log-probabilities, "
    "as log_softmax gives them"
)


@dataclass(frozen=True)
class RowLoss:
    """A loss that is traced with the module into a program: `function(outputs, targets)`.

    `of_pytorch`: a loss module of PyTorch with `reduction="none"`. It is given the one output that losses are of, and its
    result `[N, …]` is averaged over the further axes. Any other function is given what the module returns, and gives `[N]`.
    """

    function: Callable[[Any, Any], Any]
    of_pytorch: bool = False


def describe(loss: Any, notes: list[str] | None = None) -> dict[str, Any] | RowLoss | None:
    """The loss as flatness reads it: `{"kind": …}` with the settings that are not PyTorch's defaults, or a [`RowLoss`].

    `loss` is a name (`"cross_entropy"`, `"mse"`, `"l1"`, `"huber"`, `"smooth_l1"`, `"bce_with_logits"`), a dict of
    `kind` and settings, a loss module or function of `torch.nn` (also in a `functools.partial` with settings), or any
    `f(outputs, targets)` that gives a loss for each row, `[N]`. `None` stays: the targets decide.

    The objective is the mean over what counts, whatever `reduction` says. What a reader should know is added to `notes`.
    """
    notes = [] if notes is None else notes
    if loss is None or isinstance(loss, RowLoss):
        return loss
    if isinstance(loss, str):
        return _named({"kind": loss})
    if isinstance(loss, Mapping):
        return _named(dict(loss))
    if not callable(loss) or isinstance(loss, type):
        way = f"call it: {loss.__name__}()" if isinstance(loss, type) else f"use one of {', '.join(KINDS)}"
        raise FlatnessError(
            f"the loss {loss!r} is neither a name nor a function", f"{way}, or f(outputs, targets) that gives [N]"
        )
    where, name = type(loss).__module__, type(loss).__name__
    if where == "torch.nn.modules.loss":
        return _of_module(loss, name, notes)
    if where.startswith("timm.loss") and name == "LabelSmoothingCrossEntropy":
        return _settings("cross_entropy", {"label_smoothing": loss.smoothing})
    if where.startswith("timm.loss") and name == "SoftTargetCrossEntropy":
        return {"kind": "cross_entropy"}
    function, settings = (loss.func, dict(loss.keywords)) if isinstance(loss, functools.partial) else (loss, {})
    name = getattr(function, "__name__", "")
    if name in _FUNCTIONS and getattr(function, "__module__", "") in ("torch.nn.functional", "torch._C._nn"):
        if getattr(loss, "args", ()):
            raise FlatnessError(f"the settings of {name} have no names", f"functools.partial({name}, setting=value)")
        _tell(settings.get("reduction"), notes)
        if name == "nll_loss":
            notes.append(_NLL_NOTE)
        return _of_settings(_FUNCTIONS[name], settings, f"{name}")
    return RowLoss(loss)


def is_log_likelihood(loss: Any) -> bool:
    """Whether it is PyTorch's negative log-likelihood, whose inputs are log-probabilities."""
    function = loss.func if isinstance(loss, functools.partial) else loss
    is_function = getattr(function, "__name__", "") == "nll_loss" and function.__module__ == "torch.nn.functional"
    return is_function or (type(loss).__name__ == "NLLLoss" and type(loss).__module__ == "torch.nn.modules.loss")


def default(module: Any) -> tuple[dict[str, Any] | None, bool]:
    """The loss that a model of transformers computes from labels, and whether its labels are shifted by one place.

    `(None, False)` for any other module, also for one in a wrapper. A causal language model gives at each place the logits of
    the next token: its labels `[N, T]` go through [`shift_labels`] first. Those of an encoder with a decoder do not, since its
    `decoder_input_ids` are shifted.
    """
    config, name = getattr(module, "config", None), type(module).__name__
    if not hasattr(config, "to_dict"):
        return None, False
    cross_entropy = {"kind": "cross_entropy"}
    if name.endswith("ForCausalLM") or name in _CAUSAL:
        return cross_entropy, True
    if name.endswith("ForConditionalGeneration"):
        return cross_entropy, not getattr(config, "is_encoder_decoder", False)
    if name.endswith(("ForMaskedLM", "ForTokenClassification")):
        return cross_entropy, False
    if not name.endswith(_CLASSIFIERS):
        return None, False
    problem = getattr(config, "problem_type", None)
    if problem == "regression" or (problem is None and getattr(config, "num_labels", 2) == 1):
        return {"kind": "mse"}, False
    return ({"kind": "bce_with_logits"} if problem == "multi_label_classification" else cross_entropy), False


def shift_labels(labels: np.ndarray[Any, Any], ignore_index: int = -100) -> np.ndarray[Any, Any]:
    """Labels `[N, T]` one place to the left, the last one ignored: what transformers' loss of causal models is of.

    The logits at place `t` are for the token at `t + 1`, so the loss at `t` is of label `t + 1`.
    """
    if labels.ndim != 2:
        raise FlatnessError(f"labels of a language model are [N, T], but these are {list(labels.shape)}")
    shifted = np.full_like(labels, ignore_index)
    shifted[:, :-1] = labels[:, 1:]
    return shifted


def _named(loss: dict[str, Any]) -> dict[str, Any]:
    kind = str(loss.pop("kind", "")).replace("-", "_")
    kind = _ALIASES.get(kind, kind)
    if kind not in KINDS:
        hint = (
            f"use {', '.join(KINDS)}; settings are given as a dict: {{'kind': 'cross_entropy', 'label_smoothing': 0.1}}"
        )
        raise FlatnessError(f"there is no loss `{kind}`" if kind else "a loss needs a `kind`", hint)
    return _of_settings(kind, loss, f"`{kind}`")


def _of_settings(kind: str, given: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A description from PyTorch's names of settings."""
    given = {key: value for key, value in given.items() if key not in _REDUCTIONS and value is not None}
    unknown = set(given) - set(KINDS[kind])
    if unknown:
        known = ", ".join(KINDS[kind]) or "none"
        raise FlatnessError(
            f"the loss {name} has the setting `{min(unknown)}`, which is not supported",
            f"supported: {known}; or pass a function f(outputs, targets) that gives a loss for each row",
        )
    return _settings(kind, given)


def _settings(kind: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is PyTorch's default; weights as lists."""
    found: dict[str, Any] = {"kind": kind}
    for key, value in given.items():
        if value is not None and key in ("weight", "pos_weight"):
            value = _numbers(key, value)
        if value != KINDS[kind][key]:
            found[key] = value
    return found


def _numbers(key: str, weights: Any) -> list[float]:
    """Weights `[C]`, also from a single one or `[1, …, C]`."""
    array = np.asarray(weights.tolist() if hasattr(weights, "tolist") else weights, dtype=float)
    if array.size != max(array.shape, default=1):
        raise FlatnessError(f"{key} has several axes", "give one number, or one for each entry of one axis")
    if array.ndim > 1 and array.shape[-1] != array.size:
        raise FlatnessError(
            f"{key} is not along the last axis of the outputs", "pass a function that gives a loss for each row"
        )
    return [float(weight) for weight in array.reshape(-1)]


def _of_module(loss: Any, name: str, notes: list[str]) -> dict[str, Any] | RowLoss:
    """A loss module of PyTorch: by name where flatness has it, else as a function of the rows."""
    _tell(loss.reduction, notes)
    kind = _CLASSES.get(name)
    if kind is not None and not (kind == "bce_with_logits" and loss.weight is not None):
        if name == "NLLLoss":
            notes.append(_NLL_NOTE)
        fields = [key for key in KINDS[kind] if hasattr(loss, key)]
        return _settings(kind, {key: getattr(loss, key) for key in fields})
    if name == "GaussianNLLLoss":
        raise FlatnessError(
            "GaussianNLLLoss takes three arguments",
            "write it out for the outputs of your module: lambda outputs, y: 0.5 * (outputs[1].log() + "
            "(outputs[0] - y) ** 2 / outputs[1]).flatten(1).mean(1)",
        )
    if name == "PoissonNLLLoss":
        return RowLoss(lambda outputs, targets: _poisson(loss, outputs, targets), of_pytorch=True)
    if name == "SoftMarginLoss":
        return RowLoss(lambda outputs, targets: _soft_margin(outputs, targets), of_pytorch=True)
    rows = copy.copy(loss)
    rows.reduction = "none"
    if name == "KLDivLoss" and loss.reduction in ("batchmean", "sum"):
        return RowLoss(lambda outputs, targets: rows(outputs, targets).flatten(1).sum(1), of_pytorch=True)
    return RowLoss(rows, of_pytorch=True)


def _soft_margin(outputs: Any, targets: Any) -> Any:
    """`log(1 + exp(−y f))`, without overflow."""
    margins = -outputs * targets
    return margins.clamp(min=0) + (-margins.abs()).exp().log1p()


def _poisson(loss: Any, outputs: Any, targets: Any) -> Any:
    """PyTorch's Poisson loss for each entry, in operations that flatness has."""
    if loss.log_input:
        losses = outputs.exp() - targets * outputs
    else:
        losses = outputs - targets * (outputs + loss.eps).log()
    if not loss.full:
        return losses
    large = targets.clamp(min=1)  # Stirling's formula, which PyTorch uses above 1
    return losses + (targets > 1) * (large * large.log() - large + 0.5 * (2 * np.pi * large).log())


def _tell(reduction: Any, notes: list[str]) -> None:
    if reduction == "sum":
        notes.append("reduction='sum' of the loss is not used: results are of the mean over the rows")
