"""ByzFL's own rules, as rivals in tests; where ByzFL is not installed the test is skipped."""

from __future__ import annotations

from types import ModuleType

import pytest

from experiments.benchmarks.rivals import BYZFL, byzfl_module


def load_or_skip() -> ModuleType:
    """`byzfl.aggregators`, or a skip with the cure."""
    module = byzfl_module()
    if module is None:
        pytest.skip(f"ByzFL is not installed: {BYZFL}")
    return module
