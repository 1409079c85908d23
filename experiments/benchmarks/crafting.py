"""Crafting cost: milliseconds an attacker spends per round, and how that compares with Faker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np
import torch

from attacks.faker.faker import Faker
from attacks.fang import Fang
from attacks.ipm import InnerProductManipulation
from attacks.la_shared import LaShared
from attacks.lie import Lie
from attacks.mb_shared import MbShared
from attacks.min_max import MinMax
from attacks.min_sum import MinSum
from attacks.negated import Negated
from fedalign.core.contracts import Context, UpdateAttack
from fedalign.core.threat import Family, View

REFERENCE = "min_max_published"
GROUPS = 1000
GOALS = {  # how many times faster than REFERENCE at d = 1e6
    **{f"faker_{solver}": 20.0 for solver in ("norm", "distance", "cosine", "2d", "product")},
    "faker_flip": 5.0,
}


def contestants(d: int) -> dict[str, UpdateAttack]:
    """Faker with T = 1000 groups and its rivals, searches as published beside closed forms."""
    groups = min(GROUPS, d)
    return {
        "faker_norm": Faker(solver="norm", groups=groups),
        "faker_distance": Faker(solver="distance", groups=groups),
        "faker_cosine": Faker(solver="cosine", groups=groups),
        "faker_2d": Faker(solver="2d", groups=groups),
        "faker_product": Faker(solver="product", groups=groups),
        "faker_flip": Faker(solver="flip"),
        "faker_balance": Faker(solver="balance"),
        "faker_distance_whitebox": Faker(solver="distance", dist_bound="rule"),
        REFERENCE: MinMax(search="published"),
        "min_sum_published": MinSum(search="published"),
        "la_published": LaShared(search="published"),
        "mb_published": MbShared(search="published"),
        "min_max": MinMax(),
        "min_sum": MinSum(),
        "la": LaShared(),
        "mb": MbShared(),
        "fang_krum": Fang(form="krum"),
        "fang_trim": Fang(form="trim"),
        "lie": Lie(),
        "ipm": InnerProductManipulation(),
        "neg": Negated(),
    }


def measure(
    d: int = 1_000_000,
    n: int = 20,
    m: int = 4,
    repetitions: int = 5,
    attacks: Mapping[str, UpdateAttack] | None = None,
    family: Family = "norm",
) -> list[dict[str, Any]]:
    """One row per attack: the time to craft all m rows, least of `repetitions`, one thread.

    The attacks take turns within a repetition, so that other load hits all of them alike.
    against_faker: time over the time of faker_norm. speedup: time of the published Min-Max search
    over this one. goal, met: for Faker at d >= 1e6 only. Each is None where its base is missing.
    """
    attacks = contestants(d) if attacks is None else attacks
    given, threads = _round(d, n, m, family), torch.get_num_threads()
    seconds = dict.fromkeys(attacks, float("inf"))
    try:
        torch.set_num_threads(1)
        for repetition in range(repetitions):
            for name, attack in attacks.items():
                seconds[name] = min(seconds[name], _time(attack, given, repetition))
    finally:
        torch.set_num_threads(threads)
    return [_row(name, seconds, d, n, m) for name in attacks]


def _round(d: int, n: int, m: int, family: Family) -> View:
    """A model and n updates around one direction; the attacker sees everything."""
    generator = torch.Generator().manual_seed(0)
    model = torch.randn(d, generator=generator) * 0.1
    updates = torch.randn(n, d, generator=generator) * 0.02
    updates += 0.02 * torch.randn(d, generator=generator) - 0.01 * model
    return View(
        round=2,
        clients=n,
        own=updates[:m],
        benign=updates[m:],
        model=model,
        initial=model,
        space="model",
        family=family,
        context=Context(byzantine_count=m, model=model),
    )


def _time(attack: UpdateAttack, given: View, repetition: int) -> float:
    given = replace(given, rng=np.random.default_rng(repetition))
    start = perf_counter()
    attack(given)
    return perf_counter() - start


def _row(name: str, seconds: Mapping[str, float], d: int, n: int, m: int) -> dict[str, Any]:
    own, faker, slow = seconds[name], seconds.get("faker_norm"), seconds.get(REFERENCE)
    speedup = None if slow is None else slow / own
    goal = GOALS.get(name) if d >= 1_000_000 else None
    return {
        "attack": name,
        "d": d,
        "n": n,
        "m": m,
        "milliseconds": own * 1e3,
        "against_faker": None if faker is None else own / faker,
        "speedup": speedup,
        "goal": goal,
        "met": None if goal is None or speedup is None else speedup >= goal,
    }
