"""Interaction scripts: commands in a text file, and beside each the output it is known to have.

A script is blocks separated by blank lines: commands, then lines beginning with "> ", which are
the recorded output. `REWRITE=1 pytest tests/consensus/raft/test_scripts.py` records again.
"""

import shlex

from consensus.raft.confchange import ConfChange, Op, Transition, decode_conf
from consensus.raft.config import RaftConfig
from consensus.raft.core import Raft
from consensus.raft.messages import NONE, ConfState, Entry, EntryKind, HardState, Snapshot
from consensus.raft.storage import Durable, MemoryStorage
from tests.consensus.raft.bench import Fixed

OPS = {"add": Op.ADD_VOTER, "learn": Op.ADD_LEARNER, "remove": Op.REMOVE}


def run(text):
    """The script again, with the output it has now."""
    theatre, blocks = Theatre(), []
    for block in text.strip().split("\n\n"):
        lines = [line for line in block.splitlines() if not line.startswith(">")]
        output = []
        for line in lines:
            if not line.startswith("#"):
                output += theatre.obey(line)
        blocks.append("\n".join(lines + [f"> {line}".rstrip() for line in output]))
    return "\n\n".join(blocks) + "\n"


class Theatre:
    """Servers on a stage where nothing moves unless the script says so."""

    def __init__(self):
        self.cores, self.disks, self.wire, self.writing = {}, {}, [], {}

    def obey(self, line):
        words = shlex.split(line)
        options = dict(w.split("=", 1) for w in words[1:] if "=" in w)
        plain = [int(w) if w.lstrip("-").isdigit() else w for w in words[1:] if "=" not in w]
        return getattr(self, "do_" + words[0].replace("-", "_"))(*plain, **options) or []

    # ------------------------------------------------------------------ commands

    def do_add_nodes(self, *ids, voters="", learners="", terms="", commit="0", **knobs):
        """add-nodes 0 1 2 voters=0,1,2 terms=1,1,2 commit=2 pre_vote=false"""
        conf = ConfState(_ids(voters), (), _ids(learners))
        config = RaftConfig(**{key: _value(value) for key, value in knobs.items()})
        log = [Entry(t, i, EntryKind.NORMAL, b"") for i, t in enumerate(_ids(terms), 1)]
        for id in ids:
            hard = HardState(max(_ids(terms), default=0), NONE, int(commit))
            durable = Durable(hard, Snapshot(conf=conf), tuple(log))
            self.disks[id] = MemoryStorage(durable)
            self.cores[id] = Raft(id, config, durable, Fixed())
            self.writing[id] = []

    def do_campaign(self, id):
        self.cores[id].campaign()

    def do_tick(self, id, count=1):
        for _ in range(count):
            self.cores[id].tick()

    def do_propose(self, id, data):
        return [_proposed(self.cores[id].propose(str(data).encode()))]

    def do_change(self, id, *changes, transition="AUTO"):
        """change 0 add:3 remove:1 transition=EXPLICIT"""
        pairs = (change.split(":") for change in changes)
        change = ConfChange(
            tuple((OPS[op], int(server)) for op, server in pairs), Transition[transition]
        )
        return [_proposed(self.cores[id].propose_conf_change(change))]

    def do_transfer(self, id, target):
        self.cores[id].transfer_leadership(target)

    def do_forget_leader(self, id):
        self.cores[id].forget_leader()

    def do_read(self, id, context):
        if not self.cores[id].read_index(context.encode()):
            return ["no leader is known"]

    def do_compact(self, id):
        core = self.cores[id]
        snapshot = core.make_snapshot(b"state")
        self.disks[id].save(None, (), snapshot)
        core.compact(snapshot)

    def do_restart(self, id):
        self.cores[id] = Raft(id, self.cores[id].config, self.disks[id].load(), Fixed())
        self.writing[id] = []

    def do_ready(self, id):
        """Take one Ready: send what may go at once, leave the rest to `persist`."""
        core = self.cores[id]
        if not core.has_ready():
            return [f"{id}: nothing to do"]
        ready = core.ready()
        self.wire += ready.messages
        self.writing[id].append(ready)
        return self._ready(id, ready)

    def do_persist(self, id):
        """The oldest write of `id` is on the disk: send what waited for it, apply, report."""
        ready = self.writing[id].pop(0)
        self.disks[id].save(ready.hard_state, ready.entries, ready.snapshot)
        self.wire += ready.messages_after_persist
        self.cores[id].advance(ready.ack)

    def do_deliver(self, to, drop=""):
        """Deliver what is on the wire to `to`; drop=1,2 loses what comes from 1 and 2."""
        mine = [m for m in self.wire if m.to == to]
        self.wire = [m for m in self.wire if m.to != to]
        output = []
        for message in mine:
            lost = message.sender in _ids(drop)
            output.append(("lost " if lost else "") + _message(message))
            if not lost:
                self.cores[to].step(message)
        return output

    def do_hold(self, id):
        """Throw away what is on the wire to or from `id`."""
        gone = [m for m in self.wire if id in (m.sender, m.to)]
        self.wire = [m for m in self.wire if id not in (m.sender, m.to)]
        return ["lost " + _message(m) for m in gone]

    def do_stabilize(self, *ids):
        """Let these servers (all) work and talk until all is quiet; others' messages wait."""
        ids, output = ids or sorted(self.cores), []
        busy = True
        while busy:
            busy = False
            for id in ids:
                while self.cores[id].has_ready() or self.writing[id]:
                    busy = True
                    output += self.do_ready(id) if self.cores[id].has_ready() else []
                    while self.writing[id]:
                        self.do_persist(id)
            for id in ids:
                if any(m.to == id and m.sender in ids for m in self.wire):
                    busy = True
                    waiting = [m for m in self.wire if m.sender not in ids]
                    self.wire = [m for m in self.wire if m.sender in ids]
                    output += self.do_deliver(id)
                    self.wire = waiting + self.wire
        return output

    def do_status(self, *ids):
        return [self._status(id) for id in ids or sorted(self.cores)]

    def do_progress(self, id):
        return [
            f"{server}: {p.pace.name} match={p.match} next={p.next}"
            + (" paused" if p.is_paused() else "")
            for server, p in self.cores[id].tracker.progress.items()
        ]

    def do_log(self, id):
        log = self.cores[id].log
        head = [f"snapshot {log.offset}/{log.offset_term}"] if log.offset else []
        return head + [_entry(entry) for entry in log.entries]

    # ------------------------------------------------------------------ words

    def _status(self, id):
        core = self.cores[id]
        log = core.log
        return (
            f"{id}: {core.role.name} term={core.term} leader={core.leader} last={log.last}/"
            f"{log.last_term} commit={log.committed} applied={log.applied} {_conf(core.conf)}"
        )

    def _ready(self, id, ready):
        output = []
        if ready.soft_state is not None:
            output.append(f"{id}: {ready.soft_state.role.name} leader={ready.soft_state.leader}")
        if ready.hard_state is not None:
            hard = ready.hard_state
            output.append(f"{id}: write term={hard.term} vote={hard.vote} commit={hard.commit}")
        if ready.snapshot is not None:
            output.append(f"{id}: write snapshot {ready.snapshot.index}/{ready.snapshot.term}")
        if ready.entries:
            output.append(f"{id}: write {', '.join(map(_entry, ready.entries))}")
        if ready.committed_entries:
            output.append(f"{id}: apply {', '.join(map(_entry, ready.committed_entries))}")
        for state in ready.read_states:
            output.append(f"{id}: read {state.context.decode()} at {state.index}")
        return output


def _ids(text):
    return tuple(int(word) for word in text.split(",") if word)


def _value(text):
    return {"true": True, "false": False}.get(text, int(text) if text.isdigit() else text)


def _proposed(proposed):
    return proposed.status + (f": {proposed.reason}" if proposed.reason else "")


def _conf(conf):
    words = "voters=" + ",".join(map(str, conf.voters))
    for name in ("outgoing", "learners", "learners_next"):
        if getattr(conf, name):
            words += f" {name}=" + ",".join(map(str, getattr(conf, name)))
    return words


def _entry(entry):
    if entry.kind is EntryKind.CONFIG:
        return f"{entry.index}/{entry.term} [{_conf(decode_conf(entry.data))}]"
    return f"{entry.index}/{entry.term}" + (f" {entry.data.decode()}" if entry.data else "")


def _message(m):
    words = f"{m.sender}->{m.to} {m.kind.name} term={m.term} at={m.index}/{m.log_term}"
    words += f" commit={m.commit}" if m.commit else ""
    words += f" reject hint={m.reject_hint}" if m.reject else ""
    words += f" context={m.context.decode()}" if m.context else ""
    words += f" entries: {', '.join(map(_entry, m.entries))}" if m.entries else ""
    return words + (f" snapshot {m.snapshot.index}/{m.snapshot.term}" if m.snapshot else "")
