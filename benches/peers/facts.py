"""The machine and versions that numbers belong to."""

import contextlib
import json
import os
import platform
import re
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
INSTRUCTION_SETS = ("avx2", "fma", "avx512f", "asimd")


def machine_facts(python, threads):
    """Names and values, in the order of the report; `python` is the venv's."""
    cpu = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.*)", cpu, re.M)
    flags = re.search(r"^(?:flags|Features)\s*: (.*)", cpu, re.M)
    system = platform.system()
    with contextlib.suppress(OSError):
        system = platform.freedesktop_os_release()["PRETTY_NAME"]
    facts = {
        "CPU": f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores",
        "instruction sets": " ".join(name for name in INSTRUCTION_SETS if flags and name in flags[1].split()),
        "OS": f"{system}, Linux {platform.release()}",
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "threads": threads,
        "flatness commit": output("git", "describe", "--always", "--dirty", "--exclude=*") or "unknown",
        "rustc": output(os.environ.get("RUSTC", "rustc"), "--version") or "unknown",
    }
    return facts | json.loads(output(python, HERE / "worker.py", "facts") or "{}")


def output(*command):
    """What a command prints; None where it is missing or fails."""
    try:
        return subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
