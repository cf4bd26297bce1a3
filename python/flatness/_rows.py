"""Rows of data as NumPy arrays, from loaders, data sets, tensors and batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ._errors import FlatnessError

Array = np.ndarray[Any, Any]
# Names under which batches hold their targets.
_TARGETS = ("labels", "label", "label_ids", "targets", "target", "y")
_PAIRS = "give pairs (inputs, targets), or dicts with the targets under `labels`"
# Rows that an array has space for at first; it doubles.
_FIRST = 1024


@dataclass(frozen=True)
class Rows:
    """Inputs `[N, …]` by name in the order of the module's arguments, targets `[N, …]`, and the number `N`."""

    inputs: dict[str, Array]
    targets: Array | None
    count: int
    notes: list[str] = field(default_factory=list)


def collect(
    data: Any,
    *,
    num_rows: int | None = None,
    names: Sequence[str] | None = None,
    seed: int = 0,
    need_targets: bool = True,
) -> Rows:
    """The rows of `data` in memory, each read once.

    `data` is one of

    - `(x, y)`, `(x1, x2, y)` or `((x1, x2), y)` of tensors, arrays or lists: inputs `[N, …]` and last the targets `[N, …]`;
    - a dict of them, also a tokenizer's batch: the targets are under `labels`, `label`, `targets`, `target` or `y`;
    - a `DataLoader`, generator or list of such batches, or of samples without the axis of rows;
    - a map-style `Dataset` of samples.

    `names` are the arguments of the module's `forward`: inputs take these names in order, and entries of a dict that it does
    not take are left out, with a note. Without them one input is called `x`, several `x1`, `x2`, ….

    At most `num_rows` rows are taken. What has a length is drawn from at random, seeded by `seed`, and keeps its order; of a
    loader the first rows are taken, and no batch is read that is not needed. Without `num_rows` everything is read. Types stay
    as they are (bytes are bytes), but half-precision floats become float32. Rows that differ from reading to reading, such as
    randomly augmented images, are those of this one reading.

    With `need_targets=False` there may be no targets.
    """
    if num_rows is not None and num_rows < 1:
        raise FlatnessError(f"num_rows is {num_rows}", "take 1 row or more")
    notes: list[str] = []
    reader = _Reader(list(names) if names is not None else None, need_targets, notes)
    if isinstance(data, Rows):
        found = _Table([*data.inputs.items()], data.targets)
        notes.extend(data.notes)
        columns, targets = _chosen(found, num_rows, seed, notes)
    elif _is_batch(data):
        columns, targets = _chosen(reader.batch(data, "the data"), num_rows, seed, notes)
    elif hasattr(data, "columns") and hasattr(data, "to_numpy"):
        raise FlatnessError("the data are a table", "give arrays: (table[features].to_numpy(), table[target].to_numpy())")
    elif _is_map_style(data):
        picked, of = _picked(len(data), num_rows, seed), len(data)
        if len(picked) < of:
            notes.append(_drawn(len(picked), of, seed))
        samples = (data[int(place)] for place in picked)
        columns, targets = _gathered(reader, samples, len(picked), "sample", notes)
    elif isinstance(data, Iterable) and not isinstance(data, (str, bytes)):
        unit = "sample" if _is_a("IterableDataset", data) else "batch"
        columns, targets = _gathered(reader, data, num_rows, unit, notes)
    else:
        raise FlatnessError(
            f"the data are of the type {type(data).__name__}", f"{_PAIRS}; a DataLoader, or a Dataset of them"
        )
    count = len(next(iter(columns.values())))
    for name, column in columns.items():
        if column.ndim == 1:
            raise FlatnessError(
                f"the input `{name}` is one number for each row",
                "inputs are [N, …]: x[:, None]; samples whose targets are no single numbers are given as a Dataset",
            )
        _check_finite(f"the input `{name}`", column)
    if targets is not None:
        _check_finite("the targets", targets)
    return Rows(columns, targets, count, notes)


@dataclass
class _Table:
    """Columns `[n, …]` of some rows."""

    inputs: list[tuple[str, Array]]
    targets: Array | None

    def count(self) -> int:
        return len(self.inputs[0][1])


@dataclass
class _Reader:
    """Turns batches and samples into tables, all alike."""

    names: list[str] | None
    need_targets: bool
    notes: list[str]
    left_out: set[str] = field(default_factory=set)

    def batch(self, batch: Any, where: str, is_sample: bool = False) -> _Table:
        inputs, targets = self._split(batch, where)
        columns = [(name, _array(value, f"`{name}` of {where}")) for name, value in inputs]
        wanted = None if targets is None else _targets(targets, where)
        # A row's own label has no axis of rows.
        if is_sample or (wanted is not None and wanted.ndim == 0):
            columns = [(name, column[None]) for name, column in columns]
            wanted = None if wanted is None else wanted[None]
        for name, column in columns:
            if column.ndim == 0:
                raise FlatnessError(
                    f"`{name}` of {where} is a single number", "inputs are [N, …], with the rows along axis 0"
                )
        counts = {name: len(column) for name, column in columns}
        if wanted is not None:
            counts["targets"] = len(wanted)
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{count} of `{name}`" for name, count in counts.items())
            raise FlatnessError(
                f"{where} has different numbers of rows: {told}", "every input and the targets need one entry per row"
            )
        return _Table(columns, wanted)

    def _split(self, batch: Any, where: str) -> tuple[list[tuple[str, Any]], Any]:
        """Inputs by name, and the targets, not yet arrays."""
        if isinstance(batch, Mapping):
            return self._of_mapping(batch, where)
        if isinstance(batch, (tuple, list)) and not _is_leaf(batch):
            *inputs, targets = batch if len(batch) > 1 else (*batch, None)
            if len(inputs) == 1 and isinstance(inputs[0], Mapping):
                found, inside = self._of_mapping(inputs[0], where, targets is None)
                return found, inside if targets is None else targets
            if len(inputs) == 1 and isinstance(inputs[0], (tuple, list)) and not _is_leaf(inputs[0]):
                inputs = list(inputs[0])
        else:
            inputs, targets = [batch], None
        if targets is None and self.need_targets:
            raise FlatnessError(f"{where} has only inputs, and no targets", _PAIRS)
        return [*zip(self._of_inputs(len(inputs), where), inputs)], targets

    def _of_inputs(self, number: int, where: str) -> list[str]:
        if self.names is None:
            return ["x"] if number == 1 else [f"x{place + 1}" for place in range(number)]
        if number > len(self.names):
            raise FlatnessError(
                f"{where} has {number} inputs before the targets, but the module takes {len(self.names)}: "
                f"{', '.join(self.names)}",
                f"{_PAIRS}; indices and paths do not belong to the inputs",
            )
        return self.names[:number]

    def _of_mapping(
        self, batch: Mapping[Any, Any], where: str, with_targets: bool = True
    ) -> tuple[list[tuple[str, Any]], Any]:
        batch = {str(key): value for key, value in batch.items() if value is not None}
        if any(_is_map_style(value) for value in batch.values()):
            raise FlatnessError(f"{where} is a dict of data sets: {', '.join(batch)}", f"choose one: data[{min(batch)!r}]")
        found = [key for key in _TARGETS if key in batch]
        outside = [key for key in found if key not in (self.names or ())]
        key = next(iter(outside or found), None) if with_targets else None
        if key is None and with_targets and self.need_targets:
            raise FlatnessError(
                f"{where} has no targets: it has {', '.join(batch)}",
                "add them under `labels`; of a causal language model they are a copy of `input_ids` with -100 at padding",
            )
        rest = {name: value for name, value in batch.items() if name != key}
        if self.names is None:
            return [*rest.items()], batch.get(key or "")
        unknown = set(rest) - set(self.names)
        if unknown - self.left_out:
            self.left_out |= unknown
            self.notes.append(f"left out what the module does not take: {', '.join(sorted(unknown))}")
        inputs = [(name, rest[name]) for name in self.names if name in rest]
        if not inputs:
            raise FlatnessError(
                f"{where} has none of the module's inputs: it has {', '.join(batch)}",
                f"the module takes {', '.join(self.names)}",
            )
        return inputs, batch.get(key or "")


class _Column:
    """An array that grows along its first axis."""

    def __init__(self, name: str, first: Array, capacity: int) -> None:
        self.name, self.count = name, 0
        self.values = np.empty((max(capacity, len(first)), *first.shape[1:]), first.dtype)

    def add(self, part: Array, where: str) -> None:
        if part.shape[1:] != self.values.shape[1:]:
            now, before = list(part.shape[1:]), list(self.values.shape[1:])
            raise FlatnessError(
                f"{where} has `{self.name}` of shape {now} for each row, those before it {before}",
                "bring all rows to one shape: pad tokens to one length (padding='max_length'), resize images",
            )
        kind = np.promote_types(self.values.dtype, part.dtype)
        end = self.count + len(part)
        if end > len(self.values) or kind != self.values.dtype:
            size = len(self.values) if end <= len(self.values) else max(end, 2 * len(self.values))
            wider = np.empty((size, *part.shape[1:]), kind)
            wider[: self.count] = self.values[: self.count]
            self.values = wider
        self.values[self.count : end] = part
        self.count = end


def _gathered(
    reader: _Reader, batches: Iterable[Any], num_rows: int | None, unit: str, notes: list[str]
) -> tuple[dict[str, Array], Array | None]:
    """The rows of batches or samples one after the other, up to `num_rows`."""
    columns: dict[str, _Column] = {}
    targets: _Column | None = None
    count, is_cut = 0, False
    for place, batch in enumerate(batches):
        where = f"{unit} {place}"
        table = reader.batch(batch, where, unit == "sample")
        free = table.count() if num_rows is None else num_rows - count
        is_cut |= free < table.count()
        if not columns:
            capacity = min(num_rows or _FIRST, _FIRST)
            columns = {name: _Column(name, part[:free], capacity) for name, part in table.inputs}
            targets = None if table.targets is None else _Column("targets", table.targets[:free], capacity)
        if [name for name, _ in table.inputs] != list(columns) or (table.targets is None) != (targets is None):
            raise FlatnessError(
                f"{where} has other entries than those before it", "every batch needs the same inputs and targets"
            )
        for name, part in table.inputs:
            columns[name].add(part[:free], where)
        if targets is not None and table.targets is not None:
            targets.add(table.targets[:free], where)
        count += min(free, table.count())
        if count == num_rows:
            break
    if count == 0:
        raise FlatnessError(
            "the data have no rows", "a generator can be read only once: pass a fresh one, or a list of its batches"
        )
    if unit == "batch":
        which = "the first " if is_cut or count == num_rows else ""
        notes.append(f"{which}{count:,} rows of the batches are used")
    arrays = {name: column.values[:count] for name, column in columns.items()}
    return arrays, None if targets is None else targets.values[:count]


def _chosen(table: _Table, num_rows: int | None, seed: int, notes: list[str]) -> tuple[dict[str, Array], Array | None]:
    """At most `num_rows` rows of a table, at random."""
    of = table.count()
    if of == 0:
        raise FlatnessError("the data have no rows", _PAIRS)
    picked = _picked(of, num_rows, seed)
    if len(picked) == of:
        return dict(table.inputs), table.targets
    notes.append(_drawn(len(picked), of, seed))
    return {name: part[picked] for name, part in table.inputs}, None if table.targets is None else table.targets[picked]


def _picked(of: int, num_rows: int | None, seed: int) -> Array:
    """Ascending places of rows."""
    if of == 0:
        raise FlatnessError("the data have no rows", _PAIRS)
    if num_rows is None or num_rows >= of:
        return np.arange(of)
    return np.sort(np.random.default_rng(seed).choice(of, num_rows, replace=False))


def _drawn(count: int, of: int, seed: int) -> str:
    return f"{count:,} of {of:,} rows are used, drawn at random (seed {seed})"


def _is_leaf(value: Any) -> bool:
    """Whether it is data: a tensor, an array, a number or nested lists of numbers."""
    if isinstance(value, list):
        return all(
            isinstance(entry, (bool, int, float, np.generic)) or (isinstance(entry, list) and _is_leaf(entry))
            for entry in value
        )
    return hasattr(value, "dtype") or isinstance(value, (bool, int, float))


def _is_batch(data: Any) -> bool:
    """Whether all rows are here: tensors, a dict of columns, or a tuple or list with one at an end."""
    if isinstance(data, (tuple, list)) and len(data) > 0 and not _is_leaf(data):
        return _is_leaf(data[0]) or _is_leaf(data[-1])
    return isinstance(data, Mapping) or hasattr(data, "dtype")


def _is_map_style(data: Any) -> bool:
    is_plain = isinstance(data, (str, bytes, list, tuple, Mapping)) or hasattr(data, "dtype")
    return not is_plain and hasattr(data, "__getitem__") and hasattr(data, "__len__") and not _is_a("DataLoader", data)


def _is_a(name: str, data: Any) -> bool:
    return any(base.__name__ == name for base in type(data).__mro__)


def _targets(value: Any, where: str) -> Array:
    if isinstance(value, Mapping) or (isinstance(value, tuple) and not all(np.ndim(entry) == 0 for entry in value)):
        raise FlatnessError(f"{where} has several targets", "a loss needs one tensor of them: stack or concatenate them")
    return _array(value, f"the targets of {where}")


def _array(value: Any, what: str) -> Array:
    """A tensor, array, number or list as an array of numbers on the CPU."""
    if isinstance(value, (list, tuple)) and value and hasattr(value[0], "detach"):
        value = [_array(entry, what) for entry in value]
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.to_dense() if getattr(value, "is_sparse", False) else value
        if value.is_floating_point() and value.element_size() < 4:
            value = value.float()
        value = value.numpy()
    if type(value).__module__.startswith("PIL."):
        raise FlatnessError(
            f"{what}: an image of PIL", "turn images into tensors: transform=torchvision.transforms.ToTensor()"
        )
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise FlatnessError(
            f"{what}: rows of different lengths", "bring all rows to one shape, for example by padding"
        ) from error
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    if array.dtype.kind not in "biuf":
        raise FlatnessError(
            f"{what}: {array.dtype.name} is no type of real numbers",
            "turn words into tokens, and names of classes into their numbers 0, 1, …; leave out what the module does not read",
        )
    return array


def _check_finite(what: str, array: Array) -> None:
    if array.dtype.kind != "f":
        return
    bad = ~np.isfinite(array)
    number = int(np.count_nonzero(bad))
    if number:
        row = int(np.argmax(bad.reshape(len(array), -1).any(axis=1)))
        values, verb = ("1 value", "is") if number == 1 else (f"{number:,} values", "are")
        raise FlatnessError(
            f"{values} of {what} {verb} NaN or infinite, the first in row {row}", "leave out or repair these rows"
        )
