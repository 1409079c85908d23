"""Sampling answers: the same uniform numbers for every model, prompts of equal length together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from fedalign.core.errors import ConfigError


@dataclass(frozen=True)
class Rollout:
    """longest: tokens of an answer at most, >= 1. temperature: > 0. batch: prompts at a time.
    words: token numbers that may be drawn are 0 .. words - 1. end: the token that ends an answer.
    """

    words: int
    end: int
    longest: int = 48
    temperature: float = 1.0
    batch: int = 256

    def __post_init__(self) -> None:
        if self.longest < 1 or self.temperature <= 0 or self.batch < 1:
            raise ConfigError(
                "A rollout needs longest >= 1, temperature > 0 and batch >= 1, got "
                f"{self.longest}, {self.temperature} and {self.batch}."
            )

    @torch.no_grad()
    def __call__(
        self, model: nn.Module, prompts: Sequence[Sequence[int]], rng: np.random.Generator
    ) -> list[list[int]]:
        """One answer per prompt, end mark included where it came. Answer i depends on prompt i and
        on row i of the numbers drawn alone, up to rounding."""
        uniforms = torch.from_numpy(rng.random((len(prompts), self.longest), dtype=np.float32))
        answers: list[list[int]] = [[] for _ in prompts]
        lengths = [len(prompt) for prompt in prompts]
        device = next(model.parameters()).device
        training = model.training
        model.eval()
        for length in sorted(set(lengths)):
            rows = [i for i, n in enumerate(lengths) if n == length]
            for start in range(0, len(rows), self.batch):
                part = rows[start : start + self.batch]
                tokens = torch.tensor([list(prompts[i]) for i in part], device=device)
                drawn = self._extend(model, tokens, uniforms[part].to(device))
                for i, answer in zip(part, drawn.tolist(), strict=True):
                    cut = answer.index(self.end) + 1 if self.end in answer else len(answer)
                    answers[i] = answer[:cut]
        model.train(training)
        return answers

    def _extend(self, model: nn.Module, tokens: Tensor, uniforms: Tensor) -> Tensor:
        """(B, T) prompts -> (B, up to longest) drawn tokens; what follows an end mark is noise."""
        drawn, cache = [], None
        alive = torch.ones(len(tokens), dtype=torch.bool, device=tokens.device)
        for t in range(self.longest):
            out = model(input_ids=tokens, past_key_values=cache, use_cache=True)
            logits, cache = out.logits[:, -1, : self.words].float(), out.past_key_values
            chances = torch.softmax(logits / self.temperature, dim=-1).cumsum(dim=-1)
            reach = uniforms[:, t, None] * chances[:, -1:]
            tokens = (chances <= reach).sum(dim=-1, keepdim=True).clamp(max=self.words - 1)
            drawn.append(tokens)
            alive &= tokens[:, 0] != self.end
            if not alive.any():
                break
        return torch.cat(drawn, dim=1)
