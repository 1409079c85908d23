"""The cell finds what agrees, fails on what does not, and names what is not installed."""

import json

import pytest

pytest.importorskip("flwr", reason="Flower is absent: pip install 'flwr>=1.41,<1.43'")

from experiments import compose
from experiments.cells import runtime_equivalence as cell
from fedalign.core.errors import IntegrityError, UnknownNameError
from fedalign.federation.runtimes.flower import engines


def play(folder, *words, **keys):
    config = dict(
        compose.study(["scenario=runtime_equivalence", "rounds=2", *words]).cells[0].config
    )
    cell.runtime_equivalence({**config, **keys}, folder, {"source": "test"})
    return rows(folder)


def rows(folder):
    return {row["runtime"]: row for row in json.loads((folder / "rows.json").read_text())}


def test_flower_agrees_with_inline_and_what_is_absent_is_named(tmp_path, monkeypatch):
    there = engines.find_spec
    monkeypatch.setattr(engines, "find_spec", lambda name: None if name == "ray" else there(name))
    found = play(tmp_path, runtimes=["flower_local", "flower_ray"])
    assert found["flower_local"]["equal"] is found["inline"]["equal"] is True
    assert found["flower_local"]["digest"] == found["inline"]["digest"]
    assert (
        found["flower_ray"]["equal"] is None
        and "Ray, which is absent" in found["flower_ray"]["note"]
    )
    assert (tmp_path / "digest.txt").exists()


def test_another_digest_fails_after_the_rows_are_written(tmp_path, monkeypatch):
    """A 'runtime' that plays another seed, and one that breaks off."""
    other = {**cell.RUNTIMES, "elsewhere": ("seed=7",), "broken": ("failure_rate=2",)}
    monkeypatch.setattr(cell, "RUNTIMES", other)
    with pytest.raises(
        IntegrityError, match=r"classification: elsewhere ended with \w{16}, inline"
    ):
        play(tmp_path, runtimes=["elsewhere", "broken"])
    found = rows(tmp_path)
    assert found["elsewhere"]["equal"] is found["broken"]["equal"] is False
    assert "failure_rate must lie in [0, 1), got 2" in found["broken"]["note"]
    assert not (tmp_path / "digest.txt").exists()


def test_wrong_names_are_refused(tmp_path):
    with pytest.raises(UnknownNameError, match=r"no runtime 'flower_deply'\. Did you mean"):
        play(tmp_path, runtimes=["flower_deply"])
    with pytest.raises(UnknownNameError, match="no task 'chess'"):
        play(tmp_path, "task=chess")
