"""Attacks on data: labels, triggers, and the rows scaled afterwards."""

import numpy as np
import pytest
import torch

from attacks._trigger import Trigger
from attacks.dba import Dba
from attacks.faker_backdoor import FakerBackdoor, _carriers
from attacks.label_flip import LabelFlip
from attacks.model_replacement import ModelReplacement
from attacks.sybil import Sybil
from fedalign.core.contracts import Aggregate, DataAttack, Dataset, UpdateAttack
from fedalign.core.errors import ConfigError
from tests.attacks.views import crowd, rows, view


def flat(count=200, features=6, classes=10):
    labels = torch.arange(count) % classes
    return Dataset(torch.zeros(count, features), labels, classes)


def images(count=40, channels=1, side=5, classes=4):
    labels = torch.arange(count) % classes
    return Dataset(torch.zeros(count, channels, side, side), labels, classes)


def draw():
    return np.random.default_rng(0)


# ------------------------------------------------------------------ label flip


@pytest.mark.parametrize("mode,first", [("reverse", [9, 8, 7]), ("shift", [1, 2, 3])])
def test_labels_by_hand(mode, first):
    """Labels 0, 1, 2 of ten classes: reverse 9 - y, shift y + 1 mod 10."""
    poisoned = LabelFlip(mode).poison(flat(), draw(), 0)
    assert poisoned.labels[:3].tolist() == first
    assert LabelFlip("shift").poison(flat(), draw(), 0).labels[9] == 0
    assert torch.equal(poisoned.inputs, flat().inputs)


def test_targeted_touches_its_source_only_and_reports_it():
    attack = LabelFlip("targeted", source=3, target=7)
    poisoned = attack.poison(flat(), draw(), 0)
    changed = poisoned.labels != flat().labels
    assert torch.equal(changed, flat().labels == 3) and (poisoned.labels[changed] == 7).all()
    held = attack.triggered(flat())
    assert len(held) == 20 and (held.labels == 7).all()
    assert LabelFlip().triggered(flat()) is None


def test_random_labels_are_always_wrong_and_cover_all_classes():
    before = flat(2000)
    poisoned = LabelFlip("random").poison(before, draw(), 0)
    assert (poisoned.labels != before.labels).all()
    assert set(poisoned.labels.tolist()) == set(range(10))


def test_rate_flips_exactly_its_share_and_leaves_the_input_alone():
    before = flat()
    poisoned = LabelFlip("shift", rate=0.25).poison(before, draw(), 0)
    assert int((poisoned.labels != before.labels).sum()) == 50
    assert torch.equal(before.labels, flat().labels)
    again = LabelFlip("shift", rate=0.25).poison(before, draw(), 0)
    assert torch.equal(poisoned.labels, again.labels)


def test_label_flip_is_a_data_attack_only():
    assert isinstance(LabelFlip(), DataAttack) and not isinstance(LabelFlip(), UpdateAttack)
    for attack in (Dba(), ModelReplacement(), Sybil(), FakerBackdoor()):
        assert isinstance(attack, DataAttack) and isinstance(attack, UpdateAttack)


def test_label_flip_refusals():
    with pytest.raises(ConfigError, match=r"LabelFlip.rate is 0; use a number in \(0, 1\]"):
        LabelFlip(rate=0)
    with pytest.raises(ConfigError, match=r"LabelFlip.mode is 'swap'"):
        LabelFlip("swap")
    with pytest.raises(ConfigError, match=r"class 0 to 12, but the data has 10 classes"):
        LabelFlip("targeted", target=12).poison(flat(), draw(), 0)


# ------------------------------------------------------------------ triggers


def test_a_pixel_trigger_lies_where_it_was_asked():
    attack = Trigger(target=2, height=2, width=3, row=1, column=2, rate=0.5, value=0.7)
    poisoned = attack.poison(images(channels=2), draw(), 0)
    stamped = (poisoned.inputs != 0).flatten(1).any(dim=1)
    assert int(stamped.sum()) == 20 and (poisoned.labels[stamped] == 2).all()
    one = poisoned.inputs[stamped][0]
    assert (one[:, 1:3, 2:5] == rows(0.7)).all() and int((one != 0).sum()) == 2 * 6


def test_flat_inputs_take_their_last_features():
    poisoned = Trigger(features=2, rate=1.0).poison(flat(), draw(), 0)
    assert (poisoned.inputs == rows([0, 0, 0, 0, 1, 1])).all() and not poisoned.labels.any()


def test_triggered_rows_are_other_classes_with_the_whole_trigger():
    held = Dba(target=1).triggered(images())
    assert len(held) == 30 and (held.labels == 1).all()
    assert (held.inputs[:, 0, :2, :2] == 1).all() and int((held.inputs != 0).sum()) == 30 * 4


@pytest.mark.parametrize("channels", [1, 3])
def test_dba_parts_are_disjoint_and_make_up_the_trigger(channels):
    """3 x 3 pixels in 4 parts: 3, 2, 2, 2 pixels, every channel of each; member 4 repeats 0."""
    attack = Dba(height=3, width=3, parts=4, rate=1.0, features=9)
    data = images(channels=channels)
    parts = [attack.poison(data, draw(), member).inputs[0] for member in range(5)]
    assert [int((part != 0).sum()) // channels for part in parts] == [3, 2, 2, 2, 3]
    assert torch.equal(sum(parts[:4]), attack.triggered(data).inputs[0])
    assert torch.equal(parts[4], parts[0])


def test_trigger_refusals():
    with pytest.raises(ConfigError, match=r"stamps 2 x 2 pixels at row 4.*an image is 5 x 5"):
        Dba(row=4).poison(images(), draw(), 0)
    with pytest.raises(ConfigError, match=r"features is 9, but an input has 6"):
        ModelReplacement(features=9).poison(flat(), draw(), 0)
    with pytest.raises(ConfigError, match=r"target is 4, but the data has 4 classes"):
        ModelReplacement(target=4).poison(images(), draw(), 0)
    with pytest.raises(ConfigError, match=r"Dba cannot split a trigger of 2 x 2 pixels"):
        Dba(parts=5)
    with pytest.raises(ConfigError, match=r"ModelReplacement.rate"):
        ModelReplacement(rate=1.5)
    with pytest.raises(ConfigError, match=r"train the controlled clients on"):
        Dba()(crowd())


# ------------------------------------------------------------------ scaled rows


def test_replacement_makes_the_average_the_backdoored_model():
    """n = 4, m = 1, honest zero updates: mean of (4 u, 0, 0, 0) is u, so w_g + u = w_b exactly."""
    update = rows([[0.3, -0.7]])
    given_view = view(torch.zeros(1, 2), torch.zeros(3, 2), poisoned=update)
    sent = ModelReplacement()(given_view).rows
    everybody = torch.cat([sent, given_view.benign])
    mean = Aggregate.mean(everybody, torch.ones(4, dtype=torch.bool)).vector
    assert torch.equal(mean, update[0])


def test_replacement_scales_or_constrains():
    poisoned = rows([[3.0, 4.0], [0.0, 0.0]])
    given_view = view(torch.zeros(2, 2), torch.zeros(2, 2), poisoned=poisoned)
    assert ModelReplacement(scale=10.0)(given_view).rows[0].tolist() == [30.0, 40.0]
    constrained = ModelReplacement(constrain=2.0)(given_view).rows
    assert constrained[0].tolist() == pytest.approx([1.2, 1.6]) and not constrained[1].any()
    assert poisoned[0].tolist() == [3.0, 4.0]


def test_dba_scales_its_poisoned_rows():
    poisoned = rows([[1.0, -1.0]])
    assert Dba(scale=100.0)(view(poisoned * 0, poisoned=poisoned)).rows.tolist() == [[100, -100]]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_sybils_repeat_one_row_or_hide_the_repetition(count):
    """Pairs get +zeta and -zeta: orthogonal to the row, 10 % of its norm, nothing in the sum."""
    poisoned = crowd(attackers=count, clients=20).own
    given_view = view(poisoned * 0, poisoned=poisoned)
    assert torch.equal(Sybil()(given_view).rows, poisoned[:1].repeat(count, 1))
    hidden = Sybil(disguise="decorrelated")(given_view).rows.double()
    row = poisoned[0].double()
    torch.testing.assert_close(hidden.sum(dim=0), count * row, atol=1e-5, rtol=1e-5)
    noise = (hidden - row)[: count // 2 * 2]
    assert (noise.norm(dim=1) / row.norm()).tolist() == pytest.approx([0.1] * len(noise), rel=1e-4)
    assert (noise @ row).abs().max() < 1e-4 if len(noise) else True


# ------------------------------------------------------------------ Faker around a backdoor


def test_carriers_are_the_fewest_groups_with_half_of_the_energy():
    """Energies 1, 5, 2, 2 of 10: the 5 alone is half; 60 % needs one of the twos, the first."""
    energies = np.array([1.0, 5.0, 2.0, 2.0])
    assert _carriers(energies, 0.5).tolist() == [False, True, False, False]
    assert _carriers(energies, 0.6).tolist() == [False, True, True, False]
    assert not _carriers(energies, 0.0).any() and _carriers(energies, 1.0).all()


@pytest.mark.parametrize("space", ["model", "update"])
@pytest.mark.parametrize("coverage", [0.0, 0.5, 1.0])
def test_the_backdoor_survives_and_the_budgets_hold(space, coverage):
    """At least `coverage` of |w_b - w|^2 is sent unchanged; norm and cosine stay in their band."""
    base = crowd(columns=640, space=space)
    bump = torch.zeros(640)
    bump[:60] = 0.3
    given_view = crowd(columns=640, space=space, poisoned=base.own + bump)
    attack = FakerBackdoor(coverage=coverage)
    sent = given_view.in_space(attack(given_view).rows).double()
    backdoored = given_view.in_space(given_view.poisoned).double()
    honest = given_view.in_space(given_view.own).double()
    kept = (sent - backdoored).abs() < 1e-4
    share = ((backdoored - honest).square() * kept).sum(dim=1)
    assert (share >= (coverage - 1e-3) * (backdoored - honest).square().sum(dim=1)).all()
    cosine = (sent * backdoored).sum(dim=1) / sent.norm(dim=1) / backdoored.norm(dim=1)
    assert (cosine >= 0.5 - 1e-5).all()
    if coverage < 1:
        assert (sent.norm(dim=1) <= honest.norm(dim=1)).all()
        assert (sent.norm(dim=1) >= 0.89 * honest.norm(dim=1)).all()
        assert not torch.allclose(sent, backdoored, atol=1e-3)


def test_faker_backdoor_refusals():
    with pytest.raises(ConfigError, match=r"FakerBackdoor.coverage"):
        FakerBackdoor(coverage=1.5)
    with pytest.raises(ConfigError, match=r"FakerBackdoor.a_max"):
        FakerBackdoor(a_max=1.0)
    with pytest.raises(ConfigError, match=r"groups=1000 on 300 parameters"):
        FakerBackdoor(groups=1000)(crowd(poisoned=crowd().own))
