"""Options of the command line from keywords of Python."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ._errors import FlatnessError


def options(given: Mapping[str, Any]) -> list[str]:
    """`top=10, operator=["hessian", "ggn"]` as `--top=10 --operator=hessian,ggn`.

    `True` is an option without a value; `None` and `False` leave the option out.
    """
    words = []
    for name, value in given.items():
        option = "--" + name.strip("_").replace("_", "-")
        if value is None or value is False:
            continue
        words.append(option if value is True else f"{option}={_text(name, value)}")
    return words


def _text(name: str, value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ",".join(_text(name, part) for part in value)
    if isinstance(value, range):
        if value.step != 1:
            raise FlatnessError(f"{name} is {value!r}", "ranges have no step: range(A, B)")
        return f"{value.start}..{value.stop}"
    if isinstance(value, (str, int, float, os.PathLike)) or hasattr(value, "item"):
        return os.fspath(value) if isinstance(value, os.PathLike) else str(value)
    raise FlatnessError(f"{name} is of the type {type(value).__name__}", "options are numbers, words, lists and paths")
