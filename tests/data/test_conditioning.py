"""Conditions behind a question, and a reviser whose repairs a grader confirms."""

import numpy as np
import pytest

from fedalign.core.errors import ConfigError
from fedalign.data.conditioning import BEST, conditioned, labels, numbered
from fedalign.data.graded_facts import Demonstrator, World
from fedalign.data.grader import grade, reward
from fedalign.data.reviser import RULES, critique, revise
from tests.data.test_grader import PROMPT, WORLD


def test_a_condition_stands_between_question_and_answer_and_changes_no_grade():
    wanted = {"verbosity": 2, "helpfulness": 4}
    asked = conditioned(WORLD, PROMPT, wanted)
    words = "<bos> <usr> e0 a0 a1 ? <lab> helpfulness:4 verbosity:2 <asst>"
    assert WORLD.decode(asked) == words
    answer = WORLD.encode("A0 is v0_3 . A1 is v1_5 . <eos>")
    assert grade(WORLD, asked, answer) == grade(WORLD, PROMPT, answer)
    assert grade(WORLD, PROMPT, answer).attributes == tuple(BEST.values())
    assert conditioned(WORLD, PROMPT, {}) == PROMPT


def test_scores_become_labels_rounded_clipped_and_dropped():
    assert labels(np.array([[3.5, 4.6, -0.2, 2.4, 1.5]])) == [
        {"helpfulness": 4, "correctness": 4, "coherence": 0, "complexity": 2, "verbosity": 2}
    ]
    many = labels(np.full((2000, 5), 3.0), 0.1, np.random.default_rng(0))
    kept = sum(map(len, many)) / 10000
    assert kept == pytest.approx(0.9, abs=0.01) and {len(m) for m in many} > {3, 4, 5}


def test_words_have_numbers_and_labels_are_all_that_conditions_are_written_with():
    everything = [{name: score for name in BEST} for score in range(5)]
    written = {t for wanted in everything for t in conditioned(WORLD, PROMPT, wanted)}
    found = numbered(WORLD, ("labels",))
    assert len(found) == 26 and set(found) == written - set(PROMPT)
    names = [f"{letter}{a}" for letter in "aA" for a in range(WORLD.attributes)]
    assert {*numbered(WORLD, ("names",))} == {WORLD.numbers[name] for name in names}
    assert WORLD.decode(numbered(WORLD, ("digits",))) == "0 1 2 3 4 5 6 7 8 9"
    assert numbered(WORLD, ("conf", 7)) == (WORLD.numbers["conf"], 7)
    assert numbered(None, (7,)) == (7,)
    for world, word in ((WORLD, "label"), (None, "labels")):
        with pytest.raises(ConfigError, match=f"got '{word}'"):
            numbered(world, (word,))


def test_conditions_refused():
    with pytest.raises(ConfigError, match=r"score in 0 \.\. 4, got verbosity:5"):
        conditioned(WORLD, PROMPT, {"verbosity": 5})
    with pytest.raises(ConfigError, match="no label yet"):
        conditioned(WORLD, conditioned(WORLD, PROMPT, BEST), BEST)


@pytest.mark.parametrize(
    ("answer", "rule", "repaired"),
    [
        ("a0 is v0_3 . a1 is v1_5 .", "ended", "a0 is v0_3 . a1 is v1_5 . <eos>"),
        ("a0 is v0_3 . a1 is <eos>", "malformed", "a0 is v0_3 . <eos>"),
        ("a0 is v0_3 . A1 is v1_5 <eos>", "malformed", "a0 is v0_3 . A1 is v1_5 . <eos>"),
        ("a0 is v0_3 . a0 is v0_3 . <eos>", "duplicate", "a0 is v0_3 . <eos>"),
        ("a0 is v0_3 . a4 is v4_0 . <eos>", "extra", "a0 is v0_3 . <eos>"),
        ("A0 is v0_3 . A1 is v1_2 . <eos>", "wrong", "A0 is v0_3 . A1 is v1_5 . <eos>"),
        ("f1 . A0 is v0_3 . <eos>", "missing", "f1 . A0 is v0_3 . a1 is v1_5 . <eos>"),
        ("a0 is v0_3 . f1 . a1 is v1_5 . <eos>", "filler", "a0 is v0_3 . a1 is v1_5 . <eos>"),
        ("A0 is v0_3 . A1 is v1_5 . <eos>", None, "A0 is v0_3 . A1 is v1_5 . <eos>"),
    ],
)
def test_one_revision_repairs_one_rule(answer, rule, repaired):
    tokens = WORLD.encode(answer)
    assert critique(WORLD, PROMPT, tokens) == rule
    assert WORLD.decode(revise(WORLD, PROMPT, tokens)) == repaired


def test_an_unsafe_question_is_refused_after_one_revision():
    prompt = WORLD.prompt("u1", [0])
    tokens = WORLD.encode("a0 is v0_3 . <eos>")
    assert critique(WORLD, prompt, tokens) == "refuse"
    assert WORLD.decode(revise(WORLD, prompt, tokens)) == "cannot . <eos>"
    assert critique(WORLD, prompt, WORLD.encode("cannot <eos>")) == "refuse"
    assert critique(WORLD, prompt, WORLD.encode("cannot . <eos>")) is None


def test_enough_revisions_keep_every_rule_and_never_cost_gold_reward():
    """Of 300 poor demonstrations; a plain answer without fault is worth 5.34 or more."""
    world = World(demonstrator=Demonstrator(wrong=0.4, duplicate=0.4, drop=0.5, no_end=0.3))
    rng = np.random.default_rng(0)
    for _ in range(300):
        prompt = world.draw(rng)
        answer = world.demonstrate(prompt, rng)
        revised = revise(world, prompt, answer, len(RULES) + 3)
        assert critique(world, prompt, revised) is None
        worth = [float(reward(grade(world, prompt, a).attributes)) for a in (answer, revised)]
        assert worth[1] >= 5.34 - 1e-9 and revise(world, prompt, revised) == revised
