"""Small clusters in every state: the rules hold, broken ones are found, and the way is told."""

from collections import deque

import pytest

from consensus.raft import explored_server as servers
from consensus.raft import state
from consensus.raft.confchange import ConfChange, Op
from consensus.raft.explorer import Bounds, Explorer
from consensus.raft.storage import MemoryStorage
from fedalign.core.errors import ConfigError, IntegrityError
from tests.consensus.raft.test_mutations import (
    count_own_entries_at_once,
    cut_at_every_append,
)  # fmt: skip

REPLACE = ConfChange(((Op.REMOVE, 0), (Op.ADD_VOTER, 2)))
CLUSTERS = [
    Bounds(),
    Bounds(crashes=0, terms=3),
    Bounds(pre_vote=True),
    Bounds(voters=2, change=REPLACE),
]


@pytest.mark.parametrize("bounds", CLUSTERS, ids=["plain", "terms", "pre_vote", "change"])
def test_six_thousand_states(bounds):
    assert Explorer(bounds).explore(6_000).states >= 6_000


@pytest.mark.slow
def test_a_hundred_thousand_states():
    assert Explorer(Bounds()).explore(100_000).states >= 100_000


TINY = Bounds(servers=2, terms=1, entries=1, crashes=0, writes=1)


def test_a_space_that_ends_is_explored_to_its_end():
    """The same set as a search that computes every step anew and knows no shortcut."""
    found = Explorer(TINY).explore()
    assert found.complete
    assert found.states == len(_naive(TINY))


def _naive(bounds):
    """Breadth first over (servers, messages), nothing remembered but the states seen."""
    conf = Explorer(bounds)._conf
    start = tuple(servers.begin(id, conf, bounds.pre_vote) for id in range(bounds.servers))
    seen, queue = set(), deque([(start, frozenset())])
    seen.add((tuple(local.key() for local in start), frozenset()))
    while queue:
        locals_, wire = queue.popleft()
        for id, local in enumerate(locals_):
            steps = [(after, sent) for _, after, sent, _ in servers.moves(local, bounds)]
            if len(local.writing) < bounds.writes:
                steps += [servers.deliver(local, m) for m in wire if m.to == id]
            for after, sent in steps:
                sent = {m._replace(entries=tuple(m.entries)) for m in sent}
                cluster = (*locals_[:id], after, *locals_[id + 1 :])
                key = tuple(local.key() for local in cluster), wire | sent
                if key not in seen:
                    seen.add(key)
                    queue.append((cluster, wire | sent))
    return seen


def test_exploring_twice_finds_the_same():
    assert Explorer(Bounds()).explore(3_000) == Explorer(Bounds()).explore(3_000)


def forget_votes_in_a_crash(patch):
    save = MemoryStorage.save

    def careless(self, hard_state, entries, snapshot, sync=True):
        save(self, hard_state and hard_state._replace(vote=-1), entries, snapshot)

    patch.setattr(MemoryStorage, "save", careless)


def speak_before_the_disk(patch):
    patch.setattr(state, "WAITS_FOR_DISK", frozenset())


@pytest.mark.parametrize(
    ("bug", "bounds", "name"),
    [
        (count_own_entries_at_once, Bounds(crashes=0), "QuorumLogInv"),
        (speak_before_the_disk, Bounds(crashes=0), "QuorumLogInv"),
        (forget_votes_in_a_crash, Bounds(terms=1, entries=1), "OneVoteInv|ElectionSafetyInv"),
        pytest.param(cut_at_every_append, Bounds(crashes=0), "", marks=pytest.mark.slow),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_broken_rules_are_found_and_the_way_is_told(bug, bounds, name, monkeypatch):
    bug(monkeypatch)
    with pytest.raises(IntegrityError, match=rf"^({name}).*\nThe way there: \d times out; "):
        Explorer(bounds).explore(400_000)


@pytest.mark.parametrize(
    "wrong", [{"servers": 1}, {"servers": 6}, {"voters": 4}, {"terms": 0}, {"crashes": -1}]
)
def test_bounds_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError, match="got"):
        Bounds(**wrong)
