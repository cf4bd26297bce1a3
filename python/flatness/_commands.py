"""The commands of `flatness` in process, each giving a report."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from . import _native
from ._errors import FlatnessError
from ._objective import Objective
from ._optimizer import with_optimizer
from ._options import options
from ._report import Report

Progress = Callable[[str, int, int, str], None]
_INTERRUPTED = 130
# Seconds of one task after which a bar appears.
_PATIENCE = 2.0


def analyze(model: Any, data: Any = None, loss: Any = None, *, out: str | Path | None = None, **more: Any) -> Report:
    """Eigenvalues, trace, spectral density and loss slices of a module on given rows, each number with its errors.

    `model`, `data` and `loss` are those of `Objective`, which may be passed in their place; a path of a checkpoint works
    too, with `data="cifar10:DIR"` and the like. `out` keeps the result in a folder (`force=True` replaces one, `resume=True`
    continues one). Further options are those of `flatness analyze`: `top=10`, `bottom=5`, `operator=["hessian", "ggn"]`,
    `steps=128`, `subset=500`, `threads=4`, `memory="4GiB"`, `dtype="float64"`, `max_time=600`. With
    `operator="preconditioned-hessian"`, `optimizer_state` is the Adam or AdamW that trained the module, or a path of its state.

    Ctrl-C ends the computation and gives what is finished, with a warning; `report.complete` is then False.
    """
    return _on_network("analyze", model, data, loss, out, more)


def sharpness(model: Any, data: Any = None, loss: Any = None, *, out: str | Path | None = None, **more: Any) -> Report:
    """How much the loss rises around a minimum: at worst, on average, relative to the weights.

    Arguments as for `analyze`; options are those of `flatness sharpness`. `optimizer_state`, as for `analyze`, adds critical
    sharpness along the steps of Adam.
    """
    return _on_network("sharpness", model, data, loss, out, more)


def llc(model: Any, data: Any = None, loss: Any = None, *, out: str | Path | None = None, **more: Any) -> Report:
    """The local learning coefficient of a module at its weights: how many directions the loss determines.

    Arguments as for `analyze`; options are those of `flatness llc`, such as `gamma=300`, `draws=1000` and `sweep=True`.
    `report.llc` is the number; where the chains have not settled it is not resolved, and `report["llc"]` says why.
    """
    return _on_network("llc", model, data, loss, out, more)


def evaluate(models: Any, data: Any = None, loss: Any = None, *, out: str | Path | None = None, **more: Any) -> Report:
    """Likelihood, calibration and detection of errors and foreign rows, by one classifier or the average of several.

    `models` is a module, a path, or a list of either, whose probabilities are averaged; `data` and `loss` are those of
    `analyze`. Options are those of `flatness evaluate`, such as `ood=["noise", "mnist:DIR"]` and `held_out=0.2`.
    """
    several = list(models) if isinstance(models, (list, tuple)) else [models]
    if not several:
        raise FlatnessError("no modules were given", "pass one or more")
    labels, given, arguments = _subjects(several, data, loss, more)
    return _report(["evaluate", *labels, *arguments], given, out)


def check(model: Any, data: Any = None, loss: Any = None, **more: Any) -> str:
    """Gradients and Hessian products of the module on these rows against finite differences; the findings as text.

    Raises `FlatnessError` where one fails.
    """
    label, given, arguments = _subject(model, data, loss, more)
    code, printed, said = _call(["check", label, *arguments], given)
    if code != 0:
        raise FlatnessError(printed + said)
    return printed


def landscape(
    models: Any, data: Any = None, loss: Any = None, *, out: str | Path | None = None, **more: Any
) -> Report:
    """Loss and accuracy along lines and over planes: around one module, or between two or three in a list.

    Arguments as for `analyze`; options are those of `flatness landscape`, such as `directions="random"` and `points=25`.
    """
    several = list(models) if isinstance(models, (list, tuple)) else [models]
    if not 1 <= len(several) <= 3:
        raise FlatnessError(f"{len(several)} modules were given", "pass one, two or three")
    labels, given, arguments = _subjects(several, data, loss, more)
    return _report(["landscape", *labels, *arguments], given, out)


def compare(members: Mapping[str, Any] | Iterable[Any], *, out: str | Path | None = None, **more: Any) -> Report:
    """Groups of minima over their seeds: means, paired differences, tests and a verdict.

    `members` are reports, folders of results or checkpoints; options are those of `flatness compare`, such as
    `by="method"` and `primary=["lambda_max", "trace"]`.
    """
    listed = members.values() if isinstance(members, Mapping) else members
    paths = [member.folder if isinstance(member, Report) else member for member in listed]
    return _report(["compare", *(os.fspath(path) for path in paths), *options(more)], [], out)


def train(
    model: Any,
    data: Any = None,
    loss: Any = None,
    *,
    out: str | Path,
    num_rows: int | None = None,
    weight_decay: float = 0.0,
    **more: Any,
) -> Report:
    """Trains a module (or an architecture by name, with `data="glyphs"` and the like) and writes checkpoints to `out`.

    Options are those of `flatness train`: `optimizer="sam:rho=0.05"`, `epochs=30`, `batch_size=128`, `seed=1`. The module
    itself is not changed: `model.load_state_dict(flatness.weights(out))` takes the result.
    """
    if isinstance(model, (str, os.PathLike)):
        given = {"model": model, "data": data, "loss": loss, **more}
        return _report(["train", *options(given)], [], out)
    objective = Objective(model, data, loss, num_rows=num_rows, weight_decay=weight_decay)
    network, rows = objective._problem.write(Path(out) / "inputs")
    if weight_decay:
        more.setdefault("weight_decay", weight_decay)
    return _report(["train", os.fspath(network), f"--data=tensors:{rows}", *options(more)], [], out)


def _on_network(
    command: str, model: Any, data: Any, loss: Any, out: str | Path | None, more: Mapping[str, Any]
) -> Report:
    with with_optimizer(model, more) as more:
        label, given, arguments = _subject(model, data, loss, more)
        return _report([command, label, *arguments], given, out)


def _subjects(
    several: list[Any], data: Any, loss: Any, more: Mapping[str, Any]
) -> tuple[list[str], list[Any], list[str]]:
    """`_subject` of modules on the same rows, or of paths."""
    first, given, arguments = _subject(several[0], data, loss, more)
    labels = [first]
    for place, model in enumerate(several[1:], start=1):
        if isinstance(model, (str, os.PathLike)):
            labels.append(os.fspath(model))
            continue
        label, more_given, _ = _subject(model, data, loss, more)
        labels.append(f"{label}-{place + 1}" if label in labels else label)
        given += more_given
    if given and len(given) != len(several):
        raise FlatnessError("modules and checkpoints are mixed", "pass either modules or paths of checkpoints")
    return labels, given, arguments


def _subject(model: Any, data: Any, loss: Any, more: Mapping[str, Any]) -> tuple[str, list[Any], list[str]]:
    """A name or path of the network, what is passed in memory, and the remaining options."""
    if isinstance(model, (str, os.PathLike)):
        return os.fspath(model), [], options({"data": data, "loss": loss, **more})
    own = {key: more[key] for key in ("num_rows", "weight_decay") if key in more}
    rest = {key: value for key, value in more.items() if key not in own}
    if "dtype" in rest:
        rest["dtype"] = _short(rest["dtype"])
    if isinstance(model, Objective):
        if data is not None or loss is not None or own:
            raise FlatnessError("an objective has its data and its loss already", "pass the objective alone")
        problem, inherited = model._problem, model._arguments
        arguments = [*_without(inherited, options(rest)), *options(rest)]
        return problem.name, [(problem.network, problem.rows)], arguments
    from ._problem import Problem

    decay = own.get("weight_decay", 0.0)
    problem = Problem.of(model, data, loss, num_rows=own.get("num_rows"), weight_decay=decay)
    arguments = options({"l2": "in" if decay else None, **rest})
    return problem.name, [(problem.network, problem.rows)], arguments


def _without(words: list[str], others: list[str]) -> list[str]:
    """Options that `others` do not give anew."""
    names = {word.partition("=")[0] for word in others}
    return [word for word in words if word.partition("=")[0] not in names]


def _short(dtype: Any) -> str:
    from ._objective import _precision

    return _precision(dtype)


def _report(arguments: list[str], given: list[Any], out: str | Path | None) -> Report:
    keep = None
    if out is None:
        keep = tempfile.TemporaryDirectory(prefix="flatness-", ignore_cleanup_errors=True)
        out = Path(keep.name) / "result"
    code, printed, said = _call([*arguments, f"--out={os.fspath(out)}"], given)
    notes = [line.removeprefix("note: ") for line in said.splitlines() if line.startswith(("note: ", "warning: "))]
    if code == _INTERRUPTED:
        warnings.warn("interrupted: the report holds what was finished", RuntimeWarning, stacklevel=4)
    elif code != 0:
        raise FlatnessError(said.strip() or printed.strip() or f"the command ended with the code {code}")
    return Report(out, text=printed, notes=notes, keep=keep)


def _call(arguments: list[str], given: list[Any]) -> tuple[int, str, str]:
    with _Bars() as bars:
        return _native.call(["flatness", *arguments], given, bars)


class _Bars:
    """Bars of tqdm, where it is present, for what takes longer than two seconds."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task = ""
        self._began = 0.0

    def __enter__(self) -> Progress | None:
        try:
            from tqdm.auto import tqdm
        except ImportError:
            return None
        import time

        def show(task: str, done: int, total: int, message: str) -> None:
            if task != self._task or (self._bar is not None and done < self._bar.n):
                self._close()
                self._task, self._began = task, time.monotonic()
            if self._bar is None and time.monotonic() - self._began > _PATIENCE:
                self._bar = tqdm(desc=task, total=total, leave=False)
            if self._bar is not None:
                self._bar.total = total
                self._bar.set_postfix_str(message, refresh=False)
                self._bar.update(done - self._bar.n)

        return show

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
