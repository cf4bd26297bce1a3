"""Makes the README's figure and tables anew with the README's own commands. Needs polars and a Rust toolchain.

python tools/readme.py REFERENCE DATA

REFERENCE is a folder with weights.safetensors, model.json and expected.json, the values in float64; DATA is the folder
cifar10-small-bin. FLATNESS names a program to run in place of `cargo run --release`.
"""

import json
import math
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

import polars as pl

ROOT = pathlib.Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
CARGO = ["cargo", "run", "--release", "--quiet", "--manifest-path", str(ROOT / "Cargo.toml"), "--"]
PROGRAM = [os.environ["FLATNESS"]] if "FLATNESS" in os.environ else CARGO


def run(text, start, folder, out):
    """Runs the README's command that begins with `start`, in `folder`; returns what it prints."""
    line = next(line for line in text.splitlines() if line.startswith(start))
    words = shlex.split(line.removeprefix("cargo run --release --").removeprefix("flatness"), comments=True)
    command = [*PROGRAM, *words, "--out", str(out)]
    return subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout


def put(text, name, content):
    """Replaces what stands between the marks of that name."""
    marks = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
    text, count = re.subn(marks, lambda match: match[1] + content + match[2], text, flags=re.DOTALL)
    assert count == 1, f"marks of {name}"
    return text


def number(value, decimals):
    text = f"{value:,.{decimals}f}" if abs(value) >= 10_000 else f"{value:.{decimals}f}"
    return text.replace("-", "−")


def rounded(error, digits):
    """An error with that many digits."""
    if error == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(error)))
    return number(float(f"{error:.{digits - 1}e}"), decimals)


def decimals(row):
    """Those of the first digit of the numeric error; two where it is 0."""
    error = row["std_err_numeric"]
    return max(0, -math.floor(math.log10(error))) if error else 2


def measured(row, words=("", "")):
    """Value, numeric error with one digit and data error with two."""
    errors = rounded(row["std_err_numeric"], 1) + words[0], rounded(row["std_err_data"], 2) + words[1]
    return f"{number(row['value'], decimals(row))} ± {errors[0]} ± {errors[1]}"


def resnet20(result, expected):
    """The table of eigenvalues and trace beside the reference."""
    eigenvalues = pl.read_parquet(result / "eigenvalues.parquet").rename({"eigenvalue": "value"})
    summary = pl.read_parquet(result / "summary.parquet")

    def eigenvalue(end, index):
        return eigenvalues.row(by_predicate=(pl.col("end") == end) & (pl.col("index") == index), named=True)

    def total(quantity):
        return summary.row(by_predicate=(pl.col("quantity") == quantity) & (pl.col("scope") == "all"), named=True)

    cross, least, trace = total("lambda_max_cross_fitted"), eigenvalue("bottom", 0), total("trace")
    top, reference = [eigenvalue("top", index) for index in (0, 1, 9)], expected["top_eigenvalues"]
    cells = [measured(top[0], (" (numeric)", " (data)")), *map(measured, top[1:])]
    beside = [number(reference[index], decimals(row)) for index, row in zip((0, 1, 9), top)]
    survey = json.loads((result / "run.json").read_text())["surveys"][0]
    lines = [
        f"| | f32, {survey['num_matvecs'] + cross['num_matvecs']} products in all | float64 reference |",
        "| --- | ---: | ---: |",
        f"| λ₁ | {cells[0]} | {beside[0]} |",
        f"| λ₁, cross-fitted between halves | {rounded(cross['value'], 3)} ± {rounded(cross['std_err_data'], 2)} (data) | |",
        f"| λ₂ | {cells[1]} | {beside[1]} |",
        f"| λ₁₀ | {cells[2]} | {beside[2]} |",
        f"| most negative | {measured(least)} | |",
        f"| trace, exact | {measured(trace)} | {number(expected['trace_exact']['value'], 2)} |",
    ]
    return "\n".join(lines) + "\n"


def main(reference, data):
    text = README.read_text()
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        printed = run(text, "cargo run --release -- quickstart", ROOT, scratch / "quickstart")
        # The last line states the loss.
        table = printed.rstrip().rsplit("\n", 1)[0].rstrip()
        text = put(text, "quickstart", f"```text\n{table}\n```\n")
        for path in (reference / "weights.safetensors", reference / "model.json", data):
            (scratch / path.name).symlink_to(path)
        run(text, f"flatness analyze weights.safetensors --arch model.json --data cifar10:{data.name}", scratch, scratch / "resnet20")
        expected = json.loads((reference / "expected.json").read_text())
        text = put(text, "resnet20", resnet20(scratch / "resnet20", expected))
        shutil.copy(scratch / "resnet20/figures/density_signed_log.png", ROOT / "docs/figures/resnet20_density.png")
    README.write_text(text)


if __name__ == "__main__":
    main(*(pathlib.Path(path).resolve() for path in sys.argv[1:3]))
