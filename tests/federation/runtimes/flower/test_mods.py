"""Our attacks as client mods: the members' rows and no others, the same as in our own round."""

import numpy as np
import pytest
import torch

pytest.importorskip("flwr", reason="Flower is absent: pip install 'flwr>=1.41,<1.43'")

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from attacks.free_riding import FreeRiding
from attacks.gaussian import Gaussian
from attacks.label_flip import LabelFlip
from attacks.min_max import MinMax
from attacks.sign_flip import SignFlip
from fedalign.core.errors import ConfigError
from fedalign.core.threat import Crafted, Knowledge
from fedalign.federation.runtimes.flower.apps import LocalGrid
from fedalign.federation.runtimes.flower.mods import Malicious

NODES = 4


def app(mod):
    """Clients that add 1 + their number to every value; evaluation answers the model itself."""
    made = ClientApp(mods=[mod])

    def answer(message, context, step):
        model = message.content["arrays"]["w"].numpy()
        content = {"arrays": ArrayRecord({"w": Array((model + step).astype(np.float32))}),
                   "metrics": MetricRecord({"num-examples": 1})}  # fmt: skip
        return Message(RecordDict(content), reply_to=message)

    @made.train()
    def train(message, context):
        return answer(message, context, 1 + context.node_config["partition-id"])

    @made.evaluate()
    def evaluate(message, context):
        return answer(message, context, 0)

    return made


def rounds(grid, models, kind="train"):
    """What nodes 0 .. NODES-1 send, minus what they were sent, per round."""
    told = []
    for round, model in enumerate(models, start=1):
        content = RecordDict({
            "arrays": ArrayRecord({"w": Array(np.full(3, model, np.float32))}),
            "config": ConfigRecord({"server-round": round}),
        })  # fmt: skip
        asked = [Message(content, node + 1, kind) for node in range(NODES)]
        replies = {m.metadata.src_node_id: m for m in grid.send_and_receive(asked)}
        rows = [replies[node + 1].content["arrays"]["w"].numpy() for node in range(NODES)]
        told.append(np.stack(rows) - model)
    return told


def test_members_send_the_honest_direction_backwards_and_nobody_else_does():
    """Members 1 and 3 trained +2 and +4, scale 3: they send -6 and -12."""
    grid = LocalGrid(app(Malicious(SignFlip(scale=3.0), members={1, 3})), NODES)
    (rows,) = rounds(grid, [0.5])
    assert rows[:, 0] == pytest.approx([1, -6, 3, -12])


def test_it_waits_for_its_round_and_leaves_evaluation_alone():
    grid = LocalGrid(app(Malicious(SignFlip(scale=1.0), members={0}, start=2)), NODES)
    first, second = rounds(grid, [0.0, 1.0])
    assert first[0, 0] == 1 and second[0, 0] == -1
    assert (rounds(grid, [1.0], "evaluate")[0] == 0).all()


def test_views_and_memory_are_those_of_our_own_round():
    """Per client: its own row alone, the model of now, before and at the start, its own memory."""
    seen = []

    class Spy:
        knowledge = Knowledge.OWN

        def __call__(self, view):
            seen.append(view)
            past = view.memory.get("models", [])
            return Crafted(view.own, {"models": [*past, view.model], "count": len(past) + 1})

    rounds(LocalGrid(app(Malicious(Spy(), members={2})), NODES), [0.5, 1.5, 2.5])
    assert [view.round for view in seen] == [1, 2, 3]
    assert all(v.own.tolist() == [[3.0] * 3] and v.clients == NODES for v in seen)
    assert all(v.benign is None and v.rule is None and v.context is None for v in seen)
    assert [v.past if v.past is None else v.past[0].item() for v in seen] == [None, 0.5, 1.5]
    assert [v.initial[0].item() for v in seen] == [0.5] * 3
    assert seen[2].memory["count"] == 2
    assert [m[0].item() for m in seen[2].memory["models"]] == [0.5, 1.5]


def test_randomness_is_addressed_by_round_and_client():
    def played(seed):
        mod = Malicious(Gaussian(), members={0, 1}, seed=seed)
        return rounds(LocalGrid(app(mod), NODES), [0.0, 0.0])

    (a, b), (c, _), (d, _) = played(0), played(0), played(1)
    assert (a == c).all()
    assert all(not np.allclose(x, y) for x, y in ((a[0], a[1]), (a[0], b[0]), (a[0], d[0])))


@pytest.mark.parametrize("attack", [FreeRiding(), SignFlip()])
def test_the_numbers_are_those_of_the_attack_itself(attack):
    rows = rounds(LocalGrid(app(Malicious(attack, members={1})), NODES), [0.0])[0]
    from fedalign.core.threat import View

    view = View(1, NODES, torch.full((1, 3), 2.0), torch.zeros(3), torch.zeros(3))
    np.testing.assert_allclose(rows[1], attack(view).rows[0].numpy(), atol=1e-7)


def test_an_attack_that_sees_others_or_poisons_data_is_refused_with_a_way_out():
    with pytest.raises(ConfigError, match="MinMax cannot run inside a client"):
        Malicious(MinMax(), members={0})
    with pytest.raises(ConfigError, match=r"LabelFlip poisons data, .* poison\(dataset, rng"):
        Malicious(LabelFlip(), members={0})
