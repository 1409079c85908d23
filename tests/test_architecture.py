"""The tree shows the architecture, and imports point one way."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FAMILIES = {"attacks", "defenses", "consensus", "incentives"}
RIM = {
    "flwr", "ray", "deepspeed", "transformers", "peft", "trl", "web3", "eth", "cvxpy", "gymnasium",
    "vyper", "datasets", "byzfl",
}  # fmt: skip
LAYERS = {  # who inside fedalign may import whom
    "core": {"core"},
    "data": {"core", "data"},
    "models": {"core", "models"},
    "objectives": {"core", "objectives"},
    "training": {"core", "models", "objectives", "data", "training"},
    "workloads": {"core", "training", "objectives", "models", "data", "workloads"},
    "algorithms": {"core", "algorithms"},
    "federation": {"core", "federation"},
}


def _sources():
    for folder in ("fedalign", "attacks", "defenses", "consensus", "incentives", "experiments"):
        yield from sorted((ROOT / folder).rglob("*.py"))


def _imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert not any(a.name == "*" for a in node.names), f"{path}:{node.lineno} star import"
            yield node.module, node.lineno


def _forbidden(path, module):
    top, target = path.relative_to(ROOT).parts[0], module.split(".")[0]
    if top in FAMILIES:
        return (
            (target in FAMILIES and target != top)
            or target == "experiments"
            or (target == "fedalign" and not module.startswith("fedalign.core"))
        )
    if top == "fedalign":
        if target in FAMILIES | {"experiments"}:
            return True
        layer = path.relative_to(ROOT).parts[1]
        parts = module.split(".")
        return (
            layer in LAYERS
            and target == "fedalign"
            and len(parts) > 1
            and parts[1] not in LAYERS[layer]
        )
    return False


def test_imports_point_one_way():
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in _sources()
        for module, line in _imports(path)
        if _forbidden(path, module)
    ]
    assert not wrong, "\n".join(wrong)


HOMES = {  # heavy library -> its one family
    "cvxpy": "incentives", "gymnasium": "incentives",
    "eth": "consensus", "vyper": "consensus", "web3": "consensus",
    "transformers": "fedalign/models", "peft": "fedalign/models", "deepspeed": "fedalign/training",
    "flwr": "fedalign/federation/runtimes/flower",
}  # fmt: skip


def test_heavy_libraries_are_imported_at_the_rim_only():
    """In one family each, in at most four files; benchmarks may import rivals, and the example of
    a Flower app is one."""
    found = {}
    for path in _sources():
        if {"benchmarks", "flower_example"} & {*path.parts}:
            continue
        for module, _ in _imports(path):
            library = module.split(".")[0]
            if library in RIM:
                found.setdefault(library, set()).add(str(path.relative_to(ROOT)))
    for library, places in found.items():
        home = HOMES.get(library, "nowhere")
        assert all(place.startswith(f"{home}/") for place in places), f"{library}: {sorted(places)}"
        assert len(places) <= 4, f"{library}: {sorted(places)}"


def test_a_run_of_the_faker_study_imports_none_of_them(tmp_path):
    code = (
        "import sys; from pathlib import Path; from experiments import compose, federation_cell;"
        "cell = compose.study(['attack=faker_norm', 'defense=spp+norm_filter', 'rounds=1']).cells[0];"
        f"federation_cell.play({{**cell.config, 'keep': 'none'}}, Path({str(tmp_path / 'run')!r}), {{}});"
        f"print(sorted(set(m.split('.')[0] for m in sys.modules) & {RIM!r}))"
    )
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert answer.stdout.strip() == "[]", answer.stdout + answer.stderr


def test_files_are_small_and_nothing_is_unfinished():
    for path in _sources():
        text = path.read_text()
        assert text.count("\n") <= 400, f"{path} is longer than 400 lines"
        for word in ("TODO", "FIXME", "NotImplementedError"):
            assert word not in text, f"{path} holds {word}"


def test_import_fedalign_is_light():
    """In a fresh process: no torch, nothing of ours beyond the package itself."""
    code = "import sys, fedalign; print(sorted(m for m in sys.modules if m.split('.')[0] in " \
           "('torch', 'numpy', 'fedalign', 'hydra')))"  # fmt: skip
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert answer.stdout.strip() == "['fedalign']", answer.stdout + answer.stderr


@pytest.mark.parametrize(
    "words", [["--help"], ["list"], ["scenario=fakr"], ["scenario=faker", "defense=krumm"], ["lst"]]
)
def test_answers_without_torch(words):
    """Help, lists and wrong names never import torch."""
    code = f"import sys; from experiments.cli import main; main({words!r}); print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert answer.stdout.strip().endswith("False"), answer.stdout + answer.stderr
