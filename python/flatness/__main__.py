"""The command line: `python -m flatness analyze …` is `flatness analyze …`."""

import sys

from . import _native


def main() -> None:
    """Runs the command and ends the process with its exit code."""
    raise SystemExit(_native.main(["flatness", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
