"""Real models and real data in a federation: any causal LM from a folder, offline."""

import json
import multiprocessing
import socket
from dataclasses import replace
from math import log
from pathlib import Path

import pytest
import torch

from experiments import compose, federation_cell
from fedalign.algorithms.posthoc_realign import PosthocRealign
from fedalign.core.contracts import ROOT, Aggregate
from fedalign.core.errors import ConfigError
from fedalign.core.seeds import Seeds
from fedalign.data.gsm8k import Gsm8k
from fedalign.data.hh_rlhf import HhRlhf
from fedalign.data.partition.classes import Classes
from fedalign.data.partition.iid import Iid
from fedalign.data.preference_file import PreferenceFile
from fedalign.data.text_preferences import TextPreferences
from fedalign.models.causal_lm import CausalLm
from fedalign.models.low_rank import LowRank
from fedalign.objectives.dpo import Dpo
from fedalign.objectives.kto import Kto
from fedalign.objectives.rloo import Rloo
from fedalign.objectives.sft import Sft
from fedalign.objectives.spin import Spin
from fedalign.training.cache import Cache
from fedalign.training.sequences import logps
from fedalign.training.tuning import Tuning
from fedalign.workloads.alignment import Task
from fedalign.workloads.preference_holdings import Owners
from fedalign.workloads.text_alignment import TextAlignment
from tests import hub_models, tiny_alignment
from tests.tiny_alignment import tasks


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """Three models and a few data files."""
    folder = tmp_path_factory.mktemp("hub")
    for family in hub_models.FAMILIES:
        hub_models.saved(folder / family, family)
    hub_models.write(folder / "data/preference/hh_made.jsonl.gz", hub_models.dialogues(60))
    hub_models.write(
        folder / "data/gsm8k_train.jsonl",
        ({"question": f"{i} + 1?", "answer": f"One more.\n#### {i + 1}"} for i in range(60)),
    )
    return folder


def text(home, family="qwen2", objective=None, source=None, clients=2, partition=None, **knobs):
    model = knobs.pop("model", None) or CausalLm(str(home / family))
    more = {"root": str(home / "data"), "evaluation": 3, "answer_tokens": 6, "max_tokens": 96}
    own = {key: knobs[key] for key in knobs if key not in ("tuning", "precision")}
    data = TextPreferences(source or HhRlhf(show=True), **{**more, **own})
    task = Task(
        data, model, LowRank(rank=2), objective or Dpo(0.5),
        knobs.pop("tuning", None) or Tuning(batch_size=8, lr=0.01, warmup_steps=0), 2,
        Cache(str(home / "cache")), knobs.pop("precision", "float32"),
    )  # fmt: skip
    return TextAlignment(task, Owners(partition or Iid(), clients), Seeds(0))


@pytest.mark.parametrize("family", hub_models.FAMILIES)
def test_any_causal_model_of_a_folder_starts_at_ln_2_and_learns(home, family):
    """Loss ln 2, then lower on pairs that no client has seen."""
    workload = text(home, family)
    before = workload.evaluate(workload.initial())
    assert before["loss"] == pytest.approx(log(2), abs=1e-6) and before["kl_ref"] == 0
    updates, _ = workload.train(tasks(workload, [0], steps=12), [{}])
    assert float(updates.metrics["train_loss"][0]) < log(2)
    after = workload.evaluate(workload.initial() + updates.rows[0])
    assert after["loss"] < log(2) - 0.05 and after["accuracy"] > 0.9
    row = workload.samples(workload.initial(), 2)[0]
    assert row["before"] == row["after"] and "What is" in row["prompt"]
    assert text(home, family, source=HhRlhf()).samples(workload.initial()) == []


def test_a_federated_round_from_the_command_line_without_network(home, tmp_path, monkeypatch):
    """Sockets are shut: nothing is asked of anybody."""
    monkeypatch.setenv("FEDALIGN_CACHE", str(home / "cache"))

    def shut(*_):
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", shut)
    words = [
        "scenario=dpo_text", f"model.name={home / 'llama'}", f"data.root={home / 'data'}",
        "clients=3", "rounds=2", "local_steps=3", "workload.batch_size=4", "data.evaluation=4",
        "data.answer_tokens=5", "data.max_tokens=80", "peft.rank=2", "workload.lr=0.01",
        "data.source.show=true",
    ]  # fmt: skip
    cell = compose.study(words).cells[0]
    federation_cell.play({**cell.config, "keep": "last"}, tmp_path / "run", {})
    events = [json.loads(line) for line in (tmp_path / "run/events.jsonl").read_text().splitlines()]
    begin = next(e.get("body", e) for e in events if e.get("body", e).get("event") == "begin")
    assert "hh_rlhf (hh_made.jsonl.gz)" in begin["data"] and "prompts chat" in begin["data"]
    spoken = (tmp_path / "run/samples.jsonl").read_text().splitlines()
    assert len(spoken) == 4 and {"prompt", "before", "after"} <= set(json.loads(spoken[0]))


def test_right_numbers_are_rewarded(home):
    """gsm8k: single answers tune by cross-entropy, and an online objective is paid for numbers."""
    workload = text(home, objective=Sft(), source=Gsm8k(), model=None)
    updates, _ = workload.train(tasks(workload, [0], steps=12), [{}])
    assert updates.metrics["chosen_logp"][0] < 0
    found = workload.evaluate(workload.initial())
    assert 0 <= found["gold_reward"] <= 1 and found["win_rate"] == 0.5
    online = text(home, objective=Rloo(0.0, answers=2), source=Gsm8k())
    prompt = online._held[0, False].chosen.prompts()[0]
    truth = online._truth[tuple(prompt)]
    answers = [online._writing.answer(f"so #### {truth}"), online._writing.answer("#### -5")]
    assert online._reward(0)([prompt] * 2, answers).tolist() == [1.0, 0.0]
    with pytest.raises(ConfigError, match=r"data=gsm8k holds one good answer.*objective=sft"):
        text(home, source=Gsm8k())
    with pytest.raises(ConfigError, match="nobody knows what an answer of data=hh_rlhf is worth"):
        text(home, objective=Rloo())
    with pytest.raises(ConfigError, match=r"Rloo.groups=min .* data=gsm8k has none"):
        text(home, objective=Rloo(groups="min"), source=Gsm8k())


def test_self_play_starts_neutral_on_real_text(home):
    one, _ = text(home, objective=Spin(0.5)).train(tasks(text(home), [0], 1), [{}])
    assert float(one.metrics["train_loss"][0]) == pytest.approx(log(2), abs=1e-5)


def test_single_judged_answers_serve_kto_if_a_client_has_both_kinds(home, tmp_path):
    """Ten good and thirty bad answers: every row of a client has one of each."""
    rows = [
        {
            "prompt": f"Say {i}",
            "response": f"{i}.",
            "desirable": i % 4 == 0,
            "topic": str(i % 4 == 0),
        }
        for i in range(60)
    ]
    hub_models.write(tmp_path / "preferences.jsonl", rows)
    given = {"source": PreferenceFile(), "root": str(tmp_path)}
    workload = text(home, objective=Kto(0.5), **given)
    held = workload._held[0, False]
    wanted = [
        [
            int("".join(filter(str.isdigit, workload._writing.text(a)))) % 4
            for a in side.completions()
        ]
        for side in (held.chosen, held.rejected)
    ]
    assert (
        set(wanted[0]) == {0} and 0 not in wanted[1] and len(held) > workload.clients[0].samples / 2
    )
    updates, _ = workload.train(tasks(workload, [0], steps=2), [{}])
    assert torch.isfinite(updates.rows).all() and updates.rows.norm() > 0
    with pytest.raises(ConfigError, match=r"Client \d holds no (un)?desirable answer and KTO"):
        text(home, objective=Kto(0.5), partition=Classes(1), **given)
    with pytest.raises(ConfigError, match="take objective=kto"):
        text(home, **given)


def test_refusals(home):
    with pytest.raises(ConfigError, match="needs a model with a tokenizer: take model=hf"):
        from tests.tiny_alignment import MODEL

        text(home, model=MODEL)
    with pytest.raises(ConfigError, match=r"is 1030, but .* reads 256 tokens at most"):
        text(home, max_tokens=1024)
    with pytest.raises(ConfigError, match=r"targets \['w_pack'\] do not fit this model"):
        LowRank(targets=("w_pack",)).wrap(CausalLm(str(home / "qwen2")).load()[0])


def test_packing_micro_batches_and_recomputation_change_no_update(home):
    """The same rows within rounding; in bfloat16 the first loss is near ln 2 and training works."""
    plain = Tuning(batch_size=8, lr=0.01, warmup_steps=0)
    frugal = replace(plain, packing=256, micro_batch=3, recompute=True)
    rows = []
    for tuning in (plain, frugal):
        workload = text(home, tuning=tuning)
        rows.append(workload.train(tasks(workload, [0], steps=2), [{}])[0].rows[0])
    assert float((rows[0] - rows[1]).norm() / rows[0].norm()) < 1e-2
    slim = text(home, tuning=frugal, precision="bfloat16")
    updates, _ = slim.train(tasks(slim, [0], steps=5), [{}])
    assert updates.rows.dtype == torch.float32 and float(updates.metrics["train_loss"][0]) < log(2)


def test_on_text_realignment_imitates_the_servers_preferred_answers(home):
    """No question is known to be refused: they are the aligned set, and get likelier."""
    workload = text(home, tuning=Tuning(batch_size=8, lr=0.01, warmup_steps=0))
    model = workload.initial()
    nothing = Aggregate(torch.zeros_like(model), torch.ones(1, dtype=torch.bool))
    tuned, _ = PosthocRealign(steps=6).server_step(workload, model, nothing, {})
    chosen = workload._held[ROOT, False].chosen
    likely = []
    for vector in (model, tuned):
        workload._flat.load(vector)
        with torch.no_grad():
            likely.append(float(logps(workload._flat.module, chosen).mean()))
    assert likely[1] > likely[0] + 0.05


def _zero(home, *words):
    given = [
        "scenario=dpo_text", f"model.name={home / 'llama'}", f"data.root={home / 'data'}",
        "clients=2", "rounds=1", "local_steps=2", "workload.batch_size=4", "data.evaluation=0",
        "data.max_tokens=80", "peft.rank=2", "workload.lr=0.01", *words,
    ]  # fmt: skip
    return compose.study(given).cells[0]


def test_what_a_rank_group_cannot_do_is_refused(home):
    pytest.importorskip("deepspeed", reason="pip install 'fedalign[gpu]'")
    for words, says in (
        (["objective=rloo", "data=gsm8k"], "Rloo is none: take objective=dpo"),
        (["runtime=processes"], "take runtime=inline"),
        (["algorithm=posthoc_realign"], "take algorithm=fedavg, or deepspeed=none"),
        (["deepspeed.stage=3", "workload.packing=64"], r"packing=null, or deepspeed.stage=2"),
    ):
        with pytest.raises(ConfigError, match=says):
            federation_cell.client_work(_zero(home, "deepspeed=zero", *words).config)
    ids = {_zero(home, "deepspeed=zero", f"deepspeed.processes={n}").run_id for n in (1, 2)}
    assert len(ids) == 2 and _zero(home).run_id not in ids


@pytest.mark.slow
def test_a_rank_group_plays_a_cell(home, tmp_path, monkeypatch):
    """From the command line's words to the log: the loss of one process, within rounding."""
    pytest.importorskip("deepspeed", reason="pip install 'fedalign[gpu]'")
    monkeypatch.setenv("FEDALIGN_CACHE", str(home / "cache"))
    losses = []
    for words in ([], ["deepspeed=zero", "deepspeed.processes=1"]):
        cell = _zero(home, *words)
        federation_cell.play({**cell.config, "keep": "none"}, tmp_path / cell.run_id, {})
        text = (tmp_path / cell.run_id / "events.jsonl").read_text().splitlines()
        bodies = [json.loads(line) for line in text]
        played = next(b for e in bodies if (b := e.get("body", e)).get("event") == "round")
        losses.append(played["metrics"]["loss"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4) and losses[0] < log(2)
    assert not multiprocessing.active_children()


def test_a_model_of_the_hub_learns_the_graded_world(home):
    """Its vocabulary is cut to 88 words, it is taught once, and gold rewards are known again."""
    model = CausalLm(
        str(home / "gpt2"), prompt_format="plain", teach_steps=30, teach_batch=16, teach_lr=0.01
    )
    tuning = Tuning(batch_size=8, lr=0.003, warmup_steps=0, packing=128)
    workload = tiny_alignment.alignment(model=model, tuning=tuning)
    found = workload.evaluate(workload.initial())
    assert found["loss"] == pytest.approx(log(2), abs=1e-6) and found["win_rate"] == 0.5
    assert found["eos_rate"] > 0.5  # a model that was not taught hardly ever ends an answer
    updates, _ = workload.train(tasks(workload, [0], steps=16), [{}])
    assert float(updates.metrics["train_loss"][0]) < log(2)
    with pytest.raises(ConfigError, match=r"is taught in float32: take model\.dtype=float32"):
        replace(model, dtype="bfloat16").build(88)
    with pytest.raises(ConfigError, match=r"has 25. plain tokens and data=graded_facts needs 400"):
        model.build(401)
