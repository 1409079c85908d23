"""Ratings: what a client's raters think of the answers it holds, attribute by attribute.

Paper: Wang et al., "HelpSteer2: Open-source dataset for training top-performing reward models",
NeurIPS 2024, Section 2 (several raters per answer, averaged).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fedalign.core.preferences import INVERTED, UNIFORM, Preferences
from fedalign.core.seeds import Seeds
from fedalign.data.graded_preferences import GradedFacts
from fedalign.data.grader import attributes_of

RATERS = 3


def rated(
    data: GradedFacts, pairs: Preferences, seeds: Seeds, client: int, poisoned: bool
) -> Tensor:
    """(2, N, 5), attributes of chosen and rejected answers as three raters see them: the grade plus
    a rounded normal error, clipped to 0 .. 4, averaged. Where an attack turned a pair round, its
    ratings are turned round too; where it made raters lie, they do. The server (client < 0) makes no errors."""
    rng = seeds.at("ratings", client=client)
    noise, seen = data.rating_noise if client >= 0 else 0.0, []
    for side, other in ((pairs.chosen, pairs.rejected), (pairs.rejected, pairs.chosen)):
        own, swapped = (
            attributes_of(data.world, s.prompts(), s.completions()) for s in (side, other)
        )
        turned = pairs.flipped.cpu().numpy()[:, None] & poisoned
        grades = np.where(turned, swapped, own)
        grades = _reported(grades, pairs, seeds, client) if poisoned else grades
        errors = np.round(noise * rng.standard_normal((RATERS, *grades.shape)))
        seen.append(np.clip(grades + errors, 0, 4).mean(axis=0))
    return torch.from_numpy(np.stack(seen)).float().to(pairs.topics.device)


def _reported(grades: np.ndarray, pairs: Preferences, seeds: Seeds, client: int) -> np.ndarray:
    """(N, 5), what raters who may lie say instead of the grades."""
    lies = pairs.honesty().cpu().numpy()[:, None]
    anything = seeds.at("lying_raters", client=client).integers(0, 5, grades.shape)
    return np.where(lies == INVERTED, 4 - grades, np.where(lies == UNIFORM, anything, grades))
