"""A reward model: a language model's body and a linear head at the answer's last token.

Paper: Ouyang et al., "Training language models to follow instructions with human feedback",
NeurIPS 2022, Section 3.5.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Scored(nn.Module):
    """body: a causal language model with an adapter. outputs: A scores per answer. The head is
    float32, has a bias, starts at 0 and is trained and sent with the adapter."""

    def __init__(self, body: nn.Module, hidden: int, outputs: int):
        super().__init__()
        self.body = body
        self.head = nn.Linear(hidden, outputs)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, tokens: Tensor, ends: Tensor) -> Tensor:
        """tokens: (B, T), right padded. ends: (B,), tokens in all. Returns (B, A)."""
        states = self.body(input_ids=tokens, use_cache=False, output_hidden_states=True)
        last = states.hidden_states[-1][:, -tokens.shape[1] :]  # virtual tokens go
        rows = torch.arange(len(tokens), device=tokens.device)
        return self.head(last[rows, ends - 1].float())

    def along(self, tokens: Tensor) -> Tensor:
        """(B, T) -> (B, T, A), the scores after every token; a critic's values."""
        states = self.body(input_ids=tokens, use_cache=False, output_hidden_states=True)
        return self.head(states.hidden_states[-1][:, -tokens.shape[1] :].float())
