"""Times flatness beside other tools on the same weights and images, and writes one Markdown table.

    python benches/peers/run.py [--only REGEX] [--tools REGEX] [--repeats 7] [--out target/peers.md]

Every tool is a process of its own that stays alive; within a row they take turns (A B C A B C), so that a machine that
slows down slows all of them down. README.md beside this file says what is measured.
"""

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

from facts import machine_facts
from report import deviation, disagrees, report
from rows import all_rows

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
REQUIREMENTS = HERE / "requirements.txt"

PAUSE_S = 0.2  # between turns: OpenMP's threads spin for some milliseconds after a call before they sleep
ENDING_S = 30


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


def save_samples(path, rows, facts):
    samples = [vars(row) | {"entries": [vars(entry) for entry in row.entries]} for row in rows]
    path.write_text(json.dumps({"facts": facts, "rows": samples}, indent=1) + "\n")


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", metavar="REGEX", help="rows whose name has a match")
    parser.add_argument("--tools", default="", metavar="REGEX", help="tools and jobs whose name has a match; flatness always")
    parser.add_argument("--list", action="store_true", help="print the rows and end")
    parser.add_argument("--repeats", type=int, default=7, help="rounds after the warm-up [default: %(default)s]")
    parser.add_argument("--threads", type=int, default=2, help="of every tool [default: %(default)s]")
    parser.add_argument("--out", type=Path, default=PROJECT / "target/peers.md", help="raw samples: the same, .json")
    parser.add_argument("--venv", type=Path, default=PROJECT / "target/peers-venv", help="made where missing")
    parser.add_argument("--data", type=Path, default=PROJECT / "target/peers-data", help="weights and images")
    parser.add_argument("--flatness", type=Path, metavar="EXE", help="a worker that is built already")
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)  # tiny sizes, to test this script
    return parser.parse_args()


def main():
    arguments = parse()
    if arguments.repeats < 1:
        sys.exit("error: --repeats must be 1 or more")
    rows = [row for row in all_rows(arguments.threads) if re.search(arguments.only, row.name)]
    if not rows:
        sys.exit(f"error: no row has a match of `{arguments.only}`; --list shows them")
    for row in rows:
        row.entries = [e for e in row.entries if e.tool == "flatness" or re.search(arguments.tools, e.name)]
    if arguments.list:
        for row in rows:
            print(f"{row.name}: batch {row.batch}; " + ", ".join(entry.name for entry in row.entries))
        return
    for row in rows:
        if arguments.batch:
            row.batch = arguments.batch
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # of the children: tools/ is none of theirs to write into
    bench = Bench(arguments)
    facts = machine_facts(bench.python, arguments.threads)
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
