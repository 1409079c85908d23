"""Group values: all groups of annotators score the same answers, one reward comes back.

Paper: Srewa, Zhao and Elmalaki, "A Systematic Evaluation of Preference Aggregation in Federated
RLHF for Pluralistic Alignment of LLMs", arXiv 2512.08786, 2025.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from fedalign.core.preferences import Preferences
from fedalign.data.graded_preferences import GradedFacts
from fedalign.data.grader import attributes_of
from fedalign.objectives.climber import Climber
from fedalign.training.online import Reward

Tokens = Sequence[Sequence[int]]


def group_values(data: GradedFacts, objective: Climber, before: Preferences) -> Reward:
    """The reward that all clients climb. before: pairs of answers given before any training, at
    least one; a group's scores are counted from their mean, so that groups are compared by what
    they gain and not by how high they think of answers in general. They are not divided by a
    spread: a point of reward is a point for everybody, as in gold_gain_worst."""
    annotator, world = data.annotator, data.world

    def worth(prompts: Tokens, answers: Tokens) -> np.ndarray:  # (G, N)
        graded = attributes_of(world, prompts, answers)
        values = annotator.groups()
        return np.stack([annotator.worth(world, answers, graded, w) for w in values])

    sides = (before.chosen, before.rejected)
    start = np.concatenate([worth(s.prompts(), s.completions()) for s in sides], axis=1)
    middle = start.mean(axis=1, keepdims=True)

    def reward(prompts: Tokens, answers: Tokens) -> np.ndarray:
        return objective.together(torch.from_numpy(worth(prompts, answers) - middle)).numpy()

    return reward
