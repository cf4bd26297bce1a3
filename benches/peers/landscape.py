"""A loss plane through three points: `flatness landscape` beside the same loop in PyTorch.

    landscape.py --flatness BINARY --reference FOLDER --cifar FOLDER [--rounds N]

FOLDER of --reference holds a CIFAR ResNet-20 in PyHessian's names (`weights.safetensors`, `model.json`), that of --cifar
the binary CIFAR-10 files. B and C are copies of its weights with noise, so that the plane's points are known to both.
Prints wall-clock and processor seconds per point of each tool, round by round, and how far the losses lie apart.
"""

import argparse
import json
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

import models

ROWS = 500
# Points along a side: the difference of the two runs has neither start-up nor figures in it.
SIDES = (3, 11)
# Points that PyTorch is timed on, spread over the plane.
SAMPLE = 12


def own_name(name):
    """PyHessian's name of a tensor as models.ResNet has it."""
    name = name.removeprefix("module.").replace("downsample", "shortcut")
    name = re.sub(r"^layer(\d)\.(\d)", lambda match: f"stages.{3 * (int(match[1]) - 1) + int(match[2])}", name)
    return re.sub(r"^(conv|bn)1\.", r"\1.", name).replace("fc.", "linear.")


def images(folder, normalisation):
    records = np.fromfile(Path(folder) / "data_batch_1.bin", dtype=np.uint8).reshape(-1, 3073)[:ROWS]
    x = torch.from_numpy(records[:, 1:].reshape(-1, 3, 32, 32).copy()).float() / 255
    mean, std = (torch.tensor(normalisation[key]).view(3, 1, 1) for key in ("mean", "std"))
    return (x - mean) / std, torch.from_numpy(records[:, 0].astype(np.int64))


class Plane:
    """The plane through three minima in the coordinates that flatness uses."""

    def __init__(self, minima):
        self.a, b, c = (models.flat(minimum).double() for minimum in minima)
        self.e1 = (b - self.a) / (b - self.a).norm()
        off = (c - self.a) - self.e1 * self.e1.dot(c - self.a)
        self.e2 = off / off.norm()

    def at(self, x, y):
        return (self.a + x * self.e1 + y * self.e2).float()


def clocks():
    """Wall-clock and processor time, of this process and its finished children."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return np.array([time.perf_counter(), sum(usage.ru_utime + usage.ru_stime for usage in usages)])


def torch_losses(model, plane, points, data, batch):
    parameters = list(model.parameters())
    x, y = data
    losses = []
    with torch.no_grad():
        for point in points:
            for parameter, values in zip(parameters, models.split(model, plane.at(*point))):
                parameter.copy_(values)
            total, correct = 0.0, 0
            for inputs, labels in zip(x.split(batch), y.split(batch)):
                outputs = model(inputs)
                total += F.cross_entropy(outputs, labels, reduction="sum").item()
                correct += (outputs.argmax(1) == labels).sum().item()
            losses.append(total / ROWS)
    return losses


def run_flatness(arguments, files, side, folder):
    out = Path(folder) / f"out{side}"
    command = [arguments.flatness, "landscape", *files, "--arch", str(Path(arguments.reference) / "model.json")]
    command += ["--data", f"cifar10:{arguments.cifar}", "--rows", f"0..{ROWS}", "--points", str(side)]
    command += ["--threads", str(arguments.threads), "--force", "--out", str(out), "--save-every", "1000"]
    started = clocks()
    subprocess.run(command, check=True, capture_output=True)
    return clocks() - started, pyarrow.parquet.read_table(out / "slices.parquet")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flatness", required=True)
    parser.add_argument("--reference", required=True)
    parser.add_argument("--cifar", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    weights = load_file(Path(arguments.reference) / "weights.safetensors")
    order = json.loads((Path(arguments.reference) / "model.json").read_text())
    data = images(arguments.cifar, order["normalisation"])
    model = models.ResNet(3)
    model.load_state_dict({own_name(name): value for name, value in weights.items()})
    model.eval()
    names = {own_name(name): name for name in weights}
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        minima, files = [], []
        for letter in "abc":
            moved = dict(weights)
            for own, parameter in model.named_parameters():
                value = weights[names[own]]
                noise = torch.randn_like(value) * value.std(correction=0) if letter != "a" and value.dim() > 1 else 0
                moved[names[own]] = value + 0.3 * noise
            files.append(str(Path(folder) / f"{letter}.safetensors"))
            save_file(moved, files[-1])
            minima.append([moved[names[own]] for own, _ in model.named_parameters()])
        plane = Plane(minima)
        _, table = run_flatness(arguments, files, SIDES[1], folder)
        rows = table.to_pylist()
        sample = rows[:: max(1, len(rows) // SAMPLE)][:SAMPLE]
        points = [(row["x"], row["y"]) for row in sample]
        own = torch_losses(model, plane, points, data, ROWS)
        gap = max(abs(row["loss"] - loss) / loss for row, loss in zip(sample, own))
        print(f"largest relative difference of the losses: {gap:.1e}")
        if gap > 1e-4:
            sys.exit("the tools do not compute the same")
        seconds = {"flatness": []}
        batches = (ROWS, 250, 125, 50)
        for _ in range(arguments.rounds):
            few, many = (run_flatness(arguments, files, side, folder)[0] for side in SIDES)
            seconds["flatness"].append((many - few) / (SIDES[1] ** 2 - SIDES[0] ** 2))
            for batch in batches:
                started = clocks()
                torch_losses(model, plane, points, data, batch)
                seconds.setdefault(f"torch, batch {batch}", []).append((clocks() - started) / len(points))
        for tool, samples in seconds.items():
            for clock, name in enumerate(("wall", "cpu")):
                values = [sample[clock] for sample in samples]
                ratios = [value / base[clock] for value, base in zip(values, seconds["flatness"])]
                each = " ".join(f"{value:.3f}" for value in values)
                median = statistics.median(values)
                print(f"{tool:<18} {name:<4} {median:.3f} s per point ({each}), ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
