"""Metrics: the names under which tables and figures show what a run scored.

What a run did not measure is NaN, which every table shows as n/a.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from experiments import overoptimisation as curves
from experiments import scores
from experiments.results import CellResult
from fedalign.core.errors import UnknownNameError


@dataclass(frozen=True)
class Metric:
    """A named number of a run.

    label: how a caption calls it, unit included. better: what a defender wants of it, None where
    neither. digits: after the point, in tables. of: CellResult -> float, NaN where not measured.
    """

    name: str
    label: str
    better: Literal["high", "low"] | None
    digits: int
    of: Callable[[CellResult], float]

    def __call__(self, cell: CellResult) -> float:
        return self.of(cell) if cell.status == "done" else np.nan


def metric(name: str) -> Metric:
    """The metric of that name, or an UnknownNameError listing all."""
    if name not in METRICS:
        raise UnknownNameError("metric", name, METRICS)
    return METRICS[name]


_SEALED: Sequence[tuple[str, str, Literal["high", "low"] | None, int, float]] = (
    ("messages", "messages between servers per round", "low", 0, 1.0),
    ("control_bytes", "kilobytes of control messages between servers per round", "low", 1, 1e-3),
    ("model_bytes", "kilobytes of models between servers per round", "low", 1, 1e-3),
    ("consensus_s", "simulated seconds of consensus per round", "low", 3, 1.0),
    ("consensus_cpu_s", "CPU seconds of consensus per round, all servers", "low", 3, 1.0),
    (
        "consensus_joules",
        "joules of consensus per round (8 W a busy core, miners always busy; 5e-8 J a byte)",
        "low",
        2,
        1.0,
    ),
    ("strikes", "strikes per round", None, 2, 1.0),
    ("aborted", "chain rounds without a block per round", "low", 2, 1.0),
)  # name and column, label, better, digits, scale; means over rounds

_TEXT: Sequence[tuple[str, str, Literal["high", "low"] | None, int]] = (
    ("gold_reward", "mean gold reward of sampled answers", "high", 2),
    ("gold_gain", "gold reward gained on the base model", "high", 2),
    ("win_rate", "share of prompts won against the base model, ties one half", "high", 3),
    ("win_low", "lower end of the win rate's 95 % bootstrap interval", "high", 3),
    ("win_high", "upper end of the win rate's 95 % bootstrap interval", "high", 3),
    ("kl_ref", "KL to the base model in nats per answer", None, 2),
    ("kl_ref_k3", "the same KL by its non-negative estimator", None, 2),
    ("payload_bytes", "bytes per client, round and direction", "low", 0),
    (
        "lora_cross_term",
        "what the mean of factors misses of the mean of products, relative",
        "low",
        4,
    ),
    ("length_mean", "tokens per answer", None, 1),
    ("eos_rate", "share of answers that end", "high", 3),
    ("distinct_2", "share of different pairs of neighbouring tokens", None, 4),
    ("over_refusal", "share of ordinary prompts that are refused", "low", 3),
    ("harmful_compliance", "share of prompts to be refused that are answered", "low", 3),
    ("gold_reward_local", "mean reward of answers by their own client's values", "high", 2),
    ("gold_gain_local", "reward gained on the base model by each client's own values", "high", 2),
    ("gold_gain_worst", "reward gained on the base model, the worst client's", "high", 2),
    ("win_rate_local", "share of prompts won against the base model by own values", "high", 3),
    ("jain_local", "Jain's index of clients' own win rates, 1 is even", "high", 3),
    ("rm_accuracy", "accuracy of the reward model against the gold order", "high", 3),
    ("rm_accuracy_each", "accuracy of one of several reward models, on average", "high", 3),
    ("rm_accuracy_local", "accuracy on the order of each client's own values", "high", 3),
    ("rm_accuracy_mean", "accuracy on the order of the clients' mean values", "high", 3),
    ("rm_accuracy_label", "accuracy of the reward model on noisy labels", "high", 3),
    ("bayes_ceiling", "best possible accuracy on these noisy labels", None, 3),
    ("rm_attr_mae", "mean error of predicted ratings", "low", 3),
    (
        "proxy_reward",
        "mean reward in the eyes of biased annotators or of the reward model that is climbed",
        None,
        2,
    ),
    ("attr_control_mae", "distance of graded from requested attributes (0 to 4)", "low", 3),
    ("attr_control_base", "the same distance of the base model's answers", None, 3),
    ("attr_exact", "share of answers with all five attributes as requested", "high", 3),
    ("ece", "expected calibration error of stated confidences", "low", 3),
    ("brier", "Brier score of stated confidences", "low", 3),
    ("spearman_conf", "rank correlation of stated confidence with gold reward", "high", 3),
    ("confidence_mean", "mean stated confidence", None, 3),
    ("confidence_stated", "share of answers that state a confidence", "high", 3),
    ("correct_rate", "share of correct answers among these", "high", 3),
)  # name, label, better, digits

METRICS: Mapping[str, Metric] = {
    m.name: m
    for m in (
        Metric(
            "accuracy",
            f"accuracy in %, mean of the last {scores.LAST} rounds",
            "high",
            1,
            scores.accuracy,
        ),
        Metric(
            "error",
            f"error in % (100 - accuracy), mean of the last {scores.LAST} rounds",
            "low",
            1,
            lambda cell: 100.0 - scores.accuracy(cell),
        ),
        Metric(
            "best_accuracy",
            "best accuracy of any round in %",
            "high",
            1,
            lambda cell: 100.0 * scores.largest(scores.column(cell, "accuracy")),
        ),
        Metric(
            "loss",
            f"test loss, mean of the last {scores.LAST} rounds",
            "low",
            3,
            scores.last("loss"),
        ),
        Metric(
            "attack_success",
            f"attack success in %, mean of the last {scores.LAST} rounds",
            "low",
            1,
            scores.last("attack_success", 100.0),
        ),
        Metric(
            "success_clean",
            f"attack success without the trigger in %, mean of the last {scores.LAST} rounds",
            "low",
            1,
            scores.last("success_clean", 100.0),
        ),
        Metric(
            "lora_share",
            "bytes in % of LoRA's of the same rank on the same layers, last round",
            "low",
            1,
            lambda cell: (
                100.0 * scores.final("payload_bytes")(cell) / scores.final("lora_bytes")(cell)
            ),
        ),
        Metric("gold_peak", "highest gold reward of any round", "high", 2, curves.peak),
        Metric(
            "peak_distance", "root of the KL where it is highest", None, 2, curves.peak_distance
        ),
        Metric("distance", "largest root of the KL", None, 2, curves.largest_distance),
        Metric("gold_drop", "gold reward lost from there on", "low", 2, curves.drop),
        Metric(
            "alpha",
            "alpha of gains d (alpha - beta log d), d the root of the KL",
            None,
            2,
            lambda cell: curves.fitted(cell)[0],
        ),
        Metric("beta", "beta of these", None, 2, lambda cell: curves.fitted(cell)[1]),
        Metric(
            "damage",
            "accuracy at the end minus accuracy before the attack began (in round 1 where it was "
            "there from the start) in points",
            "high",
            1,
            scores.damage,
        ),
        Metric(
            "accuracy_t0", "accuracy in the first attacked round in %", "high", 1, scores.after(0)
        ),
        Metric(
            "accuracy_t0_5",
            "accuracy five rounds after the first attacked one in %",
            "high",
            1,
            scores.after(5),
        ),
        Metric("accepted", "malicious rows accepted in %", "low", 0, scores.accepted),
        Metric(
            "tpr",
            "detection TPR in % (malicious rows rejected)",
            "high",
            0,
            lambda cell: 100.0 - scores.accepted(cell),
        ),
        Metric(
            "fpr", "detection FPR in % (benign rows rejected)", "low", 0, scores.false_positives
        ),
        Metric(
            "weight",
            "share of malicious rows in the aggregate's weight in %",
            "low",
            1,
            scores.weight,
        ),
        Metric("craft_ms", "crafting time per attacked round in ms", None, 2, scores.crafting),
        Metric(
            "aggregate_ms",
            "aggregation time per round in ms",
            "low",
            2,
            scores.per_round_ms("aggregate_s"),
        ),
        Metric(
            "train_ms", "training time per round in ms", None, 1, scores.per_round_ms("train_s")
        ),
        Metric("paid", "paid per round in base units", None, 0, scores.paid_per_round),
        Metric(
            "attacker_income",
            "income of the attackers' clients in % of what is paid",
            "low",
            1,
            scores.income,
        ),
        Metric(
            "pay_spearman",
            "rank correlation of pay with contribution on test data",
            "high",
            2,
            scores.pay_spearman,
        ),
        *(Metric(*told, scores.per_round(told[0], scale)) for *told, scale in _SEALED),
        Metric(
            "overturned",
            "rounds led by another server than honest votes favour in %",
            "low",
            0,
            lambda cell: 100.0 * scores.mean(scores.column(cell, "overturned")),
        ),
        Metric("captured", "rounds led by a lying server in %", "low", 0, scores.captured),
        Metric(
            "liars_pay",
            "share of the servers' rewards that liars get in %",
            "low",
            1,
            scores.liars_pay,
        ),
        Metric(
            "consensus_share",
            "CPU time of consensus, all servers, in % of the rest of the round's computing",
            "low",
            1,
            scores.consensus_share,
        ),
        Metric("leader_jain", "Jain's index of leaderships", "high", 2, scores.leaderships),
        Metric(
            "seconds_per_round", "simulated seconds per round", "low", 1, scores.seconds_per_round
        ),
        Metric(
            "rounds_to_target",
            "rounds until target_accuracy is reached (never: all rounds and one more)",
            "low",
            1,
            scores.reached,
        ),
        Metric(
            "seconds_to_target",
            "simulated seconds until target_accuracy is reached, over the runs that reach it",
            "low",
            1,
            scores.seconds_to_target,
        ),
        Metric("missed", "rows that did not arrive in time in %", "low", 1, scores.missed),
        Metric(
            "joules",
            "simulated joules of all devices, all rounds",
            "low",
            1,
            scores.total("joules"),
        ),
        Metric(
            "cost_per_point",
            "base units paid in all rounds per point of final accuracy",
            "low",
            0,
            scores.cost_per_point,
        ),
        Metric(
            "nonfinite", "rows with NaN or Inf, all rounds", "low", 0, scores.total("nonfinite")
        ),
        Metric("failed", "client failures, all rounds", "low", 0, scores.total("failed")),
        Metric("skipped", "rounds in which no row was accepted", "low", 0, scores.total("skipped")),
        Metric("arrived", "rows per round", None, 0, scores.per_round("arrived", 1.0)),
        Metric("round_s", "measured seconds per round, median", "low", 2, scores.round_s),
        Metric("clients_per_s", "clients per second", "high", 0, scores.rows_per_second),
        Metric(
            "peak_rss_mb",
            "peak resident memory in 10^6 bytes, worker processes included",
            "low",
            0,
            lambda cell: scores.largest(scores.column(cell, "peak_rss_mb")),
        ),
        *(
            Metric(name, f"{said}, last round", *shown, scores.final(name))
            for name, said, *shown in _TEXT
        ),
    )
}
