"""The same alignment run in worker processes."""

import pytest

pytest.importorskip("transformers", reason="pip install 'fedalign[llm]'")
pytest.importorskip("peft", reason="pip install 'fedalign[llm]'")

from tests import tiny_alignment
from tests.experiments.test_alignment_cell import play


@pytest.mark.slow
def test_two_client_processes_have_the_digest_of_none(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDALIGN_CACHE", str(tiny_alignment.folder()))
    inline = (play(tmp_path, "rounds=1", "block=1") / "digest.txt").read_text()
    words = ("rounds=1", "block=1", "runtime=processes", "runtime.processes=2")
    apart = (play(tmp_path / "processes", *words) / "digest.txt").read_text()
    assert apart == inline
