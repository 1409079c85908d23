"""The command line as a user meets it."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from experiments import cli

ROOT = Path(__file__).parent.parent.parent


def test_help_names_the_commands_and_the_scenarios(capsys):
    assert cli.main(["--help"]) == 0
    said = capsys.readouterr().out
    assert "scenario=faker" in said and "chain verify" in said and "spp_ablation" in said


def test_list_shows_names_with_their_papers(capsys):
    assert cli.main(["list", "defenses"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "krum" in said and "Blanchard" in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["lst"], "Did you mean 'list'"),
        (["list", "defence"], "Did you mean 'defense'"),
        (["report"], "fedalign report FOLDER"),
        (["chain", "verfy", "x"], "fedalign chain verify FOLDER"),
        (["report", "no/such/folder"], "no/such/folder"),
    ],
)
def test_a_wrong_command_is_a_sentence(capsys, words, says):
    assert cli.main(words) == 1
    assert says in capsys.readouterr().err


def test_verify_of_nothing_says_so(tmp_path, capsys):
    assert cli.main(["chain", "verify", str(tmp_path)]) == 1
    assert "holds no run" in capsys.readouterr().out


@pytest.mark.slow
def test_a_stray_package_of_our_name_is_named_with_the_cure(tmp_path):
    (tmp_path / "attacks").mkdir()
    (tmp_path / "attacks/__init__.py").write_text("")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from experiments.cli import main; sys.exit(main(['--help']))"
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert answer.returncode == 1
    assert str(tmp_path) in answer.stderr and "fedalign" in answer.stderr


@pytest.mark.slow
def test_one_command_gives_the_table_and_report_makes_it_again(tmp_path):
    """From another directory, through the console command, in a tiny grid."""
    script = Path(sysconfig.get_path("scripts")) / "fedalign"
    if not script.exists():
        pytest.skip("the console command is not installed: pip install -e .")
    words = ["scenario=faker", "preset=tiny", "rounds=2"]
    first = subprocess.run([script, *words], cwd=tmp_path, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    assert (
        "spp+norm_filter" in first.stdout and "Report: outputs/faker-tiny/report.md" in first.stdout
    )
    folder = tmp_path / "outputs/faker-tiny"
    page = (folder / "report.md").read_text()
    (folder / "report.md").unlink()
    again = subprocess.run([script, "report", folder], capture_output=True, text=True, cwd=tmp_path)
    assert again.returncode == 0 and (folder / "report.md").read_text() == page
    checked = subprocess.run([script, "chain", "verify", folder], capture_output=True, text=True)
    assert checked.returncode == 0 and "16 aggregates were computed again" in checked.stdout


@pytest.mark.slow
def test_the_wheel_holds_our_packages_and_works_from_anywhere(tmp_path):
    """Built from a copy, unpacked as an installer would, run outside the source tree."""
    source = tmp_path / "source"
    skip = shutil.ignore_patterns(".git", ".venv", "outputs", "__pycache__", "*.egg-info", "build")
    shutil.copytree(ROOT, source, ignore=skip)
    build = [
        sys.executable,
        "-c",
        "from setuptools import build_meta; build_meta.build_wheel('dist')",
    ]
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    (wheel,) = (source / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops <= {"fedalign", "attacks", "defenses", "consensus", "incentives", "experiments",
                    "run_experiment.py"}  # fmt: skip
    assert "experiments/conf/scenario/faker.yaml" in names
    site, here = tmp_path / "site", tmp_path / "here"
    here.mkdir()
    zipfile.ZipFile(wheel).extractall(site)
    code = f"import sys; sys.path.insert(0, {str(site)!r}); from experiments.cli import main; sys.exit(main(sys.argv[1:]))"
    words = ["attack=sign_flip", "defense=median", "rounds=1", "workers=1"]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    answer = subprocess.run(
        [sys.executable, "-P", "-c", code, *words],
        cwd=here,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert answer.returncode == 0, answer.stderr
    assert (here / "outputs/single/report.md").is_file()


@pytest.mark.slow
def test_a_bare_python_goes_into_the_virtual_environment_or_says_how_to_make_one(tmp_path):
    """`-S -I` hides every installed package from run_experiment.py."""
    shutil.copy(ROOT / "run_experiment.py", tmp_path)
    bare = [sys.executable, "-S", "-I", "run_experiment.py", "--version"]
    answer = subprocess.run(bare, cwd=tmp_path, capture_output=True, text=True)
    assert answer.returncode == 1 and "make setup" in answer.stderr
    (tmp_path / ".venv/bin").mkdir(parents=True)
    python = tmp_path / ".venv/bin/python"
    python.write_text('#!/bin/sh\necho "re-executed: $*"\n')
    python.chmod(0o755)
    answer = subprocess.run(bare, cwd=tmp_path, capture_output=True, text=True)
    assert "re-executed" in answer.stdout and "--version" in answer.stdout
