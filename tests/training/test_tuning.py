"""AdamW on a flat vector, learning rates over rounds, the cache."""

import pytest
import torch
from torch import nn

from fedalign.core.errors import ConfigError
from fedalign.training.cache import Cache
from fedalign.training.flat import FlatModel
from fedalign.training.tuning import NonFiniteLoss, Tuning, adamw


def quadratic():
    torch.manual_seed(0)
    flat = FlatModel(nn.Linear(4, 3), torch.device("cpu"))
    goal = torch.randn(flat.layout.size)

    def backward(step):
        flat.gradient.copy_((flat.vector - goal) * (step + 1))
        return float((flat.vector - goal).square().sum())

    return flat, goal, backward


def test_steps_equal_torchs_adamw():
    flat, goal, backward = quadratic()
    start = flat.vector.clone()
    tuning = Tuning(lr=0.01, clip=1.0, weight_decay=0.1, warmup_steps=0)
    vector = adamw(flat, start, 6, backward, lambda s: 0.01 * (s + 1) / 6, tuning).vector
    leaf = nn.Parameter(start.clone())
    theirs = torch.optim.AdamW([leaf], lr=0.01, betas=(0.9, 0.98), weight_decay=0.1)
    for step in range(6):
        leaf.grad = (leaf.detach() - goal) * (step + 1)
        nn.utils.clip_grad_norm_([leaf], 1.0)
        theirs.param_groups[0]["lr"] = 0.01 * (step + 1) / 6
        theirs.step()
    assert torch.allclose(vector, leaf.detach(), atol=1e-6)


def test_kept_moments_make_two_rounds_of_three_steps_one_of_six():
    flat, _, backward = quadratic()
    start, tuning = flat.vector.clone(), Tuning(weight_decay=0.1)
    whole = adamw(flat, start, 6, backward, lambda s: 0.01, tuning)
    half = adamw(flat, start, 3, backward, lambda s: 0.01, tuning)
    later = lambda step: backward(step + 3)  # noqa: E731
    rest = adamw(flat, half.vector, 3, later, lambda s: 0.01, tuning, moments=half.moments)
    assert torch.equal(rest.vector, whole.vector) and rest.moments["steps"] == 6
    again = adamw(flat, half.vector, 3, later, lambda s: 0.01, tuning, moments=half.moments)
    assert torch.equal(again.vector, rest.vector)  # what was passed is left as it was
    anew = adamw(flat, half.vector, 3, later, lambda s: 0.01, tuning)
    assert not torch.allclose(anew.vector, whole.vector, atol=1e-4)


def test_a_loss_that_is_no_number_names_its_step_and_touches_nothing():
    flat, _, _ = quadratic()
    start = flat.vector.clone()
    with pytest.raises(NonFiniteLoss, match="local step 1 of 3 is nan"):
        adamw(flat, start, 3, lambda step: float("nan"), lambda s: 0.1, Tuning())
    assert torch.equal(flat.vector, start)


def test_learning_rates_warm_up_over_rounds_and_fall_by_half_a_cosine():
    tuning = Tuning(lr=1.0, lr_min=0.2, warmup_steps=3)
    assert [tuning.rate(s, 1, 5) for s in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert tuning.rate(50, 3, 5) == pytest.approx(0.6) and tuning.rate(50, 5, 5) == 0.2
    assert Tuning(lr=1.0).rate(50, 4, 5) == 1.0


def test_the_cache_makes_once_and_again_where_damaged(tmp_path):
    cache, made = Cache(str(tmp_path)), []

    def make():
        made.append(1)
        return {"x": torch.arange(3)}

    for _ in range(2):
        assert cache.get("kind", {"a": 1}, make)["x"].tolist() == [0, 1, 2]
    assert len(made) == 1
    cache.get("kind", {"a": 2}, make)
    assert len(made) == 2
    for path in (tmp_path / "kind").glob("*.safetensors"):
        path.write_bytes(b"nothing of the kind")
    assert cache.get("kind", {"a": 1}, make)["x"].tolist() == [0, 1, 2] and len(made) == 3


def test_the_cache_lies_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("FEDALIGN_CACHE", str(tmp_path / "here"))
    assert Cache().path == tmp_path / "here"
    monkeypatch.delenv("FEDALIGN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert Cache().path == tmp_path / "fedalign"


@pytest.mark.parametrize("name", ["lr", "batch_size", "clip", "micro_batch", "chunk"])
def test_refusals(name):
    with pytest.raises(ConfigError, match=rf"workload\.{name} must be"):
        Tuning(**{name: 0})
