"""Randomness is addressed: same address, same numbers, whoever asks and whenever."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from fedalign.core.seeds import Seeds, derive, seeded


def test_an_address_gives_the_same_numbers_whenever_it_is_asked():
    seeds = Seeds(7)
    first = seeds.at("batch_order", round=3, client=7).permutation(50)
    seeds.at("batch_order", round=1, client=2).random(1000)
    assert np.array_equal(first, seeds.at("batch_order", client=7, round=3).permutation(50))


def test_every_part_of_the_address_counts():
    draws = {
        Seeds(seed).at(purpose, round=round, client=client).integers(2**62)
        for seed in (0, 1)
        for purpose in ("a", "b")
        for round in (1, 11)
        for client in (1, 11)
    }
    assert len(draws) == 16


def test_who_holds_the_secret_re_derives_the_draw():
    secret = Seeds(0).key("server_secret")
    assert derive(secret, "rule", 3, 0).random() == derive(secret, "rule", 3, 0).random()
    assert derive(secret, "rule", 3, 0).random() != derive(secret, "rule", 4, 0).random()
    assert derive(secret, "rule", 3, 0).random() != Seeds(0).at("rule").random()


def test_streams_are_pinned():
    """The first draw of one address, so that a change of generator cannot pass unnoticed."""
    assert Seeds(0).at("pinned").integers(1_000_000) == 946360


def test_threads_draw_torchs_numbers_as_one_alone_would():
    """Eight threads that all seed and draw at once; the process's own stream goes on untouched."""
    torch.manual_seed(5)
    undisturbed = torch.rand(1)
    torch.manual_seed(5)

    def draw(seed):
        with seeded(seed):
            parts = []
            for _ in range(20):
                time.sleep(0)
                parts.append(torch.rand(50))
        return torch.cat(parts)

    alone = [draw(seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(draw, range(8)))
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))
    assert torch.equal(torch.rand(1), undisturbed)
