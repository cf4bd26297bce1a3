"""Tables of results."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import numpy as np

from . import _native
from ._errors import FlatnessError

# Rows that a notebook shows.
_SHOWN = 20


class Table:
    """A table of results: `table["value"]` is a column, a NumPy array (of texts: a list) with one entry for each row.

    polars, pyarrow and duckdb read it as it is (Arrow's PyCapsule interface): `polars.DataFrame(table)`,
    `pyarrow.table(table)`, `duckdb.sql("from table")`; pandas through `to_pandas()`.
    """

    def __init__(self, native: _native.Table) -> None:
        self._native = native
        self._columns: dict[str, Any] = native.columns()

    @classmethod
    def read(cls, path: Path) -> Table:
        """The table in a Parquet file."""
        return cls(_native.read_table(path))

    def __getitem__(self, column: str) -> Any:
        if column not in self._columns:
            raise FlatnessError(f"there is no column `{column}`", f"the columns are {', '.join(self._columns)}")
        return self._columns[column]

    def __contains__(self, column: object) -> bool:
        return column in self._columns

    def __len__(self) -> int:
        """Number of rows."""
        return len(next(iter(self._columns.values()), ()))

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self._columns)

    def rows(self) -> list[dict[str, Any]]:
        """The rows as dicts of Python's own types; numbers that are not there are None."""
        columns = {name: _plain(values) for name, values in self._columns.items()}
        return [dict(zip(columns, row)) for row in zip(*columns.values())]

    def to_polars(self) -> Any:
        """As a `polars.DataFrame`."""
        import polars

        return polars.DataFrame(self)

    def to_pandas(self) -> Any:
        """As a `pandas.DataFrame`."""
        import pandas

        return pandas.DataFrame(self._columns)

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self._native.__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        return f"Table({len(self)} rows: {', '.join(self.columns)})"

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{html.escape(name)}</th>" for name in self.columns)
        shown = self.rows()[:_SHOWN]
        cells = ("".join(f"<td>{_cell(value)}</td>" for value in row.values()) for row in shown)
        body = "".join(f"<tr>{row}</tr>" for row in cells)
        more = f"<p>{len(self) - _SHOWN} more rows</p>" if len(self) > _SHOWN else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _plain(values: Any) -> list[Any]:
    if isinstance(values, list):
        return values
    plain: list[Any] = values.tolist()
    if values.dtype.kind == "f":
        return [None if np.isnan(value) else value for value in plain]
    return plain


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return html.escape(f"{value:.6g}" if isinstance(value, float) else str(value))
