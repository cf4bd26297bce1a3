"""Rows from everything that holds rows."""

import subprocess
import sys

import numpy as np
import pytest
from flatness._errors import FlatnessError
from flatness._rows import Rows, collect

torch = pytest.importorskip("torch")
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

X = torch.arange(30, dtype=torch.float32).reshape(10, 3)
Y = torch.arange(10) % 4


def same(rows, x=X, y=Y, names=("x",)):
    assert list(rows.inputs) == list(names) and rows.count == len(x)
    np.testing.assert_array_equal(rows.inputs[names[0]], np.asarray(x))
    np.testing.assert_array_equal(rows.targets, np.asarray(y))


class Samples(Dataset):
    def __init__(self):
        self.read = []

    def __len__(self):
        return len(X)

    def __getitem__(self, place):
        self.read.append(place)
        return X[place], int(Y[place])


class Stream(IterableDataset):
    def __iter__(self):
        return zip(X, Y)


@pytest.mark.parametrize(
    "data",
    [
        (X, Y),
        [X, Y],
        (X.numpy(), Y.numpy()),
        (X.tolist(), Y.tolist()),
        ((X,), Y),
        ({"x": X}, Y),
        {"x": X, "labels": Y},
        {"y": Y, "x": X},
        DataLoader(TensorDataset(X, Y), batch_size=3),
        Samples(),
        TensorDataset(X, Y),
        Stream(),
        DataLoader(Stream(), batch_size=4),
        ((X[i : i + 4], Y[i : i + 4]) for i in (0, 4, 8)),
        [(X[:5], Y[:5]), (X[5:], Y[5:])],
        [(x, int(y)) for x, y in zip(X, Y)],
        [{"x": x.numpy(), "label": y} for x, y in zip(X, Y)],
        Rows({"x": X.numpy()}, Y.numpy(), 10),
    ],
    ids=lambda data: type(data).__name__,
)
def test_every_source_gives_the_same_rows(data):
    same(collect(data))


def test_types_stay_and_halves_are_widened():
    for dtype, kept in [
        (torch.uint8, np.uint8),
        (torch.bool, np.bool_),
        (torch.int32, np.int32),
        (torch.float64, np.float64),
        (torch.bfloat16, np.float32),
        (torch.float16, np.float32),
    ]:
        assert collect((X.to(dtype), Y)).inputs["x"].dtype == kept
    assert collect((X.numpy().astype(np.float16), Y)).inputs["x"].dtype == np.float32
    assert collect((X, Y > 1)).targets.dtype == np.bool_


def test_several_inputs_take_the_names_of_forward():
    assert list(collect((X, X, Y)).inputs) == ["x1", "x2"]
    for data in [(X, X, Y), ((X, X), Y), DataLoader(TensorDataset(X, X, Y), batch_size=4)]:
        same(collect(data, names=["left", "right", "scale"]), names=("left", "right"))
    with pytest.raises(FlatnessError, match="2 inputs before the targets, but the module takes 1: x") as caught:
        collect(DataLoader(TensorDataset(X, Y, Y), batch_size=4), names=["x"])
    assert "batch 0" in str(caught.value) and "indices" in caught.value.hint


def test_batches_of_tokenizers_keep_what_forward_takes():
    ids, mask = torch.arange(12).reshape(3, 4), torch.ones(3, 4, dtype=torch.int64)
    batch = {"text": ["a", "b", "c"], "attention_mask": mask, "input_ids": ids, "labels": ids}
    names = ["input_ids", "attention_mask", "token_type_ids", "labels"]
    rows = collect([batch, batch], names=names)
    assert list(rows.inputs) == names[:2] and rows.targets.shape == (6, 4)
    assert rows.notes == ["left out what the module does not take: text", "6 rows of the batches are used"]
    transformers = pytest.importorskip("transformers")
    del batch["text"]
    rows = collect(transformers.BatchEncoding(batch), names=names)
    assert list(rows.inputs) == names[:2] and rows.count == 3
    with pytest.raises(FlatnessError, match="has no targets: it has input_ids") as caught:
        collect({"input_ids": ids}, names=names)
    assert "-100" in caught.value.hint
    with pytest.raises(FlatnessError, match="none of the module's inputs"):
        collect({"ids": ids, "labels": ids}, names=names)
    # A module may itself have an argument `y`.
    rows = collect({"x": X, "y": X, "target": Y}, names=["x", "y"])
    assert list(rows.inputs) == ["x", "y"] and rows.targets.shape == (10,)


def test_num_rows_bounds_what_is_read():
    read = []

    def batches():
        for start in (0, 4, 8):
            read.append(start)
            yield X[start : start + 4], Y[start : start + 4]

    rows = collect(batches(), num_rows=6)
    same(rows, X[:6], Y[:6])
    assert read == [0, 4] and rows.notes == ["the first 6 rows of the batches are used"]
    rows = collect((X, Y), num_rows=4)
    picked = rows.inputs["x"][:, 0].astype(int) // 3
    assert sorted(set(picked)) == list(picked) and len(picked) == 4
    np.testing.assert_array_equal(rows.targets, Y.numpy()[picked])
    assert rows.notes == ["4 of 10 rows are used, drawn at random (seed 0)"]
    np.testing.assert_array_equal(collect((X, Y), num_rows=4).targets, rows.targets)
    assert any((collect((X, Y), num_rows=4, seed=seed).targets != rows.targets).any() for seed in range(1, 5))
    samples = Samples()
    np.testing.assert_array_equal(collect(samples, num_rows=4).inputs["x"], rows.inputs["x"])
    assert samples.read == list(picked)
    assert collect((X, Y), num_rows=20).count == 10


def test_arrays_grow_beyond_their_first_size():
    batch = (np.ones((700, 2)), np.zeros(700, dtype=np.int64))
    rows = collect([batch] * 5)
    assert rows.inputs["x"].shape == (3500, 2) and (rows.inputs["x"] == 1).all() and rows.targets.shape == (3500,)
    mixed = collect([(X[:2], [0, 1]), (X[2:4], [0.5, 1.5])])
    np.testing.assert_array_equal(mixed.targets, [0, 1, 0.5, 1.5])


@pytest.mark.parametrize(
    ("data", "words", "hint"),
    [
        (
            [(torch.ones(2, 5), [0, 1]), (torch.ones(2, 4), [0, 1])],
            r"batch 1 has `x` of shape \[4\] for each row, those before it \[5\]",
            "pad",
        ),
        (DataLoader(TensorDataset(X), batch_size=3), "batch 0 has only inputs, and no targets", "pairs"),
        (X, "the data has only inputs", "pairs"),
        (iter(()), "no rows", "generator"),
        ((X[:0], Y[:0]), "no rows", ""),
        ((X, Y[:7]), "10 of `x`, 7 of `targets`", "one entry per row"),
        (
            (X / torch.tensor([1.0, 1.0, 0.0]), Y),
            "10 values of the input `x` are NaN or infinite, the first in row 0",
            "rows",
        ),
        ((X, [0.0] * 9 + [float("nan")]), "1 value of the targets is NaN or infinite, the first in row 9", "rows"),
        ([(X[:2], ["cat", "dog"])], "the targets of batch 0: str96 is no type of real numbers", "classes"),
        ((X, (Y, Y)), "several targets", "stack"),
        ([(X[i], X[i]) for i in range(10)], "the input `x` is one number for each row", "Dataset"),
        ([(torch.ones(3), [1, [2, 3]])], "targets of batch 0: rows of different lengths", "padding"),
        ({"x": X, "labels": None}, "has no targets", "`labels`"),
        (7, "the data are of the type int", "DataLoader"),
        ({"train": Samples(), "test": Samples()}, "dict of data sets: train, test", "data['test']"),
    ],
)
def test_what_is_wrong_is_said_with_a_way_out(data, words, hint):
    with pytest.raises(FlatnessError, match=words) as caught:
        collect(data)
    assert hint in caught.value.hint and str(caught.value).endswith(caught.value.hint)


def test_rows_need_no_torch():
    code = (
        "import sys, types; package = types.ModuleType('flatness'); package.__path__ = [sys.argv[1]];"
        "sys.modules['flatness'] = package; from flatness._rows import collect; import numpy as np;"
        "print(collect((np.ones((3, 2)), [0, 1, 2])).count, 'torch' in sys.modules)"
    )
    import flatness

    done = subprocess.run(
        [sys.executable, "-c", code, flatness.__path__[0]], capture_output=True, text=True, check=True
    )
    assert done.stdout == "3 False\n"


def test_a_bound_that_no_data_reach_costs_no_memory():
    assert collect([(X, Y)], num_rows=10**12).count == 10


def test_tables_are_refused():
    polars = pytest.importorskip("polars")
    with pytest.raises(FlatnessError, match="are a table") as caught:
        collect(polars.DataFrame({"x": [1.0], "y": [0]}))
    assert "to_numpy" in caught.value.hint


def test_targets_are_needed_only_where_asked_for():
    assert collect(X, need_targets=False).targets is None
    assert collect(DataLoader(TensorDataset(X), batch_size=3), need_targets=False).count == 10
