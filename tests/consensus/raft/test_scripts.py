"""Whole conversations, word by word, as text files; REWRITE=1 records them again."""

import os
from pathlib import Path

import pytest

from tests.consensus.raft.interaction import run

SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script(path):
    text = path.read_text()
    now = run(text)
    if os.environ.get("REWRITE"):
        path.write_text(now)
    assert now == path.read_text()


def test_the_promised_conversations_are_there():
    assert {path.stem for path in SCRIPTS} >= {
        "prevote_with_lease", "check_quorum", "lagging_commit", "slow_follower_after_compaction",
        "snapshot_superseded_by_append", "append_aba_race", "joint_add_remove",
        "joint_replace_leader", "leadership_transfer", "learner", "forget_leader",
        "removed_leader_with_longer_log",
    }  # fmt: skip
