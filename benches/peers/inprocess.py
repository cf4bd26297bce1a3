"""Products of the Hessian in one Python process: flatness's package, curvlinops, PyHessian and torch.func, side by side.

    python inprocess.py [--rounds 5] [--reference FOLDER --data FOLDER]

needs what requirements.txt names, timm and the package. Every tool has the same weights and the same batch in memory; rounds
alternate between the tools, and medians are printed, with the largest differences from products in float64 and from those of flatness. With `--reference`,
the ten largest eigenvalues of PyHessian's ResNet-20 by SciPy's eigsh and by `analyze` are compared too.
"""

import argparse
import statistics
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import flatness
import models


def resnet20():
    return models.ResNet(3), torch.randn(200, 3, 32, 32), torch.randint(0, 10, (200,))


def vit():
    from timm.models.vision_transformer import VisionTransformer

    net = VisionTransformer(img_size=32, patch_size=4, embed_dim=192, depth=9, num_heads=3, num_classes=10)
    return net, torch.randn(32, 3, 32, 32), torch.randint(0, 10, (32,))


def flat(tensors):
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def double_backward(net, x, y, vectors):
    """Reverse over reverse with the graph of the gradient kept, as PyHessian has it for one batch."""
    parameters = list(net.parameters())
    gradient = flat(torch.autograd.grad(F.cross_entropy(net(x), y), parameters, create_graph=True))
    rows = [flat(torch.autograd.grad(gradient @ v, parameters, retain_graph=True)) for v in vectors]
    return torch.stack(rows)


def of_flatness(net, x, y):
    hessian = flatness.Hessian(net, (x, y), "cross_entropy")
    return lambda vectors: torch.from_numpy((hessian @ vectors.T.numpy()).T)


def of_curvlinops(net, x, y):
    from curvlinops import HessianLinearOperator

    operator = HessianLinearOperator(net, nn.CrossEntropyLoss(), list(net.parameters()), [(x, y)])
    return lambda vectors: (operator @ vectors.T).T


def of_pyhessian(net, x, y):
    from pyhessian import hessian

    matrix = hessian(net, nn.CrossEntropyLoss(), dataloader=[(x, y)], cuda=False)

    def products(vectors):
        rows = []
        for vector in vectors:
            parts = [part.view_as(p) for part, p in zip(vector.split([p.numel() for p in net.parameters()]), net.parameters())]
            rows.append(flat(matrix.dataloader_hv_product(parts)[1]))
        return torch.stack(rows)

    return products


def of_torch_func(net, x, y):
    parameters = {name: p.detach() for name, p in net.named_parameters()}
    sizes = [p.numel() for p in parameters.values()]

    def loss(values):
        return F.cross_entropy(torch.func.functional_call(net, values, (x,)), y)

    def product(vector):
        parts = {name: part.view_as(p) for part, (name, p) in zip(vector.split(sizes), parameters.items())}
        return flat(torch.func.jvp(torch.func.grad(loss), (parameters,), (parts,))[1].values())

    return lambda vectors: torch.stack([product(v) for v in vectors])


TOOLS = {"flatness": of_flatness, "curvlinops": of_curvlinops, "PyHessian": of_pyhessian, "torch.func": of_torch_func}


def compare(name, make, rounds):
    torch.manual_seed(0)
    net, x, y = make()
    net.train()(x)  # running statistics of this batch
    net.eval()
    if hasattr(net, "blocks"):  # timm's fused attention has no second derivative
        for block in net.blocks:
            block.attn.fused_attn = False
    size = sum(p.numel() for p in net.parameters())
    vectors = torch.randn(8, size)
    exact = double_backward(net.double(), x.double(), y, vectors[:2].double())
    net.float()
    tools, own = {tool: build(net, x, y) for tool, build in TOOLS.items()}, None
    print(f"{name}: {size:,} parameters, {len(x)} rows, {torch.get_num_threads()} threads")
    for count in (1, 8):
        seconds = {tool: [] for tool in tools}
        for round in range(rounds + 1):
            for tool, products in tools.items():
                began = time.perf_counter()
                found = products(vectors[:count])
                if round:  # the first warms up
                    seconds[tool].append((time.perf_counter() - began) / count)
                elif count == 8:
                    own = found if own is None else own
                    errors = [(found[:2].double() - other).abs().max() / exact.abs().max() for other in (exact, own[:2])]
                    print(f"  {tool:<11} differs by {errors[0]:.1e} of the largest entry from float64, by {errors[1]:.1e} from flatness")
        median_of_own = statistics.median(seconds["flatness"])
        for tool, values in seconds.items():
            median = statistics.median(values)
            print(f"  K = {count}  {tool:<11} {median:8.4f} s a product  {median / median_of_own:5.2f} of flatness")


def overhead(rounds):
    """What Python adds to a product of 270,000 parameters: a network whose product itself takes next to no time."""
    torch.manual_seed(0)
    net = nn.Linear(27_200, 10)
    hessian = flatness.Hessian(net, (torch.randn(1, 27_200), torch.zeros(1, dtype=torch.int64)))
    vector = np.random.default_rng(0).standard_normal(hessian.shape[0]).astype(np.float32)
    times = []
    for _ in range(max(rounds, 50)):
        began = time.perf_counter()
        hessian @ vector
        times.append(time.perf_counter() - began)
    print(f"a product of one row with {hessian.shape[0]:,} parameters, all included: {1e3 * statistics.median(times):.2f} ms")


def eigenvalues(reference, data):
    """SciPy's eigsh on the package's Hessian, and `analyze`, on PyHessian's ResNet-20."""
    import json
    from pathlib import Path

    from scipy.sparse.linalg import eigsh

    folder = Path(reference)
    images = np.fromfile(next(Path(data).rglob("data_batch_1.bin")), np.uint8, 200 * 3073).reshape(200, 3073)
    expected = json.loads((folder / "expected.json").read_text())["top_eigenvalues"]
    net = models.ResNet(3)
    net.load_state_dict(renamed(flatness.weights(folder / "weights.safetensors")))
    x = torch.from_numpy(images[:, 1:].reshape(-1, 3, 32, 32).astype(np.float32) / 255)
    mean, std = torch.tensor([0.4914, 0.4822, 0.4465]), torch.tensor([0.2023, 0.1994, 0.2010])
    x = (x - mean[:, None, None]) / std[:, None, None]
    y = torch.from_numpy(images[:, 0].astype(np.int64))
    objective = flatness.Objective(net.eval(), (x, y), "cross_entropy")
    began = time.perf_counter()
    by_scipy = eigsh(flatness.Hessian(objective), k=10, which="LA", return_eigenvectors=False)[::-1]
    scipy_seconds = time.perf_counter() - began
    began = time.perf_counter()
    report = flatness.analyze(objective, top=10, bottom=1, plane_points=0)
    seconds = time.perf_counter() - began
    table = report["eigenvalues"]
    by_analyze = [v for v, end in zip(table["eigenvalue"], table["end"]) if end == "top"]
    print(f"PyHessian's ResNet-20, 200 images: eigsh {scipy_seconds:.0f} s, the whole of analyze {seconds:.0f} s")
    for a, b, c in zip(by_scipy, by_analyze, expected):
        print(f"  {a:12.4f} {b:12.4f} {c:12.4f} (eigsh, analyze, float64 reference)")


def renamed(stored):
    """The tensors of PyHessian's ResNet-20 under the names of `models.ResNet`."""
    own = {"conv1": "conv", "bn1": "bn", "fc": "linear"}
    found = {}
    for name, tensor in stored.items():
        first, _, rest = name.removeprefix("module.").partition(".")
        if first.startswith("layer"):
            place, _, rest = rest.partition(".")
            block = 3 * (int(first[-1]) - 1) + int(place)
            found[f"stages.{block}.{rest.replace('downsample', 'shortcut')}"] = tensor
        else:
            found[f"{own[first]}.{rest}"] = tensor
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="networks whose name holds this")
    parser.add_argument("--reference")
    parser.add_argument("--data")
    arguments = parser.parse_args()
    overhead(arguments.rounds)
    for name, make in (("ResNet-20", resnet20), ("ViT", vit)):
        if arguments.only in name:
            compare(name, make, arguments.rounds)
    if arguments.reference:
        eigenvalues(arguments.reference, arguments.data)


if __name__ == "__main__":
    main()
