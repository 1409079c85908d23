"""The reference model: the base with its adapter switched off, asked once per sequence.

Log-probabilities are kept by the hash of model and sequences; a wrong reference is found by its
first use, where policy and reference must agree.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedalign.core.digest import of_tensor
from fedalign.core.errors import IntegrityError
from fedalign.core.preferences import Preferences, Sequences
from fedalign.training.cache import Cache
from fedalign.training.sequences import Packing, logps

TOLERANCE = 1e-3  # of a log-probability of tens, through forward passes cut differently
RELATIVE = {"float32": 1e-5, "bfloat16": 2e-2}  # of a long answer's


@torch.no_grad()
def reference_logps(module: nn.Module, sequences: Sequences, passes: int | Packing = 64) -> Tensor:
    """(N,), computed now with the adapter switched off."""
    training = module.training
    module.eval()
    with module.disable_adapter():
        found = logps(module, sequences, passes)
    module.train(training)
    return found


@torch.no_grad()
def as_it_is(module: nn.Module, pairs: Preferences, passes: int | Packing = 64) -> Tensor:
    """(N, 2), of chosen and rejected answers under the module with its adapter."""
    both = Sequences.concatenate([pairs.chosen, pairs.rejected])
    return logps(module, both, passes).view(2, -1).T.contiguous()


def kept_reference_logps(
    module: nn.Module, base: str, sequences: Sequences, cache: Cache, precision: str,
    passes: int | Packing = 64,
) -> Tensor:  # fmt: skip
    """(N,), read from the cache or computed once. base: what names the base model's weights."""
    device = next(module.parameters()).device.type
    key = {
        "base": base,
        "device": device,
        "precision": precision,
        "threads": torch.get_num_threads(),
        "tokens": of_tensor(sequences.tokens),
        "starts": of_tensor(sequences.starts),
        "ends": of_tensor(sequences.ends),
        **({"packing": passes.tokens} if isinstance(passes, Packing) else {}),
    }
    found = cache.get(
        "reference", key, lambda: {"logps": reference_logps(module, sequences, passes)}
    )
    return found["logps"].to(sequences.starts.device)


def check_agreement(
    policy: Tensor, reference: Tensor, what: str, precision: str = "float32"
) -> None:
    """Raise unless the untrained adapter changes nothing: else every loss would start wrong."""
    room = TOLERANCE + RELATIVE[precision] * reference.abs()
    apart = float((policy - reference).abs().max()) if len(policy) else 0.0
    if not bool(((policy - reference).abs() <= room).all()):
        raise IntegrityError(
            f"{what}: the untrained policy and its reference differ by {apart:.3g} in the "
            "log-probability of an answer, so the first loss is not ln 2. The kept reference "
            "log-probabilities belong to another model (delete the cache), or the adapter does "
            "not start neutral."
        )
