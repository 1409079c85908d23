"""Packing, recomputation, bfloat16, and steps that cannot be taken."""

import pytest
import torch

from fedalign.core.errors import ConfigError
from fedalign.core.preferences import Sequences
from fedalign.models.forward import narrow, recomputing
from fedalign.models.low_rank import LowRank
from fedalign.training.flat import FlatModel
from fedalign.training.sequences import Packing, bins, check_packing, logps
from fedalign.training.tuning import OutOfMemory, Tuning, adamw
from tests import hub_models

FAMILIES = hub_models.FAMILIES


def adapted(family="qwen2", precision="float32", seed=0):
    """An adapter that has left its start."""
    device = torch.device("cpu")
    base = narrow(hub_models.model(family).eval(), precision, device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        flat = FlatModel(LowRank(rank=2).wrap(base).eval(), device)
        flat.load(flat.vector + 0.1 * torch.randn(flat.layout.size))
    return flat


def rows(count=9, seed=0):
    """Sequences of 5 to 30 tokens."""
    rng = torch.Generator().manual_seed(seed)
    drawn = [
        torch.randint(0, 258, (n,), generator=rng).tolist() for n in range(5, 5 + 3 * count, 3)
    ]
    return Sequences.of([row[:3] for row in drawn], [row[3:] for row in drawn])


def gradient(flat, sequences, passes, wanted=False):
    flat.gradient.zero_()
    with recomputing(flat.module, wanted):
        (
            logps(flat.module, sequences, passes) * torch.linspace(-1, 1, len(sequences))
        ).sum().backward()
    return flat.gradient.clone()


def test_the_longest_go_first_into_the_first_row_with_room():
    """Room 10: 7 + 3, 6 + 2 + 1, and 12 alone."""
    assert bins([3, 7, 12, 6, 2, 1], 10) == [[2], [1, 0], [3, 4, 5]]


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_sequences_have_the_log_probabilities_and_gradient_of_padded_ones(family):
    flat, sequences = adapted(family), rows()
    with torch.no_grad():
        padded = logps(flat.module, sequences, 4)
        for tokens in (1, 64, 1000):
            packed = logps(flat.module, sequences, Packing(tokens))
            assert torch.allclose(packed, padded, rtol=1e-5, atol=1e-4)
    one, other = gradient(flat, sequences, 4), gradient(flat, sequences, Packing(64))
    assert float((one - other).norm() / one.norm()) < 1e-4


def test_a_model_that_mixes_packed_sequences_is_refused():
    """One that ignores positions reads what stood before."""
    flat = adapted()
    check_packing(flat.module)
    inner = flat.module.get_base_model()
    forward = inner.forward
    inner.forward = lambda *a, position_ids=None, **more: forward(*a, **more)
    with pytest.raises(ConfigError, match=r"mixes packed sequences .* take workload.packing=null"):
        check_packing(flat.module)
    inner.forward = lambda input_ids, use_cache: forward(input_ids=input_ids)
    with pytest.raises(ConfigError, match="takes no packed rows"):
        check_packing(flat.module)


def test_recomputed_layers_give_the_same_gradient_and_keep_less():
    """Counted: what the backward pass keeps, in bytes."""
    flat, sequences, kept = adapted(), rows(), []
    for wanted in (False, True):
        size = 0

        def keep(x):
            nonlocal size
            size += x.numel() * x.element_size()
            return x

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            found = gradient(flat, sequences, 16, wanted)
        kept.append((found, size))
    assert torch.allclose(kept[0][0], kept[1][0], rtol=1e-5, atol=1e-6)
    assert not any(module.training for module in flat.module.modules())
    with (
        pytest.raises(ConfigError, match="recompute needs a model whose layers"),
        recomputing(torch.nn.Linear(2, 2), True),
    ):
        pass


def test_bfloat16_multiplies_narrow_and_sums_wide():
    """Log-probabilities within 2 %, adapters and gradients float32; packing chunks its logits."""
    wide, slim, sequences = adapted(), adapted(precision="bfloat16"), rows()
    with torch.no_grad():
        exact, near = (logps(flat.module, sequences, Packing(64)) for flat in (wide, slim))
        logits = slim.module(input_ids=sequences.tokens, use_cache=False).logits
    assert logits.dtype == torch.bfloat16 and near.dtype == torch.float32
    assert 0 < float(((exact - near) / exact).abs().max()) < 2e-2
    one, other = gradient(wide, sequences, 16), gradient(slim, sequences, Packing(64))
    assert other.dtype == torch.float32 and torch.cosine_similarity(one, other, dim=0) > 0.99
    with pytest.raises(ConfigError, match="precision must be float32 or bfloat16"):
        narrow(hub_models.model("qwen2"), "float16", torch.device("cpu"))


def test_a_batch_that_does_not_fit_is_told_with_a_cure():
    """A real allocation of 2^60 bytes; other errors pass."""
    flat = adapted()

    def backward(step):
        if step == 2:
            torch.empty(2**60, dtype=torch.uint8)
        return 0.0

    with pytest.raises(OutOfMemory, match=r"memory ran out in local step 3 of 5, a batch of 32 .*take workload.micro_batch=16"):  # fmt: skip
        adamw(flat, flat.vector.clone(), 5, backward, lambda step: 0.1, Tuning())

    def broken(step):
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        adamw(flat, flat.vector.clone(), 5, broken, lambda step: 0.1, Tuning())
