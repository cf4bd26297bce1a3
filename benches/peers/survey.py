"""PyHessian and curvlinops asked for what `flatness analyze` gives, on the trained ResNet-20 and real images.

    survey.py WEIGHTS CIFAR_BINARY [--rows 200] [--threads 2] [--trace-probes 60] [--tight] [--out FILE.json]

WEIGHTS is the safetensors file of the trained network, CIFAR_BINARY a batch file of the binary CIFAR-10. Counts
Hessian-vector products and seconds of

- PyHessian: `eigenvalues(top_n=10)` with its defaults (with `--tight` also to a tolerance of 1e-6 in up to 1,000
  iterations, which takes an hour) and `trace`, whose samples' spread gives the number that a standard error of 1 % needs;
- SciPy's `eigsh` on curvlinops' Hessian, both ends, and curvlinops' Hutch++.

PyHessian's `density` calls `torch.eig`, which PyTorch has removed, after `iter` products for each of `n_v` vectors.

Eigenpairs are judged by their true residual `|Hy - ty| / t_1`, which costs a product each that is not counted.
"""

import argparse
import json
import re
import sys
import time

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

import models

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


def renamed(name):
    """A name of PyHessian's checkpoint in `models.ResNet`."""
    name = name.removeprefix("module.")
    name = re.sub(r"^layer(\d)\.(\d)\.", lambda m: f"stages.{3 * int(m[1]) - 3 + int(m[2])}.", name)
    return re.sub(r"^(conv|bn)1\.", r"\1.", name).replace("downsample.", "shortcut.").replace("fc.", "linear.")


def load(weights, cifar, rows):
    model = models.ResNet(3)
    model.load_state_dict({renamed(name): tensor for name, tensor in load_file(weights).items()})
    raw = np.fromfile(cifar, dtype=np.uint8, count=rows * 3073).reshape(rows, 3073)
    x = torch.from_numpy(raw[:, 1:].copy()).view(rows, 3, 32, 32).float() / 255
    x = (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    return model.eval(), x, torch.from_numpy(raw[:, 0].astype(np.int64))


def pyhessian(model, x, y, trace_probes, tight):
    import pyhessian  # noqa: F401

    module = sys.modules["pyhessian.hessian"]  # as an attribute of the package, `hessian` is the class
    product, count = module.hessian_vector_product, [0]

    def counted(*arguments):
        count[0] += 1
        return product(*arguments)

    module.hessian_vector_product = counted
    analysis = module.hessian(model, nn.CrossEntropyLoss(), data=(x, y), cuda=False)

    def timed(call):
        count[0], start = 0, time.perf_counter()
        result = call()
        return result, count[0], time.perf_counter() - start

    def eigenvalues(**options):
        torch.manual_seed(0)
        (values, vectors), products, seconds = timed(lambda: analysis.eigenvalues(top_n=10, **options))
        residuals = []
        for value, vector in zip(values, vectors):
            image = models.flat(product(analysis.gradsH, analysis.params, vector)).double()
            residuals.append(((image - value * models.flat(vector).double()).norm() / values[0]).item())
        return {"values": values, "residuals": residuals, "products": products, "seconds": seconds}

    report = {"eigenvalues": eigenvalues()}
    if tight:
        report["eigenvalues to 1e-6"] = eigenvalues(tol=1e-6, maxIter=1000)
    torch.manual_seed(1)
    samples, products, seconds = timed(lambda: analysis.trace(maxIter=trace_probes, tol=0.0))
    mean, spread = float(np.mean(samples)), float(np.std(samples, ddof=1))
    needed = int(np.ceil((spread / (0.01 * mean)) ** 2))
    report["trace"] = {"mean": mean, "std of a sample": spread, "products": products, "seconds": seconds,
                       "products for 1 %": needed, "seconds for 1 %": seconds / products * needed}  # fmt: skip
    module.hessian_vector_product = product
    return report


def curvlinops(model, x, y):
    from curvlinops import HessianLinearOperator, hutchpp_trace
    from scipy.sparse.linalg import LinearOperator, eigsh

    operator = HessianLinearOperator(model, nn.CrossEntropyLoss(), list(model.parameters()), [(x, y)])
    size, count = operator.shape[0], [0]

    def matvec(v):
        count[0] += 1
        return (operator @ torch.from_numpy(np.asarray(v, dtype=np.float32)).reshape(size, 1)).reshape(-1).numpy()

    wrapped = LinearOperator((size, size), matvec=matvec, dtype=np.float32)
    report = {}
    for which in ("LA", "SA"):
        count[0], start = 0, time.perf_counter()
        start_vector = np.random.default_rng(0).standard_normal(size).astype(np.float32)
        values, vectors = eigsh(wrapped, k=10, which=which, tol=1e-4, v0=start_vector)
        seconds, products = time.perf_counter() - start, count[0]
        scale = float(np.abs(values).max()) if which == "LA" else report["eigsh LA"]["values"][-1]
        residuals = [float(np.linalg.norm(matvec(v) - t * v) / scale) for t, v in zip(values, vectors.T)]
        report[f"eigsh {which}"] = {"values": values.tolist(), "residuals": residuals, "products": products,
                                    "seconds": seconds}  # fmt: skip
    estimates, start = [], time.perf_counter()
    for seed in range(4):
        torch.manual_seed(seed)
        estimates.append(float(hutchpp_trace(operator, 30)))
    report["hutch++ with 30 products"] = {"estimates": estimates, "products": 120, "seconds": time.perf_counter() - start}
    return report


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("weights")
    parser.add_argument("cifar")
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--trace-probes", type=int, default=60)
    parser.add_argument("--tight", action="store_true")
    parser.add_argument("--out")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model, x, y = load(arguments.weights, arguments.cifar, arguments.rows)
    report = {
        "pyhessian": pyhessian(model, x, y, arguments.trace_probes, arguments.tight),
        "curvlinops": curvlinops(model, x, y),
    }
    text = json.dumps(report, indent=1)
    print(text)
    if arguments.out:
        with open(arguments.out, "w") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    main()
