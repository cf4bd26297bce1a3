"""Which part of a module torch.export cannot trace, and where in its code."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ._errors import ExportError

# torch.export.export itself leaves fewer operations in older versions: batch norm, for one, comes in two others.
_EXPORT = getattr(torch.export, "export_for_training", torch.export.export)
# Below the largest number, which torch 2.5 takes for "to the end" in slices.
MOST_ROWS = 2**31
_REWRITE = (
    "rewrite what depends on values of the inputs, such as `if x.sum() > 0`, with torch.where; "
    "a size that the batch must not change has to be a number"
)


def exported(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], shapes: Any) -> Any:
    """The program of torch.export, without its warnings, and with the state of random numbers as it was."""
    with _quiet(), torch.random.fork_rng(devices=[]), torch.enable_grad():
        return _EXPORT(module, args, kwargs, dynamic_shapes=shapes, strict=False)


def explained(module: nn.Module, call: Callable[[nn.Module], Any], rows: int, error: Exception) -> ExportError:
    """The error of the smallest part of `module` that cannot be traced, with its name and the line of its code.

    `call` runs the module, which may change by it, on inputs of so many `rows`.
    """
    given, failed = _given(module, call)
    if failed is not None:
        (path, part), failure = failed
        line = _line(failure)
        where = f"{path or 'it'} ({type(part).__name__}{f', {line}' if line else ''})"
        return ExportError(
            f"the module does not run on these inputs: {where} fails with: {first_line(failure)}",
            "give inputs of the shapes and types that it is trained on, by the names of its arguments; it runs on the CPU",
        )
    path, part, error = _smallest(module, given, rows, error)
    return cannot_trace(path or "the module", error, type(part).__name__)


def cannot_trace(what: str, error: Exception, kind: str = "") -> ExportError:
    """That `what`, of a `kind`, cannot be traced, at the line of its code."""
    where = ", ".join(filter(None, [kind, _line(error)]))
    reason, hint = first_line(error), _REWRITE
    if "Constraints violated" in reason:
        reason = "its code fixes the number of rows"
        hint = "take it from x.shape[0], or leave it open as -1, where the code says how many rows there are"
    return ExportError(f"torch.export cannot trace {what}{f' ({where})' if where else ''}: {reason}", hint)


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its type."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].strip()


# Of a call: in order, and by name.
_Arguments = tuple[tuple[Any, ...], dict[str, Any]]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what PyTorch logs, prints and warns of while it traces: what matters is in its errors."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _smallest(
    module: nn.Module, given: dict[nn.Module, _Arguments], rows: int, error: Exception
) -> tuple[str, nn.Module, Exception]:
    """Path, part and error of the innermost part that fails by itself on the inputs that it gets."""
    path, part = "", module
    while True:
        for name, child in _called(part, given):
            failure = _failure(child, *given[child], rows)
            if failure is not None:
                path, part, error = f"{path}.{name}" if path else name, child, failure
                break
        else:
            return path, part, error


def _given(
    module: nn.Module, call: Callable[[nn.Module], Any]
) -> tuple[dict[nn.Module, _Arguments], tuple[tuple[str, nn.Module], Exception] | None]:
    """The arguments that each part gets in its first call; and the innermost part that fails, by path, with its error."""
    given: dict[nn.Module, _Arguments] = {}
    running: list[nn.Module] = []

    def begin(part: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given.setdefault(part, (args, kwargs))
        running.append(part)

    def end(_part: nn.Module, _args: Any, _result: Any) -> None:
        running.pop()

    handles = [part.register_forward_pre_hook(begin, with_kwargs=True) for part in module.modules()]
    handles += [part.register_forward_hook(end) for part in module.modules()]
    failed = None
    try:
        with torch.no_grad(), _quiet():
            call(module)
    except Exception as error:
        part = running[-1] if running else module
        failed = next(entry for entry in module.named_modules() if entry[1] is part), error
    for handle in handles:
        handle.remove()
    return given, failed


def _called(part: nn.Module, given: dict[nn.Module, Any]) -> Iterator[tuple[str, nn.Module]]:
    """The outermost parts within `part` that are called, also those in lists."""
    for name, child in part.named_children():
        if child in given:
            yield name, child
        else:
            yield from ((f"{name}.{path}", inner) for path, inner in _called(child, given))


def _failure(part: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], rows: int) -> Exception | None:
    """Why a part cannot be traced on these arguments."""
    size = torch.export.Dim("rows", min=2, max=MOST_ROWS)

    def shapes(value: Any) -> Any:
        if isinstance(value, Tensor):
            return {0: size} if value.dim() and len(value) == rows else None
        if isinstance(value, (tuple, list)):
            return [shapes(entry) for entry in value]
        return {key: shapes(entry) for key, entry in value.items()} if isinstance(value, dict) else None

    try:
        bound = inspect.signature(part.forward).bind(*args, **kwargs).arguments
        exported(part, args, kwargs, {name: shapes(value) for name, value in bound.items()})
    except Exception as error:
        return error
    return None


def _line(error: BaseException) -> str:
    """The innermost line of the user's code in the traceback of an error."""
    ours = (str(Path(torch.__file__).parent), str(Path(__file__).parent), "<")
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(ours)]
    return f"{Path(frames[-1].filename).name} line {frames[-1].lineno}: `{frames[-1].line}`" if frames else ""
