"""Objectives and matrices against PyTorch's double backward."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import flatness

pytest.importorskip("flatness._native")


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.GELU(), nn.Flatten(), nn.Linear(3 * 36, 4)
    ).eval()


def rows(count=24, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 1, 6, 6, generator=generator), torch.randint(0, 4, (count,), generator=generator)


def torch_product(model, loss, vector):
    """`H v` in float64 by differentiating twice."""
    model = model.double()
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(loss(model), parameters, create_graph=True)
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    products = torch.autograd.grad(flat @ torch.as_tensor(vector), parameters)
    return torch.cat([product.flatten() for product in products]).numpy(), flat.detach().numpy()


@pytest.fixture
def problem():
    model, (x, y) = network(), rows()
    return model, x, y


def test_products_and_gradient_are_those_of_pytorch(problem):
    model, x, y = problem
    hessian = flatness.Hessian(model, (x, y), loss="cross_entropy", dtype="float64")
    vector = np.random.default_rng(0).standard_normal(hessian.shape[0])
    product, gradient = torch_product(model, lambda m: F.cross_entropy(m(x.double()), y), vector)
    # Rounding of float64 through five layers.
    np.testing.assert_allclose(hessian @ vector, product, rtol=0, atol=1e-13 * np.abs(product).max() * 100)
    np.testing.assert_allclose(hessian.objective.gradient(), gradient, rtol=0, atol=1e-13)
    assert hessian.objective.loss().value == pytest.approx(float(F.cross_entropy(model(x.double()), y)), abs=1e-13)
    assert hessian.objective.num_rows == 24 and hessian.objective.loss().std_err > 0


def test_blocks_columns_and_tensors_agree(problem):
    model, x, y = problem
    hessian = flatness.Hessian(model, (x, y))
    block = np.random.default_rng(0).standard_normal((hessian.shape[0], 3))
    products = hessian @ block
    assert products.shape == block.shape and products.dtype == np.float32
    for column in range(3):
        single = hessian.matvec(block[:, column])
        # Sums in float32 in another order.
        np.testing.assert_allclose(single, products[:, column], rtol=0, atol=1e-5 * np.abs(single).max())
    tensor = torch.from_numpy(block[:, 0].copy()).float()
    assert isinstance(hessian @ tensor, torch.Tensor)
    np.testing.assert_array_equal((hessian @ tensor).numpy(), hessian @ tensor.numpy())
    assert hessian.matvec(block[:, :1]).shape == (hessian.shape[0], 1)
    assert (hessian @ block[:, :0]).shape == (hessian.shape[0], 0)


def test_scipy_takes_the_matrix(problem):
    linalg = pytest.importorskip("scipy.sparse.linalg")
    model, x, y = problem
    hessian = flatness.Hessian(model, (x, y), dtype="float64")
    values = linalg.eigsh(hessian, k=3, which="LA", return_eigenvectors=False)
    pairs = hessian.eigenpairs(3, 2, tolerance=1e-10)
    assert pairs.converged.all() and pairs.vectors.shape == (5, hessian.shape[0])
    np.testing.assert_allclose(np.sort(values)[::-1], pairs.values[:3], rtol=1e-9)
    shifted = hessian.aslinearoperator() + 2.0 * linalg.aslinearoperator(np.eye(hessian.shape[0]))
    vector = np.ones(hessian.shape[0])
    np.testing.assert_allclose(shifted @ vector, hessian @ vector + 2.0, rtol=1e-12)


def test_estimates_of_the_trace_and_of_the_spectrum_cover_the_dense_matrix(problem):
    model, x, y = problem
    hessian = flatness.Hessian(model, (x, y), dtype="float64")
    dense = hessian @ np.eye(hessian.shape[0])
    np.testing.assert_allclose(dense, dense.T, atol=1e-12)
    trace = hessian.trace(64)
    assert abs(trace.value - np.trace(dense)) < 4 * trace.std_err_numeric
    rules = hessian.quadrature(4, 10)
    assert all(weights.sum() == pytest.approx(1.0, abs=1e-12) for weights in rules.weights)
    # A rule of the spectral measure is exact for its first moment of that probe: the probes are those of the trace.
    means = [float(nodes @ weights) for nodes, weights in zip(rules.nodes, rules.weights)]
    np.testing.assert_allclose(np.multiply(means, hessian.shape[0]), hessian.trace(4).samples, rtol=1e-10)


def test_ggn_and_residual_add_up_and_the_fisher_matrices_are_positive(problem):
    model, x, y = problem
    objective = flatness.Objective(model, (x, y), dtype="float64")
    vector = np.random.default_rng(2).standard_normal(objective.num_params)
    parts = flatness.GGN(objective) @ vector + flatness.Residual(objective) @ vector
    np.testing.assert_allclose(parts, flatness.Hessian(objective) @ vector, atol=1e-12)
    gradients = np.stack(
        [flatness.Objective(model, (x[i : i + 1], y[i : i + 1]), dtype="float64").gradient() for i in range(len(x))]
    )
    fisher = gradients.T @ (gradients @ vector) / len(x)
    np.testing.assert_allclose(flatness.EmpiricalFisher(objective) @ vector, fisher, atol=1e-12)
    mean = gradients.mean(0)
    centred = fisher - mean * (mean @ vector)
    np.testing.assert_allclose(flatness.GradientCovariance(objective) @ vector, centred, atol=1e-12)
    assert vector @ (flatness.MCFisher(objective) @ vector) >= 0


def test_update_takes_new_weights_and_buffers(problem):
    model, x, y = problem
    hessian = flatness.Hessian(model, (x, y), dtype="float64")
    before = hessian @ np.ones(hessian.shape[0])
    with torch.no_grad():
        for tensor in [*model.parameters(), model[1].running_mean]:
            tensor.add_(0.1)
    np.testing.assert_array_equal(hessian @ np.ones(hessian.shape[0]), before)
    hessian.update()
    fresh = flatness.Hessian(model, (x, y), dtype="float64")
    np.testing.assert_array_equal(hessian @ np.ones(hessian.shape[0]), fresh @ np.ones(hessian.shape[0]))
    hessian.update(network().state_dict())
    np.testing.assert_array_equal(hessian @ np.ones(hessian.shape[0]), before)
    with pytest.raises(flatness.FlatnessError, match="another network"):
        hessian.update({"0.weight": torch.zeros(1)})


def test_vectors_have_names(problem):
    model, x, y = problem
    objective = flatness.Objective(model, (x, y))
    flat = objective.vector(model.state_dict())
    np.testing.assert_array_equal(flat, objective.weights())
    parts = objective.tensors(flat)
    assert list(parts) == [name for name, _ in model.named_parameters()]
    np.testing.assert_array_equal(parts["0.weight"], model[0].weight.detach().numpy())
    with pytest.raises(flatness.FlatnessError, match="no tensor `0.weight`"):
        objective.vector({})
    with pytest.raises(flatness.FlatnessError, match=r"shape \[2\]"):
        objective.tensors([0.0, 1.0])


def test_weight_decay_and_settings_of_the_command_are_taken(problem):
    model, x, y = problem
    plain = flatness.Hessian(model, (x, y), dtype="float64")
    decayed = flatness.Hessian(model, (x, y), dtype="float64", weight_decay=0.25, threads=1, memory="512MiB")
    vector = np.ones(plain.shape[0])
    np.testing.assert_allclose(decayed @ vector, plain @ vector + 0.25 * vector, atol=1e-12)
    assert "subset" not in repr(plain)
    half = flatness.Objective(model, (x, y), subset=12)
    assert half.num_rows == 12
    first = flatness.Objective(model, (x, y), num_rows=12)
    assert first.num_rows == 12


def test_refusals_say_what_to_do(problem):
    model, x, y = problem
    hessian = flatness.Hessian(model, (x, y))
    cases = [
        (lambda: hessian @ np.ones(3), r"shape \[3\]"),
        (lambda: hessian.matmat(np.ones((3, 2))), r"give columns"),
        (lambda: hessian.matmat(np.ones((hessian.shape[0], 1)) * 1j), "complex"),
        (lambda: hessian.eigenpairs(0), "no eigenvalues"),
        (lambda: hessian.eigenpairs(-1), "top is -1"),
        (lambda: hessian.eigenpairs(10**6), "dimension"),
        (lambda: hessian.trace(1), "probes"),
        (lambda: hessian.trace(-8), "probes is -8"),
        (lambda: hessian.trace(8, seed=-1), "seed is -1"),
        (lambda: hessian.quadrature(2, 10, seed=-1), "seed is -1"),
        (lambda: hessian.eigenpairs(1, tolerance=float("nan")), "tolerance is nan"),
        (lambda: hessian.eigenpairs(1, start=[np.nan] * hessian.shape[0]), "NaN"),
        (lambda: flatness.Hessian(None, (x, y)), "the model is a NoneType"),
        (lambda: flatness.Hessian(model), "there are no data"),
        (lambda: flatness.Hessian(model, (x, y), loss="mes"), "no loss `mes`"),
        (lambda: flatness.Hessian(model, (x, y + 7)), "label"),
        (lambda: flatness.Hessian(model, (x[:, :, :5], y)), "flatness|shape|trace"),
        (lambda: flatness.Hessian(model, (x, y), dtype="int8"), "float32 or float64"),
        (lambda: flatness.Hessian(model, (x, y), thread=1), "unexpected argument '--thread"),
        (lambda: flatness.Hessian(model, (x, y), noise="symmetric:0.1"), "rows in memory"),
        (lambda: flatness.Hessian(hessian.objective, (x, y)), "already"),
    ]
    for call, words in cases:
        with pytest.raises(flatness.FlatnessError, match=words):
            call()


def test_a_product_that_is_not_finite_is_an_error(problem):
    model, x, y = problem
    hessian = flatness.Hessian(model, (x, y))
    with pytest.raises(flatness.FlatnessError, match="not finite"):
        hessian @ np.full(hessian.shape[0], np.nan)


def test_a_function_of_the_rows_is_a_loss(problem):
    model, x, y = problem

    def focal(outputs, targets):
        chosen = F.log_softmax(outputs, 1).gather(1, targets[:, None])[:, 0]
        return -((1 - chosen.exp()) ** 2) * chosen

    hessian = flatness.Hessian(model, (x, y), loss=focal, dtype="float64")
    vector = np.random.default_rng(0).standard_normal(hessian.shape[0])
    product, gradient = torch_product(model, lambda m: focal(m(x.double()), y).mean(), vector)
    np.testing.assert_allclose(hessian @ vector, product, rtol=0, atol=1e-11 * np.abs(product).max())
    np.testing.assert_allclose(hessian.objective.gradient(), gradient, rtol=0, atol=1e-13)
    with pytest.raises(flatness.FlatnessError, match="reduction"):
        flatness.Hessian(model, (x, y), loss=lambda outputs, targets: focal(outputs, targets).mean())


def test_a_model_of_transformers_brings_its_loss_and_shifts_its_labels():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=20, n_positions=8, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    tokens = torch.randint(0, 20, (6, 8))
    mask = torch.ones_like(tokens)
    mask[0, 5:] = 0
    labels = tokens.masked_fill(mask == 0, -100)
    batch = {"input_ids": tokens, "attention_mask": mask, "labels": labels}
    objective = flatness.Objective(model, [batch], dtype="float64")
    logits = model.double()(**batch).logits[:, :-1]  # its own loss rounds to float32
    expected = F.cross_entropy(logits.reshape(-1, 20), labels[:, 1:].reshape(-1)).item()
    assert objective.loss().value == pytest.approx(expected, abs=1e-12)
    # Embedding and output share one matrix.
    assert objective.num_params == sum(p.numel() for p in model.parameters())
