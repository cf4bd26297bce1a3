"""Modules of PyTorch as files: what is in them, and what the command computes from them."""

import json
import struct
import subprocess
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from flatness._errors import ExportError, FlatnessError
from flatness._export import argument_names, export, trace, unwrapped
from torch import nn
from torch.nn import functional as F

X = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))


def content(traced):
    return json.loads(traced.content)


def operations(traced, mode="analysis"):
    return [node["target"] for node in content(traced)[mode]["graph_module"]["graph"]["nodes"]]


def checked(binary, tmp_path, module, inputs, **more):
    """Exports, and lets the command compare outputs in float64 and test gradients by differences."""
    path, reference = export(module, inputs, tmp_path / "net.safetensors", **more)
    done = subprocess.run([binary, "check", path, "--against", reference], capture_output=True, text=True)
    assert done.returncode == 0 and "pass  outputs equal the reference" in done.stdout, done.stdout + done.stderr


class Net(nn.Module):
    """Tied weights, a buffer that is not stored, statistics, a mode, and a constant."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.bn = nn.Linear(3, 3), nn.Linear(3, 3), nn.BatchNorm1d(3)
        self.fc2.weight = self.fc1.weight
        self.drop = nn.Dropout(0.5)
        self.register_buffer("scale", torch.tensor([1.0, 2.0, 3.0]), persistent=False)

    def forward(self, x):
        x = self.bn(self.drop(self.fc2(torch.tanh(self.fc1(x)))))
        return x * self.scale if not self.training else x + torch.tensor([3.0, 2.0, 1.0])


class Pair(nn.Module):
    """Both arguments and one of them called as the targets are."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(self, x, y, *, flip=False):
        return self.fc(x - 2 * y if flip else x + 2 * y)


class Gate(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)

    def forward(self, x):
        return self.fc(x) if x.sum() > 0 else x


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(3, 3), nn.Sequential(nn.ReLU(), Gate())])

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def test_a_traced_module_holds_every_weight_once():
    module = Net()
    module.fc2.bias.requires_grad_(False)
    traced = trace(module, X)
    found = content(traced)
    assert found["tied"] == {"fc2.weight": "fc1.weight"} and "fc2.weight" not in traced.tensors
    assert "fc2.bias" in found["frozen"] and "fc1.bias" not in found["frozen"]
    np.testing.assert_array_equal(traced.tensors["fc1.weight"], module.fc1.weight.detach().numpy())
    np.testing.assert_array_equal(traced.tensors["scale"], [1, 2, 3])
    assert (traced.arguments, traced.inputs, traced.loss, traced.notes) == (["x"], ["x"], None, [])
    assert found["name"] == "Net" and "torch.ops.aten.dropout.default" in operations(traced, "training")
    names = [
        spec["parameter"]["parameter_name"]
        for spec in found["analysis"]["graph_module"]["signature"]["input_specs"]
        if "parameter" in spec
    ]
    assert names == [name for name, _ in module.named_parameters(remove_duplicate=False)]
    assert content(trace(module, X, training=False))["training"] is None


def test_the_module_and_random_numbers_stay_as_they_are():
    module = Net().train()
    module.fc1.register_forward_hook(lambda *_: None)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    storage, random = module.fc1.weight.data_ptr(), torch.random.get_rng_state()
    traced = trace(module, X)
    assert module.training and module.bn.training and module.fc1.weight.data_ptr() == storage
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), random) and len(module.fc1._forward_hooks) == 1
    assert not np.shares_memory(traced.tensors["fc1.weight"], module.fc1.weight.detach().numpy())
    assert traced.notes == ["hooks are traced as part of the module: fc1"]


def test_constants_of_both_modes_are_kept_apart():
    class Modal(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, x):
            return self.fc(x) + (torch.tensor([1.0, 2.0, 3.0]) if self.training else torch.tensor([4.0, 5.0, 6.0]))

    traced = trace(Modal(), X)

    def constant(mode):
        specs = content(traced)[mode]["graph_module"]["signature"]["input_specs"]
        (name,) = [spec["tensor_constant"]["tensor_constant_name"] for spec in specs if "tensor_constant" in spec]
        return list(traced.tensors[name])

    assert constant("analysis") == [4, 5, 6] and constant("training") == [1, 2, 3]


def test_inputs_go_by_names():
    same = [(X, X), [X, X], {"x": X, "y": X}, {"y": X.numpy(), "x": X.numpy()}]
    for inputs in same:
        traced = trace(Pair(), inputs)
        assert dict(zip(traced.arguments, traced.inputs)) == {"x": "x", "y": "y_input"}
    assert operations(trace(Pair(), {"x": X, "y": X, "flip": True})) != operations(trace(Pair(), (X, X)))
    assert trace(Net(), X[:1]).inputs == ["x"]

    class Any(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, *parts):
            return self.fc(parts[0] - parts[1])

    assert len(trace(Any(), (X, X)).inputs) == 2
    assert trace(Pair(), (X[:1], X[:1])).arguments == ["x", "y"]
    assert argument_names(Pair()) == ["x", "y", "flip"] and argument_names(Any()) is None


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ((X, X, X), r"Pair takes 2 inputs \(x, y\), but 3 are given"),
        ({"x": X, "z": X}, "Pair does not take z"),
        ({"x": X, "y": (X, X)}, "the input `y` is a tuple"),
        ((X, X[:2]), r"different numbers of rows: \[2, 5\]"),
        ((X, torch.tensor(1.0)), "the input `y` has no rows"),
        ((), "there is no input"),
    ],
)
def test_inputs_that_do_not_fit_are_named(inputs, words):
    with pytest.raises(ExportError, match=words) as caught:
        trace(Pair(), inputs)
    assert caught.value.hint


def test_the_smallest_part_that_fails_is_named():
    with pytest.raises(ExportError) as caught:
        trace(nn.Sequential(nn.Linear(3, 3), Encoder()), X)
    text = str(caught.value)
    assert text.startswith("torch.export cannot trace 1.layers.1.1 (Gate, test_export.py line "), text
    assert "`return self.fc(x) if x.sum() > 0 else x`): " in text and "torch.where" in caught.value.hint

    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, x):
            return self.fc(x) * float(x.sum())

    with pytest.raises(
        ExportError, match=r"cannot trace the module \(Whole, test_export.py line .*`return self.fc\(x\) \* float"
    ):
        trace(Whole(), X)


def test_a_fixed_number_of_rows_is_explained():
    class Fixed(nn.Module):
        def forward(self, x):
            return x.reshape(5, -1)

    with pytest.raises(ExportError, match=r"cannot trace 1 \(Fixed\): its code fixes the number of rows") as caught:
        trace(nn.Sequential(nn.Linear(3, 3), Fixed()), X)
    assert "-1" in caught.value.hint


def test_inputs_on_which_the_module_does_not_run_are_told_from_what_cannot_be_traced():
    words = r"does not run on these inputs: 1.layers.0 \(Linear, .* fails with: .*mat1 and mat2"
    with pytest.raises(ExportError, match=words) as caught:
        trace(nn.Sequential(nn.Linear(3, 2), Encoder()), X)
    assert "shapes" in caught.value.hint


def test_modules_that_cannot_be_used_say_why():
    with pytest.raises(ExportError, match="TorchScript"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scripted = torch.jit.script(nn.Linear(3, 3))
        trace(scripted, X)
    with pytest.raises(ExportError, match=r"`0.weight` has no shape yet"):
        trace(nn.Sequential(nn.LazyLinear(3)), X)
    with pytest.raises(ExportError, match="on the device meta"):
        trace(nn.Linear(3, 3, device="meta"), X)
    with pytest.raises(ExportError, match="int is not a torch.nn.Module"):
        trace(3, X)
    module = nn.Linear(3, 3)
    module.log = (line for line in ())
    with pytest.raises(ExportError, match="Linear cannot be copied"):
        trace(module, X)


def test_wrappers_are_taken_off():
    module = Net()
    plain = trace(module, X)
    compiled_inside = nn.Sequential(torch.compile(Net()))
    assert "0.fc1.weight" in trace(compiled_inside, X).tensors
    for wrapped in [nn.DataParallel(module), torch.compile(module), nn.DataParallel(torch.compile(module))]:
        assert unwrapped(wrapped) is module
        assert set(trace(wrapped, X).tensors) == set(plain.tensors)
    module = Net()
    module.compile()
    assert set(trace(module, X).tensors) == set(plain.tensors)


def test_a_distributed_module_is_taken_out(tmp_path):
    if not torch.distributed.is_available():
        pytest.skip("this PyTorch has no torch.distributed")
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(Net())
        assert "fc1.weight" in trace(wrapped, X).tensors
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_precisions_of_weights(dtype, tmp_path):
    module = Net().to(dtype)
    traced = trace(module, X)
    kept = {torch.bfloat16: np.float32, torch.float16: np.float16, torch.float64: np.float64}[dtype]
    assert traced.tensors["fc1.weight"].dtype == kept
    assert bool(traced.notes) == (dtype == torch.bfloat16)
    np.testing.assert_array_equal(traced.tensors["fc1.weight"], module.fc1.weight.detach().to(torch.float64).numpy())
    # In the file weights keep their precision.
    path, _ = export(module, X, tmp_path / "net.safetensors")
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
    assert header["fc1.weight"]["dtype"] == {torch.bfloat16: "BF16", torch.float16: "F16", torch.float64: "F64"}[dtype]


def test_files_are_those_of_safetensors(tmp_path):
    safetensors = pytest.importorskip("safetensors")
    from safetensors.torch import load_file

    module = Net()
    path, reference = export(module, X, tmp_path / "net.safetensors", name="a name", weight_decay=0.5)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["net.reference.safetensors", "net.safetensors"]
    stored = load_file(path)
    for key, value in module.state_dict().items():
        if key != "fc2.weight":
            assert torch.equal(stored[key], value)
    with safetensors.safe_open(path, "pt") as file:
        found = json.loads(file.metadata()["flatness.export"])
    assert (found["name"], found["weight_decay"]) == ("a name", 0.5)
    expected = load_file(reference)
    assert expected["x"].dtype == torch.float64 and torch.equal(expected["x"], X.double())
    torch.testing.assert_close(expected["outputs"], module.double().eval()(X.double()).detach(), rtol=0, atol=0)


def test_nothing_is_written_where_something_fails(tmp_path):
    for module in [Gate(), nn.LazyLinear(3)]:
        with pytest.raises(ExportError):
            export(module, X, tmp_path / "net.safetensors")
    with pytest.raises(ExportError, match="does not end in .safetensors"):
        export(Net(), X, tmp_path / "net.pt")
    assert list(tmp_path.iterdir()) == []
    assert export(Net(), X).arguments == ["x"]


def test_training_that_cannot_be_traced_is_noted(tmp_path):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, x):
            return self.fc(x) * (float(x.sum()) if self.training else 1)

    traced = trace(Odd(), X)
    assert content(traced)["training"] is None and traced.notes[0].startswith("not exported in training mode (")
    with pytest.warns(UserWarning, match="not exported in training mode"):
        export(Odd(), X, tmp_path / "net.safetensors")


class Counting(nn.Module):
    """Counts its calls in a buffer, in eval mode too."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        self.calls.add_(1)
        return self.fc(x)


def spectral():
    return nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3)), nn.Tanh())


def weight_normed():
    return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)), nn.Tanh())


def old_weight_normed():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.Sequential(nn.utils.weight_norm(nn.Linear(3, 3)), nn.Tanh())


def hooked():
    module = nn.Sequential(nn.Linear(3, 3), nn.Tanh())
    module[0].register_forward_hook(lambda _part, _inputs, output: 2 * output)
    return module


@pytest.mark.filterwarnings("ignore:hooks are traced", "ignore:buffers that", "ignore:not exported in training")
@pytest.mark.parametrize(
    "build",
    [
        Net,
        lambda: Net().double(),
        lambda: Net().bfloat16(),
        Counting,
        spectral,
        weight_normed,
        old_weight_normed,
        hooked,
    ],
    ids=["tied", "double", "bfloat16", "counting", "spectral-norm", "weight-norm", "old-weight-norm", "hooked"],
)
def test_outputs_are_those_of_pytorch(binary, tmp_path, build):
    torch.manual_seed(1)
    checked(binary, tmp_path, build(), X)


def test_inputs_called_as_the_targets_are(binary, tmp_path):
    checked(binary, tmp_path, Pair(), (X, X.flip(0)))


def test_a_network_of_timm(binary, tmp_path):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    module = timm.create_model("resnet18", num_classes=4)
    checked(binary, tmp_path, module, torch.randn(2, 3, 32, 32))


def test_a_module_on_the_gpu():
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    module = Net().cuda()
    plain = trace(module, X.cuda())
    assert module.fc1.weight.is_cuda
    np.testing.assert_array_equal(plain.tensors["fc1.weight"], module.fc1.weight.detach().cpu().numpy())
