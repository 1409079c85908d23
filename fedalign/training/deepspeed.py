"""DeepSpeed: one adapter tuned by several processes, states, gradients and weights cut by ZeRO.

Paper: Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models",
SC 2020, Section 5.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fedalign.core.contracts import Gradient
from fedalign.core.errors import ConfigError
from fedalign.core.preferences import Sequences
from fedalign.core.vectors import Layout
from fedalign.objectives.terms import Loss, Memory, PairObjective
from fedalign.training.pair_terms import Batch, compared, mismatched_ratios, terms
from fedalign.training.sequences import Packing, logps
from fedalign.training.tuning import NonFiniteLoss, Tuning


@dataclass(frozen=True)
class Zero:
    """stage: 1 cuts optimizer states, 2 gradients too, 3 weights too, those of the frozen base
    among them. processes: of a rank group, >= 1; they do every step together, each with its share
    of the batch, and rank 0 answers. Sums over ranks are rounded in another order than a single
    process rounds them, so both numbers are part of a run's identity.
    """

    stage: Literal[1, 2, 3] = 2
    processes: int = 2

    def __post_init__(self) -> None:
        if self.stage not in (1, 2, 3):
            raise ConfigError(f"deepspeed.stage must be 1, 2 or 3, got {self.stage!r}.")
        if self.processes < 1:
            raise ConfigError(f"deepspeed.processes must be 1 or more, got {self.processes}.")
        if find_spec("deepspeed") is None:
            raise ConfigError(
                "deepspeed=zero needs DeepSpeed, which is not installed: pip install "
                "'fedalign[gpu]', or take deepspeed=none."
            )

    def hold(self, module: nn.Module, device: torch.device, tuning: Tuning) -> Partitioned:
        """The module in this rank's care; all ranks call this at the same time."""
        return Partitioned(module, device, tuning, self.stage)


class Partitioned:
    """What FlatModel is to one process: load a vector, run, read the vector; on every rank alike.

    module: call it as usual. layout: of its trainables. vector: (d,), as it is now.
    """

    def __init__(self, module: nn.Module, device: torch.device, tuning: Tuning, stage: int):
        import deepspeed

        module = module.to(device)
        self._trainables = {n: p for n, p in module.named_parameters() if p.requires_grad}
        self.layout = Layout.of({name: p.shape for name, p in self._trainables.items()})
        self._stage, self._device, self._tuning = stage, device, tuning
        optimizer = torch.optim.AdamW(
            self._trainables.values(), lr=tuning.lr, betas=(0.9, 0.98), eps=1e-8,
            weight_decay=tuning.weight_decay,
        )  # fmt: skip
        settings = {
            "train_micro_batch_size_per_gpu": 1,
            "gradient_accumulation_steps": 1,
            "gradient_clipping": tuning.clip,
            "zero_optimization": {"stage": stage},
            "zero_allow_untested_optimizer": True,
        }
        self._engine, *_ = deepspeed.initialize(model=module, optimizer=optimizer, config=settings)
        self.module = self._engine.module

    @property
    def vector(self) -> Tensor:
        with self._whole():
            return self.layout.flatten(self._trainables)

    def load(self, vector: Tensor) -> None:
        """Copy a vector (d,) into the parameters and the optimizer's own copies of them."""
        from deepspeed.utils import safe_set_full_fp32_param

        views = self.layout.views(vector.to(self._device))
        with self._whole(changes=True):
            for name, parameter in self._trainables.items():
                parameter.data.copy_(views[name])
        for name, parameter in self._trainables.items():
            safe_set_full_fp32_param(parameter, views[name])

    def adamw(
        self, start: Tensor, steps: int, backward: Callable[[int], float],
        rate: Callable[[int], float], correct: Gradient | None,
    ) -> tuple[Tensor, float]:  # fmt: skip
        """As fedalign.training.tuning.adamw, with moments that start at 0."""
        if correct is not None:
            raise ConfigError(
                "deepspeed=zero keeps no whole gradient that an algorithm could correct: take "
                "algorithm=fedavg."
            )
        self.load(start)
        self._engine.optimizer.optimizer.state.clear()
        total = 0.0
        for step in range(steps):
            loss = backward(step)
            if not loss - loss == 0:
                raise NonFiniteLoss(f"the loss of local step {step + 1} of {steps} is {loss}")
            total += loss
            for group in self._engine.optimizer.param_groups:
                group["lr"] = rate(step)
            self._engine.step()
        return self.vector, total / max(steps, 1)

    def descend(
        self, batch: Batch, objective: PairObjective, memory: Memory, passes: int | Packing,
        micro_batch: int | None = None,
    ) -> Loss:  # fmt: skip
        """The gradient of the whole batch, from every rank's share of its sequences.

        Log-probabilities are computed without a graph and gathered, so that the objective sees all
        of them; then every rank descends its own share. Exact for every objective.
        """
        both, fixed = compared(batch, objective), None
        if objective.mismatched:
            fixed = mismatched_ratios(self.module, batch.pairs, passes)
        mine, counts = _share(both)
        with torch.no_grad():
            found = logps(self.module, both.take(mine), passes)
        policy = torch.zeros(len(both), device=found.device)
        policy.index_add_(0, mine, found * counts)
        dist.all_reduce(policy)
        loss = objective(terms(batch, policy.requires_grad_(), fixed), memory)
        loss = replace(loss, value=loss.value, items=loss.items.detach())
        if bool(torch.isfinite(loss.value)):
            share = torch.autograd.grad(loss.value, policy)[0]
            self._backward(
                both, mine, share[mine] * counts * dist.get_world_size(), passes, micro_batch
            )
        return replace(loss, value=loss.value.detach())

    def _backward(
        self, both: Sequences, mine: Tensor, share: Tensor, passes: int | Packing,
        micro_batch: int | None,
    ) -> None:  # fmt: skip
        places = torch.arange(len(mine), device=mine.device)
        parts = places.split(2 * micro_batch if micro_batch else len(places))
        for number, part in enumerate(parts, start=1):
            self._engine.set_gradient_accumulation_boundary(number == len(parts))
            value = (logps(self.module, both.take(mine[part]), passes) * share[part]).sum()
            self._engine.backward(value)

    def _whole(self, changes: bool = False) -> Any:
        """While it lasts, parameters are there as a whole, where stage 3 has cut them."""
        import deepspeed

        return deepspeed.zero.GatheredParameters(
            list(self._trainables.values()),
            modifier_rank=0 if changes else None,
            enabled=self._stage == 3,
        )


def join(rank: int, processes: int, port: int, device: str) -> None:
    """Make this process a rank of a group on this machine; before any model is built."""
    kind = torch.device(device).type
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank),
        "WORLD_SIZE": str(processes), "LOCAL_RANK": str(rank), "DS_ACCELERATOR": kind,
    }  # fmt: skip
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")
    import deepspeed  # it calls collectives by names that torch is about to change

    deepspeed.utils.logger.setLevel("ERROR")
    if kind == "cpu":  # gloo does what this operator would, which a compiler had to build first
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed("nccl" if kind == "cuda" else "gloo", verbose=False)


def leave() -> None:
    """End this process's part in the group."""
    if dist.is_initialized():
        dist.destroy_process_group()


def _share(both: Sequences) -> tuple[Tensor, Tensor]:
    """Rows of this rank, dealt by length, and 1 for each; the last ranks repeat a row with 0 where
    the batch does not divide, for all ranks must call the model equally often."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    order = both.ends.argsort(stable=True)
    filled = torch.cat([order, order[:1].expand(-len(order) % ranks)])
    real = torch.arange(len(filled), device=order.device) < len(order)
    return filled[rank::ranks], real[rank::ranks].float()
