"""The GPU benchmark refuses a CPU; its small shape runs there, and its arithmetic is the published one."""

import pytest

pytest.importorskip("trl", reason="pip install 'fedalign[llm]'")

import torch

from experiments import compose
from experiments.benchmarks.gpu import Shape, measure
from fedalign.core.errors import ConfigError

SMALL = Shape(64, 2, 2, 1, 128, 512, 4, 48, 4, 16, "float32")


def test_operations_per_token_of_half_a_billion_weights():
    """N + V d = 0.494e9; a LoRA step of 1,024 tokens costs 2.108e9 per token."""
    shape = Shape()
    assert shape.weights == pytest.approx(0.494e9, rel=1e-3)
    assert shape.flops == pytest.approx(2.108e9, rel=1e-3)
    made = SMALL.build(torch.device("cpu"))
    linear = sum(
        p.numel() for n, p in made.named_parameters() if n.endswith("weight") and p.dim() == 2
    )
    assert linear == SMALL.weights


@pytest.mark.skipif(torch.cuda.is_available(), reason="this host has a GPU")
def test_a_host_without_a_gpu_is_told():
    with pytest.raises(
        ConfigError, match="torch sees none: run it on a GPU host, or take preset=small"
    ):
        measure(Shape(), 3, 1, 989.0)
    with pytest.raises(ConfigError, match="steps >= 3"):
        measure(Shape(), 2, 1, 989.0)
    with pytest.raises(ConfigError, match="an even batch, got 48 and 3"):
        Shape(length=48, batch=3)


@pytest.mark.slow
def test_the_small_shape_runs_on_a_cpu():
    config = compose.study(["scenario=speed_gpu", "preset=small"]).cells[0].config
    assert Shape(**config["shape"]) == SMALL
    rows = measure(SMALL, 3, 1, config["peak_tflops"], "cpu")
    assert [(r["objective"], r["engine"]) for r in rows] == [
        (name, engine) for name in ("sft", "dpo") for engine in ("trl", "fedalign")
    ]
    for row in rows:
        assert row["tokens/s"] == pytest.approx(4 * 48 / row["s per step"], rel=0.1)
        assert row["MFU %"] > 0
