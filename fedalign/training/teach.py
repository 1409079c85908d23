"""Teaching: a fresh model learns the demonstrations once; the result is kept by its recipe's hash."""

from __future__ import annotations

import sys
from dataclasses import asdict

import torch
from torch import nn

from fedalign.core.digest import of_data
from fedalign.core.preferences import Sequences
from fedalign.core.seeds import Seeds
from fedalign.data.graded_preferences import GradedFacts
from fedalign.models.causal_lm import CausalLm
from fedalign.models.tiny_lm import TinyLm
from fedalign.training.cache import Cache
from fedalign.training.sequences import inside, token_logps

VERSION = 1  # of this recipe


def recipe(model: TinyLm | CausalLm, data: GradedFacts) -> dict:
    """All that decides the taught weights, as plain data."""
    world = asdict(data.world)
    if not data.world.demonstrator.confidence:  # younger than the models already taught
        del world["demonstrator"]["confidence"]
    taught = {"world": world, "demonstrations": data.demonstrations}
    own = model.recipe if isinstance(model, CausalLm) else asdict(model)
    return {"version": VERSION, "model": own, "data": taught}


def taught(
    model: TinyLm | CausalLm, data: GradedFacts, cache: Cache, device: torch.device | str = "cpu"
) -> tuple[nn.Module, str]:
    """The taught model, frozen, and the hash of its recipe. device: where it is taught."""
    module = model.build(len(data.world.words))
    key = recipe(model, data)

    def make() -> dict:
        print(
            f"Teaching the model: {model.teach_steps} steps, once; kept in {cache.path}.",
            file=sys.stderr,
        )
        teach(module.to(device), data.demonstrated(), model)
        return {"weights": {name: w.cpu() for name, w in module.state_dict().items()}}

    module.load_state_dict(cache.get("taught", key, make)["weights"], strict=False)
    module.tie_weights()
    return module.requires_grad_(False).eval(), of_data(key)


def teach(module: nn.Module, rows: Sequences, model: TinyLm | CausalLm) -> float:
    """Cross-entropy on completions, in place; returns the loss of the last step."""
    optimizer = torch.optim.AdamW(
        module.parameters(), lr=model.teach_lr, betas=(0.9, 0.98), weight_decay=0.01
    )
    steps, loss = model.teach_steps, torch.zeros(())
    if steps == 0:
        return float("nan")
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, model.teach_lr, steps)
    rng, device = Seeds(model.seed).at("teach"), next(module.parameters()).device
    module.train()
    for _ in range(steps):
        batch = rows.take(torch.from_numpy(rng.integers(0, len(rows), model.teach_batch)))
        batch = batch.to(device)
        total, halves = 0.0, batch.ends.argsort(stable=True).split(-(-model.teach_batch // 2))
        count = batch.lengths.sum()
        for half in halves:  # similar lengths together
            part = batch.take(half)
            width = int(part.ends.max())
            values = token_logps(module, part.tokens[:, :width])
            loss = -(values * inside(part, width)).sum() / count
            loss.backward()
            total += float(loss.detach())
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    module.eval()
    return total
