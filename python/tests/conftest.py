"""The modules of the package: of the installed one, or from its sources without the native library."""

import os
import sys
import types
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[1] / "flatness"

try:
    import flatness  # noqa: F401
except ImportError:
    package = types.ModuleType("flatness")
    package.__path__ = [str(SOURCES)]
    sys.modules["flatness"] = package


@pytest.fixture(scope="session")
def binary():
    """The command, which FLATNESS names."""
    path = os.environ.get("FLATNESS")
    if not path:
        pytest.skip("name the flatness binary in FLATNESS")
    return path
