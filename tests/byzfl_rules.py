"""ByzFL's own rules, as rivals: loaded past its root, which imports plotting and vision libraries.

`load()` puts a stub in the place of the package root, whose `__path__` points at the install
folder; the sub-packages then import as usual. Where ByzFL is not installed the test is skipped.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType

import pytest


def load() -> ModuleType | None:
    """The module `byzfl.aggregators`, or None where ByzFL is not installed."""
    if "byzfl" not in sys.modules:
        found = importlib.util.find_spec("byzfl")
        if found is None:
            return None
        stub = ModuleType("byzfl")
        stub.__path__ = list(found.submodule_search_locations or [])
        sys.modules["byzfl"] = stub
    return importlib.import_module("byzfl.aggregators")


def load_or_skip() -> ModuleType:
    """As `load`, but skips the asking test with the cure."""
    module = load()
    if module is None:
        pytest.skip("ByzFL is not installed: pip install --no-deps byzfl==0.0.11")
    return module
