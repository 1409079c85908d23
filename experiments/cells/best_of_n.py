"""Cell of `scenario=best_of_n`: over-optimisation without any training.

Of n answers of the base model the one that a proxy likes best is given; the more there are to
choose from, the further the choice from the base model, and the more of it is the proxy's error.

Papers: Gao et al., "Scaling Laws for Reward Model Overoptimization", ICML 2023, Section 3 (gains
d (alpha - beta d) of best of n, d the root of the KL); Beirami et al., "Theoretical guarantees on
the best-of-n alignment policy", 2024 (log n - (n - 1) / n bounds that KL).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import comb, sqrt
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.cells import write_rows
from experiments.build import build
from experiments.learned import learned
from experiments.workload_cell import workload
from fedalign.core.errors import ConfigError
from fedalign.core.seeds import Seeds
from fedalign.data.graded_facts import WEIGHTS
from fedalign.data.graded_preferences import GradedFacts
from fedalign.data.grader import attributes_of, reward
from fedalign.objectives.climber import Climber
from fedalign.objectives.rejection_sampling import best_of_kl
from fedalign.training.cache import Cache
from fedalign.training.rollout import Rollout
from fedalign.training.teach import taught

Config = Mapping[str, Any]


def best_of_n(config: Config, folder: Path, environment: Config) -> None:
    """Rows per n: d, mean proxy and gold reward of the best of n; one of the fit; two curves."""
    data, most = build(config["data"]), config["most"]
    if not isinstance(data, GradedFacts):
        raise ConfigError("scenario=best_of_n needs the true reward: take data=graded_facts.")
    if most < 4:
        raise ConfigError(f"most must be 4 or more answers per prompt, got {most}.")
    objective = build(config["objective"])
    if not isinstance(objective, Climber) or objective.grouped:
        raise ConfigError(
            "scenario=best_of_n chooses by what annotators with the gold weights think, or by "
            "objective.reward_model: take objective=rejection_sampling with groups=own."
        )
    found = learned(objective, config, lambda c: workload(c, (), None, config["device"]))
    module, _ = taught(build(config["model"]), data, Cache(), config["device"])
    prompts = data.prompts("eval", data.evaluation, "evaluation")
    asked = [prompt for prompt in prompts for _ in range(most)]
    rng = Seeds(config["seed"]).at("best_of_n")
    answers = Rollout(len(data.world.words), 2)(module, asked, rng)
    attributes = attributes_of(data.world, asked, answers)
    gold = reward(attributes).reshape(len(prompts), most)
    if found is None:
        chooser = f"annotators, filler bias {data.annotator.filler_bias:g}"
        if data.annotator.length_bias:
            chooser += f", length bias {data.annotator.length_bias:g}"
        proxy = data.annotator.worth(data.world, answers, attributes, WEIGHTS)
    else:
        chooser, proxy = found.told, found.reward(asked, answers)
    counts = [2**k for k in range(most.bit_length()) if 2**k <= most]
    chosen = [best(proxy.reshape(gold.shape), gold, n) for n in counts]
    away = [sqrt(best_of_kl(n)) for n in counts]
    where = {"chosen by": chooser, "seed": config["seed"]}
    rows = [
        {**where, "n": n, "root of the KL": d, "proxy reward": p, "gold reward": g}
        for n, d, (p, g) in zip(counts, away, chosen, strict=True)
    ]
    truth = np.array([g for _, g in chosen])
    rows.append({"table": "fit", **where, **_fit(counts, np.array(away), truth)})
    curves = zip(("proxy", "gold"), zip(*chosen, strict=True), strict=True)
    rows += [
        {"figure": "best_of_n", "panel": chooser, "line": line, "x": away, "y": list(y),
         "x_label": "root of the KL to the base model", "y_label": "reward"}
        for line, y in curves
    ]  # fmt: skip
    write_rows(rows, config, folder, environment)


def best(proxy: np.ndarray, gold: np.ndarray, n: int) -> tuple[float, float]:
    """Mean proxy and gold reward of the answer that the proxy likes best among n.

    proxy, gold: (prompts, N), n <= N. The mean over all subsets of n answers, without drawing any:
    the one of rank i from below is the best of comb(i - 1, n - 1) of them. Ties: the later one.
    """
    total = proxy.shape[1]
    weights = np.array([comb(i, n - 1) / comb(total, n) for i in range(total)])
    order = proxy.argsort(axis=1, kind="stable")
    return tuple(
        float((np.take_along_axis(x, order, axis=1) @ weights).mean()) for x in (proxy, gold)
    )


def _fit(counts: Sequence[int], away: np.ndarray, gold: np.ndarray) -> dict[str, float]:
    """Gains d (alpha - beta d) by least squares, the highest gold reward and what is lost later."""
    x = away[1:]
    alpha, beta = np.linalg.lstsq(np.stack([x, -x * x], axis=1), gold[1:] - gold[0], rcond=None)[0]
    return {
        "alpha": float(alpha),
        "beta": float(beta),
        "highest gold": float(gold.max()),
        "at n": counts[int(gold.argmax())],
        "lost from there on": float(gold.max() - gold[-1]),
    }
