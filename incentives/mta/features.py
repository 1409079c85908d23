"""MTA features: what the policy sees of a task, a server and everything still to come.

Paper: none; our choice within arXiv 2208.05120's setting. Every
feature is a number of one (task, server) pair, so that servers may be permuted and n may vary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedalign.core.errors import ConfigError
from incentives.mta.instance import MTAInstance

RELATIVE_VALUE = 1  # the feature that is the value over the task's largest: a greedy policy's score
WIDTH = 22
SHARPNESS = 8.0  # how strongly a later task is expected at the servers where it is worth most
MOST_UNITS = 20.0  # the published largest data size: more room than that is no news


@dataclass(frozen=True)
class Problems:
    """I instances of equal size, tasks by falling price. Decisions use float64, features float32.

    order: (I, m). value: (I, m, n) in units, 0 where not useful. useful: (I, m, n).
    work: (I, m, n). capacity, cycles: (I, n). data: (I, m). fixed: (I, m, n, 11).
    """

    order: Tensor
    value: Tensor
    useful: Tensor
    work: Tensor
    capacity: Tensor
    cycles: Tensor
    least_later: Tensor  # (I, m) the smallest data size among later tasks
    later_work: Tensor  # (I, m) cycles of later tasks, each at its largest
    wanted: Tensor  # (I, m, n) cycles that later tasks are expected to want of a server
    fixed: Tensor

    @classmethod
    def of(cls, instances: Sequence[MTAInstance]) -> Problems:
        """ConfigError unless all have as many tasks and as many servers."""
        sizes = {(i.tasks, i.servers) for i in instances}
        if len(sizes) != 1:
            raise ConfigError(
                f"The policy plays instances of one size side by side, got {sorted(sizes)}."
            )
        order = np.stack([i.by_price for i in instances])

        def sorted_(read) -> Tensor:
            rows = [read(i)[o] for i, o in zip(instances, order, strict=True)]
            return torch.from_numpy(np.stack(rows))

        def per_server(read) -> Tensor:
            return torch.from_numpy(np.stack([read(i) for i in instances]))

        useful = sorted_(lambda i: i.useful)
        value = sorted_(lambda i: np.where(i.useful, i.value, 0.0) / i.unit)
        work, data = sorted_(lambda i: i.work), sorted_(lambda i: i.data)
        price = sorted_(lambda i: i.price / max(float(np.abs(i.price).max()), 1e-12))
        capacity, cycles = per_server(lambda i: i.capacity), per_server(lambda i: i.cycles)
        busy = work * useful
        share = (SHARPNESS * value).masked_fill(~useful, -1e9).softmax(dim=-1)
        wanted = _later(busy * share)
        return cls(
            order=torch.from_numpy(order),
            value=value,
            useful=useful,
            work=work,
            capacity=capacity,
            cycles=cycles,
            least_later=_least_later(data),
            later_work=_later(busy.amax(dim=-1)),
            wanted=wanted,
            fixed=_fixed(value, useful, work, capacity, cycles, price, wanted),
        )

    def feasible(self, task: int, remaining: Tensor) -> Tensor:  # (I, R, n) -> (I, R, n)
        return self.useful[:, None, task] & (self.work[:, None, task] <= remaining)

    def at(self, task: int, remaining: Tensor) -> Tensor:
        """Features of the task-th decision when `remaining` (I, R, n) cycles are left in each of R
        playouts: (I, R, n, WIDTH) float32."""
        shape = remaining.shape
        work, capacity = self.work[:, None, task], self.capacity[:, None].clamp(min=1e-9)
        value, wanted = self.value[:, None, task], self.wanted[:, None, task]
        feasible = self.feasible(task, remaining)
        left = remaining - work
        units = left / self.cycles[:, None]
        dead = (units < self.least_later[:, None, task, None]).double()  # nothing fits any more
        total = remaining.sum(dim=-1, keepdim=True)
        later = self.later_work[:, None, task, None]
        changing = [
            remaining / capacity,
            left / capacity,
            (work / remaining.clamp(min=1e-6)).clamp(max=2.0),
            (units / MOST_UNITS).clamp(0.0, 3.0),
            dead * left.clamp(min=0.0) / capacity,
            dead,
            wanted / (wanted + remaining + 1e-3),
            value - _best_other(torch.where(feasible, value, 0.0)),
            feasible.double().mean(dim=-1, keepdim=True),
            total / capacity.sum(dim=-1, keepdim=True),
            total / (total + later + 1e-3),
        ]
        moving = torch.stack([c.clamp(-3.0, 3.0).expand(shape) for c in changing], dim=-1)
        fixed = self.fixed[:, None, task].expand(*shape, self.fixed.shape[-1])
        return torch.cat([fixed, moving.float()], dim=-1)


def _fixed(value, useful, work, capacity, cycles, price, wanted) -> Tensor:  # (I, m, n, 11) float32
    tasks = value.shape[1]
    room, busy = capacity[:, None].clamp(min=1e-9), work * useful
    demand = _later(busy)
    progress = (torch.arange(tasks, dtype=torch.float64) / tasks)[None, :, None]
    columns = [
        value,
        value / value.amax(dim=-1, keepdim=True).clamp(min=1e-9),
        work / room,
        (cycles / cycles.amax(dim=-1, keepdim=True))[:, None],
        demand / (demand + room),
        wanted / (wanted + room),
        useful.double().mean(dim=-1, keepdim=True),
        _later(useful.double()) / tasks,
        price[..., None],
        _later(busy * price[..., None]) / (demand + 1.0),
        progress,
    ]
    return torch.stack([c.clamp(-3.0, 3.0).expand(value.shape) for c in columns], dim=-1).float()


def _later(x: Tensor) -> Tensor:
    """Sums over strictly later tasks (dimension 1)."""
    summed = x.flip(1).cumsum(dim=1).flip(1)
    return torch.cat([summed[:, 1:], torch.zeros_like(x[:, :1])], dim=1)


def _least_later(data: Tensor) -> Tensor:  # (I, m)
    least = data.flip(1).cummin(dim=1).values.flip(1)
    return torch.cat([least[:, 1:], torch.full_like(data[:, :1], torch.inf)], dim=1)


def _best_other(value: Tensor) -> Tensor:  # (..., n): the largest among the other servers
    if value.shape[-1] == 1:
        return torch.zeros_like(value)
    top = value.topk(2, dim=-1).values
    return torch.where(value == top[..., :1], top[..., 1:], top[..., :1])
