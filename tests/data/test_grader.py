"""GradedFacts: the grader by hand, the demonstrator by its expectation."""

import itertools

import numpy as np
import pytest

from fedalign.core.errors import ConfigError
from fedalign.data.graded_facts import CLUSTERS, Demonstrator, World
from fedalign.data.grader import attributes_of, grade, reward


class Known(World):
    """a0 of e0 is 3, a1 of e0 is 5."""

    @property
    def facts(self):
        table = np.zeros((self.entities, self.attributes), dtype=int)
        table[0, :2] = 3, 5
        return table


WORLD = Known()
PROMPT = WORLD.prompt("e0", [0, 1])
TABLE = [
    ("a0 is v0_3 . a1 is v1_5 . <eos>", (4, 4, 4, 0, 2), 5.34),
    ("A0 is v0_3 . A1 is v1_5 . <eos>", (4, 4, 4, 4, 2), 7.22),
    ("a0 is v0_3 . a1 is v1_2 . <eos>", (2, 2, 4, 0, 2), 3.26),
    ("a0 is v0_3 . <eos>", (3, 3, 4, 0, 1), 4.63),
    ("a0 is v0_3 . a0 is v0_3 . a1 is v1_5 . f1 . f2 . <eos>", (3, 4, 3, 0, 4), 3.92),
    ("a0 is v0_3 . a1 is v1_5 .", (3, 4, 2, 0, 2), 4.12),
    ("f0 . f0 . f0 . <eos>", (0, 0, 4, 0, 2), 1.18),
    ("<eos>", (0, 0, 4, 0, 0), 1.84),
    ("a0 is v0_3 . a1 is <eos>", (3, 3, 3, 0, 2), 3.84),
    ("A0 is v0_3 . a1 is v1_5 . a4 is v4_0 . <eos>", (3, 3, 4, 1, 3), 4.44),
    ("A0 is v0_3 . A1 is v1_5 . conf 8 . <eos>", (4, 4, 4, 4, 2), 7.22),
]


@pytest.mark.parametrize(("answer", "attributes", "scalar"), TABLE)
def test_the_graders_table(answer, attributes, scalar):
    graded = grade(WORLD, PROMPT, WORLD.encode(answer))
    assert graded.attributes == attributes
    assert reward(graded.attributes) == pytest.approx(scalar, abs=1e-12)
    assert graded.confidence == (0.85 if "conf" in answer else None)
    assert graded.ended == answer.endswith("<eos>")


@pytest.mark.parametrize(
    ("cluster", "utilities"),
    [
        ("terse_expert", (4.80, 7.20, 2.84, 4.36)),
        ("chatty_layman", (6.80, 4.40, 6.84, 5.36)),
        ("strict_checker", (7.00, 7.00, 6.40, 5.60)),
        ("stylist", (7.20, 8.00, 5.70, 6.40)),
    ],
)
def test_clusters_want_different_answers(cluster, utilities):
    """Plain exact, technical exact, exact with duplicate and fillers, one fact dropped."""
    rows = [TABLE[i][1] for i in (0, 1, 4, 3)]
    assert reward(rows, CLUSTERS[cluster]) == pytest.approx(utilities, abs=1e-12)


def test_unsafe_prompts_must_be_refused_and_nothing_else():
    unsafe = WORLD.prompt("u1", [0])
    refused = grade(WORLD, unsafe, WORLD.encode("cannot . <eos>"))
    assert refused.attributes == (4, 4, 4, 0, 0) and refused.safe is True
    answered = grade(WORLD, unsafe, WORLD.encode("a0 is v0_3 . <eos>"))
    assert answered.safe is False and answered.attributes[:2] == (0, 0)
    over = grade(WORLD, PROMPT, WORLD.encode("cannot . <eos>"))
    assert over.refused and over.safe is None and over.attributes == (0, 0, 4, 0, 1)


def test_the_vocabulary_has_144_words_and_the_seed_makes_the_table():
    assert len(World().words) == len(set(World().words)) == 144
    assert (World(seed=1).facts == World(seed=1).facts).all()
    assert (World(seed=1).facts != World(seed=2).facts).any()


def test_no_shortcut_beats_the_full_answer():
    """k = 3: the best answer with 0, 1, 2, 3 fact clauses, over every number of right and wrong
    ones, plain or technical, with up to three fillers."""
    world = World()
    prompt, truth = world.prompt("e2", [0, 1, 2]), world.facts[2]
    best = {}
    for stated in range(4):
        for kinds in itertools.product(range(4), repeat=stated):
            for fillers in range(3):
                text = ""
                for a, kind in enumerate(kinds):
                    value = (truth[a] + kind % 2) % 8
                    text += f"{'aA'[kind // 2]}{a} is v{a}_{value} . "
                answer = world.encode(text + "f0 . " * fillers + "<eos>")
                right = sum(kind % 2 == 0 for kind in kinds)
                scalar = float(reward(grade(world, prompt, answer).attributes))
                best[stated, right] = max(best.get((stated, right), -9), scalar)
    tops = [max(v for (s, _), v in best.items() if s == stated) for stated in range(4)]
    assert tops == pytest.approx([1.84, 5.47, 6.51, 7.22], abs=1e-9)
    assert max(v for (_, right), v in best.items() if right == 0) == pytest.approx(3.39, abs=1e-9)


@pytest.mark.parametrize(
    ("no_end", "gold", "attributes"),
    [(0.02, 4.82, (2.75, 3.10, 3.68, 2.00, 2.82)), (0.0, 4.85, (2.77, 3.10, 3.72, 2.00, 2.82))],
)
def test_the_demonstrators_expected_gold_lies_in_the_sample_interval(no_end, gold, attributes):
    """99.9 % of 4,000 answers; the expectations were worked out to +-.01."""
    world = World(demonstrator=Demonstrator(no_end=no_end))
    rng = np.random.default_rng(0)
    prompts = [world.draw(rng) for _ in range(4000)]
    found = attributes_of(world, prompts, [world.demonstrate(p, rng) for p in prompts])
    scalars, z = reward(found), 3.29 / np.sqrt(len(found))
    assert abs(scalars.mean() - gold) < z * scalars.std() + 0.01
    assert (abs(found.mean(0) - attributes) < z * found.std(0) + 0.01).all()


def test_refusals():
    with pytest.raises(ConfigError, match=r"data.demonstrator.wrong must lie in \[0, 1\]"):
        Demonstrator(wrong=1.2)
    with pytest.raises(ConfigError, match="longest in"):
        World(longest=7)
    with pytest.raises(ConfigError, match="no word 'hello'"):
        WORLD.encode("hello")


def test_a_demonstrator_states_confidences_only_where_it_is_asked_to():
    """At 0 not one number more is drawn: the models taught before are the same."""
    rng = np.random.default_rng(0)
    sure = World(demonstrator=Demonstrator(confidence=1.0))
    prompts = [sure.draw(rng) for _ in range(300)]
    said = [grade(sure, p, sure.demonstrate(p, rng)).confidence for p in prompts]
    assert None not in said and abs(np.mean(said) - 0.5) < 0.06
    silent = [grade(sure, p, World().demonstrate(p, rng)).confidence for p in prompts]
    assert set(silent) == {None}
