"""HelpSteer: answers with five human ratings, paired where a prompt has several answers.

Papers: Wang et al., "HelpSteer: Multi-attribute Helpfulness Dataset for SteerLM", NAACL 2024; Wang
et al., "HelpSteer2: Open-source dataset for training top-performing reward models", 2024.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar, Literal

import numpy as np

from fedalign.core.errors import ConfigError
from fedalign.data.graded_facts import ATTRIBUTES, WEIGHTS
from fedalign.data.jsonl import Malformed, field
from fedalign.data.text_rows import TextRow, TextSource, asked, better


@dataclass(frozen=True)
class HelpSteer(TextSource):
    """{prompt, response, helpfulness, correctness, coherence, complexity, verbosity}, ratings in
    0 .. 4. Any two answers to one prompt are a pair, the better one by `weights` times ratings
    chosen; ties are left out and counted, single answers too. version: 1 or 2, of the files.
    """

    version: Literal[1, 2] = 2
    weights: Sequence[float] = WEIGHTS

    attributes: ClassVar[Sequence[str]] = ATTRIBUTES

    def __post_init__(self) -> None:
        if self.version not in (1, 2):
            raise ConfigError(f"data.source.version must be 1 or 2, got {self.version}.")
        if len(self.weights) != len(ATTRIBUTES):
            raise ConfigError(
                f"data.source.weights needs one number for each of {', '.join(ATTRIBUTES)}, got "
                f"{len(self.weights)}."
            )

    @property
    def name(self) -> str:
        return "helpsteer" if self.version == 1 else "helpsteer2"

    @property
    def files(self) -> Sequence[str]:
        if self.version == 1:
            return ("helpsteer.jsonl", "helpsteer/*.jsonl", "helpsteer_*.jsonl")
        return ("helpsteer2.jsonl", "helpsteer2/*.jsonl", "helpsteer2_*.jsonl")

    def parse(self, row: Mapping[str, Any]) -> Iterator[tuple[str, str, tuple[float, ...]]]:
        ratings = tuple(float(field(row, name, (int, float))) for name in ATTRIBUTES)
        if not all(0 <= rating <= 4 for rating in ratings):
            raise Malformed(f"a rating lies outside 0 .. 4: {ratings}")
        yield field(row, "prompt"), field(row, "response"), ratings

    def gathered(self, found: Sequence[Any], skipped: Counter) -> Sequence[TextRow]:
        by_prompt: dict[str, list[tuple[str, tuple[float, ...]]]] = {}
        for prompt, response, ratings in found:
            by_prompt.setdefault(prompt, []).append((response, ratings))
        rows = []
        for prompt, answers in by_prompt.items():
            skipped["its prompt has no second answer"] += len(answers) == 1
            for pair in combinations(answers, 2):
                worth = [float(np.dot(self.weights, ratings)) for _, ratings in pair]
                if worth[0] == worth[1]:
                    skipped["both answers are worth the same"] += 1
                    continue
                best, least = better(worth)
                gap = worth[best] - worth[least]
                strength = 1 + (gap > 0.5) + (gap > 1.5)
                rows.append(
                    TextRow(
                        asked(prompt),
                        pair[best][0],
                        pair[least][0],
                        strength,
                        scores=(worth[best], worth[least]),
                        ratings=(pair[best][1], pair[least][1]),
                    )
                )
        return rows
