"""Adapters: counts, neutral starts, a reference that is the base, tied factors."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

pytest.importorskip("transformers", reason="pip install 'fedalign[llm]'")
pytest.importorskip("peft", reason="pip install 'fedalign[llm]'")

from fedalign.core.errors import ConfigError
from fedalign.models.houlsby import Houlsby
from fedalign.models.low_rank import LowRank, lora_size
from fedalign.models.rescaling import Rescaling
from fedalign.models.tied_lora import TiedLora
from fedalign.models.tiny_lm import TinyLm
from fedalign.training.flat import FlatModel

TOKENS = torch.randint(0, 140, (3, 9), generator=torch.Generator().manual_seed(0))
NAMED = {
    "lora": LowRank(), "lora_qv": LowRank(targets=("q_proj", "v_proj")), "dora": LowRank("dora"),
    "vera": LowRank("vera", targets=("q_proj", "v_proj")), "ia3": Rescaling(), "houlsby": Houlsby(),
    "tied": TiedLora(), "tied_uv": TiedLora("uv"), "tied_ab": TiedLora("AB"),
    "untied": TiedLora("AB", tied=False), "tied_auv": TiedLora("Auv"),
    "lora_words": LowRank(words=(3, 9, 140)), "dora_words": LowRank("dora", words=(7,)),
    "ffa": LowRank(freeze_a=True),
}  # fmt: skip


def logits(module):
    with torch.no_grad():
        return module.eval()(input_ids=TOKENS, use_cache=False).logits


def wrapped(adapter, model=None):
    base = (model or TinyLm()).build(144)
    plain = logits(base)
    torch.manual_seed(0)
    return adapter.wrap(base), plain


def trainable(module):
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("lora", 78_848),
        ("lora_qv", 16_384),
        ("dora", 84_224),
        ("vera", 1_088),
        ("ia3", 2_432),
        ("houlsby", 8 * (2 * 128 * 16 + 128 + 16)),
        ("untied", 78_848),
        ("lora_words", 78_848 + 3 * 128),
        ("dora_words", 84_224 + 128),
        ("ffa", 4 * 8 * (4 * 128 + 2 * 352 + 128)),
        ("tied_uv", 4 * (7 * 8 + 4 * 128 + 2 * 352 + 128)),
    ],
)
def test_counts_on_four_layers_of_128(name, count):
    assert trainable(wrapped(NAMED[name])[0]) == count


@pytest.mark.parametrize("name", NAMED)
def test_they_start_neutral_and_their_reference_is_the_base_bit_for_bit(name):
    module, plain = wrapped(NAMED[name])
    assert torch.allclose(logits(module), plain, atol=1e-5) and NAMED[name].neutral
    flat = FlatModel(module, torch.device("cpu"))
    torch.manual_seed(1)
    flat.load(flat.vector + 0.1 * torch.randn(flat.layout.size))
    assert not torch.allclose(logits(module), plain, atol=1e-2)
    with module.disable_adapter():
        assert torch.equal(logits(module), plain)
    assert not torch.allclose(logits(module), plain, atol=1e-2)


@pytest.mark.parametrize("name", NAMED)
def test_every_one_receives_a_gradient_at_its_start(name):
    flat = FlatModel(wrapped(NAMED[name])[0], torch.device("cpu"))
    flat.module(input_ids=TOKENS, use_cache=False).logits.square().mean().backward()
    assert flat.gradient.norm() > 0


@pytest.mark.parametrize("name", ["lora", "vera", "tied", "houlsby", "lora_words"])
def test_loading_a_payload_is_the_identity(name):
    """What is sent is every tensor that requires a gradient, frozen random factors are not."""
    flat = FlatModel(wrapped(NAMED[name])[0], torch.device("cpu"))
    sent = torch.randn(flat.layout.size)
    flat.load(sent)
    assert torch.equal(flat.vector, sent)
    other = FlatModel(wrapped(NAMED[name])[0], torch.device("cpu"))
    other.load(sent)
    assert torch.equal(logits(flat.module), logits(other.module))


def test_a_nemotron_builds_and_takes_adapters_where_it_has_layers():
    model = TinyLm("nemotron", mlp=512)
    module, plain = wrapped(LowRank(), model)
    assert torch.equal(logits(module), plain)
    assert sum(p.numel() for p in model.build(144).parameters()) == pytest.approx(772e3, rel=2e-3)


# ------------------------------------------------------------------ rows of words


@pytest.mark.parametrize("family", ["llama", "nemotron"])
def test_only_rows_of_the_words_move_tied_outputs_with_them(family):
    """A new row is read wherever its word stands; a tied output layer says the word by it, an
    untied one as ever; prompts without the word keep their logits of all other words."""
    model = TinyLm(family, mlp=512)
    module, _ = wrapped(LowRank(words=(9, 3, 9)), model)
    flat = FlatModel(module, torch.device("cpu"))
    (part,) = (part for part in flat.layout.parts if "token" in part.name)
    assert part.shape == (2, 128)
    without, with_it = torch.tensor([[1, 40, 41]]), torch.tensor([[1, 9, 41]])
    base = module.get_base_model()

    def said(tokens):
        with torch.no_grad():
            return base(input_ids=tokens, use_cache=False).logits[0, -1]

    before = [said(without), said(with_it)]
    assert torch.equal(flat.vector[part.span].view(2, 128)[1], _row(base, 9))
    moved = flat.vector.clone()
    moved[part.span] += torch.linspace(-1, 2, part.size)
    flat.load(moved)
    after = [said(without), said(with_it)]
    others = [i for i in range(144) if i not in (3, 9)]
    assert torch.equal(after[0][others], before[0][others])
    assert not torch.allclose(after[1], before[1], atol=1e-3)
    apart = (after[0] - before[0])[[3, 9]].abs().min()
    assert apart > 1e-3 if family == "llama" else apart == 0
    with module.disable_adapter():
        assert torch.equal(said(with_it), before[1])


def _row(base, number):
    return base.get_input_embeddings().original_module.weight[number]


def test_words_that_cannot_be_trained_are_refused():
    for adapter, sentence in (
        (lambda: LowRank("vera", words=(3,)), "VeRA cannot"),
        (lambda: LowRank(words=("labels",)), "knows words by name"),
        (lambda: LowRank(words=(3, 400)), r"0 \.\. 191 of this model"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            adapter().wrap(TinyLm().build(144))


# ------------------------------------------------------------------ tied factors


def fused(layers=32, width=4096):
    """L fused query-key-value layers d -> 3 d, without storage."""
    with torch.device("meta"):
        stack = nn.ModuleList(nn.ModuleDict({"qkv": nn.Linear(width, 3 * width, bias=False)})
                              for _ in range(layers))  # fmt: skip
    model = nn.Module()
    model.layers, model.config = stack, SimpleNamespace(hidden_size=width)
    return model


@pytest.mark.parametrize(
    ("rank", "train", "tied", "count"),
    [
        (8, "AB", False, 4_194_304),
        (8, "ABuv", True, 524_544),
        (8, "AB", True, 131_072),
        (8, "uv", True, 393_472),
        (32, "AB", False, 16_777_216),
        (32, "ABuv", True, 918_528),
        (128, "ABuv", True, 2_494_464),
    ],
)
def test_tied_counts_on_a_seven_billion_model(rank, train, tied, count):
    """Tied in full, rank 8: 12.51 % of LoRA's parameters."""
    adapter = TiedLora(train, tied, rank, ("qkv",))
    assert trainable(adapter.wrap(fused())) == count
    assert lora_size(fused(), adapter) == rank * 32 * (4096 + 3 * 4096)


@pytest.mark.parametrize("train", ["ABuv", "AB", "uv", "Buv", "Auv", "ABu", "ABv"])
def test_merged_weights_equal_the_adapter(train):
    module, _ = wrapped(TiedLora(train))
    flat = FlatModel(module, torch.device("cpu"))
    torch.manual_seed(1)
    flat.load(flat.vector + 0.1 * torch.randn(flat.layout.size))
    adapted = logits(module)
    with torch.no_grad():
        for adapter in module._adapters:
            adapter.base.weight += adapter.update()
    with module.disable_adapter():
        assert torch.allclose(logits(module), adapted, atol=1e-4)


def test_tied_factors_are_one_tensor_and_frozen_ones_come_from_the_seed():
    module, _ = wrapped(TiedLora("uv"))
    first, second = module._adapters[:2]
    assert first.A is second.A and first.u is not second.u
    again, _ = wrapped(TiedLora("uv"))
    assert torch.equal(first.A, again._adapters[0].A)
    other, _ = wrapped(TiedLora("uv", seed=1))
    assert not torch.equal(first.A, other._adapters[0].A)


def test_refusals():
    for make, sentence in (
        (lambda: LowRank("qlora"), "lora, dora or vera"),
        (lambda: LowRank(rank=0), "rank >= 1"),
        (lambda: TiedLora("AX"), "some of A, B, u, v"),
        (lambda: Houlsby(0), "1 or more"),
        (lambda: LowRank(targets=("c_attn",)).wrap(TinyLm().build(144)), "do not fit this model"),
        (lambda: TinyLm("gpt"), "llama or nemotron"),
        (lambda: TinyLm(hidden=30), "multiple of 2 x heads"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            make()
