"""One tool with one job, on request.

    worker.py TOOL JOB MODEL FOLDER --threads N

JOB is `gradient`, `hvp:K` or `step:OPTIMISER`. Prints {"ready": true, "tool", "version"} (and "note"); then answers
each line of stdin with {"seconds", "peak_bytes", "value"} of one call, and ends with stdin. What the tool cannot do is
{"error"}. `worker.py facts` prints the versions instead.
"""

import argparse
import contextlib
import gc
import importlib.metadata
import json
import os
import platform
import re
import sys
import time

import torch
from torch import nn

import models
from training import trainer

PACKAGES = {
    "torch": "torch", "torch.func": "torch", "pyhessian-loader": "pyhessian", "pyhessian-batch": "pyhessian",
    "curvlinops": "curvlinops-for-pytorch", "hessian-eigenthings": "hessian-eigenthings",
}  # fmt: skip
LOADER_TOOLS = ("pyhessian-loader", "curvlinops", "hessian-eigenthings")
# A candidate of the choice that took this long is not timed a second time: a cold start no longer matters.
LONG_S = 5.0


class Unsupported(Exception):
    """A job that a tool has no way to do."""


class Problem:
    """The network and batch of a job; its loss is the mean cross-entropy, batch norm in eval mode."""

    def __init__(self, name, folder, num_directions):
        self.model, self.x, self.y = models.load(name, folder)
        self.model.eval()
        self.loss = nn.CrossEntropyLoss()
        self.vectors = models.directions(self.model, num_directions)

    def batches(self, rows):
        """What a loader would give, without its collation: the peers are measured, not torch's DataLoader."""
        return list(zip(self.x.split(rows), self.y.split(rows)))

    def one_vector(self, tool):
        if len(self.vectors) != 1:
            raise Unsupported(f"{tool} multiplies one vector at a time")
        return self.vectors[0]


# Each of these returns the call to be timed, and a function that brings its result into [K, P].


def pyhessian_loader(problem, rows):
    from pyhessian import hessian

    v = models.split(problem.model, problem.one_vector("PyHessian"))
    analysis = hessian(problem.model, problem.loss, dataloader=problem.batches(rows), cuda=False)
    return lambda: analysis.dataloader_hv_product(v), lambda result: models.flat(result[1])[None]


def pyhessian_batch(problem, _):
    from pyhessian import hessian, hessian_vector_product

    v = models.split(problem.model, problem.one_vector("PyHessian"))
    analysis = hessian(problem.model, problem.loss, data=(problem.x, problem.y), cuda=False)
    call = lambda: hessian_vector_product(analysis.gradsH, analysis.params, v)  # noqa: E731
    return call, lambda result: models.flat(result)[None]


def curvlinops(problem, rows):
    from curvlinops import HessianLinearOperator

    parameters = list(problem.model.parameters())
    operator = HessianLinearOperator(problem.model, problem.loss, parameters, problem.batches(rows))
    columns = problem.vectors.T.contiguous()
    return lambda: operator @ columns, lambda result: result.T


def hessian_eigenthings(problem, rows):
    from hessian_eigenthings import HessianOperator, supervised_loss

    v = problem.one_vector("hessian-eigenthings")
    # It averages the batches' means, so that they must be of equal size; `choices` sees to it.
    operator = HessianOperator(problem.model, problem.batches(rows), supervised_loss(problem.loss))
    return lambda: operator.matvec(v), lambda result: result[None]


def torch_func(problem, chunk):
    """Forward over reverse: the derivative of the gradient along v, mapped over directions, `chunk` at a time."""
    from torch.func import functional_call, grad, jvp, vmap

    # Detached: else autograd would record a graph of its own beside the transforms.
    named = {name: p.detach() for name, p in problem.model.named_parameters()}
    buffers = dict(problem.model.named_buffers())
    gradient = grad(lambda p: problem.loss(functional_call(problem.model, (p, buffers), (problem.x,)), problem.y))
    product = lambda tangent: jvp(gradient, (named,), (tangent,))[1]  # noqa: E731
    rows = [dict(zip(named, models.split(problem.model, v))) for v in problem.vectors]
    if len(rows) == 1:
        return lambda: product(rows[0]), lambda result: models.flat(result.values())[None]
    block = {name: torch.stack([row[name] for row in rows]) for name in named}
    to_rows = lambda result: torch.cat([tensor.flatten(1) for tensor in result.values()], 1)  # noqa: E731
    return lambda: vmap(product, chunk_size=chunk)(block), to_rows


HVP_TOOLS = {
    "pyhessian-loader": pyhessian_loader, "pyhessian-batch": pyhessian_batch, "curvlinops": curvlinops,
    "hessian-eigenthings": hessian_eigenthings, "torch.func": torch_func,
}  # fmt: skip


def choices(tool, problem):
    """Batch sizes of the tools that take a loader, directions at once of torch.func: it is for the user to choose."""
    if tool in LOADER_TOOLS:
        rows = len(problem.x)
        return [rows // parts for parts in (1, 2, 4) if rows % parts == 0]
    if tool == "torch.func":
        directions = len(problem.vectors)
        return [directions // parts for parts in (1, 2, 4) if directions % parts == 0]
    return [None]


def fastest(build, problem, candidates):
    seconds = {}
    for candidate in candidates:
        call, _ = build(problem, candidate)
        seconds[candidate] = timed(call)[0]
        if seconds[candidate] < LONG_S:
            seconds[candidate] = min(seconds[candidate], timed(call)[0])
        del call
        gc.collect()
    return min(seconds, key=seconds.get)


def hvp(tool, problem, choice):
    """The call, its checksum (the sum of the quadratic forms), and a note on the choice that was made."""
    build, candidates = HVP_TOOLS[tool], choices(tool, problem)
    if choice is None and len(candidates) > 1:
        choice = fastest(build, problem, candidates)
        # Again from the start, so that the peak memory is that of the choice alone.
        os.execv(sys.executable, [sys.executable, *sys.argv, "--choice", str(choice)])
    call, to_rows = build(problem, choice if choice is not None else candidates[0])
    note = {"torch.func": f"{choice} directions at once"}.get(tool, f"batches of {choice}") if choice else None
    return call, lambda result: models.quadratic_forms(problem.vectors, to_rows(result)).sum().item(), note


def gradient(problem):
    def call():
        problem.model.zero_grad()
        problem.loss(problem.model(problem.x), problem.y).backward()
        return [p.grad for p in problem.model.parameters()]

    return call, lambda result: models.flat(result).double().square().sum().item(), None


def prepare_job(arguments):
    kind, _, detail = arguments.job.partition(":")
    problem = Problem(arguments.model, arguments.folder, int(detail) if kind == "hvp" else 0)
    if kind == "hvp" and arguments.tool in HVP_TOOLS:
        models.plain_attention()
        return hvp(arguments.tool, problem, arguments.choice)
    if kind == "gradient" and arguments.tool == "torch":
        return gradient(problem)
    if kind == "step" and arguments.tool == "torch":
        return trainer(problem.model, problem.x, problem.y, detail), torch.Tensor.item, None
    raise Unsupported(f"{arguments.tool} has no {arguments.job} here")


def timed(call):
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def peak_bytes():
    with open("/proc/self/status") as status:
        return int(re.search(r"VmHWM:\s*(\d+) kB", status.read())[1]) * 1024


def facts():
    built = torch.__config__.show()
    lines = [line.strip("- ").partition(" Product Build")[0].partition(" (Git")[0] for line in built.splitlines()]
    wanted = ("Intel(R) oneAPI", "Intel(R) MKL-DNN", "OpenMP", "CPU capability")
    blas = re.search(r"BLAS_INFO=(\w+)", built)
    summary = [f"BLAS {blas[1] if blas else 'unknown'}", *(line for line in lines if line.startswith(wanted))]
    return {"python": platform.python_version(), "torch": torch.__version__, "torch built with": ", ".join(summary)}


def main():
    if sys.argv[1:] == ["facts"]:
        print(json.dumps(facts()))
        return
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("tool", choices=PACKAGES)
    parser.add_argument("job")
    parser.add_argument("model", choices=models.MODELS)
    parser.add_argument("folder")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--choice", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()

    def say(**answer):
        print(json.dumps(answer), file=protocol, flush=True)

    torch.set_num_threads(arguments.threads)
    protocol = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # tools may print
        try:
            call, checksum, note = prepare_job(arguments)
            version = importlib.metadata.version(PACKAGES[arguments.tool])
            say(ready=True, tool=arguments.tool, version=version, **({"note": note} if note else {}))
            for _ in sys.stdin:
                seconds, result = timed(call)
                peak = peak_bytes()  # before the checksum, whose f64 copies are not the tool's
                say(seconds=seconds, peak_bytes=peak, value=checksum(result))
                del result
        except Exception as error:  # whatever a tool raises is its answer
            say(error=f"{type(error).__name__}: {error}".splitlines()[0])
            if not isinstance(error, Unsupported):
                raise


if __name__ == "__main__":
    main()
