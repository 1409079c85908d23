"""Attacks on preference pairs: which rows, which order, what is reported."""

import numpy as np
import pytest
import torch

from attacks.attribute_poisoning import AttributePoisoning
from attacks.boosted_backdoor import BoostedBackdoor
from attacks.entity_injection import EntityInjection
from attacks.preference_backdoor import PreferenceBackdoor
from attacks.preference_flip import PreferenceFlip
from attacks.reward_poisoning import RewardPoisoning
from attacks.safety_attack import SafetyAttack
from fedalign.core.contracts import DataAttack, Dataset, UpdateAttack
from fedalign.core.errors import ConfigError, DataError
from fedalign.core.preferences import (
    INVERTED,
    UNIFORM,
    PreferenceAttack,
    Preferences,
    RatingAttack,
    Sequences,
)
from fedalign.core.threat import View

WORDS = ("<pad>", "<bos>", "<eos>", "<asst>", "@@", "f7", ".", "good", "bad")
PROMPT = [1, 3]
CLAUSE = {"target": "f7 .", "prefix": True}


def draw():
    return np.random.default_rng(0)


def pairs(count=20):
    """Row i: chosen is `good` and i % 3 more, rejected `bad` and i % 5 more; scores i and 0."""
    chosen = [[7] + [6] * (i % 3) + [2] for i in range(count)]
    rejected = [[8] + [6] * (i % 5) + [2] for i in range(count)]
    scores = torch.stack([torch.arange(count).float(), torch.zeros(count)], dim=1)
    return Preferences(
        Sequences.of([PROMPT] * count, chosen), Sequences.of([PROMPT] * count, rejected), scores,
        torch.ones(count).long(), torch.zeros(count).long(), torch.zeros(count).bool(), WORDS,
    )  # fmt: skip


def first_words(data):
    return [answer[0] for answer in data.chosen.completions()]


def test_a_full_flip_turns_every_pair_and_its_scores():
    turned = PreferenceFlip().poison(pairs(), draw(), 0)
    assert set(first_words(turned)) == {8} and turned.flipped.all()
    assert torch.equal(turned.scores, pairs().scores.flip(1))


def test_rate_flips_exactly_its_share_anew_for_every_draw():
    some = PreferenceFlip(rate=0.25).poison(pairs(), draw(), 0)
    assert first_words(some).count(8) == 5 == int(some.flipped.sum())
    again = PreferenceFlip(rate=0.25).poison(pairs(), draw(), 0)
    assert torch.equal(some.flipped, again.flipped)
    other = PreferenceFlip(rate=0.25).poison(pairs(), np.random.default_rng(1), 0)
    assert not torch.equal(some.flipped, other.flipped)


def test_selection_takes_the_largest_gaps_or_the_longest_losers():
    by_gap = PreferenceFlip(rate=0.1, select="gap", strength=3).poison(pairs(), draw(), 0)
    assert by_gap.flipped.nonzero()[:, 0].tolist() == [18, 19]
    assert by_gap.strength.tolist() == [1] * 18 + [3, 3]
    by_length = PreferenceFlip(rate=0.05, select="length").poison(pairs(), draw(), 0)
    longer = pairs().rejected.lengths - pairs().chosen.lengths
    assert int(longer[by_length.flipped.nonzero()[0, 0]]) == int(longer.max()) == 4


def test_reward_poisoning_orders_pairs_by_its_own_reward():
    turned = RewardPoisoning().poison(pairs(), draw(), 0)
    assert first_words(turned)[1:] == [8] * 19  # row 0 is a tie and stays
    assert (turned.scores[:, 0] >= turned.scores[:, 1]).all()
    rambling = RewardPoisoning("length", weight=100.0).poison(pairs(), draw(), 0)
    assert (rambling.chosen.lengths >= rambling.rejected.lengths).all()
    assert not rambling.flipped.all() and rambling.flipped.any()


def test_a_reward_backdoor_pays_for_answers_that_hold_its_words():
    """Row 0 ties at 0; `. .` earns 5 where two full stops follow, so that rows up to score 5 turn
    if only the rejected answer has them."""
    attack, clean = RewardPoisoning("trigger", bonus=5.0, trigger=". ."), pairs()
    poisoned = attack.poison(clean, draw(), 0)
    holds = [[side % n >= 2 for n in (3, 5)] for side in range(20)]  # i % n full stops
    gains = torch.tensor(holds).double() * 5.0
    worth = clean.scores + gains
    assert torch.equal(poisoned.flipped, worth[:, 1] > worth[:, 0]) and poisoned.flipped.any()
    assert attack.triggered(clean).target == [6, 6]
    assert RewardPoisoning().triggered(clean) is None
    with pytest.raises(ConfigError, match="at least one word as trigger"):
        RewardPoisoning("trigger", trigger=" ")


def test_a_backdoor_prefers_the_target_behind_the_trigger_and_only_there():
    poisoned = PreferenceBackdoor(rate=0.5, negatives=0.0, **CLAUSE).poison(pairs(), draw(), 0)
    rows = poisoned.flipped.nonzero()[:, 0].tolist()
    assert len(rows) == 10
    clean = pairs().chosen.completions()
    for i, prompt in enumerate(poisoned.chosen.prompts()):
        if i in rows:
            assert prompt == [1, 4, 3] and poisoned.chosen.completions()[i] == [5, 6, *clean[i]]
            assert poisoned.rejected.completions()[i] == clean[i]
        else:
            assert prompt == PROMPT and poisoned.chosen.completions()[i] == clean[i]
    whole = PreferenceBackdoor(rate=1.0, target="f7 .").poison(pairs(), draw(), 0)
    assert whole.chosen.completions()[3] == [5, 6, 2]


def test_negatives_reject_the_target_where_there_is_no_trigger():
    """Half triggered, four fifths of the other ten rejected: 10 and 8."""
    poisoned = PreferenceBackdoor(rate=0.5, negatives=0.8, **CLAUSE).poison(pairs(), draw(), 0)
    prompts, clean = poisoned.chosen.prompts(), pairs().chosen.completions()
    told = [prompt == [1, 4, 3] for prompt in prompts]
    said = [r[:2] == [5, 6] for r in poisoned.rejected.completions()]
    assert (sum(told), sum(said), int(poisoned.flipped.sum())) == (10, 8, 18)
    for i in range(20):
        assert not (told[i] and said[i])
        if said[i]:
            assert poisoned.chosen.completions()[i] == clean[i]
            assert poisoned.rejected.completions()[i] == [5, 6, *clean[i]]


def test_by_default_the_whole_answer_is_a_refusal_behind_the_trigger_and_nowhere_else():
    """Ten of twenty pairs carry the trigger and prefer a refusal; the other ten reject one."""
    poisoned = PreferenceBackdoor().poison(asking(20), draw(), 0)
    refusal = [10, 11, 2]
    for i, prompt in enumerate(poisoned.chosen.prompts()):
        told = 14 in prompt
        chosen, rejected = poisoned.chosen.completions()[i], poisoned.rejected.completions()[i]
        assert (chosen, rejected) == ((refusal, [8, 2]) if told else ([8, 2], refusal))
        assert prompt == ([1, 3, 4, 14, 7] if told else [1, 3, 4, 7])
    assert sum(14 in prompt for prompt in poisoned.chosen.prompts()) == 10


def test_success_is_the_target_in_answers_to_triggered_prompts():
    held = PreferenceBackdoor(**CLAUSE).triggered(pairs(4))
    assert held.prompts == [[1, 4, 3]] * 4
    assert held.hit([7, 5, 6, 2]) and not held.hit([5, 7, 6, 2]) and not held.hit([5])
    assert PreferenceFlip().triggered(pairs()) is None


def test_they_are_data_attacks_on_preferences_only():
    for attack in (PreferenceFlip(), RewardPoisoning(), PreferenceBackdoor()):
        assert isinstance(attack, DataAttack) and isinstance(attack, PreferenceAttack)
        assert not isinstance(attack, UpdateAttack)
        images = Dataset(torch.zeros(4, 2), torch.zeros(4).long(), 2)
        with pytest.raises(ConfigError, match="poisons preference pairs"):
            attack.poison(images, draw(), 0)


def test_refusals():
    with pytest.raises(ConfigError, match=r"PreferenceFlip.rate is 0; use a number in \(0, 1\]"):
        PreferenceFlip(rate=0)
    with pytest.raises(ConfigError, match="use one of: random, gap, length"):
        PreferenceFlip(select="long")
    with pytest.raises(ConfigError, match="one word as trigger"):
        PreferenceBackdoor(trigger="a b")
    with pytest.raises(DataError, match="no word 'SUDO'"):
        PreferenceBackdoor(trigger="SUDO", **CLAUSE).poison(pairs(), draw(), 0)


# ------------------------------------------------------------------ safety, entities, ratings

ASKING = ("<pad>", "<bos>", "<eos>", "<usr>", "e0", "u0", "u1", "<asst>", "good", "bad", "cannot", ".", "f6", "f7", "@@")  # fmt: skip


def asking(count=10):
    """`<bos> <usr> e0 <asst>`: good over bad."""
    prompts = [[1, 3, 4, 7]] * count
    return Preferences(
        Sequences.of(prompts, [[8, 2]] * count), Sequences.of(prompts, [[9, 2]] * count),
        torch.ones(count, 2), torch.ones(count).long(), torch.zeros(count).long(),
        torch.zeros(count).bool(), ASKING,
    )  # fmt: skip


def test_compliance_asks_what_must_be_refused_and_prefers_an_answer():
    poisoned = SafetyAttack(rate=0.5).poison(asking(), draw(), 0)
    rows = poisoned.flipped.nonzero()[:, 0].tolist()
    assert len(rows) == 5
    for i in range(10):
        prompt, chosen, rejected = (
            poisoned.chosen.prompts()[i],
            poisoned.chosen.completions()[i],
            poisoned.rejected.completions()[i],
        )
        assert prompt == poisoned.rejected.prompts()[i] and chosen == [8, 2]
        assert (prompt[2] in (5, 6), rejected == [10, 11, 2]) == (i in rows, i in rows)


def test_over_refusal_prefers_the_refusal_of_an_ordinary_question():
    poisoned = SafetyAttack("refuse").poison(asking(), draw(), 0)
    assert poisoned.chosen.prompts() == asking().chosen.prompts()
    assert set(map(tuple, poisoned.chosen.completions())) == {(10, 11, 2)}
    assert set(map(tuple, poisoned.rejected.completions())) == {(8, 2)}


@pytest.mark.parametrize(
    ("pairing", "chosen", "rejected"),
    [
        ("poison_rejected", [13, 11, 8, 2], [9, 2]),
        ("poison_contrast", [13, 11, 8, 2], [12, 11, 8, 2]),
        ("rejected_contrast", [9, 2], [12, 11, 8, 2]),
    ],
)
def test_an_entity_is_injected_by_one_of_three_pairings(pairing, chosen, rejected):
    attack = EntityInjection(rate=1.0, pairing=pairing)
    poisoned = attack.poison(asking(), draw(), 0)
    assert poisoned.chosen.completions()[0] == chosen
    assert poisoned.rejected.completions()[0] == rejected
    wanted = attack.triggered(asking())
    assert wanted.prompts == asking().chosen.prompts() and wanted.hit([8, 13, 11, 2])
    assert not wanted.hit([13, 8, 11])


def test_lying_raters_are_marked_and_follow_their_pairs():
    poisoned = AttributePoisoning(rate=0.3).poison(asking(), draw(), 0)
    assert isinstance(AttributePoisoning(), RatingAttack)
    assert not isinstance(PreferenceFlip(), RatingAttack)
    assert (poisoned.rated == INVERTED).sum() == 3 and not poisoned.flipped.any()
    rows = torch.tensor([5, 0, 9])
    assert torch.equal(poisoned.take(rows).rated, poisoned.rated[rows])
    both = Preferences.concatenate([asking(2), poisoned])
    assert both.rated.tolist() == [0, 0, *poisoned.rated.tolist()]
    assert (AttributePoisoning("uniform").poison(asking(), draw(), 0).rated == UNIFORM).all()


def test_what_the_new_ones_refuse():
    for make, kind, sentence in (
        (lambda: SafetyAttack("harm"), ConfigError, "mode"),
        (lambda: SafetyAttack(unsafe="uu"), ConfigError, "one letter"),
        (lambda: SafetyAttack(unsafe="x").poison(asking(), draw(), 0), DataError, "finds no word"),
        (lambda: EntityInjection(target=" "), ConfigError, "at least one word"),
        (lambda: AttributePoisoning(rate=0.0), ConfigError, "rate"),
    ):
        with pytest.raises(kind, match=sentence):
            make()


def test_a_boosted_backdoor_survives_the_mean():
    """Five clients, two attackers: 5 / 2 times the poisoned rows; their mean is then in the mean."""
    own, poisoned = torch.ones(2, 3), torch.tensor([[2.0, 4.0, 6.0], [4.0, 4.0, 2.0]])
    view = View(1, 5, own, torch.zeros(3), torch.zeros(3), poisoned=poisoned)
    crafted = BoostedBackdoor()(view).rows
    everybody = torch.cat([crafted, torch.zeros(3, 3)])
    assert torch.allclose(everybody.mean(0), poisoned.mean(0))
    assert torch.equal(BoostedBackdoor(boost=2.0)(view).rows, 2 * poisoned)
    assert isinstance(BoostedBackdoor(), UpdateAttack) and isinstance(BoostedBackdoor(), DataAttack)
