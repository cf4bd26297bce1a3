"""Losses by name and as functions of the rows, against PyTorch's gradients and Hessians in float64."""

import functools
import json
import subprocess

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from flatness._errors import ExportError, FlatnessError
from flatness._export import argument_names, export, trace
from flatness._losses import RowLoss, default, describe, shift_labels
from flatness._rows import collect
from flatness._safetensors import write
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

pytestmark = pytest.mark.filterwarnings("ignore:reduction", "ignore:the negative log-likelihood")
ROWS, WIDTH = 6, 3


def seeded(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network():
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(WIDTH, 4), nn.Tanh(), nn.Linear(4, WIDTH)).double()


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (None, None),
        ("cross-entropy", {"kind": "cross_entropy"}),
        ("bce", {"kind": "bce_with_logits"}),
        ({"kind": "huber", "delta": 0.5}, {"kind": "huber", "delta": 0.5}),
        ({"kind": "cross_entropy", "label_smoothing": 0.0, "reduction": "mean"}, {"kind": "cross_entropy"}),
        (nn.CrossEntropyLoss(), {"kind": "cross_entropy"}),
        (
            nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0]), ignore_index=7, label_smoothing=0.1),
            {"kind": "cross_entropy", "weight": [1.0, 2.0], "ignore_index": 7, "label_smoothing": 0.1},
        ),
        ({"kind": "cross_entropy", "weight": (1, 2)}, {"kind": "cross_entropy", "weight": [1.0, 2.0]}),
        ({"kind": "bce", "pos_weight": 3, "weight": None}, {"kind": "bce_with_logits", "pos_weight": [3.0]}),
        (nn.MSELoss(), {"kind": "mse"}),
        (nn.L1Loss(reduction="none"), {"kind": "l1"}),
        (nn.HuberLoss(delta=2.0), {"kind": "huber", "delta": 2.0}),
        (nn.SmoothL1Loss(beta=0.5), {"kind": "smooth_l1", "beta": 0.5}),
        (nn.BCEWithLogitsLoss(), {"kind": "bce_with_logits"}),
        (nn.BCEWithLogitsLoss(pos_weight=torch.tensor(3.0)), {"kind": "bce_with_logits", "pos_weight": [3.0]}),
        (
            nn.BCEWithLogitsLoss(pos_weight=torch.tensor([[3.0, 4.0]])),
            {"kind": "bce_with_logits", "pos_weight": [3.0, 4.0]},
        ),
        (F.cross_entropy, {"kind": "cross_entropy"}),
        (F.mse_loss, {"kind": "mse"}),
        (F.binary_cross_entropy_with_logits, {"kind": "bce_with_logits"}),
        (
            functools.partial(F.cross_entropy, label_smoothing=0.2, reduction="none"),
            {"kind": "cross_entropy", "label_smoothing": 0.2},
        ),
    ],
)
def test_losses_that_have_a_name(loss, expected):
    notes = []
    assert describe(loss, notes) == expected and notes == []


def test_what_a_reader_should_know_is_noted():
    notes = []
    assert describe(nn.NLLLoss(ignore_index=2), notes) == {"kind": "cross_entropy", "ignore_index": 2}
    assert describe(F.nll_loss, notes) == {"kind": "cross_entropy"}
    assert describe(nn.MSELoss(reduction="sum"), notes) == {"kind": "mse"}
    assert [note.split(",")[0] for note in notes] == [
        "the negative log-likelihood is taken as cross-entropy",
        "the negative log-likelihood is taken as cross-entropy",
        "reduction='sum' of the loss is not used: results are of the mean over the rows",
    ]


@pytest.mark.parametrize(
    ("loss", "words", "hint"),
    [
        ("hinge", "there is no loss `hinge`", "smooth_l1"),
        ({"delta": 1.0}, "a loss needs a `kind`", "'kind': 'cross_entropy'"),
        ({"kind": "mse", "delta": 1.0}, "the loss `mse` has the setting `delta`", "supported: none"),
        (functools.partial(F.mse_loss, weight=torch.ones(3)), "mse_loss has the setting `weight`", "function"),
        (nn.MSELoss, "is neither a name nor a function", "MSELoss()"),
        (3, "the loss 3 is neither", "bce_with_logits"),
        (nn.GaussianNLLLoss(), "GaussianNLLLoss takes three arguments", "lambda outputs, y"),
        (nn.BCEWithLogitsLoss(pos_weight=torch.ones(2, 2)), "pos_weight has several axes", "one axis"),
        (nn.BCEWithLogitsLoss(pos_weight=torch.ones(3, 1)), "pos_weight is not along the last axis", "function"),
    ],
)
def test_losses_that_are_refused(loss, words, hint):
    with pytest.raises(FlatnessError, match=words) as caught:
        describe(loss)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("loss", "words", "hint"),
    [
        (F.mse_loss, None, None),
        (lambda outputs, y: F.mse_loss(outputs, y), "one number for all rows", "reduction='none'"),
        (lambda outputs, y: (outputs - y) ** 2, "the loss gives 2 axes", ".flatten(1).mean(1)"),
        (lambda outputs, y: [outputs, y], "the loss gives a list", "[N]"),
        (
            lambda outputs, y: outputs[:, 0] * float(y.sum()),
            r"cannot trace the loss \(test_losses.py line",
            "torch.where",
        ),
    ],
)
def test_functions_give_a_loss_for_each_row(loss, words, hint):
    x, y = seeded([ROWS, WIDTH]), seeded([ROWS, WIDTH], 1)
    if words is None:
        assert trace(network(), x, loss=loss).loss == {"kind": "mse"}
        return
    with pytest.raises(ExportError, match=words) as caught:
        trace(network(), x, loss=loss, targets=y)
    assert hint in caught.value.hint


def test_a_loss_module_stays_as_it_is_and_its_parameters_are_fixed():
    loss = Scaled().train()
    traced = trace(network(), seeded([ROWS, WIDTH]), loss=loss, targets=REAL)
    assert loss.training and json.loads(traced.content)["frozen"] == ["row_loss.power", "row_loss.scale"]
    np.testing.assert_array_equal(traced.tensors["row_loss.scale"], [1, 2, 3])
    assert traced.loss == {"kind": "program"}


def test_targets_take_the_precision_of_the_module():
    x, y = seeded([ROWS, WIDTH]), (REAL > 0).double()
    module = nn.Sequential(network(), nn.Sigmoid())
    assert trace(module.bfloat16(), x, loss=nn.BCELoss(), targets=y).loss == {"kind": "program"}
    with pytest.raises(ExportError, match="the loss fails on outputs of the module: all elements of input should be"):
        trace(network(), x, loss=nn.BCELoss(), targets=y)


def test_functions_need_targets_of_the_rows():
    x = seeded([ROWS, WIDTH])
    with pytest.raises(ExportError, match="traced with targets") as caught:
        trace(network(), x, loss=lambda outputs, y: outputs[:, 0])
    assert "targets=" in caught.value.hint
    with pytest.raises(ExportError, match="2 targets for 6 rows"):
        trace(network(), x, loss=lambda outputs, y: outputs[:, 0], targets=[0, 1])


def products(binary, tmp_path, files, operator):
    """Loss, gradient and one product from the command, in float64."""
    from safetensors.numpy import load_file

    data, vectors, out = (tmp_path / f"{name}.safetensors" for name in ("data", "vectors", "out"))
    write(data, files["data"], {})
    write(vectors, {"vectors": files["direction"][None]}, {})
    more = ["--dtype", "f64", "--operator", operator, "--data", f"tensors:{data}"]
    command = [binary, "matvec", files["net"], *more, "--vectors", vectors, "--out", out, "--force"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return load_file(out)


def compared(binary, tmp_path, module, inputs, y, loss, objective):
    """The command's values are those of autograd for `objective(outputs, y)`, the mean over the rows.

    1e-10 of the largest entry: sums of some hundred products in float64, each off by 1e-16, pass through few layers.
    """
    pytest.importorskip("safetensors")
    path, reference = export(module, inputs, tmp_path / "net.safetensors", loss=loss, targets=y)
    parameters = [p for p in module.parameters() if p.requires_grad]
    module.eval()
    with sdpa_kernel(SDPBackend.MATH):  # the other kernels have no second derivative
        value = objective(module(**inputs) if isinstance(inputs, dict) else module(inputs), y)
        gradient = torch.autograd.grad(value, parameters, create_graph=True)
    flat = torch.cat([part.reshape(-1) for part in gradient])
    v = seeded([len(flat)], 5)
    product = torch.autograd.grad(flat @ v, parameters, allow_unused=True)
    product = [torch.zeros_like(p) if part is None else part for part, p in zip(product, parameters)]
    named = inputs if isinstance(inputs, dict) else {argument_names(module)[0]: inputs}
    done = subprocess.run([binary, "check", path, "--against", reference], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    files = {"net": path, "data": {**named, "y": y}, "direction": v}
    found = products(binary, tmp_path, files, "hessian")

    def close(got, expected):
        scale = max(float(expected.detach().abs().max()), 1e-3)
        np.testing.assert_allclose(got, expected.detach().numpy(), rtol=0, atol=1e-10 * scale)

    close(found["loss"][0], value)
    close(found["gradient"], flat)
    close(found["products"][0], torch.cat([part.reshape(-1) for part in product]))
    return files


class Scaled(nn.Module):
    """A loss with a buffer and a parameter of its own, which is held fixed."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
        self.power = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))

    def forward(self, outputs, y):
        return (self.scale * (outputs - y) ** 2 * self.power).sum(1)


def focal(outputs, y):
    chosen = F.log_softmax(outputs, 1).gather(1, y[:, None])[:, 0]
    return -((1 - chosen.exp()) ** 2) * chosen


REAL, CLASSES = seeded([ROWS, WIDTH], 1), torch.arange(ROWS) % WIDTH
CASES = {
    "cross-entropy": (
        nn.CrossEntropyLoss(
            weight=torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64), label_smoothing=0.1, ignore_index=2
        ),
        CLASSES,
        nn.CrossEntropyLoss(
            weight=torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64), label_smoothing=0.1, ignore_index=2
        ),
    ),
    "mse-sum": (nn.MSELoss(reduction="sum"), REAL, F.mse_loss),
    "bce": (
        nn.BCEWithLogitsLoss(pos_weight=torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)),
        (REAL > 0).double(),
        nn.BCEWithLogitsLoss(pos_weight=torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)),
    ),
    "focal": (focal, CLASSES, lambda outputs, y: focal(outputs, y).mean()),
    "own-module": (Scaled(), REAL, lambda outputs, y: Scaled()(outputs, y).mean()),
    "poisson": (nn.PoissonNLLLoss(full=True), REAL.exp(), nn.PoissonNLLLoss(full=True)),
    "soft-margin": (nn.SoftMarginLoss(), REAL.sign(), nn.SoftMarginLoss()),
    "gaussian": (
        lambda outputs, y: 0.5 * (outputs[:, 1] + (outputs[:, 0] - y) ** 2 / outputs[:, 1].exp()),
        REAL[:, 0].contiguous(),
        lambda outputs, y: F.gaussian_nll_loss(outputs[:, 0], y, outputs[:, 1].exp()),
    ),
}


@pytest.mark.parametrize("name", list(CASES))
def test_gradients_and_products_are_those_of_pytorch(binary, tmp_path, name):
    loss, y, objective = CASES[name]
    compared(binary, tmp_path, network(), seeded([ROWS, WIDTH]), y, loss, objective)


@pytest.mark.parametrize(
    ("loss", "targets", "objective"),
    [
        (nn.NLLLoss(ignore_index=1), CLASSES, nn.NLLLoss(ignore_index=1)),
        (nn.KLDivLoss(reduction="batchmean"), REAL.softmax(1), nn.KLDivLoss(reduction="batchmean")),
        (nn.KLDivLoss(log_target=True), REAL.log_softmax(1), nn.KLDivLoss(log_target=True)),
    ],
    ids=["nll", "kl-batchmean", "kl-mean"],
)
def test_losses_of_log_probabilities(binary, tmp_path, loss, targets, objective):
    module = nn.Sequential(network(), nn.LogSoftmax(1))
    compared(binary, tmp_path, module, seeded([ROWS, WIDTH]), targets, loss, objective)


@pytest.mark.parametrize("loss", [nn.NLLLoss(), F.nll_loss, functools.partial(F.nll_loss, ignore_index=1)])
def test_the_log_likelihood_of_logits_is_refused(loss):
    x = seeded([ROWS, WIDTH])
    with pytest.raises(ExportError, match="needs log-probabilities") as caught:
        trace(network(), x, loss=loss)
    assert "log_softmax" in caught.value.hint
    assert trace(nn.Sequential(network(), nn.LogSoftmax(1)), x, loss=loss).loss["kind"] == "cross_entropy"


def test_labels_are_shifted_as_transformers_does():
    labels = np.array([[5, 6, 7], [8, -100, 9]])
    np.testing.assert_array_equal(shift_labels(labels), [[6, 7, -100], [-100, 9, -100]])
    np.testing.assert_array_equal(labels, [[5, 6, 7], [8, -100, 9]])
    with pytest.raises(FlatnessError, match=r"are \[N, T\]"):
        shift_labels(np.arange(3))


def gpt2(**more):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 8, "vocab_size": 11}
    config = transformers.GPT2Config(
        **sizes, initializer_range=0.5, attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0, **more
    )
    return transformers.AutoModelForCausalLM.from_config(config).double()


def test_a_causal_language_model_has_the_loss_of_transformers(binary, tmp_path):
    module = gpt2()
    loss, is_shifted = default(module)
    assert (loss, is_shifted) == ({"kind": "cross_entropy"}, True)
    ids = torch.randint(11, [3, 6], generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, 4:] = 0
    labels = ids.masked_fill(mask == 0, -100)
    shifted = torch.from_numpy(shift_labels(labels.numpy()))

    def objective(outputs, _y):
        return F.cross_entropy(outputs.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())

    with torch.no_grad():
        outputs = module(input_ids=ids, attention_mask=mask, labels=labels)
    torch.testing.assert_close(outputs.loss.double(), objective(outputs, None), rtol=1e-6, atol=0)  # in float32 there
    compared(binary, tmp_path, module, {"input_ids": ids, "attention_mask": mask}, shifted, loss, objective)
    assert module.config.use_cache


def test_the_losses_of_other_models_of_transformers():
    transformers = pytest.importorskip("transformers")
    sizes = {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
        "vocab_size": 9,
    }

    def bert(**more):
        return transformers.BertForSequenceClassification(transformers.BertConfig(**sizes, **more))

    assert default(bert(num_labels=3)) == ({"kind": "cross_entropy"}, False)
    assert default(bert(num_labels=1)) == ({"kind": "mse"}, False)
    assert default(bert(problem_type="multi_label_classification")) == ({"kind": "bce_with_logits"}, False)
    assert default(transformers.BertForMaskedLM(transformers.BertConfig(**sizes))) == ({"kind": "cross_entropy"}, False)
    assert default(transformers.BertModel(transformers.BertConfig(**sizes))) == (None, False)
    assert default(transformers.BertForQuestionAnswering(transformers.BertConfig(**sizes))) == (None, False)
    t5 = transformers.T5Config(d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, vocab_size=9)
    assert default(transformers.T5ForConditionalGeneration(t5)) == ({"kind": "cross_entropy"}, False)
    assert default(network()) == (None, False)


def test_labels_are_no_input_and_casts_keep_the_value(binary, tmp_path):
    transformers = pytest.importorskip("transformers")
    sizes = {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
        "vocab_size": 9,
    }
    module = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, num_key_value_heads=1))
    ids = torch.randint(9, [2, 5])
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    assert trace(module, batch).arguments == ["input_ids", "attention_mask"]
    with pytest.warns(UserWarning, match="`labels` are targets"):
        path, reference = export(module, batch, tmp_path / "net.safetensors")
    done = subprocess.run([binary, "check", path, "--against", reference], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_loader_of_a_language_model_from_rows_to_products(binary, tmp_path):
    """As the package goes about it: rows by the names of `forward`, shifted labels, and names of the program in the data."""
    module = gpt2()
    ids = torch.randint(11, [5, 6], generator=torch.Generator().manual_seed(1))
    samples = [{"input_ids": row, "attention_mask": torch.ones_like(row), "labels": row, "length": 6} for row in ids]
    loader = torch.utils.data.DataLoader(samples, batch_size=2)
    rows = collect(loader, names=argument_names(module))
    loss, is_shifted = default(module)
    assert list(rows.inputs) == ["input_ids", "attention_mask"] and is_shifted
    y = torch.from_numpy(shift_labels(rows.targets))
    inputs = {name: torch.from_numpy(values) for name, values in rows.inputs.items()}
    compared(binary, tmp_path, module, inputs, y, loss, lambda o, y: F.cross_entropy(o.logits.transpose(1, 2), y))


def test_attention_of_transformers_that_cannot_be_traced_is_made_plain():
    module = gpt2()
    module.config._attn_implementation = "flex_attention"
    traced = trace(module, {"input_ids": torch.zeros([2, 4], dtype=torch.int64)})
    assert traced.notes == ["attention is traced in its plain form, not as flex_attention"]
    assert module.config._attn_implementation == "flex_attention"


def test_a_function_of_all_that_a_model_returns(binary, tmp_path):
    module = gpt2()
    ids = torch.randint(11, [3, 6], generator=torch.Generator().manual_seed(0))

    def per_row(outputs, y):
        return F.cross_entropy(outputs.logits[:, -1], y, reduction="none")

    y = torch.tensor([1, 2, 3])
    compared(binary, tmp_path, module, {"input_ids": ids}, y, per_row, lambda o, y: per_row(o, y).mean())


def test_the_gauss_newton_matrix_of_a_traced_loss(binary, tmp_path):
    """For a linear network it is the Hessian."""
    torch.manual_seed(1)
    module, x = nn.Linear(WIDTH, WIDTH).double(), seeded([ROWS, WIDTH])
    files = compared(binary, tmp_path, module, x, CLASSES, focal, lambda o, y: focal(o, y).mean())
    hessian = products(binary, tmp_path, files, "hessian")["products"]
    np.testing.assert_allclose(products(binary, tmp_path, files, "ggn")["products"], hessian, rtol=0, atol=1e-13)


def test_losses_of_timm():
    timm_loss = pytest.importorskip("timm.loss")
    loss, (outputs, y) = timm_loss.LabelSmoothingCrossEntropy(0.2), (seeded([ROWS, WIDTH]), CLASSES)
    assert describe(loss) == {"kind": "cross_entropy", "label_smoothing": 0.2}
    torch.testing.assert_close(loss(outputs, y), F.cross_entropy(outputs, y, label_smoothing=0.2))
    assert describe(timm_loss.SoftTargetCrossEntropy()) == {"kind": "cross_entropy"}


def test_a_described_loss_is_kept():
    row = RowLoss(focal)
    assert describe(row) is row
    assert describe(focal) == RowLoss(focal)
