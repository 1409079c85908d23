"""A reward model: a language model's body and a linear head at the answer's last token, or its mean.

Paper: Ouyang et al., "Training language models to follow instructions with human feedback",
NeurIPS 2022, Section 3.5.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Pool = Literal["last", "mean"]


class Scored(nn.Module):
    """body: a causal language model with an adapter. outputs: A scores per answer. pool: what the
    head reads, the state at the answer's last token, or the mean over its tokens. The head is
    float32, has a bias, starts at 0 and is trained and sent with the adapter."""

    def __init__(self, body: nn.Module, hidden: int, outputs: int, pool: Pool = "last"):
        super().__init__()
        self.body, self.pool = body, pool
        self.head = nn.Linear(hidden, outputs)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, tokens: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
        """tokens: (B, T), right padded. starts: (B,), tokens of the prompt. ends: (B,), tokens in
        all. Returns (B, A)."""
        last = self._states(tokens)
        if self.pool == "last":
            return self.head(last[torch.arange(len(tokens), device=tokens.device), ends - 1])
        return self.head(_mean(last, starts, ends))

    def between(self, tokens: Tensor, starts: Tensor, middles: Tensor, ends: Tensor) -> Tensor:
        """Two answers in a row of tokens (B, T): the first from starts, the second from middles
        (B,) on. Returns (B, A), read at the end of the second, or its mean taken from the
        first's."""
        last = self._states(tokens)
        if self.pool == "last":
            return self.head(last[torch.arange(len(tokens), device=tokens.device), ends - 1])
        return self.head(_mean(last, starts, middles) - _mean(last, middles, ends))

    def along(self, tokens: Tensor) -> Tensor:
        """(B, T) -> (B, T, A), the scores after every token; a critic's values."""
        return self.head(self._states(tokens))

    def _states(self, tokens: Tensor) -> Tensor:
        """(B, T) -> (B, T, h), the body's last states."""
        found = self.body(input_ids=tokens, use_cache=False, output_hidden_states=True)
        return found.hidden_states[-1][:, -tokens.shape[1] :].float()  # virtual tokens go


def _mean(states: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
    """(B, T, h) -> (B, h), over the places from starts to before ends."""
    place = torch.arange(states.shape[1], device=states.device)
    inside = ((place >= starts[:, None]) & (place < ends[:, None])).float()
    return (inside[:, :, None] * states).sum(dim=1) / (ends - starts)[:, None]
