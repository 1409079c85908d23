"""`fedalign population`: write, read, refuse."""

import pytest

from experiments.cli import main


def test_what_is_written_is_what_is_read(tmp_path, capsys):
    path = str(tmp_path / "people.npz")
    assert main(["population", path, "clients=40", "seed=2"]) == 0
    written = capsys.readouterr().out
    assert main(["population", path]) == 0
    assert capsys.readouterr().out == written and "device_class" in written


@pytest.mark.slow
def test_a_study_reads_the_file_and_shows_its_speed(tmp_path):
    path = str(tmp_path / "people.npz")
    assert main(["population", path, "clients=30"]) == 0
    assert main([
        "scenario=massive_federation", "clients=30", "rounds=1", f"data.path={path}",
        f"output_root={tmp_path / 'out'}", "workers=1",
    ]) == 0  # fmt: skip
    assert "peak_rss_mb" in (tmp_path / "out/massive_federation/report.md").read_text()


def test_own_attributes_and_wrong_words(tmp_path, capsys):
    source = tmp_path / "mine.yaml"
    source.write_text("attributes: [{name: age, kind: normal, mean: 40, std: 9, low: 0}]\n")
    path = str(tmp_path / "mine.npz")
    assert main(["population", path, "clients=9", f"attributes={source}"]) == 0
    assert "age" in capsys.readouterr().out
    for words, says in (
        ([], "needs a file"),
        ([path, "people=3"], "takes clients, seed, attributes"),
        ([path, "clients=many"], "whole numbers"),
        ([path, "clients=3", f"attributes={tmp_path / 'none.yaml'}"], "must be a YAML file"),
    ):
        assert main(["population", *words]) == 1
        assert says in capsys.readouterr().err
