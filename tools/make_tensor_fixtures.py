#!/usr/bin/env python3
"""Writes tests/fixtures/tensors: small files as people have them, and what is in them (expected.json).

    python tools/make_tensor_fixtures.py             # torch 2.9 or newer
    python tools/make_tensor_fixtures.py --export    # torch 2.5 to 2.8: the older layouts of torch.export
"""

import argparse
import json
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import save_file

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "tensors"


class Net(torch.nn.Module):
    """All that the older layouts store apart: parameters, tied ones, buffers of both kinds, a constant."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 3, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(3)
        self.fc = torch.nn.Linear(3, 4)
        self.back = torch.nn.Linear(4, 3, bias=False)
        self.out = torch.nn.Linear(3, 4, bias=False)
        self.out.weight = self.fc.weight
        self.register_buffer("scale", torch.tensor([1.0, 2.0, 3.0, 4.0]), persistent=False)
        self.shift = torch.tensor([0.5, 0.25, 1.0, 2.0])

    def forward(self, x):
        h = torch.relu(self.norm(self.conv(x))).mean((2, 3))
        return self.out(self.back(torch.tanh(self.fc(h)) * self.scale * self.shift))


def exported():
    torch.manual_seed(0)
    net = Net().double().eval()
    x = torch.randn(3, 1, 4, 4, dtype=torch.float64)
    rows = {"x": {0: torch.export.Dim("rows")}}
    name = f"export-{'.'.join(torch.__version__.split('.')[:2])}"
    path = FOLDER / f"{name}.pt2"
    torch.export.save(torch.export.export(net, (x,), dynamic_shapes=rows), path)
    without_paths(path)
    save_file({"x": x, "outputs": net(x).detach()}, FOLDER / f"{name}.safetensors")


def without_paths(path):
    """Removes the stack traces, which name places on this machine."""
    with zipfile.ZipFile(path) as archive:
        entries = [(info.filename, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries:
            if name.endswith("program.json") or name.endswith("model.json"):
                model = json.loads(content)
                for node in model["graph_module"]["graph"]["nodes"]:
                    node["metadata"].pop("stack_trace", None)
                content = json.dumps(model).encode()
            archive.writestr(zipfile.ZipInfo(name), content)


def listed(tensors):
    values = {name: tensor.detach().to(torch.float64).flatten().tolist() for name, tensor in tensors.items()}
    return {name: {"shape": list(tensors[name].shape), "values": values[name]} for name in tensors}


def files():
    torch.manual_seed(1)
    a, b = torch.randn(2, 3), torch.arange(4.0)
    expected = {}

    def write(name, content, tensors, **options):
        torch.save(content, FOLDER / name, **options)
        expected[name] = listed(tensors)

    plain = {"fc.weight": a, "fc.bias": b}
    write("zip.pth", plain, plain)
    write("legacy.pth", OrderedDict(plain), plain, _use_new_zipfile_serialization=False)
    write("protocol4.pth", plain, plain, pickle_protocol=4)
    images = torch.randn(2, 3, 2, 2).contiguous(memory_format=torch.channels_last)
    base = torch.arange(6.0)
    strided = {
        "channels_last": images,
        "transposed": a.t(),
        "expanded": b[:1].expand(5),
        "view": base[1:5:2],
        "scalar": torch.tensor(7.0),
        "empty": torch.zeros(0, 3),
    }
    write("strided.pth", strided, strided)
    whole = [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32]
    floats = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2]
    dtypes = {str(dtype).removeprefix("torch."): torch.tensor([1, 0, 100]).to(dtype) for dtype in whole}
    dtypes |= {str(dtype).removeprefix("torch."): torch.tensor([0.25, -1.5, 96.0]).to(dtype) for dtype in floats}
    write("dtypes.pth", dtypes, dtypes)
    net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.randn(4, 2)).sum().backward()
    optimizer.step()
    moments = {
        f"optimizer.state.{place}.{key}": value
        for place, entry in optimizer.state_dict()["state"].items()
        for key, value in entry.items()
    }
    training = {
        "epoch": 3,
        "best_acc1": torch.tensor(61.5),
        "arch": "mlp",
        "network": {"ema": state},
        "optimizer": optimizer.state_dict(),
        "rng": torch.zeros(3, dtype=torch.uint8),
        "losses": [0.5, torch.tensor(0.25)],
    }
    named = {f"network.ema.{name}": tensor for name, tensor in state.items()}
    rest = {"best_acc1": training["best_acc1"], "rng": training["rng"], "losses.1": training["losses"][1]}
    write("training.pth", training, named | moments | rest)
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Sequential(torch.nn.BatchNorm1d(3)))
    write("module.pth", module, module.state_dict())
    arrays = {"weights": a.double().numpy(), "fortran": a.t().contiguous().t().numpy(), "labels": torch.arange(5).numpy()}
    for protocol in [2, 4, 5]:
        name = f"numpy{protocol}.pkl"
        (FOLDER / name).write_bytes(pickle.dumps(arrays, protocol=protocol))
        expected[name] = listed({key: torch.from_numpy(value.copy()) for key, value in arrays.items()})
    (FOLDER / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--export", action="store_true")
    FOLDER.mkdir(exist_ok=True)
    exported() if parser.parse_args().export else files()


if __name__ == "__main__":
    main()
