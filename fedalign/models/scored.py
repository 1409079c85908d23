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
        states = self.body(input_ids=tokens, use_cache=False, output_hidden_states=True)
        last = states.hidden_states[-1][:, -tokens.shape[1] :].float()  # virtual tokens go
        if self.pool == "last":
            return self.head(last[torch.arange(len(tokens), device=tokens.device), ends - 1])
        place = torch.arange(tokens.shape[1], device=tokens.device)
        inside = ((place >= starts[:, None]) & (place < ends[:, None])).float()
        return self.head((inside[:, :, None] * last).sum(dim=1) / (ends - starts)[:, None])

    def along(self, tokens: Tensor) -> Tensor:
        """(B, T) -> (B, T, A), the scores after every token; a critic's values."""
        states = self.body(input_ids=tokens, use_cache=False, output_hidden_states=True)
        return self.head(states.hidden_states[-1][:, -tokens.shape[1] :].float())
