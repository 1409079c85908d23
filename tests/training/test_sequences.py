"""Log-probabilities of completions: by hand, against padding, against chunks and micro batches."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from fedalign.core.preferences import Preferences, Sequences
from fedalign.objectives.dpo import Dpo
from fedalign.objectives.dr_dpo import DrDpo
from fedalign.objectives.kto import Kto
from fedalign.training.pair_terms import Batch, descend
from fedalign.training.reference import check_agreement, reference_logps
from fedalign.training.rollout import Rollout
from fedalign.training.sequences import inside, logps, token_logps
from tests import tiny_alignment


class Constant(nn.Module):
    """The same logits whatever is read."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, input_ids, use_cache=False):
        return SimpleNamespace(logits=self.logits.expand(len(input_ids), -1, -1))


def test_gathering_by_hand():
    """ids [0, 2, 1, 3], two of them the prompt: log-probabilities of 1 and 3 are summed."""
    rows = [[0.0, 1, 2, -1], [1, 0, -1, 0.5], [0.2, 0.1, 0, -0.3], [2, 1, 0, 0]]
    model = Constant([rows])
    found = token_logps(model, torch.tensor([[0, 2, 1, 3]]))[0].tolist()
    assert found == pytest.approx([-0.440189699, -1.746567269, -1.703001982], abs=1e-6)
    sequences = Sequences.of([[0, 2]], [[1, 3]])
    assert float(logps(model, sequences).detach()[0]) == pytest.approx(-3.449569252, abs=1e-6)
    assert inside(sequences, 4).tolist() == [[False, True, True]]


@pytest.fixture(scope="module")
def tuned():
    """A taught model with a LoRA that has left its start."""
    workload = tiny_alignment.alignment()
    module = workload._flat.module
    torch.manual_seed(0)
    workload._flat.load(workload.initial() + 0.05 * torch.randn(workload.layout.size))
    return workload, module


def test_padding_and_chunks_change_nothing(tuned):
    workload, module = tuned
    rows = workload._held[0, False].chosen
    with torch.no_grad():
        plain = logps(module, rows, 64)
        wider = Sequences(rows.padded(rows.tokens.shape[1] + 7), rows.starts, rows.ends)
        assert torch.allclose(logps(module, wider, 64), plain, atol=1e-5, rtol=1e-6)
        assert torch.allclose(logps(module, rows, 3), plain, atol=1e-4, rtol=1e-6)


def test_the_reference_is_the_base_bit_for_bit(tuned):
    workload, module = tuned
    rows = workload._held[0, False].chosen
    off = reference_logps(module, rows)
    moved = workload._flat.vector.clone()
    workload._flat.load(workload.initial())
    with torch.no_grad():
        assert torch.equal(off, logps(module, rows, 64))  # an untrained LoRA adds exact zeros
    workload._flat.load(moved)
    with torch.no_grad():
        assert not torch.allclose(off, logps(module, rows, 64), atol=1e-2)
    with pytest.raises(Exception, match="first loss is not ln 2"):
        check_agreement(off + 0.01, off, "First local step")


@pytest.mark.parametrize("objective", [Dpo(0.5), DrDpo(0.5, 0.2), Kto(0.5)], ids=repr)
def test_micro_batches_have_the_gradient_of_the_whole_batch(tuned, objective):
    workload, module = tuned
    pairs = workload._held[0, False].take(torch.arange(8))
    both = Sequences.concatenate([pairs.chosen, pairs.rejected])
    batch = Batch(pairs, reference_logps(module, both).view(2, -1).T)
    gradients = []
    for micro in (None, 2):
        workload._flat.gradient.zero_()
        loss = descend(module, batch, objective, {}, 16, micro)
        gradients.append(workload._flat.gradient.clone())
    assert torch.isfinite(loss.value) and gradients[0].norm() > 0
    assert float((gradients[0] - gradients[1]).norm() / gradients[0].norm()) < 1e-5


# ------------------------------------------------------------------ rollouts


def test_samples_follow_the_models_probabilities():
    """One prompt 3,000 times: the first token's frequencies lie within 4 deviations."""
    logits = torch.tensor([[[0.0, 1.0, 2.0, 0.5]]])

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, input_ids, past_key_values=None, use_cache=True):
            return SimpleNamespace(logits=logits.expand(len(input_ids), 1, 4), past_key_values=None)

    roll = Rollout(words=4, end=3, longest=1)
    answers = roll(Model(), [[0]] * 3000, np.random.default_rng(0))
    counts = np.bincount([a[0] for a in answers], minlength=4) / 3000
    chances = torch.softmax(logits[0, 0], 0).numpy()
    assert (abs(counts - chances) < 4 * np.sqrt(chances * (1 - chances) / 3000)).all()
    few = Rollout(words=2, end=1, longest=5)(Model(), [[0]] * 50, np.random.default_rng(0))
    assert {t for a in few for t in a} == {0, 1} and all(1 not in a[:-1] for a in few)


def test_an_answer_depends_on_its_prompt_and_its_row_alone(tuned):
    workload, module = tuned
    prompts = tiny_alignment.data().prompts("eval", 20)
    whole = workload._roll(module, prompts, np.random.default_rng(1))
    small = Rollout(workload._roll.words, 2, batch=3)(module, prompts, np.random.default_rng(1))
    assert sum(a == b for a, b in zip(whole, small, strict=True)) >= 19  # rounding may move one
    assert all(a.count(2) <= 1 and 2 not in a[:-1] for a in whole)


def test_pairs_keep_their_order():
    first = Sequences.of([[1]], [[2, 3]])
    pairs = Preferences(
        first, Sequences.of([[1]], [[4]]), torch.zeros(1, 2), torch.ones(1).long(),
        torch.zeros(1).long(), torch.zeros(1).bool(),
    )  # fmt: skip
    assert pairs.swap(torch.tensor([True])).chosen.completions() == [[4]]
