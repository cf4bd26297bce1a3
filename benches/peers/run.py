"""Times flatness beside other tools on the same weights and images, and writes one Markdown table.

    python benches/peers/run.py [--only REGEX] [--repeats 7] [--out target/peers.md]

Every tool is a process of its own that stays alive; within a row they take turns (A B C A B C), so that a machine that
slows down slows all of them down. README.md beside this file says what is measured.
"""

import argparse
import contextlib
import json
import math
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
REQUIREMENTS = HERE / "requirements.txt"

# Of f32 against the f64 reference. Gradients and losses: relative. Quadratic forms: relative to |Hv| / |v|, of which
# they are about 1e-3, since the spectrum has both signs; ReLUs whose input is within rounding of zero move them by some
# 1e-6 of it. fSGLD's loss is at weights that every tool perturbs with its own random numbers.
TOLERANCES = {"gradient": 1e-3, "hvp": 1e-5, "step": 1e-3, "step:fsgld": 0.05}
PAUSE_S = 0.2  # between turns: OpenMP's threads spin for some milliseconds after a call before they sleep
ENDING_S = 30
MEMORY_ROWS, MEMORY_ROWS_PER_BATCH = 10_000, 4


@dataclass
class Entry:
    """A tool with a job; what it is divided by in the table; how often it has been timed, and what it answered."""

    tool: str
    job: str
    against: tuple = ()
    threads: int | None = None
    version: str = ""
    note: str = ""
    error: str = ""
    answers: list = field(default_factory=list)  # of timed rounds
    values: list = field(default_factory=list)  # of all calls, the warm-up's first
    deviation: float | None = None

    @property
    def name(self):
        return f"{self.tool} {self.job}" + (f" --threads {self.threads}" if self.threads else "")

    @property
    def directions(self):
        return int(self.job.partition(":")[2]) if self.job.startswith("hvp:") else 1

    def seconds(self):
        """Per direction, one for each round."""
        return [answer["seconds"] / self.directions for answer in self.answers]

    def peak_mb(self):
        return max(answer["peak_bytes"] for answer in self.answers) / 1e6


@dataclass
class Row:
    """Tools that take turns on one batch."""

    name: str
    model: str
    batch: int
    entries: list
    kind: str = "curvature"


def hvp_row(model, batch, peers):
    flatness = [Entry("flatness", "hvp:8"), Entry("flatness", "hvp:1", ("flatness hvp:8",))]
    for tool, *counts in peers:
        for k in counts:
            against = ("flatness hvp:8", "flatness hvp:1") if k == 1 else ("flatness hvp:8",)
            flatness.append(Entry(tool, f"hvp:{k}", against))
    return Row(f"{model} hvp", model, batch, flatness)


def all_rows(threads):
    peers = [
        ("pyhessian-loader", 1), ("pyhessian-batch", 1), ("curvlinops", 1, 4, 8), ("hessian-eigenthings", 1),
        ("torch.func", 1, 8),
    ]  # fmt: skip
    gradient = [
        Entry("flatness", "gradient"), Entry("torch", "gradient", ("flatness gradient",)),
        Entry("flatness", "hvp:8", ("flatness gradient",)),
    ]  # fmt: skip
    steps = [Entry("flatness", "step:sgd")]
    steps += [Entry("flatness", f"step:{o}", ("flatness step:sgd",)) for o in ("sam", "fsgld")]
    steps += [Entry("torch", f"step:{o}", (f"flatness step:{o}",)) for o in ("sgd", "sam", "fsgld")]
    scaling = []  # empty where there is nothing to scale
    for job in ("hvp:8", "gradient") if threads > 1 else ():
        scaling.append(Entry("flatness", job, threads=threads))
        scaling.append(Entry("flatness", job, (scaling[-1].name,), threads=1))
    rows = [
        hvp_row("resnet20", 200, peers),
        Row("resnet20 gradient", "resnet20", 200, gradient),
        hvp_row("mlp", 512, peers),
        hvp_row("resnet8", 200, [("pyhessian-loader", 1), ("torch.func", 1, 8)]),
        Row("resnet20 step", "resnet20", 128, steps, "step"),
        Row("resnet20 threads", "resnet20", 200, scaling),
        Row("resnet20 memory", "resnet20", MEMORY_ROWS, [Entry("flatness", "hvp:8")], "memory"),
    ]
    return [row for row in rows if row.entries]


class Failed(Exception):
    """A tool that gave no number; the table shows the text."""


class Worker:
    """A process that answers one line of JSON for each line it gets."""

    def __init__(self, command, environment):
        self.log = tempfile.TemporaryFile("w+")
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=self.log, text=True, env=environment, cwd=PROJECT
        )

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            status = self.process.wait()
            if status < 0:
                raise Failed(f"ended by signal {-status}" + (" (out of memory?)" if status == -signal.SIGKILL else ""))
            self.log.seek(0)
            words = self.log.read().strip().splitlines() or ["no message"]
            raise Failed(f"ended with status {status}: {words[-1]}")
        answer = json.loads(line)
        if "error" in answer:
            raise Failed(answer["error"])
        return answer

    def call(self):
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended, and `answer` says why
        return self.answer()

    def end(self):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(ENDING_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.log.close()


def tell(text):
    print(text, file=sys.stderr, flush=True)


def python_of(folder):
    """The venv's interpreter; makes the venv where it is missing or has other packages than requirements.txt."""
    python, marker = folder / "bin" / "python", folder / "installed-requirements.txt"
    wanted = REQUIREMENTS.read_text()
    if not marker.exists() or marker.read_text() != wanted:
        if not python.exists():
            tell(f"making {folder}")
            venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-r", REQUIREMENTS], check=True, stdout=sys.stderr)
        marker.write_text(wanted)
    return python


def build_flatness():
    """Builds the bench `worker` and returns its executable."""
    cargo = os.environ.get("CARGO", "cargo")
    command = [cargo, "bench", "--bench", "worker", "--no-run", "--message-format=json"]
    lines = subprocess.run(command, cwd=PROJECT, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    messages = [json.loads(line) for line in lines if line.startswith("{")]
    found = [m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == "worker"]
    if not found:
        sys.exit("error: cargo built no bench named `worker`")
    return found[-1]


class Bench:
    """What all rows share."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.python = python_of(arguments.venv.resolve())
        self.flatness = arguments.flatness.resolve() if arguments.flatness else build_flatness()

    def prepare(self, row):
        """The folder with the row's weights, data and reference."""
        folder = self.arguments.data.resolve() / f"{row.model}-{row.kind}-{row.batch}"
        tell(f"{row.name}: data")
        command = [self.python, HERE / "prepare.py", row.model, row.kind, folder, "--batch", str(row.batch)]
        subprocess.run(command, check=True, stdout=sys.stderr)
        return folder, json.loads((folder / "reference.json").read_text())

    def start(self, entry, row, folder):
        threads = str(entry.threads or self.arguments.threads)
        command = [self.python, HERE / "worker.py", entry.tool, entry.job, row.model, folder, "--threads", threads]
        if entry.tool == "flatness":
            files = [folder / "weights.safetensors", folder / "data.safetensors"]
            command = [self.flatness, entry.job, *files, "--threads", threads]
        return Worker([str(part) for part in command], os.environ | {"OMP_NUM_THREADS": threads})

    def measure(self, row):
        """Fills the row's entries."""
        folder, reference = self.prepare(row)
        warmups, repeats = (0, 1) if row.kind == "memory" else (1, self.arguments.repeats)
        workers = {}
        try:
            for entry in row.entries:
                tell(f"{row.name}: starting {entry.name}")
                with failures_into(entry):
                    workers[entry.name] = self.start(entry, row, folder)
                    ready = workers[entry.name].answer()
                    entry.version, entry.note = ready["version"], ready.get("note", "")
            for turn in range(warmups + repeats):
                tell(f"{row.name}: " + ("warm-up" if turn < warmups else f"round {turn - warmups + 1} of {repeats}"))
                for entry in row.entries:
                    if entry.error:
                        continue
                    time.sleep(PAUSE_S)
                    with failures_into(entry):
                        answer = workers[entry.name].call()
                        entry.values.append(answer["value"])
                        if turn >= warmups:
                            entry.answers.append(answer)
        finally:
            for worker in workers.values():
                worker.end()
        for entry in row.entries:
            entry.deviation = deviation(entry, reference)


@contextlib.contextmanager
def failures_into(entry):
    try:
        yield
    except (Failed, OSError, ValueError, KeyError) as error:
        entry.error = str(error) or type(error).__name__
        tell(f"{entry.name}: {entry.error}")


def deviation(entry, reference):
    """The largest difference from the reference, in the unit of TOLERANCES; None where there is nothing to compare."""
    kind, _, detail = entry.job.partition(":")
    if kind not in reference or not entry.values:
        return None
    if kind == "step":
        expected = reference["step"][detail]  # of the first steps; later ones amplify rounding
        scale = min(map(abs, expected))
    elif kind == "hvp":
        expected = [sum(reference["hvp"][: entry.directions])] * len(entry.values)
        scale = math.hypot(*reference["hvp_scale"][: entry.directions])  # errors of directions are independent
    else:
        expected, scale = [reference[kind]] * len(entry.values), reference[kind]
    found = [abs(value - wanted) / scale for value, wanted in zip(entry.values, expected)]
    return max(found) if all(map(math.isfinite, found)) else math.inf


def checked_as(entry):
    return entry.job if entry.job in TOLERANCES else entry.job.partition(":")[0]


def disagrees(entry):
    return entry.deviation is not None and entry.deviation > TOLERANCES[checked_as(entry)]


def table(rows):
    header = ["row", "tool", "job", "K", "median s", "min", "max", "against", "ratio", "ratio by rounds", "peak MB"]
    lines = ["| " + " | ".join(header) + " |", "| --- | --- | --- | --: | --: | --: | --: | --- | --: | --: | --: |"]
    for row in rows:
        by_name = {entry.name: entry for entry in row.entries}
        for entry in row.entries:
            lines += ["| " + " | ".join(cells) + " |" for cells in entry_lines(row, entry, by_name)]
    return "\n".join(lines)


def entry_lines(row, entry, by_name):
    """One line of cells, and one more for each further entry that this one is divided by."""
    details = ", ".join(filter(None, [entry.note, f"threads {entry.threads}" if entry.threads else ""]))
    tool = f"{entry.tool} {entry.version}".strip() + (f" ({details})" if details else "")
    if disagrees(entry):
        tool += f" **disagrees: {entry.deviation:.1e} off**"
    job, _, detail = entry.job.partition(":")
    start = [row.name, tool, job, detail] if job == "hvp" else [row.name, tool, entry.job.replace(":", " "), ""]
    if entry.error:
        return [[*start, entry.error.replace("|", "/"), *[""] * 6]]
    seconds = entry.seconds()
    # With one cold call there is a memory to report, but no time.
    times = [f"{f(seconds):.4g}" for f in (statistics.median, min, max)] if row.kind != "memory" else [""] * 3
    lines = []
    for base in [by_name[other] for other in entry.against] or [None]:
        ratios = [base.name, *ratio_cells(seconds, base.seconds())] if base and not base.error else [""] * 3
        lines.append([*start, *times, *ratios, f"{entry.peak_mb():.0f}"])
    return [lines[0], *([*start, "", "", "", *line[7:10], ""] for line in lines[1:])]


def ratio_cells(own, base):
    medians = statistics.median(own) / statistics.median(base)
    by_rounds = statistics.median(a / b for a, b in zip(own, base))
    return f"{medians:.2f}", f"{by_rounds:.2f}"


def agreement(rows):
    """One line for each kind of value: how far the farthest tool is from the float64 reference."""
    lines = []
    for kind, tolerance in TOLERANCES.items():
        compared = [
            (entry.deviation, f"{entry.name}, {row.name}")
            for row in rows for entry in row.entries
            if entry.deviation is not None and checked_as(entry) == kind
        ]  # fmt: skip
        if compared:
            largest, where = max(compared)
            unit = " of \\|Hv\\| / \\|v\\|" if kind == "hvp" else ""
            lines.append(f"- {kind}, largest deviation from float64: {largest:.1e}{unit} ({where}); {tolerance:g} allowed")
    return "\n".join(lines)


def command_output(*command):
    try:
        return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def machine_facts(bench):
    cpu = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.*)", cpu, re.M)
    flags = set(re.search(r"^(?:flags|Features)\s*: (.*)", cpu, re.M)[1].split())
    system = platform.system()
    with contextlib.suppress(OSError):
        system = platform.freedesktop_os_release()["PRETTY_NAME"]
    facts = {
        "CPU": f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores",
        "instruction sets": " ".join(f for f in ("avx2", "fma", "avx512f", "asimd") if f in flags),
        "OS": f"{system}, Linux {platform.release()}",
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "threads": bench.arguments.threads,
        "flatness commit": command_output("git", "describe", "--always", "--dirty", "--exclude=*"),
        "rustc": command_output(os.environ.get("RUSTC", "rustc"), "--version"),
    }
    return facts | json.loads(command_output(str(bench.python), str(HERE / "worker.py"), "facts"))


def report(rows, facts):
    lines = [table(rows), "", agreement(rows), "", *(f"- {name}: {value}" for name, value in facts.items())]
    return "\n".join(lines) + "\n"


def save_samples(path, rows, facts):
    samples = [vars(row) | {"entries": [vars(entry) for entry in row.entries]} for row in rows]
    path.write_text(json.dumps({"facts": facts, "rows": samples}, indent=1) + "\n")


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", metavar="REGEX", help="rows whose name has a match")
    parser.add_argument("--list", action="store_true", help="print the rows and end")
    parser.add_argument("--repeats", type=int, default=7, help="rounds after the warm-up [default: %(default)s]")
    parser.add_argument("--threads", type=int, default=2, help="of every tool [default: %(default)s]")
    parser.add_argument("--out", type=Path, default=PROJECT / "target/peers.md", help="raw samples: the same, .json")
    parser.add_argument("--venv", type=Path, default=PROJECT / "target/peers-venv", help="made where missing")
    parser.add_argument("--data", type=Path, default=PROJECT / "target/peers-data", help="folder for weights and images")
    parser.add_argument("--flatness", type=Path, metavar="EXE", help="a worker that is built already")
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)  # tiny sizes, to test this script
    return parser.parse_args()


def main():
    arguments = parse()
    rows = [row for row in all_rows(arguments.threads) if re.search(arguments.only, row.name)]
    if not rows:
        sys.exit(f"error: no row has a match of `{arguments.only}`; --list shows them")
    if arguments.list:
        for row in rows:
            print(f"{row.name}: batch {row.batch}; " + ", ".join(entry.name for entry in row.entries))
        return
    for row in rows:
        if arguments.batch:
            row.batch = arguments.batch * (MEMORY_ROWS_PER_BATCH if row.kind == "memory" else 1)
    bench = Bench(arguments)
    facts = machine_facts(bench)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    for count, row in enumerate(rows, 1):
        bench.measure(row)
        # After every row, so that a run that is broken off leaves what it has.
        save_samples(arguments.out.with_suffix(".json"), rows[:count], facts)
        arguments.out.write_text(report(rows[:count], facts))
    print(arguments.out.read_text(), end="")
    if any(disagrees(entry) for row in rows for entry in row.entries):
        sys.exit("error: tools disagree, see the table")


if __name__ == "__main__":
    main()
