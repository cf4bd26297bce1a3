"""Builds the site from docs/ into target/site; a broken link is an error. Needs Python 3.11 and a Rust toolchain.

python tools/site.py [mkdocs options, such as --site-dir DIR]

FLATNESS names a program to run in place of `cargo run --release`, FLATNESS_REPOSITORY the address that links to files
of the repository lead to (by default that of Cargo.toml).
"""

import os
import pathlib
import subprocess
import sys
import venv

TOOLS = pathlib.Path(__file__).resolve().parent
VENV = TOOLS.parent / "target" / "site-venv"


def main():
    wanted = (TOOLS / "site" / "requirements.txt").read_text()
    installed = VENV / "requirements.txt"
    programs = VENV / ("Scripts" if sys.platform == "win32" else "bin")
    if not installed.exists() or installed.read_text() != wanted:
        venv.create(VENV, with_pip=True, clear=True)
        requirements = str(TOOLS / "site" / "requirements.txt")
        subprocess.run([programs / "python", "-m", "pip", "install", "--quiet", "-r", requirements], check=True)
        installed.write_text(wanted)
    config = str(TOOLS / "site" / "mkdocs.yml")
    mkdocs = [programs / "python", "-m", "mkdocs", "build", "--strict", "--config-file", config]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run([*mkdocs, *sys.argv[1:]], env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
