"""Measures which published networks flatness can take in.

    python tools/coverage/coverage.py --flatness target/release/flatness --keep FOLDER [--only REGEX] [--table FILE.md]

needs torch, torchvision, timm, transformers and safetensors, and no internet: all weights are random. For each network
of networks.py, in processes of their own with a limit on time and memory:

1. it is built in eval mode, with random biases and statistics, and exported with a dynamic batch (`NAME.pt2`);
2. `flatness info` must read the archive;
3. `flatness matvec` must give PyTorch's loss, gradient, Hessian product and Gauss-Newton product in float64. Above 12
   million parameters only the outputs are compared, by `flatness check --against`.

The reference is the original module in double precision, by reverse over reverse, with attention in its plain form and
casts to float32 inside the network carried out in float64, so that the values are those of the mathematics. Rows go to
`KEEP/results.jsonl`; a network is measured again when the binary has changed, and built again with `--again`.
"""

import argparse
import hashlib
import json
import multiprocessing
import re
import resource
import subprocess
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from networks import NETWORKS

SECONDS = 300
MEMORY_BYTES = 8 << 30
LARGEST_WITH_PRODUCTS = 12_000_000
ROWS = 3
# The loss is a sum of few terms; products pass through the network four times.
TOLERANCES = {"output": 1e-9, "loss": 1e-10, "gradient": 1e-7, "hessian": 1e-7, "ggn": 1e-7}


class Float64(TorchFunctionMode):
    """Casts to float32 become casts to float64; functions with no or a wrong second derivative, their definition."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        args, kwargs = tree_map(lambda a: torch.float64 if a is torch.float32 else a, (args, kwargs or {}))
        if func is torch.Tensor.float:
            func = torch.Tensor.double
        if func is F.hardswish:
            return args[0] * F.relu6(args[0] + 3) / 6
        if func is F.hardsigmoid:
            return F.relu6(args[0] + 3) / 6
        if func is torch._weight_norm:  # PyTorch's second derivative of it contradicts central differences of its first
            v, g, dim = (*args, 0)[:3]
            return g * v / v.square().sum([axis for axis in range(v.dim()) if axis != dim], keepdim=True).sqrt()
        if func is F.embedding_bag:  # of rows of equal length, with the mean
            return F.embedding(args[0], args[1]).mean(1)
        if func is torch.full and args[1:2] == (torch.finfo(torch.float64).min,):  # a mask's "minus infinity"
            kwargs["dtype"] = torch.float64
        return func(*args, **kwargs)


def build(network):
    """The network and its inputs by name, the same at every call."""
    torch.manual_seed(0)
    model, inputs = network.build(), network.inputs(ROWS)
    model.eval()
    with torch.no_grad():
        for parameter in model.parameters():
            # Biases, scales and whatever starts at one value: a mistake in them must show.
            if parameter.dim() <= 1 or parameter.std() == 0:
                parameter.add_(0.1 * torch.randn_like(parameter))
        calibrate(model, inputs)
    # Back and forth: some networks keep in eval mode what they computed, such as attention biases without gradient.
    return model.train().eval(), inputs


def calibrate(model, inputs):
    """Running statistics near those of the batch, so that signals neither vanish nor explode over many layers."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._NormBase) and m.running_mean is not None]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    try:
        model(*inputs.values()) if norms else None
    except ValueError:  # one value per channel has no variance: the initial statistics stay
        pass
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
        norm.eval()
        norm.running_var.mul_(0.7 + torch.rand_like(norm.running_var)).add_(1e-2)
        norm.running_mean.add_(0.2 * norm.running_var.sqrt() * torch.randn_like(norm.running_mean))


def export(network, files, double):
    """Writes `NAME.pt2`; returns the number of parameters and how the batch was declared."""
    model, inputs = build(network)
    if double:
        model.double()
        inputs = {name: x.double() if x.is_floating_point() else x for name, x in inputs.items()}
    failures = []
    for label, size in [("Dim", torch.export.Dim("batch")), ("Dim.AUTO", torch.export.Dim.AUTO)]:
        try:
            shapes = tuple({0: size} for _ in inputs)
            program = torch.export.export(model, tuple(inputs.values()), dynamic_shapes=shapes, strict=False)
            torch.export.save(program, files["archive"])
            return {"parameters": sum(p.numel() for p in model.parameters()), "batch": label}
        except Exception as error:
            traceback.print_exc()
            failures.append(first_line(error))
    raise RuntimeError(failures[0])


def reference(network, files, _double):
    """Writes data, directions and PyTorch's values in float64."""
    model, inputs = build(network)
    model.double()
    for module in model.modules():  # grouped products of experts are for single precision
        if getattr(getattr(module, "config", None), "_experts_implementation", None) == "grouped_mm":
            module.config._experts_implementation = "eager"
    placed = {name: x.double() if x.is_floating_point() else x for name, x in inputs.items()}
    parameters = [p for p in model.parameters() if p.requires_grad]
    size = sum(p.numel() for p in parameters)
    small = size <= LARGEST_WITH_PRODUCTS
    with Float64(), sdpa_kernel(SDPBackend.MATH), torch.set_grad_enabled(small):
        output = model(*placed.values())
    if not torch.isfinite(output).all():
        raise RuntimeError("the network's own outputs are not finite")
    y = targets(network.loss, output)
    save_file({name: x.contiguous() for name, x in inputs.items()} | {"y": y}, files["data"])
    if not small:
        save_file({"x": placed["x"], "logits": output.contiguous()}, files["expected"])
        return {}
    v = torch.randn(size, dtype=torch.float64)
    save_file({"vectors": v[None]}, files["vectors"])
    direction = [part.view_as(p) for part, p in zip(v.split([p.numel() for p in parameters]), parameters)]

    def pull_back(value, weight=None, keep=False):
        """The gradient, zero for what the value does not depend on."""
        found = torch.autograd.grad(value, parameters, weight, create_graph=keep, retain_graph=True, allow_unused=True)
        return [torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters)]

    def pushed(gradients, by):
        return sum((g * d).sum() for g, d in zip(gradients, by))

    flat = lambda parts: torch.cat([part.detach().reshape(-1) for part in parts])
    loss = loss_of(network.loss, output, y)
    gradient = pull_back(loss, keep=True)
    hessian = pull_back(pushed(gradient, direction))
    # J v as the derivative of Jᵀ u with respect to u, which it is linear in.
    u = torch.zeros_like(output, requires_grad=True)
    (jv,) = torch.autograd.grad(pushed(pull_back(output, u, keep=True), direction), u)
    z = output.detach().requires_grad_(True)
    (slope,) = torch.autograd.grad(loss_of(network.loss, z, y), z, create_graph=True)
    (curved,) = torch.autograd.grad(slope, z, jv)
    ggn = pull_back(output, curved)
    values = {"loss": loss.detach().reshape(1), "gradient": flat(gradient), "hessian": flat(hessian), "ggn": flat(ggn)}
    save_file(values, files["expected"])
    return {}


def targets(loss, output):
    if loss == "mse":
        return torch.randn(output.shape, dtype=torch.float64)
    if output.dim() == 3:  # [N, T, C]: a class for each token, one token left out
        y = torch.randint(output.shape[2], output.shape[:2])
        y[0, 0] = -100
        return y
    return torch.randint(output.shape[1], (output.shape[0], *output.shape[2:]))


def loss_of(loss, output, y):
    if loss == "mse":
        return F.mse_loss(output, y)
    return F.cross_entropy(output.transpose(1, 2) if output.dim() == 3 else output, y)


def first_line(error):
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {text}"[:300]


def limited(step, network, files, double, answer):
    """What runs in the child: `step`, with its answer or its failure in a file."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    with open(files["log"], "a") as log:
        sys.stdout = sys.stderr = log
        try:
            answer.write_text(json.dumps(step(network, files, double)))
        except BaseException as error:
            traceback.print_exc()
            answer.write_text(json.dumps({"failure": first_line(error)}))


def in_child(step, network, files, double):
    answer = files["log"].with_suffix(".answer")
    answer.unlink(missing_ok=True)
    child = multiprocessing.get_context("fork").Process(target=limited, args=(step, network, files, double, answer))
    child.start()
    child.join(SECONDS)
    if child.is_alive():
        child.kill()
        child.join()
        return {"failure": f"not done after {SECONDS} s"}
    return json.loads(answer.read_text()) if answer.exists() else {"failure": f"crashed with code {child.exitcode}"}


def run_flatness(binary, *arguments):
    """Standard output, or the reason of the failure."""
    limit = lambda: resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    command = [str(binary), *map(str, arguments)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, preexec_fn=limit)
    except subprocess.TimeoutExpired:
        return None, f"{arguments[0]}: not done after {SECONDS} s"
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    reason = next((line for line in lines if line.startswith("error:") or "panicked" in line), lines[-1])
    # A failed comparison of `check` also prints; its figure counts.
    return (done.stdout, None) if done.returncode == 0 or done.stdout else (None, reason.removeprefix("error: "))


def relative_error(got, expected):
    # The reversed order makes a NaN an infinite error.
    error = ((got.double() - expected).norm() / expected.norm().clamp(min=1e-300)).item()
    return error if error < float("inf") else float("inf")


def values(network, files, binary, small):
    """Relative errors by name, or the reason why there are none."""
    if not small:
        out, reason = run_flatness(binary, "check", files["archive"], "--against", files["expected"])
        if out is None:
            return {}, reason
        found = re.search(r"outputs equal the reference: ([^ ]+) \(", out)
        return ({"output": float(found[1])}, None) if found else ({}, out.strip())
    expected, errors = load_file(files["expected"]), {}
    for operator in ["hessian", "ggn"]:
        arguments = [
            "--data",
            f"tensors:{files['data']}",
            "--loss",
            network.loss,
            "--operator",
            operator,
            "--dtype",
            "f64",
        ]
        arguments += ["--threads", "1", "--vectors", files["vectors"], "--out", files["products"], "--force"]
        out, reason = run_flatness(binary, "matvec", files["archive"], *arguments)
        if out is None:
            return errors, reason
        got = load_file(files["products"])
        if got["products"].numel() != expected[operator].numel():
            return errors, f"{got['products'].numel()} parameters, but {expected[operator].numel()} in PyTorch"
        errors[operator] = relative_error(got["products"][0], expected[operator])
        errors["gradient"] = relative_error(got["gradient"], expected["gradient"])
        errors["loss"] = relative_error(got["loss"], expected["loss"])
    return errors, None


def measure(network, folder, options, digest):
    kinds = {"archive": ".pt2", "facts": ".facts.json", "data": ".data.safetensors", "vectors": ".vectors.safetensors"}
    kinds |= {"expected": ".expected.safetensors", "products": ".products.safetensors", "log": ".log"}
    files = {kind: folder / (network.name + suffix) for kind, suffix in kinds.items()}
    row = {"name": network.name, "group": network.group, "binary": digest, "step": "export"}
    if options.again or not files["facts"].exists():
        for kind in ["expected", "log"]:
            files[kind].unlink(missing_ok=True)
        files["facts"].write_text(json.dumps(in_child(export, network, files, options.double)))
    facts = json.loads(files["facts"].read_text())
    row |= {"parameters": facts.get("parameters"), "batch": facts.get("batch")}
    if "failure" in facts:
        return row | {"reason": facts["failure"]}
    row["step"] = "read"
    out, reason = run_flatness(options.flatness, "info", files["archive"])
    if out is None:
        return row | {"reason": reason}
    row["step"] = "values"
    if options.info:
        return row | {"reason": "not compared"}
    if not files["expected"].exists():
        failure = in_child(reference, network, files, options.double).get("failure")
        if failure:
            return row | {"reason": f"PyTorch: {failure}"}
    small = facts["parameters"] <= LARGEST_WITH_PRODUCTS
    errors, reason = values(network, files, options.flatness, small)
    wrong = [f"{what} off by {error:.1e}" for what, error in errors.items() if error > TOLERANCES[what]]
    row |= {"errors": errors, "reason": reason or ", ".join(wrong) or None}
    return row | {"step": "right" if row["reason"] is None else "values"}


def summary(rows):
    """Counts for each group, then what failed and why."""
    steps = ["export", "read", "values", "right"]
    listed = {network.name for network in NETWORKS if network.listed}
    lines = [f"{'group':<14}{'networks':>10}{'exported':>10}{'read':>8}{'right':>8}{'of exported':>13}"]
    groups = {
        group: [row for row in rows if row["group"] == group] for group in dict.fromkeys(row["group"] for row in rows)
    }
    groups |= {"listed": [row for row in rows if row["name"] in listed], "all": rows}
    for group, members in ((group, members) for group, members in groups.items() if members):
        reached = [steps.index(row["step"]) for row in members]
        count = [sum(step >= least for step in reached) for least in range(4)]
        share = 100 * count[3] / max(count[1], 1)
        lines.append(f"{group:<14}{count[0]:>10}{count[1]:>10}{count[2]:>8}{count[3]:>8}{share:>12.1f}%")
    lines += [f"{row['name']} ({row['step']}): {row['reason']}" for row in rows if row["step"] != "right"]
    return "\n".join(lines)


def table(rows):
    lines = [
        "| network | parameters | exported | read | worst relative error, or the reason |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        exported, read = row["step"] != "export", row["step"] in ("values", "right")
        size = f"{row['parameters']:,}" if row.get("parameters") else ""
        end = row["reason"] or f"{max(row['errors'].values()):.0e}"
        if not row["reason"] and "output" in row["errors"]:
            end += " (outputs only)"
        marks = " | ".join("yes" if mark else "no" for mark in (exported, read))
        lines.append(f"| {row['name']} | {size} | {marks} | {end.replace('|', '&#124;')} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flatness", type=Path, required=True, help="the binary")
    parser.add_argument("--keep", type=Path, help="folder for archives, values and results [default: a temporary one]")
    parser.add_argument("--only", default="", metavar="REGEX", help="networks whose GROUP/NAME matches")
    parser.add_argument("--again", action="store_true", help="export and measure even what is done")
    parser.add_argument("--info", action="store_true", help="export and read only")
    parser.add_argument("--double", action="store_true", help="export in float64 [default: float32]")
    parser.add_argument("--table", type=Path, metavar="FILE.md", help="write a Markdown table")
    options = parser.parse_args()
    options.flatness = options.flatness.resolve()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    temporary = tempfile.TemporaryDirectory() if options.keep is None else None
    folder = options.keep or Path(temporary.name)
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(options.flatness.read_bytes()).hexdigest()[:12]
    results = folder / "results.jsonl"
    stored = map(json.loads, results.read_text().splitlines()) if results.exists() else []
    done = {row["name"]: row for row in stored}
    chosen = [n for n in NETWORKS if re.search(options.only, f"{n.group}/{n.name}")]
    for network in chosen:
        row = done.get(network.name)
        stale = row is None or row["binary"] != digest or (row["reason"] == "not compared" and not options.info)
        if stale or options.again:
            row = done[network.name] = measure(network, folder, options, digest)
            with results.open("a") as file:
                file.write(json.dumps(row) + "\n")
        print(f"{row['name']:<40} {row['step']:<7} {row['reason'] or ''}", flush=True)
    rows = [done[network.name] for network in chosen]
    print("\n" + summary(rows))
    if options.table:
        options.table.write_text(table(rows))


if __name__ == "__main__":
    main()
