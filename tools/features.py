"""Whether the program, its tests and the Python package ask the crates that they share for the same features.

python tools/features.py

Otherwise cargo builds such a crate, and all that depend on it, once for each. Ends with 1 and their names if there are any.
"""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILDS = {
    "program": ["--workspace", "--edges", "normal,build"],
    "tests": ["--workspace", "--edges", "normal,build,dev"],
    "package": ["--package", "flatness-python", "--edges", "normal,build"],
}


def crates(options):
    """The features of each crate and version, in each of its builds: a build script may have one of its own."""
    command = ["cargo", "tree", "--locked", "--prefix", "none", "--format", "{p}|{f}", *options]
    lines = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    found = {}
    for line in filter(None, lines):  # trees of several packages have empty lines between
        crate, features = line.removesuffix(" (*)").split("|")
        found.setdefault(crate, set()).add(features)
    return found


def main():
    found = {name: crates(options) for name, options in BUILDS.items()}
    program = found.pop("program")
    different = False
    for name, others in found.items():
        for crate in sorted(others.keys() & program.keys()):
            here, there = (" or ".join(sorted(features)) for features in (program[crate], others[crate]))
            if here != there:
                different = True
                print(f"{crate}: {here} in the program, {there} in the {name}")
    return int(different)


if __name__ == "__main__":
    sys.exit(main())
