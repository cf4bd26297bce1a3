"""The library inside a process with PyTorch: import orders, threads, forks, Ctrl-C, the command."""

import os
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
from test_objective import network, rows

import flatness

pytest.importorskip("flatness._native")

SMALL = """
import numpy as np, torch
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3))
data = torch.randn(40, 8), torch.randint(0, 3, (40,))
hessian = flatness.Hessian(model, data)
one = hessian @ np.ones(hessian.shape[0])
"""


def run(code, *arguments, **more):
    return subprocess.run(
        [sys.executable, *arguments, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120, **more
    )


@pytest.mark.parametrize("first", ["import torch\nimport flatness", "import flatness\nimport torch"])
def test_both_import_orders(first):
    done = run(first + SMALL + "x = torch.randn(300, 300) @ torch.randn(300, 300)\nprint(np.isfinite(one).all(), x.shape[0])")
    assert done.stdout.split() == ["True", "300"], done.stderr


def test_importing_needs_neither_torch_nor_scipy():
    done = run("import sys, flatness\nprint([m for m in ('torch', 'scipy', 'polars', 'tqdm') if m in sys.modules])")
    assert done.stdout.strip() == "[]", done.stderr


def test_threads_share_a_matrix():
    hessian = flatness.Hessian(network(), rows())
    vector = np.ones(hessian.shape[0])
    expected, found = hessian @ vector, []
    threads = [threading.Thread(target=lambda: found.append(hessian @ vector)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and all(np.array_equal(product, expected) for product in found)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_forked_processes_work_as_those_of_loaders_do():
    code = (
        "import flatness"
        + SMALL
        + """
import os
pid = os.fork()
if pid == 0:
    # Neither the old matrix nor a new one waits for threads that are not there.
    same = np.array_equal(hessian @ np.ones(hessian.shape[0]), one)
    fresh = np.array_equal(flatness.Hessian(model, data) @ np.ones(hessian.shape[0]), one)
    os._exit(0 if same and fresh else 1)
_, status = os.waitpid(pid, 0)
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*data), batch_size=10, num_workers=2)
loaded = flatness.Hessian(model, loader) @ np.ones(hessian.shape[0])
print(os.waitstatus_to_exitcode(status), np.array_equal(loaded, one))
"""
    )
    done = run(code)
    assert done.stdout.split() == ["0", "True"], done.stderr


INTERRUPTED = """
import os, signal, threading, warnings
import torch, flatness
warnings.simplefilter("always")
# Where the tests run in the background, Ctrl-C is ignored from the start.
signal.signal(signal.SIGINT, signal.default_int_handler)
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(64, 600), torch.nn.Tanh(), torch.nn.Linear(600, 10))
data = torch.randn(4000, 64), torch.randint(0, 10, (4000,))
objective = flatness.Objective(model, data)

def soon():
    threading.Timer(2.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()

"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ")
def test_ctrl_c_ends_a_product_soon():
    code = """
hessian = flatness.Hessian(objective)
soon()
try:
    while True:
        hessian.quadrature(16, 200)
except KeyboardInterrupt:
    print("interrupted")
"""
    done = run(INTERRUPTED + code)
    assert done.stdout.split() == ["interrupted"], done.stdout + done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ")
def test_ctrl_c_keeps_what_an_analysis_has_finished():
    code = """
def soon_after_the_survey_began(task, done, total, message):
    if task != "cost" and not began:
        began.append(task)
        soon()

began = []
flatness._commands._Bars.__enter__ = lambda self: soon_after_the_survey_began
report = flatness.analyze(objective, top=3, bottom=1, probes=64, steps=400, operator=["hessian", "ggn"])
print(report.complete, report.loss.value > 0)
"""
    done = run(INTERRUPTED + code)
    assert done.stdout.split() == ["False", "True"] and "interrupted" in done.stderr, done.stdout + done.stderr


def test_the_command_is_the_same():
    done = subprocess.run([sys.executable, "-m", "flatness", "--version"], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == f"flatness {flatness.__version__}" and done.returncode == 0
    wrong = subprocess.run([sys.executable, "-m", "flatness", "analyse"], capture_output=True, text=True, timeout=60)
    assert wrong.returncode == 2 and "analyze" in wrong.stderr


def test_a_progress_callable_that_fails_ends_the_work(tmp_path):
    from flatness import _native

    problem = flatness.Objective(network(), rows())._problem

    def fail(*_):
        raise RuntimeError("of the caller")

    arguments = ["flatness", "analyze", "x", f"--out={tmp_path / 'x'}"]
    with pytest.raises(RuntimeError, match="of the caller"):
        _native.call(arguments, [(problem.network, problem.rows)], fail)
