"""Log-probabilities of completions under a causal language model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fedalign.core.errors import ConfigError
from fedalign.core.preferences import Sequences


def token_logps(model: nn.Module, tokens: Tensor) -> Tensor:
    """(B, T) right-padded token numbers -> (B, T - 1), float32: entry t is the log-probability of
    token t + 1. Attention is causal, so that padding on the right needs no mask."""
    logits = model(input_ids=tokens, use_cache=False).logits
    logits = logits[:, -tokens.shape[1] : -1]  # virtual tokens of a prompt adapter go
    if logits.dtype != torch.float32:
        return _gathered(logits.flatten(0, 1), tokens[:, 1:].flatten()).view(len(tokens), -1)
    chosen = logits.gather(-1, tokens[:, 1:, None])[..., 0]
    return chosen - torch.logsumexp(logits, dim=-1)


def inside(sequences: Sequences, width: int) -> Tensor:
    """(B, width - 1) bool: where `token_logps` belongs to a completion."""
    place = torch.arange(width - 1, device=sequences.starts.device)
    return (place >= sequences.starts[:, None] - 1) & (place < sequences.ends[:, None] - 1)


@dataclass(frozen=True)
class Packing:
    """Sequences behind each other in rows without padding. tokens: of a row at most, >= 1; one
    longer sequence is a row of its own. Positions restart at 0, by which the model keeps sequences
    apart; see `check_packing`."""

    tokens: int


def logps(model: nn.Module, sequences: Sequences, passes: int | Packing = 64) -> Tensor:
    """(N,) sums over the completion tokens, end mark included, float32, with gradient.

    passes: so many rows of similar length go through the model together, cut to the longest; or
    they are packed.
    """
    if isinstance(passes, Packing):
        return _packed(model, sequences, passes.tokens)
    order = sequences.ends.argsort(stable=True)
    found = []
    for rows in order.split(passes):
        part = sequences.take(rows)
        width = int(part.ends.max())
        values = token_logps(model, part.tokens[:, :width])
        found.append((values * inside(part, width)).sum(dim=1))
    return torch.cat(found)[order.argsort()]


def bins(lengths: list[int], most: int) -> list[list[int]]:
    """Which sequences share a row: the longest first, each into the first row that has room."""
    rows: list[list[int]] = []
    room: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        place = next((r for r, left in enumerate(room) if left >= lengths[i]), None)
        if place is None:
            rows.append([])
            room.append(most)
            place = len(rows) - 1
        rows[place].append(i)
        room[place] -= lengths[i]
    return rows


def _packed(model: nn.Module, sequences: Sequences, most: int) -> Tensor:
    """Logits are computed where completions are, nowhere else."""
    starts, ends = sequences.starts.tolist(), sequences.ends.tolist()
    device = sequences.tokens.device
    total = torch.zeros(len(ends), device=device)
    for row in bins(ends, most):
        tokens = torch.cat([sequences.tokens[i, : ends[i]] for i in row])
        places = torch.cat([torch.arange(ends[i]) for i in row]).to(device)
        offsets = [sum(ends[i] for i in row[:k]) for k in range(len(row))]
        kept = [
            torch.arange(offset + starts[i] - 1, offset + ends[i] - 1)
            for i, offset in zip(row, offsets, strict=True)
        ]
        owner = torch.cat([torch.full((len(k),), i) for i, k in zip(row, kept, strict=True)])
        where = torch.cat(kept).to(device)
        out = model(
            input_ids=tokens[None], position_ids=places[None], use_cache=False, logits_to_keep=where
        )
        values = _gathered(out.logits[0], tokens[where + 1])
        total = total.index_add(0, owner.to(device), values)
    return total


def _gathered(logits: Tensor, wanted: Tensor, size: int = 4096) -> Tensor:
    """(S, V) and (S,) -> (S,) log-probabilities in float32; narrower logits are widened a piece at
    a time, and again for the backward pass, so that they never exist in float32 as a whole."""

    def piece(part: Tensor, at: Tensor) -> Tensor:
        wide = part.float()
        return wide.gather(-1, at[:, None])[:, 0] - torch.logsumexp(wide, dim=-1)

    if logits.dtype == torch.float32:
        return piece(logits, wanted)
    parts = zip(logits.split(size), wanted.split(size), strict=True)
    return torch.cat([checkpoint(piece, part, at, use_reentrant=False) for part, at in parts])


@torch.no_grad()
def check_packing(model: nn.Module, words: int = 16) -> None:
    """Raise unless a packed sequence has the log-probability it has alone, whatever stands before."""
    device = next(model.parameters()).device
    told = "workload.packing: this model or adapter {}: take workload.packing=null."

    def drawn(first: int) -> Sequences:
        rows = [
            [(first * k + 3) % words for k in range(9)],
            [(5 * k + 1) % words for k in range(6)],
        ]
        made = Sequences.of([row[:2] for row in rows], [row[2:] for row in rows])
        return Sequences(*(x.to(device) for x in vars(made).values()))

    try:
        alone = float(logps(model, drawn(7))[1])
        found = [float(logps(model, drawn(first), Packing(64))[1]) for first in (7, 11)]
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(told.format(f"takes no packed rows ({error})")) from error
    leak, apart = abs(found[0] - found[1]) / abs(alone), abs(found[0] - alone) / abs(alone)
    if not leak < 1e-6 or not apart < 2e-2:  # bfloat16 moves the second one
        raise ConfigError(
            told.format(
                f"mixes packed sequences (one's log-probability moves by {leak:.2g} with the one "
                f"before it, and lies {apart:.2g} from where it lies alone)"
            )
        )
