"""What a caption says, each fact once and as users type it."""

from dataclasses import replace

import pytest

from experiments.captions import describe, named
from tests.experiments.synthetic_study import cell, grid, study

CHOICES = {"data": "digits", "partition": "iid", "model": "mlp", "algorithm": "fedavg"}


def said(config=None, choices=None, byzantine=None, fixed=None, **more):
    made = grid(
        {"krum": {"none": 90, "neg": 10}}, config=config, choices={**CHOICES, **(choices or {})},
        **more,
    )  # fmt: skip
    cells = [replace(c, facts={"byzantine": byzantine}) if byzantine else c for c in made.cells]
    return describe(replace(made, cells=cells), cells, fixed or {})


def test_the_usual_study():
    assert said(byzantine=4) == "digits, iid, mlp; n = 20 (4 malicious), 5 rounds; seed 0."
    assert said(seeds=(0, 2)).endswith("; mean ± population std over seeds 0, 2.")


def test_an_object_is_named_with_the_parameter_that_shapes_it():
    node = {"_target_": "fedalign.data.partition.dirichlet.Dirichlet", "alpha": 0.5, "tries": 100}
    text = said({"partition": node}, {"partition": "dirichlet", "algorithm": "fedprox"})
    assert text.startswith("digits, dirichlet (alpha = 0.5), mlp, algorithm fedprox; ")


@pytest.mark.parametrize(
    "config, piece",
    [
        ({"attack_start": 15, "attack_rounds": 1}, ", attacked in round 15 only;"),
        ({"attack_start": 4, "attack_rounds": 3}, ", attacked in rounds 4 to 6;"),
        ({"attack_start": 10, "attack_rounds": None}, ", attacked from round 10 on;"),
        ({"participation": 0.2}, "n = 20, 20 % of them per round, 5 rounds;"),
    ],
)
def test_what_is_out_of_the_ordinary_is_said(config, piece):
    assert piece in said(config)


def test_a_study_without_attack_speaks_of_none():
    made = grid({"krum": {"none": 90}}, config={"attack_start": 9})
    cells = [replace(c, facts={"byzantine": 4}) for c in made.cells]
    assert describe(replace(made, cells=cells), cells, {}) == "n = 20, 5 rounds; seed 0."


def test_what_is_an_axis_is_told_by_the_panel_alone():
    cells = [
        cell(
            {"partition": p, "rounds": r}, choices=CHOICES | {"partition": p},
            config={"rounds": int(r)},
        )
        for p in ("iid", "classes") for r in "35"
    ]  # fmt: skip
    text = describe(study(cells), cells[:1], {"partition": "iid", "rounds": "3"})
    assert text == "digits, mlp; n = 20; partition = iid; rounds = 3; seed 0."


def test_what_differs_between_the_cells_is_not_said():
    cells = [cell({"attack": "neg"}, s, choices={"data": d}) for s, d in ((0, "digits"), (1, "x"))]
    assert describe(study(cells), cells, {}).startswith("n = 20, 5 rounds; mean ±")


def test_panels_are_named_by_what_distinguishes_them():
    cells = [cell({"rho": r, "q": "1"}) for r in ("0.1", "0.5")]
    assert named(study(cells), "main", {"rho": "0.1", "q": "1"}) == "main__rho-0.1"
