"""Conditioning: the scores an answer should get, written behind its question.

Paper: Dong et al., "SteerLM: Attribute Conditioned SFT as an (User-Steerable) Alternative to RLHF",
Findings of EMNLP 2023, Section 3.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from fedalign.core.errors import ConfigError
from fedalign.data.graded_facts import ASSISTANT, ATTRIBUTES, World

BEST: Mapping[str, int] = dict(zip(ATTRIBUTES, (4, 4, 4, 4, 2), strict=True))  # worth most

GROUPS: Mapping[str, re.Pattern[str]] = {
    "labels": re.compile(
        f"<lab>|({'|'.join(ATTRIBUTES)}):[0-4]"
    ),  # what conditions are written with
    "names": re.compile("[aA][0-9]+"),  # plain and technical
    "digits": re.compile("[0-9]"),
}


def conditioned(world: World, prompt: Sequence[int], wanted: Mapping[str, int]) -> list[int]:
    """`<bos> <usr> e a_i a_j ? <lab> name:score ... <asst>`, names in their fixed order; one that
    is not wanted is left out. wanted: name -> 0 .. 4; none at all leaves the prompt as it is."""
    for name, score in wanted.items():
        if name not in ATTRIBUTES or score not in range(5):
            raise ConfigError(
                f"A condition is one of {', '.join(ATTRIBUTES)} with a score in 0 .. 4, got "
                f"{name}:{score}."
            )
    if not wanted:
        return list(prompt)
    if prompt[-1] != ASSISTANT or world.numbers["<lab>"] in prompt:
        raise ConfigError("A prompt to be conditioned ends with <asst> and has no label yet.")
    names = [f"{name}:{wanted[name]}" for name in ATTRIBUTES if name in wanted]
    label = [world.numbers[word] for word in ("<lab>", *names)]
    return [*prompt[:-1], *label, ASSISTANT]


def numbered(world: World | None, words: Sequence[str | int]) -> tuple[int, ...]:
    """Token numbers of words: of the world's own by name, of a whole group by its name (GROUPS);
    numbers stand for themselves. world: None where words have no names."""
    found: list[int] = []
    for word in words:
        if isinstance(word, int):
            found.append(word)
        elif world is not None and word in world.numbers:
            found.append(world.numbers[word])
        elif world is not None and word in GROUPS:
            found += [i for i, spelled in enumerate(world.words) if GROUPS[word].fullmatch(spelled)]
        else:
            known = "token numbers alone"
            if world is not None:
                known = f"{', '.join(GROUPS)}, a word of the world or a token number"
            raise ConfigError(f"peft.words can name {known} with this data, got {word!r}.")
    return tuple(found)


def labels(
    scores: np.ndarray, dropout: float = 0.0, rng: np.random.Generator | None = None
) -> list[dict[str, int]]:
    """(N, 5) scores -> conditions, rounded and clipped to 0 .. 4; each attribute is left out with
    probability `dropout`, so that a part of them can be asked for as well."""
    whole = np.clip(np.floor(np.asarray(scores, dtype=np.float64) + 0.5), 0, 4).astype(int)
    kept = np.ones(whole.shape, dtype=bool)
    if dropout and rng is not None:
        kept = rng.random(whole.shape) >= dropout
    return [
        {name: int(s) for name, s, k in zip(ATTRIBUTES, row, keep, strict=True) if k}
        for row, keep in zip(whole, kept, strict=True)
    ]
