"""Results: tables, figures and numbers with their errors."""

from __future__ import annotations

import html
import json
import math
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ._errors import FlatnessError
from ._tables import Table

# What a notebook shows first.
_HEADLINES = ("lambda_max", "lambda_min", "trace", "loss", "accuracy")
_PICTURES = (
    "density_signed_log", "distribution", "sharpness_ratio", "llc_traces", "reliability", "line", "contour", "curvature",
)  # fmt: skip


@dataclass(frozen=True)
class Estimate:
    """A number with both of its errors.

    `std_err_numeric` is the error of the method (residuals, probes), `std_err_data` the one that the choice of rows makes; None
    where there is none. A number that has not converged is not resolved: of an extreme eigenvalue it is a bound.
    """

    quantity: str
    value: float
    std_err_numeric: float | None
    std_err_data: float | None
    converged: bool
    method: str
    operator: str
    scope: str
    num_matvecs: int

    def __float__(self) -> float:
        return self.value

    @property
    def is_bound(self) -> bool:
        """Whether the value is a bound of an extreme eigenvalue: from below of the largest, from above of the smallest."""
        return not self.converged and self.quantity in ("lambda_max", "lambda_min")

    def __str__(self) -> str:
        if self.is_bound:
            sign = ">=" if self.quantity == "lambda_max" else "<="
            return f"{sign} {self.value:.4g} (not converged)"
        if not self.converged:
            return f"{self.value:.3g} (not resolved)"
        errors = [(self.std_err_numeric, "numeric"), (self.std_err_data, "data")]
        told = [f" ± {error:.2g} ({name})" for error, name in errors if error]  # exact numbers have a numeric error of 0
        return f"{_digits(self.value, self.std_err_numeric or 0.0)}{''.join(told)}"


class Figure:
    """A figure as SVG; a notebook shows it."""

    def __init__(self, name: str, svg: str, caption: str = "") -> None:
        self.name, self.svg, self.caption = name, svg, caption

    def save(self, path: str | Path) -> None:
        """Writes the SVG to a file."""
        Path(path).write_text(self.svg, encoding="utf-8")

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return f"Figure({self.name})"


class Report:
    """A result: a folder of tables, figures and a page.

    `report.lambda_max` and the like are the numbers of the summary, each an `Estimate`; `report["eigenvalues"]` is a
    table; `report.figure("density_signed_log")` a figure. Results that were not given a folder live as long as the report
    does: `save` keeps them.
    """

    def __init__(self, folder: str | Path, *, text: str = "", notes: list[str] | None = None, keep: Any = None) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise FlatnessError(f"{self.folder} is not a folder", "give the folder of a result: one with run.json")
        self.text = text
        self.notes = notes or []
        self._keep = keep
        self._tables: dict[str, Table] = {}
        if not self.tables:
            raise FlatnessError(f"{self.folder} holds no tables", "give the folder of a result: one with run.json")

    @property
    def tables(self) -> list[str]:
        """Names of the tables (docs/results.md)."""
        return sorted(path.stem for path in self.folder.glob("*.parquet"))

    @property
    def figures(self) -> list[str]:
        """Names of the figures."""
        return sorted(path.stem for path in self.folder.glob("figures/*.svg"))

    @property
    def run(self) -> dict[str, Any]:
        """Provenance: versions, hashes, settings, time; empty where the result is not complete."""
        path = self.folder / "run.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    @property
    def complete(self) -> bool:
        """Whether the computation was finished; not so after Ctrl-C."""
        return bool(self.run.get("complete", False))

    def __getitem__(self, name: str) -> Table:
        if name not in self.tables:
            raise FlatnessError(f"there is no table `{name}`", f"the tables are {', '.join(self.tables)}")
        if name not in self._tables:
            self._tables[name] = Table.read(self.folder / f"{name}.parquet")
        return self._tables[name]

    @property
    def estimates(self) -> list[Estimate]:
        """The numbers of the summary, with those of single layers; of `sharpness` and `evaluate` theirs, of `llc` its headline."""
        found = [name for name in ("summary", "sharpness", "llc", "evaluation") if name in self.tables]
        rows = [row for name in found[:1] for row in self[name].rows()]
        return [_estimate(row) for row in rows if found[0] != "llc" or row["headline"]]

    def estimate(self, quantity: str, *, operator: str | None = None, scope: str | None = None) -> Estimate:
        """One number of the summary; without `operator` and `scope` the first of that name."""
        asked = {"quantity": quantity, "operator": operator, "scope": scope}
        for estimate in self.estimates:
            if all(value is None or getattr(estimate, key) == value for key, value in asked.items()):
                return estimate
        words = ", ".join(f"{key} {value}" for key, value in asked.items() if value is not None)
        known = ", ".join(dict.fromkeys(estimate.quantity for estimate in self.estimates))
        raise FlatnessError(f"the summary has no number with {words}", f"its quantities are {known or 'none'}")

    def __getattr__(self, name: str) -> Estimate:
        if not name.startswith("_"):
            try:
                return self.estimate(name)
            except FlatnessError as error:
                raise AttributeError(str(error)) from None
        raise AttributeError(name)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *{estimate.quantity for estimate in self.estimates}]

    def figure(self, name: str) -> Figure:
        """A figure by its name, or by a beginning that fits one: `density` is the first of the densities."""
        fitting = [known for known in self.figures if known == name] or [k for k in self.figures if k.startswith(name)]
        if not fitting:
            raise FlatnessError(f"there is no figure `{name}`", f"the figures are {', '.join(self.figures) or 'none'}")
        path = self.folder / "figures" / f"{fitting[0]}.svg"
        return Figure(fitting[0], path.read_text(encoding="utf-8"))

    def save(self, folder: str | Path, *, force: bool = False) -> Path:
        """Copies tables, figures and page to `folder`, which must be empty or new unless `force` is set."""
        target = Path(folder)
        if target.exists() and any(target.iterdir()) and not force:
            raise FlatnessError(f"{target} is not empty", "choose another folder, or add force=True")
        target.parent.mkdir(parents=True, exist_ok=True)
        # Whole or not at all, as everything that is written here.
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".flatness-") as scratch:
            copy = Path(scratch) / "result"
            shutil.copytree(self.folder, copy, ignore=shutil.ignore_patterns("*.lock", ".*"))
            if target.exists():
                shutil.copytree(copy, target, dirs_exist_ok=True)
            else:
                copy.rename(target)
        return target

    def __repr__(self) -> str:
        if self.text:
            return self.text.rstrip()
        lines = [f"{e.quantity:<24} {e}" for e in self.estimates if e.scope == "all" or not e.operator]
        return "\n".join([f"{self.folder}:", *lines])

    def _repr_html_(self) -> str:
        whole = [e for e in self.estimates if (e.converged or e.is_bound) and not e.scope.startswith("layer:")]
        whole.sort(key=lambda e: _HEADLINES.index(e.quantity) if e.quantity in _HEADLINES else len(_HEADLINES))
        cells = (
            f"<tr><td>{html.escape(e.operator)}</td><td>{html.escape(e.quantity)}</td>"
            f"<td style='text-align:right'>{html.escape(str(e))}</td></tr>"
            for e in whole
        )
        statement = html.escape(self.text.rstrip().rpartition("\n")[2])
        picture = next((name for name in _PICTURES if name in self.figures), None)
        drawn = f"<div style='max-width:32em'>{_svg_alone(self.figure(picture).svg)}</div>" if picture else ""
        return f"<table><tbody>{''.join(cells)}</tbody></table><p>{statement}</p>{drawn}"


def read(folder: str | Path) -> Report:
    """The result that a command or `Report.save` wrote to `folder`."""
    return Report(folder)


def _estimate(row: dict[str, Any]) -> Estimate:
    return Estimate(
        quantity=row["quantity"],
        value=math.nan if row["value"] is None else row["value"],
        std_err_numeric=row.get("std_err_numeric"),
        std_err_data=row.get("std_err_data"),
        converged=row.get("converged", True),
        method=row.get("method", ""),
        operator=row.get("operator") or "",
        scope=row.get("scope") or "",
        num_matvecs=row.get("num_matvecs") or 0,
    )


def _digits(value: float, error: float) -> str:
    """The value with as many digits as its numeric error leaves, and one more; six where it has none."""
    if not math.isfinite(value) or value == 0.0:
        return f"{value:g}"
    digits = 6 if error <= 0.0 else math.floor(math.log10(abs(value))) - math.floor(math.log10(error)) + 2
    return f"{value:.{min(max(digits, 2), 9)}g}"


def _svg_alone(svg: str) -> str:
    """An SVG as part of a page: without its XML declaration, with names of its own for what it refers to inside."""
    svg = re.sub(r"<\?xml[^>]*\?>|<!DOCTYPE[^>]*>", "", svg)
    mark = f"f{abs(hash(svg)) % 10**8}-"
    svg = re.sub(r'(\sid=")', rf"\g<1>{mark}", svg)
    return re.sub(r"(url\(#|href=\"#)", rf"\g<1>{mark}", svg)
