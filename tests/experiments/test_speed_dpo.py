"""The DPO benchmark measures both engines and refuses what it cannot measure."""

import pytest

pytest.importorskip("trl", reason="pip install 'fedalign[llm]'")

from experiments.benchmarks import alignment
from fedalign.core.errors import ConfigError
from fedalign.training.cache import Cache
from tests import tiny_alignment


@pytest.mark.slow
def test_both_engines_are_timed_on_the_same_pairs(monkeypatch):
    """A small model in place of the tiny one, so that nothing is taught for long."""
    folder = Cache(str(tiny_alignment.folder()))
    small = tiny_alignment.data()
    monkeypatch.setattr(alignment, "Cache", lambda path=None: Cache(path) if path else folder)
    monkeypatch.setattr(alignment, "TinyLm", lambda: tiny_alignment.MODEL)
    monkeypatch.setattr(alignment, "GradedFacts", lambda world, annotator: small)
    monkeypatch.setattr(alignment, "CLIENTS", 3)
    monkeypatch.setattr(alignment, "BATCH", 8)
    theirs, ours = alignment.measure(3, 1)
    assert theirs["engine"] == "trl DPOTrainer" and theirs["x trl, later round s"] == 1.0
    assert ours["steady tokens/s"] > 0 and ours["later round s"] > 0


def test_too_few_steps_are_refused():
    with pytest.raises(ConfigError, match="steps >= 3, got 2"):
        alignment.measure(2, 1)
