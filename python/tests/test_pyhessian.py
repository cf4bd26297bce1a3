"""One script with PyHessian and with its interface here."""

import numpy as np
import pytest
import torch
from test_objective import network, rows
from torch import nn

import flatness
from flatness.pyhessian import hessian

pytest.importorskip("flatness._native")


def script(hessian, model, criterion, data):
    torch.manual_seed(0)
    np.random.seed(0)
    matrix = hessian(model, criterion, data=data, cuda=False)
    values, vectors = matrix.eigenvalues(maxIter=300, tol=1e-5, top_n=2)
    trace = matrix.trace(maxIter=200, tol=1e-4)
    nodes, weights = matrix.density(iter=20, n_v=2)
    return values, vectors, trace, nodes, weights


def test_shapes_and_numbers():
    model, data = network(), rows()
    values, vectors, trace, nodes, weights = script(hessian, model, nn.CrossEntropyLoss(), data)
    dense = flatness.Hessian(model, data, dtype="float64") @ np.eye(472)
    exact = np.linalg.eigvalsh(dense)
    by_size = exact[np.argsort(-np.abs(exact))]
    np.testing.assert_allclose(values, by_size[:2], rtol=1e-4)
    assert [part.shape for part in vectors[0]] == [parameter.shape for parameter in model.parameters()]
    spread = np.std(trace, ddof=1) / np.sqrt(len(trace))
    assert abs(np.mean(trace) - exact.sum()) < 5 * spread
    assert len(nodes) == len(weights) == 2 and len(nodes[0]) == 20
    assert sum(weights[0]) == pytest.approx(1.0, abs=1e-6)


def test_the_same_script_runs_with_pyhessian(monkeypatch):
    pyhessian = pytest.importorskip("pyhessian")

    def eig(matrix, eigenvectors):
        # PyHessian's density calls a function that PyTorch has removed: real and imaginary parts, and vectors.
        assert eigenvectors
        values, vectors = torch.linalg.eigh(matrix)
        return torch.stack([values, torch.zeros_like(values)], 1), vectors

    monkeypatch.setattr(torch, "eig", eig)
    model, data = network(), rows()
    ours = script(hessian, model, nn.CrossEntropyLoss(), data)
    theirs = script(pyhessian.hessian, model, nn.CrossEntropyLoss(), data)
    # Power iteration stops early; its first value is close.
    assert ours[0][0] == pytest.approx(theirs[0][0], rel=1e-2)
    assert [type(part) for part in ours] == [type(part) for part in theirs]
    assert [len(part) for part in ours[1]] == [len(part) for part in theirs[1]]
    assert [len(part) for part in ours[3]] == [len(part) for part in theirs[3]]


def test_loaders_and_refusals():
    x, y = rows()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=10)
    all_rows = hessian(network(), nn.CrossEntropyLoss(), data=(x, y)).eigenvalues()[0]
    batches = hessian(network(), nn.CrossEntropyLoss(), dataloader=loader).eigenvalues()[0]
    assert all_rows == batches
    with pytest.raises(flatness.FlatnessError, match="both given, or neither"):
        hessian(network(), nn.CrossEntropyLoss())
    with pytest.raises(flatness.FlatnessError, match="top_n is 0"):
        hessian(network(), nn.CrossEntropyLoss(), data=(x, y)).eigenvalues(top_n=0)
