"""The black-box server: frequencies, audit, fallback, and the game behind minimax."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from defenses.dynamic_server import DynamicServer
from fedalign.core.contracts import Aggregate, Context, Defense
from fedalign.core.errors import ConfigError, ToleranceError
from tests.defenses.small_rules import Count, Mean, Middle

ROWS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])


@dataclass(frozen=True)
class Answer(Defense):
    """Always the same vector."""

    vector: tuple[float, ...]
    asks: int = 1

    def minimum(self, byzantine_count: int) -> int:
        return self.asks + byzantine_count

    def __call__(self, updates: torch.Tensor, context: Context = Context()) -> Aggregate:
        return Aggregate(torch.tensor(self.vector), torch.ones(len(updates), dtype=torch.bool))


def frequencies(server: DynamicServer, draws: int, **more) -> np.ndarray:
    random, counts = np.random.default_rng(1), np.zeros(len(server.pool))
    for _ in range(draws):
        counts[server(ROWS, Context(rng=random, **more)).notes["drawn"]] += 1
    return counts / draws


def within_four_sigma(measured: np.ndarray, p: np.ndarray, draws: int) -> bool:
    return bool((np.abs(measured - p) <= 4 * np.sqrt(p * (1 - p) / draws) + 1e-12).all())


EAST, NORTH, WEST = Answer((1.0, 0.0)), Answer((0.6, 0.8)), Answer((-1.0, 0.0))


def test_uniform_frequencies():
    server = DynamicServer([EAST, NORTH, WEST])
    assert within_four_sigma(frequencies(server, 3000), np.full(3, 1 / 3), 3000)


def test_weighted_frequencies_follow_the_cosines():
    """Cosines with (1, 0): 1, 0.6, -1; below 0.1 counts as 0: p = 0.625, 0.375, 0."""
    server = DynamicServer([EAST, NORTH, WEST], mode="weighted")
    p = np.array([0.625, 0.375, 0])
    root = torch.tensor([2.0, 0.0])
    notes = server(ROWS, Context(root_update=root)).notes
    assert notes["probabilities"] == pytest.approx(p)
    assert within_four_sigma(frequencies(server, 1500, root_update=root), p, 1500)


def test_weighted_is_uniform_where_no_rule_agrees_with_the_root():
    server = DynamicServer([WEST, Answer((0.0, 1.0)), Answer((0.0, 0.0))], mode="weighted")
    notes = server(ROWS, Context(root_update=torch.tensor([1.0, 0.0]))).notes
    assert notes["probabilities"] == pytest.approx([1 / 3] * 3)
    zero = server(ROWS, Context(root_update=torch.zeros(2))).notes
    assert zero["probabilities"] == pytest.approx([1 / 3] * 3)


def test_matching_pennies():
    """Impact (0, 1; 1, 0): the value 1/2 is reached by a fair coin only."""
    server = DynamicServer([EAST, NORTH], mode="minimax", impact=[[0, 1], [1, 0]])
    assert server.minimax == pytest.approx((0.5, 0.5))
    assert within_four_sigma(frequencies(server, 1000), np.array([0.5, 0.5]), 1000)


def test_a_game_worked_by_hand():
    """Impact (4, 1; 0, 2): 4p + (1 - p) = 2 (1 - p) gives p = 1/5, value 8/5."""
    server = DynamicServer([EAST, NORTH], mode="minimax", impact=[[4, 1], [0, 2]])
    assert server.minimax == pytest.approx((0.2, 0.8))


games = st.integers(0, 10_000).map(
    lambda seed: np.random.default_rng(seed).uniform(
        -0.2, 1, size=np.random.default_rng(seed).integers(1, 6, size=2)
    )
)


@given(games)
def test_value_equals_the_attacker_s_value(impact):
    """min_p max_a sum_r I p = max_y min_r sum_a y I, the right side by its own linear program."""
    from scipy.optimize import linprog

    attacks, rules = impact.shape
    server = DynamicServer([Mean()] * rules, mode="minimax", impact=impact)
    ours = float((impact @ np.array(server.minimax)).max())
    dual = linprog(
        np.append(np.zeros(attacks), -1.0),
        A_ub=np.hstack([-impact.T, np.ones((rules, 1))]),
        b_ub=np.zeros(rules),
        A_eq=np.append(np.ones(attacks), 0.0)[None],
        b_eq=[1.0],
        bounds=[(0, None)] * attacks + [(None, None)],
    )
    assert ours == pytest.approx(-dual.fun, abs=1e-6)


@given(games, st.integers(0, 1000))
def test_the_chain_of_inequalities(impact, seed):
    """An attack fixed before the draw: max_a sum p I <= sum p max_a I <= max I; minimax is the least
    of the left sides."""
    p = np.random.default_rng(seed).dirichlet(np.ones(impact.shape[1]))
    fixed, adaptive, known = (impact @ p).max(), p @ impact.max(axis=0), impact.max()
    assert fixed <= adaptive + 1e-12 and adaptive <= known + 1e-12
    server = DynamicServer([Mean()] * impact.shape[1], mode="minimax", impact=impact)
    assert (impact @ np.array(server.minimax)).max() <= fixed + 1e-9


def test_the_same_generator_draws_the_same_rule_and_notes_prove_it():
    server = DynamicServer([EAST, NORTH, WEST])
    for seed in range(20):
        first = server(ROWS, Context(rng=np.random.default_rng(seed)))
        second = server(ROWS * 5, Context(rng=np.random.default_rng(seed)))
        assert first.notes == second.notes
        notes = first.notes
        assert notes["uniform_draw"] == np.random.default_rng(seed).random()
        drawn = int(
            np.searchsorted(np.cumsum(notes["probabilities"]), notes["uniform_draw"], "right")
        )
        assert notes["drawn"] == drawn and notes["rule"] == "Answer"
        assert first.vector.tolist() == pytest.approx(server.pool[drawn].vector)


def test_rules_that_do_not_fit_leave_their_share_to_the_others():
    """f = 1: the second asks for 4 of the 3 clients."""
    server = DynamicServer([EAST, Answer((0.6, 0.8), asks=3), WEST])
    p = frequencies(server, 600, byzantine_count=1)
    assert p[1] == 0 and within_four_sigma(p, np.array([0.5, 0, 0.5]), 600)
    own = DynamicServer(server.pool, byzantine_count=1)
    assert own(ROWS).notes["probabilities"] == [0.5, 0.0, 0.5]
    assert server(ROWS, Context(byzantine_count=0)).notes["probabilities"][1] > 0
    lone = DynamicServer([EAST, NORTH], mode="minimax", impact=[[0, 9]])  # p = (1, 0)
    assert lone(ROWS).notes["drawn"] == 0
    stuck = DynamicServer([Answer((1.0, 0.0), asks=9), NORTH], mode="minimax", impact=[[0, 9]])
    assert stuck(ROWS).notes["probabilities"] == [0.0, 1.0]
    with pytest.raises(
        ToleranceError, match="DynamicServer with f=4 needs at least 5 clients, got 3"
    ):
        server(ROWS, Context(byzantine_count=4))


def test_memories_lie_under_the_index_of_their_rule():
    server = DynamicServer([Count(), Count(), Mean()])
    context, runs = Context(rng=np.random.default_rng(0)), np.zeros(3, dtype=int)
    for _ in range(30):
        result = server(ROWS, context)
        runs[result.notes["drawn"]] += 1
        context = Context(rng=context.rng, memory=result.memory)
    assert [context.memory[str(i)].get("runs", 0) for i in (0, 1)] == runs[:2].tolist()
    weighted = DynamicServer([Count(), Count()], mode="weighted")
    both = weighted(ROWS, Context(root_update=torch.ones(2)))
    assert both.memory == {"0": {"runs": 1}, "1": {"runs": 1}}  # all rules ran


def test_facts_and_messages():
    server = DynamicServer([Mean(), Middle()], mode="weighted")
    assert server.needs == {"root_update"} and not server.linear and server.space == "update"
    assert DynamicServer([Mean()]).needs == frozenset() and DynamicServer([Mean()]).linear
    assert DynamicServer([Answer((1.0,), 5), Answer((1.0,), 2)]).minimum(1) == 3
    with pytest.raises(ConfigError, match="got a context without it"):
        server(ROWS)
    with pytest.raises(ConfigError, match="needs impact, got null"):
        DynamicServer([Mean()], mode="minimax")
    with pytest.raises(ConfigError, match="each of the 2 rules of the pool, got rows of"):
        DynamicServer([Mean(), Mean()], mode="minimax", impact=[[1.0]])
    with pytest.raises(ConfigError, match="pool is empty"):
        DynamicServer([])
    with pytest.raises(ConfigError, match="uniform, weighted, minimax; got 'best'"):
        DynamicServer([Mean()], mode="best")
    with pytest.raises(ConfigError, match="floor is a cosine"):
        DynamicServer([Mean()], floor=2)
