"""Virtual tokens: counts, a reference that is the base, a cache that knows them, an exact twin."""

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="pip install 'fedalign[llm]'")
pytest.importorskip("peft", reason="pip install 'fedalign[llm]'")

from fedalign.core.errors import ConfigError
from fedalign.models.tiny_lm import TinyLm
from fedalign.models.virtual_tokens import VirtualTokens
from fedalign.training.flat import FlatModel
from fedalign.training.rollout import Rollout

METHODS = ("prompt", "p_tuning", "prefix")
TOKENS = torch.randint(0, 140, (3, 9), generator=torch.Generator().manual_seed(0))
SMALL = TinyLm(hidden=32, layers=2, heads=2, mlp=64)


def wrapped(method, model=SMALL, **knobs):
    base = model.build(144)
    with torch.no_grad():
        plain = base.eval()(input_ids=TOKENS, use_cache=False).logits
    torch.manual_seed(0)
    return VirtualTokens(method, **knobs).wrap(base).eval(), plain


@torch.no_grad()
def logits(module):
    return module(input_ids=TOKENS, use_cache=False).logits[:, -TOKENS.shape[1] :]


@pytest.mark.parametrize(("method", "count"), [("prompt", 1_024), ("p_tuning", 21_760), ("prefix", 8_192)])  # fmt: skip
def test_counts_on_four_layers_of_128(method, count):
    """P-tuning sends its encoder: 8 x 128 folded embeddings alone would lose what it learnt."""
    module, _ = wrapped(method, TinyLm())
    assert sum(p.numel() for p in module.parameters() if p.requires_grad) == count


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", ["llama", "nemotron"])
def test_off_is_the_base_bit_for_bit_and_on_is_not(method, family):
    model = TinyLm(family, hidden=32, layers=2, heads=2, key_heads=1, mlp=64)
    module, plain = wrapped(method, model)
    assert not torch.allclose(logits(module), plain, atol=1e-3)
    with module.disable_adapter():
        assert torch.equal(logits(module), plain)
    assert not VirtualTokens(method).neutral  # so that nobody expects first losses of ln 2


@pytest.mark.parametrize("method", METHODS)
def test_a_payload_says_everything_and_receives_a_gradient(method):
    flat, other = (FlatModel(wrapped(method)[0], torch.device("cpu")) for _ in range(2))
    sent = flat.vector + 0.1 * torch.randn(flat.layout.size)
    flat.load(sent)
    other.load(sent)
    assert torch.equal(logits(flat.module), logits(other.module))
    flat.module(input_ids=TOKENS, use_cache=False).logits.square().mean().backward()
    assert (flat.gradient != 0).double().mean() > 0.5  # units of the encoder that are off have none


def test_a_prefix_of_words_is_the_prompt_of_these_words():
    """Both start from the same words: one as embeddings, the other as the keys and values that the
    model makes of them."""
    prompt, _ = wrapped("prompt")
    prefix, _ = wrapped("prefix")
    assert torch.allclose(logits(prompt), logits(prefix), atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_sampling_with_a_cache_equals_sampling_without(method):
    """Virtual tokens stand in the cache once, not before every new token."""
    module, _ = wrapped(method)
    prompts = [row[:5].tolist() for row in TOKENS]
    drawn = Rollout(words=140, end=-1, longest=6)(module, prompts, np.random.default_rng(1))
    uniforms = np.random.default_rng(1).random((3, 6), dtype=np.float32)
    for prompt, answer, numbers in zip(prompts, drawn, uniforms, strict=True):
        told = list(prompt)
        for number in numbers:
            with torch.no_grad():
                last = module(input_ids=torch.tensor([told]), use_cache=False).logits[0, -1, :140]
            chances = torch.softmax(last.float(), 0).cumsum(0)
            told.append(int((chances <= float(number) * chances[-1]).sum()))
        assert told[5:] == answer


def test_refusals():
    for make, sentence in (
        (lambda: VirtualTokens("soft"), "prompt, p_tuning or prefix"),
        (lambda: VirtualTokens(tokens=0), "tokens >= 1"),
        (lambda: VirtualTokens(lr_scale=0.0), "lr_scale above 0"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            make()
