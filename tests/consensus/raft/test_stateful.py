"""A cluster in hypothesis' hands: any mix of calls, crashes and cuts; invariants after every event."""

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)  # fmt: skip

from consensus.network.links import Constant, Link, LogNormal
from consensus.raft.cluster import Cluster, Setting
from consensus.raft.confchange import ConfChange, Op, Transition
from consensus.raft.config import RaftConfig
from consensus.raft.history import violation
from fedalign.core.errors import IntegrityError
from tests.consensus.raft.test_mutations import cut_at_every_append, promise_before_the_disk_has_it

SERVERS = st.integers(0, 3)


class RaftMachine(RuleBasedStateMachine):
    """Hypothesis draws the faults; the cluster itself raises what breaks an invariant."""

    @initialize(
        seed=st.integers(0, 1000),
        servers=st.sampled_from([3, 3, 4, 2, 1]),
        pre_vote=st.booleans(),
        check_quorum=st.booleans(),
        loss=st.sampled_from([0.0, 0.1]),
        snapshot_every=st.sampled_from([0, 3]),
        disk_us=st.sampled_from([0, 5_000]),
    )
    def begin(self, seed, servers, pre_vote, check_quorum, loss, snapshot_every, disk_us):
        config = RaftConfig(
            election_tick=4, pre_vote=pre_vote, check_quorum=check_quorum, keep_tail=1
        )
        self.cluster = Cluster(
            Setting(
                seed, servers, config, Link(LogNormal(5_000, 0.8), loss=loss, duplicate=0.05),
                Constant(disk_us), snapshot_every=snapshot_every,
            )
        )  # fmt: skip
        self.count = 0
        self.cluster.run(1_000_000)

    def pick(self, server):
        return sorted(self.cluster.hosts)[server % len(self.cluster.hosts)]

    @rule(ticks=st.sampled_from([1, 5, 20, 40]))
    def time_passes(self, ticks):
        self.cluster.run(ticks * 50_000)

    @rule(server=SERVERS, key=st.sampled_from("ab"), ticks=st.integers(0, 3))
    def append(self, server, key, ticks):
        for id in (self.pick(server), getattr(self.cluster.leader(), "id", 0)):
            self.count += 1
            self.cluster.append(id, key, str(self.count))
        self.cluster.run(ticks * 20_000)

    @rule(server=SERVERS, key=st.sampled_from("ab"))
    def read(self, server, key):
        self.cluster.read(self.pick(server), key)

    @rule(server=SERVERS, ticks=st.integers(0, 20))
    def crash(self, server, ticks):
        self.cluster.crash(self.pick(server))
        self.cluster.run(ticks * 20_000)

    @rule()
    def restart(self):
        for server in sorted(self.cluster.hosts):
            self.cluster.start(server)

    @rule()
    def power_cut(self):
        for server in sorted(self.cluster.hosts):
            self.cluster.crash(server)
            self.cluster.start(server)

    @rule(side=st.sets(SERVERS))
    def partition(self, side):
        ids = sorted(self.cluster.hosts)
        self.cluster.network.partition(
            [[i for i in ids if i in side], [i for i in ids if i not in side]]
        )
        self.cluster.run(200_000)

    @rule(sender=SERVERS, to=SERVERS)
    def cut_one_way(self, sender, to):
        self.cluster.network.block(self.pick(sender), self.pick(to))

    @rule()
    def heal(self):
        self.cluster.network.heal()

    @rule(server=SERVERS)
    def transfer(self, server):
        self.cluster.transfer(self.pick(server))

    @rule(server=SERVERS, op=st.sampled_from(Op), joint=st.booleans())
    def change(self, server, op, joint):
        if server not in self.cluster.hosts:
            self.cluster.start(server)
        how = Transition.IMPLICIT if joint else Transition.AUTO
        self.cluster.change(ConfChange(((op, server),), how))

    @rule(server=SERVERS)
    def disk_fails(self, server):
        self.cluster.hosts[self.pick(server)].disk.fail_sync = True

    @invariant()
    def histories_are_linearizable(self):
        if not hasattr(self, "cluster"):
            return
        hosts = [host for host in self.cluster.hosts.values() if host.alive]
        committed = max((host.machine.index for host in hosts), default=0)
        best = next((h for h in hosts if h.machine.index == committed), None)
        if best is not None and committed + 1 == len(self.cluster.invariants.committed):
            assert violation(self.cluster.operations, best.machine.lists) == ""

    def teardown(self):
        if hasattr(self, "cluster"):
            alive = [host.core for host in self.cluster.hosts.values() if host.alive]
            self.cluster.invariants.everything(alive)


SETTINGS = settings(
    max_examples=35, stateful_step_count=40, deadline=None, derandomize=True, database=None,
    phases=[Phase.generate],
)  # fmt: skip


def test_any_mix_of_calls_and_faults_keeps_the_rules():
    run_state_machine_as_test(RaftMachine, settings=SETTINGS)


@pytest.mark.parametrize(
    "bug", [cut_at_every_append, promise_before_the_disk_has_it], ids=lambda bug: bug.__name__
)
def test_a_broken_rule_is_noticed(bug, monkeypatch):
    bug(monkeypatch)
    with pytest.raises(IntegrityError, match="Inv"):
        run_state_machine_as_test(RaftMachine, settings=SETTINGS)
