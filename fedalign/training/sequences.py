"""Log-probabilities of completions under a causal language model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedalign.core.preferences import Sequences


def token_logps(model: nn.Module, tokens: Tensor) -> Tensor:
    """(B, T) right-padded token numbers -> (B, T - 1), float32: entry t is the log-probability of
    token t + 1. Attention is causal, so that padding on the right needs no mask."""
    logits = model(input_ids=tokens, use_cache=False).logits
    logits = logits[:, -tokens.shape[1] : -1].float()  # virtual tokens of a prompt adapter go
    chosen = logits.gather(-1, tokens[:, 1:, None])[..., 0]
    return chosen - torch.logsumexp(logits, dim=-1)


def inside(sequences: Sequences, width: int) -> Tensor:
    """(B, width - 1) bool: where `token_logps` belongs to a completion."""
    place = torch.arange(width - 1, device=sequences.starts.device)
    return (place >= sequences.starts[:, None] - 1) & (place < sequences.ends[:, None] - 1)


def logps(model: nn.Module, sequences: Sequences, chunk: int = 64) -> Tensor:
    """(N,) sums over the completion tokens, end mark included, float32, with gradient.

    Rows of similar length go through the model together, `chunk` at a time, cut to the longest.
    """
    order = sequences.ends.argsort(stable=True)
    found = []
    for rows in order.split(chunk):
        part = sequences.take(rows)
        width = int(part.ends.max())
        values = token_logps(model, part.tokens[:, :width])
        found.append((values * inside(part, width)).sum(dim=1))
    return torch.cat(found)[order.argsort()]
