"""The losses that trl has too, on the same model, the same reference and the same pairs."""

import pytest
import torch

pytest.importorskip("trl", reason="pip install 'fedalign[llm]'")

from fedalign.core.preferences import Sequences
from fedalign.objectives.dpo import Dpo
from fedalign.objectives.hinge import Hinge
from fedalign.objectives.ipo import Ipo
from fedalign.objectives.rdpo import Rdpo
from fedalign.training.pair_terms import Batch, terms
from fedalign.training.sequences import logps
from tests import tiny_alignment

BETA = 0.3


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A taught model as reference, one that has moved away as policy; trl's trainer for them."""
    from datasets import Dataset
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast
    from trl import DPOConfig, DPOTrainer

    workload = tiny_alignment.alignment()
    pairs = workload._held[0, False].take(torch.arange(8))
    reference, policy = (tiny_alignment.MODEL.build(88) for _ in range(2))
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in policy.parameters():
            weight += 0.02 * torch.randn_like(weight)
    words = Tokenizer(WordLevel({w: i for i, w in enumerate(pairs.words)}, unk_token="<pad>"))
    words.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="<eos>", unk_token="<pad>"
    )
    row = {"prompt": "<bos> <usr>", "chosen": " a0", "rejected": " a1"}
    settings = DPOConfig(
        output_dir=str(tmp_path_factory.mktemp("trl")), report_to="none", save_strategy="no",
        use_cpu=True, bf16=False, gradient_checkpointing=False, max_length=None, beta=BETA,
        disable_tqdm=True, dataloader_pin_memory=False, label_smoothing=0.2,
        loss_type=["sigmoid"], disable_dropout=True,
    )  # fmt: skip
    trainer = DPOTrainer(
        model=policy, ref_model=reference, args=settings, processing_class=tokenizer,
        train_dataset=Dataset.from_list([row] * 2),
    )  # fmt: skip
    return pairs, policy, reference, trainer


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "objective"),
    [
        ("sigmoid", Dpo(BETA)),
        ("hinge", Hinge(BETA)),
        ("ipo", Ipo(BETA)),
        ("robust", Rdpo(BETA, 0.2)),
    ],
)
def test_loss_and_gradient_are_trls(both, name, objective):
    """Loss to 1e-5; norm of the gradient by every weight to 1e-4, relative."""
    pairs, policy, reference, trainer = both
    prompts = pairs.chosen.prompts()
    answers = zip(prompts, pairs.chosen.completions(), pairs.rejected.completions(), strict=True)
    rows = [{"prompt_ids": p, "chosen_ids": c, "rejected_ids": r} for p, c, r in answers]
    trainer.loss_types = [name]
    policy.zero_grad()
    theirs = trainer._compute_loss(trainer.model, trainer.data_collator(rows), False)
    theirs.backward()
    norm = torch.cat([p.grad.flatten() for p in policy.parameters()]).norm()

    policy.zero_grad()
    sequences = Sequences.concatenate([pairs.chosen, pairs.rejected])
    with torch.no_grad():
        fixed = logps(reference, sequences).view(2, -1).T
    loss = objective(terms(Batch(pairs, fixed), logps(policy, sequences)))
    loss.value.backward()
    ours = torch.cat([p.grad.flatten() for p in policy.parameters()]).norm()
    assert float(loss.value.detach()) == pytest.approx(float(theirs), rel=1e-5)
    assert float(ours) == pytest.approx(float(norm), rel=1e-4)
