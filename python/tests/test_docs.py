"""Code of the documents runs, and the page on the package lists everything."""

import os
import re
from pathlib import Path

import pytest

import flatness

pytest.importorskip("flatness._native")
DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("page", ["tutorial", "python", "pyhessian", "huggingface"])
def test_code_blocks_run_in_order(page, tmp_path, monkeypatch):
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.M | re.S)
    assert blocks
    needed = set(re.findall(r"^\s*(?:from|import) (\w+)", "\n".join(blocks), flags=re.M))
    for module in sorted(needed):
        pytest.importorskip(module)
    monkeypatch.chdir(tmp_path)
    names = {"__name__": page}
    for block in blocks:
        exec(compile(block, f"{page}.md", "exec"), names)


def test_the_page_on_the_package_lists_all_names():
    page = (DOCS / "python.md").read_text(encoding="utf-8")
    missing = [name for name in flatness.__all__ if not re.search(rf"\b{name}\b", page)]
    assert not missing, missing
    assert os.path.exists(DOCS)
