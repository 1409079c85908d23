"""Personal alignment: what stays at a client, who trains which cluster, who pools what."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from attacks.attribute_poisoning import AttributePoisoning
from defenses.fedavg import FedAvg as Mean
from defenses.krum import Krum
from defenses.zeno import Zeno
from experiments.workload_cell import divided
from fedalign.algorithms.centralised import Centralised
from fedalign.algorithms.cluster import Cluster
from fedalign.algorithms.fedavg import FedAvg
from fedalign.algorithms.local import Local
from fedalign.algorithms.personal import PersonalPart
from fedalign.algorithms.posthoc_realign import PosthocRealign
from fedalign.algorithms.steer import Steer
from fedalign.core.contracts import Aggregate, Context
from fedalign.core.errors import ConfigError
from fedalign.core.personal import LOCAL
from fedalign.core.vectors import Layout
from fedalign.data.annotator import Annotator
from fedalign.data.graded_preferences import split_of
from fedalign.federation.per_cluster import PerCluster
from fedalign.models.houlsby import Houlsby
from fedalign.models.low_rank import LowRank
from fedalign.models.with_local import WithLocal
from fedalign.training.lesson import imitate
from fedalign.training.realigning import realigning
from fedalign.workloads.client_pairs import wanted
from fedalign.workloads.ratings import rated
from tests.tiny_alignment import alignment, tasks

OPPOSED = Annotator(heterogeneity=1.0)


def world(part=None, **knobs):
    adapter = LowRank(rank=2)
    adapter = adapter if part is None else WithLocal(adapter, part)
    return alignment(adapter=adapter, annotator=OPPOSED, local_evaluation=6, **knobs)


def evaluations(workload, clients, vector):
    return [replace(t, step="evaluate") for t in tasks(workload, clients, vector=vector)]


@pytest.mark.parametrize("part", ["head", "adapter"])
def test_a_local_part_is_trained_kept_and_never_sent(part):
    """Rows hold the shared tensors alone; two rounds go on from what the client kept."""
    inner, algorithm = world(part), PersonalPart(part=part)
    outer = divided(inner, algorithm)
    names = [p.name for p in outer.layout.parts]
    assert names and not any(LOCAL in name for name in names)
    local = inner.layout.size - outer.layout.size
    assert local == (96 * 32 if part == "head" else outer.layout.size)
    asked = tasks(outer, [0, 1])
    updates, kept = algorithm.client_step(outer, asked, [{}, {}])
    assert updates.rows.shape == (2, outer.layout.size) and updates.rows.any()
    assert kept[0]["kept"].shape == (local,) and not torch.equal(kept[0]["kept"], kept[1]["kept"])
    again, _ = algorithm.client_step(outer, asked, kept)
    assert not torch.equal(again.rows, updates.rows)
    judged = algorithm.client_judge(outer, evaluations(outer, [0], outer.initial()), kept[:1])
    fresh = algorithm.client_judge(outer, evaluations(outer, [0], outer.initial()), [{}])
    assert judged.rows.shape == (1, 0) and fresh.metrics["gold_gain_local"] == 0
    assert judged.metrics["gold_reward_local"] != fresh.metrics["gold_reward_local"]


@pytest.mark.parametrize("part", ["head", "adapter"])
def test_a_local_part_is_off_in_the_reference_and_starts_without_effect(part):
    inner = world(part)
    module, start = inner._flat.module, inner.initial()
    tokens = torch.randint(0, 80, (2, 7), generator=torch.Generator().manual_seed(0))

    @torch.no_grad()
    def logits():
        return module(input_ids=tokens, use_cache=False).logits

    with module.disable_adapter():
        base = logits()
    assert torch.allclose(logits(), base, atol=1e-6)
    inner._flat.load(start + 0.1 * torch.randn(len(start)))
    assert not torch.allclose(logits(), base, atol=1e-3)
    with module.disable_adapter():
        assert torch.equal(logits(), base)


def test_local_clients_go_on_from_their_own_model_and_the_server_has_the_mean():
    workload, algorithm = world(), Local()
    first, kept = algorithm.client_step(workload, tasks(workload, [0, 1]), [{}, {}])
    mean = workload.initial() + first.rows.mean(0)
    second, _ = algorithm.client_step(workload, tasks(workload, [0, 1], round=2, vector=mean), kept)
    alone = workload.train(tasks(workload, [0], round=2, vector=kept[0]["model"]), [{}])[0].rows[0]
    assert torch.allclose(mean + second.rows[0], kept[0]["model"] + alone, atol=1e-6)


def test_centralised_is_one_training_on_everybodys_pairs():
    """A batch of 8 x 3 pairs of three clients; every row is that update."""
    workload, algorithm = world(), Centralised()
    asked = algorithm.assign(tasks(workload, [0, 1, 2]), None, {})
    updates, _ = algorithm.client_step(workload, asked, [{}] * 3)
    assert torch.equal(updates.rows[0], updates.rows[2])
    parts, _ = algorithm.client_step(workload, asked[1:], [{}] * 2)  # another block of the round
    assert torch.equal(parts.rows[0], updates.rows[0])
    key, pairs = workload._pairs(asked[0])
    assert len(pairs) == sum(info.samples for info in workload.clients) and key[0][2] == (2, False)
    alone, _ = FedAvg().client_step(workload, tasks(workload, [0]), [{}])
    assert not torch.equal(alone.rows[0], updates.rows[0])


def test_steering_asks_with_the_clients_own_scores():
    assert wanted((0.3, 0.74, 0.46, -0.6, 0.4))["verbosity"] == 4
    workload, algorithm = world(), Steer()
    asked = algorithm.assign(tasks(workload, [0, 1]), None, {})
    texts = [
        [workload._task.data.world.decode(p) for p in workload._pairs(t)[1].chosen.prompts()]
        for t in asked
    ]
    assert all("complexity:4 verbosity:2 <asst>" in text for text in texts[0])  # terse expert
    assert all("complexity:0 verbosity:4 <asst>" in text for text in texts[1])  # chatty layman
    steered, _ = algorithm.client_step(workload, asked, [{}] * 2)
    assert steered.metrics["train_loss"].isfinite().all() and steered.rows.any()


# ------------------------------------------------------------------ clusters


def test_clusters_are_split_by_angles_then_chosen_by_loss():
    """Round 1: everybody answers for every model. Later: the lowest loss on one's own data; the
    model that client 1 trained suits it better than one trained against it."""
    single, algorithm = world(), Cluster()
    workload = divided(single, algorithm)
    assert workload.layout.parts[0].name.startswith("cluster/0/")
    assert workload.layout.size == 2 * single.layout.size
    first, _ = algorithm.client_step(workload, tasks(workload, [0, 1]), [{}] * 2)
    size = single.layout.size
    assert first.mask.all() and torch.equal(first.rows[:, :size], first.rows[:, size:])
    row = single.train(tasks(single, [1], steps=6), [{}])[0].rows[0]
    start = single.initial()
    vector = torch.cat([start - row, start + row])
    second, _ = algorithm.client_step(workload, tasks(workload, [1], 2, 2, vector), [{}])
    assert second.metrics["cluster"].tolist() == [1]
    assert not second.rows[0, :size].any() and second.rows[0, size:].any()


def test_first_updates_of_two_directions_found_two_clusters():
    """Angles of 10 and 170 degrees, whatever the lengths: clients 0, 2 and 1, 3."""
    half = torch.tensor([[1.0, 0.1], [-5.0, 0.1], [3.0, -0.2], [-1.0, 0.2]])
    layout = Layout.of({"cluster/0/w": (2,), "cluster/1/w": (2,)})
    context = Context(
        layout=layout, mask=torch.ones(4, 2).bool(), weights=torch.ones(4).double(),
        model=torch.zeros(4),
    )  # fmt: skip
    found = PerCluster(Mean())(half.repeat(1, 2), context)
    wanted = [*half[[0, 2]].mean(0).tolist(), *half[[1, 3]].mean(0).tolist()]
    assert found.vector.tolist() == pytest.approx(wanted)


def test_the_rule_meets_the_members_of_each_cluster_alone():
    """Two clusters of one value: members {0, 1} with 1 and 3, {2} with 10: means 2 and 10. Zeros of
    strangers would give 4/3 and 10/3."""
    layout = Layout.of({"cluster/0/w": (1,), "cluster/1/w": (1,)})
    updates = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 10.0]])
    context = Context(
        layout=layout, mask=updates != 0, weights=torch.ones(3).double(), model=torch.zeros(2)
    )
    found = PerCluster(Mean())(updates, context)
    assert found.vector.tolist() == [2.0, 10.0] and found.accepted.all()
    assert (found.coefficients @ updates.double()).tolist() == [2.0, 10.0]
    empty = PerCluster(Mean())(updates[:2], context.rows(torch.tensor([0, 1])))
    assert empty.vector.tolist() == [2.0, 0.0] and not empty.skipped
    small = PerCluster(Krum())(updates, replace(context, byzantine_count=0))
    assert small.skipped  # three rows each are needed


def test_refusals():
    for make, sentence in (
        (lambda: PersonalPart(part="tail"), "head or adapter"),
        (lambda: Cluster(count=1), "2 .. 9"),
        (lambda: PerCluster(Zeno()), "evaluates whole models"),
        (lambda: divided(world(), type("All", (FedAvg,), {"shared": lambda s, n: False})()), "nothing"),
        (lambda: WithLocal(Houlsby(), "adapter").wrap(None), "needs peft=lora"),
        (lambda: WithLocal(LowRank(words=(3,)), "head").wrap(None), "an adapter that is alone"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=sentence):
            make()


# ------------------------------------------------------------------ realignment


def test_realignment_learns_refusals_and_ordinary_pairs_one_to_one():
    workload = world()
    task = replace(tasks(workload, [-1])[0], extra={"realign": torch.ones(1)})
    _, pairs = workload._pairs(task)
    words = workload._task.data.world
    own = len(workload._held[-1, False])
    prompts = [words.decode(p) for p in pairs.chosen.prompts()]
    answers = [words.decode(a) for a in pairs.chosen.completions()]
    refused = [" u" in prompt for prompt in prompts]
    assert not any(refused[:own]) and all(refused[own:]) and len(refused) > 1.5 * own
    assert set(answers[own:]) == {"cannot . <eos>"}
    assert all(split_of(p) != "eval" for p in pairs.chosen.prompts()[own:])


def realigned(workload, anchor, ordinary=None, sure=1.0):
    """(step, rows that refuse, rows that do not) of the server, from a model that is not the base."""
    torch.manual_seed(0)
    model = workload.initial() + 0.05 * torch.randn(workload.layout.size)
    task = replace(tasks(workload, [-1], vector=model)[0], extra={"realign": torch.ones(1)})
    _, pairs = workload._pairs(task)
    own = workload._pairs.ordinary(task)
    workload._flat.load(model)
    workload._flat.gradient.zero_()
    lesson = workload._lesson(task, pairs, model)
    step = realigning(lesson, own if ordinary is None else ordinary, anchor, sure)
    return step, torch.arange(own, len(pairs)), torch.arange(own), lesson


def test_refusals_have_the_gradient_of_cross_entropy_and_the_merged_model_that_of_nothing():
    workload = world()
    step, refused, plain, lesson = realigned(workload, 1.0)
    assert step(0, torch.cat([plain[:4], refused]), {}).metrics == {
        "realigned": pytest.approx(lesson_loss(lesson, refused)),
        "moved": pytest.approx(0.0, abs=1e-6),
    }
    found = gradient(workload, lambda: step(0, torch.cat([plain[:4], refused]), {}))
    plainly = gradient(workload, lambda: imitate(lesson, lesson.pairs.chosen.take(refused)))
    assert found.norm() > 1e-2 and torch.allclose(found, plainly, atol=1e-5)


def gradient(workload, fill):
    workload._flat.gradient.zero_()
    fill()
    return workload._flat.gradient.clone()


def lesson_loss(lesson, rows):
    return float(imitate(lesson, lesson.pairs.chosen.take(rows)).value.detach())


def test_away_from_the_merged_model_the_anchor_pulls_back_by_its_weight():
    """g(anchor) = g(refusals) + anchor * g(divergence)."""
    workload, found = world(), {}
    for anchor in (0.0, 1.0, 3.0):
        step, refused, plain, _ = realigned(workload, anchor)
        workload._flat.load(workload.initial())
        both = torch.cat([plain, refused])
        found[anchor] = gradient(workload, lambda step=step, both=both: step(0, both, {}))
    pull = found[1.0] - found[0.0]
    assert pull.norm() > 1e-3
    assert torch.allclose(found[3.0] - found[0.0], 3 * pull, atol=1e-4)


def test_a_model_that_refuses_surely_is_left_as_it_is():
    """Sure enough: no gradient at all, so that not even Adam moves."""
    workload = world()
    step, refused, plain, _ = realigned(workload, 1.0, sure=1e-30)
    assert step(0, torch.cat([plain, refused]), {}).metrics == {"realigned": 0.0, "moved": 0.0}
    assert not workload._flat.gradient.any()
    model, zero = workload.initial(), torch.zeros(workload.layout.size)
    nothing = Aggregate(zero, torch.ones(1, dtype=torch.bool))
    same, _ = PosthocRealign(sure=1e-30).server_step(workload, model, nothing, {})
    assert torch.equal(same, model)


def test_without_anything_to_refuse_the_servers_own_answers_are_imitated():
    step, _, plain, lesson = realigned(world(), 1.0, ordinary=0)
    metrics = step(0, plain, {}).metrics
    assert metrics["realigned"] == pytest.approx(lesson_loss(lesson, plain)) and len(plain) > 5
    assert metrics["realigned"] > 0.1 and metrics["moved"] == pytest.approx(0.0, abs=1e-6)


def test_realignment_comes_every_second_round():
    workload = world()
    model = workload.initial()
    algorithm, zero = PosthocRealign(steps=2, every=2), torch.zeros_like(model)
    nothing = Aggregate(zero, torch.ones(1, dtype=torch.bool))
    first, memory = algorithm.server_step(workload, model, nothing, {})
    second, memory = algorithm.server_step(workload, first, nothing, memory)
    assert torch.equal(first, model) and not torch.equal(second, model)
    assert memory["merges"] == 2
    with pytest.raises(ConfigError, match="anchor must be 0 or more"):
        PosthocRealign(anchor=-1.0)
    with pytest.raises(ConfigError, match="sure must lie in"):
        PosthocRealign(sure=0.0)


def test_lying_raters_say_the_opposite():
    """4 - score without the raters' own errors."""
    workload = world(rating_noise=0.0)
    data, pairs, seeds = workload._task.data, workload._held[0, False], workload._seeds
    honest = rated(data, pairs, seeds, 0, True)
    lying = AttributePoisoning().poison(pairs, np.random.default_rng(0), 0)
    assert torch.equal(rated(data, lying, seeds, 0, True), 4 - honest)
    assert torch.equal(rated(data, lying, seeds, 0, False), honest)
    anything = AttributePoisoning("uniform").poison(pairs, np.random.default_rng(0), 0)
    said = rated(data, anything, seeds, 0, True)
    assert said.min() == 0 and said.max() == 4 and abs(float(said.mean()) - 2) < 0.4
