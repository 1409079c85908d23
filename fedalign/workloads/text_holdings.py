"""Whose text pairs are whose: clients', attackers' poisoned ones, the server's, the test's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import cycle, islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedalign.core.contracts import ROOT, ClientInfo
from fedalign.core.errors import ConfigError, DataError
from fedalign.core.preferences import PreferenceAttack, Preferences, Sequences
from fedalign.core.seeds import Seeds
from fedalign.data.text_preferences import Language, Part, TextPreferences, topics
from fedalign.data.text_rows import TextRow
from fedalign.workloads.preference_holdings import TEST, Owners, there

Tokens = tuple[TextRow, list[int], list[list[int]]]


class TextHoldings:
    """pairs, triggered, clients, values: as of PreferenceHoldings; nobody knows what an annotator
    of real data thinks answers are worth, so `values` is None. single: rows hold one good answer.
    unpaired: rows hold one good or one bad answer. skipped: reason -> rows left out or cut.
    truths: prompt -> its right final answer. prompts: of the test rows. ratings: key of `pairs` ->
    (2, N, A), where a source has attributes; turned round where an attack turned a pair round."""

    values = None

    def __init__(
        self, data: TextPreferences, language: Language, owners: Owners, seeds: Seeds,
        device: torch.device,
    ):  # fmt: skip
        attack = owners.attack
        if attack is not None and not isinstance(attack, PreferenceAttack):
            raise ConfigError(
                f"{type(attack).__name__} poisons labelled inputs and this workload has preference "
                "pairs: take attack=preference_flip, or an attack on updates."
            )
        found = data.load()
        self.skipped, self.files = Counter(found.skipped), found.files
        self._device, self._seeds = device, seeds
        rows = {part: found.part(part) for part in ("train", "public", "eval")}
        whole = rows["train"][: data.limit]
        self.single = all(row.rejected is None for row in whole)
        self.unpaired = not self.single and any(None in (r.chosen, r.rejected) for r in whole)
        train = data.tokens(whole, language, self.skipped)
        labels = topics([row for row, *_ in train])
        parts = owners.partition(labels, owners.clients, seeds.at("partition"))
        self.pairs: dict[tuple[int, bool], Preferences] = {}
        self.ratings: dict[tuple[int, bool], Tensor] = {}
        for client, part in enumerate(parts):
            self._client(client, [train[i] for i in part], labels[part], owners)
        few = {"public": (ROOT, data.root_samples), "eval": (TEST, data.held_out)}
        held = {}
        for part, (owner, most) in few.items():
            held[part] = data.tokens(rows[part][:most], language, self.skipped)
            self.pairs[owner, False] = self._gold(part, held[part])
            self._rate(owner, held[part])
        self.triggered = None if attack is None else attack.triggered(self.pairs[TEST, False])
        tested = {tuple(prompt): row.truth for row, prompt, _ in held["eval"]}
        self.prompts = [list(prompt) for prompt in tested][: data.evaluation]
        self.truths = {tuple(prompt): row.truth for row, prompt, _ in train} | tested
        width = int(labels.max()) + 1
        self.clients = [
            ClientInfo(c, len(part), tuple(np.bincount(labels[part], minlength=width).tolist()))
            for c, part in enumerate(parts)
        ]

    def _client(self, client: int, rows: Sequence[Tokens], labels: Any, owners: Owners) -> None:
        if not rows:
            raise ConfigError(
                f"Client {client} got no row: lower clients, raise data.limit, or take another "
                "partition."
            )
        own = self._made(rows, labels, f"Client {client}")
        self.pairs[client, False] = there(own, self._device)
        self._rate(client, rows)
        if owners.attack is not None and client in owners.attackers:
            member = list(owners.attackers).index(client)
            rng = self._seeds.at("poison", client=client)
            poisoned = owners.attack.poison(own, rng, member)
            self.pairs[client, True] = there(poisoned, self._device)
            if (client, False) in self.ratings:
                clean, turned = self.ratings[client, False], poisoned.flipped.to(self._device)
                self.ratings[client, True] = torch.where(turned[:, None], clean.flip(0), clean)

    def _rate(self, owner: int, rows: Sequence[Tokens]) -> None:
        found = [row.ratings for row, *_ in rows]
        if all(ratings is not None for ratings in found):
            both = torch.tensor(found, dtype=torch.float32)  # (N, 2, A)
            self.ratings[owner, False] = both.transpose(0, 1).contiguous().to(self._device)

    def _gold(self, part: Part, rows: Sequence[Tokens]) -> Preferences:
        if not rows:
            whose = "server" if part == "public" else "test"
            raise DataError(
                f"No row is left for the {whose}: a tenth of all prompts is its share, so the data "
                "must have more of them."
            )
        labels = np.zeros(len(rows), dtype=np.int64)
        return there(self._made(rows, labels, f"The {part} split"), self._device)

    def _made(self, rows: Sequence[Tokens], labels: Any, who: str) -> Preferences:
        """Rows of one owner -> pairs. Single good answers stand on both sides; of unpaired ones the
        rarer kind is repeated until every row has one of each."""
        if not self.unpaired:
            prompts = [[prompt, prompt] for _, prompt, _ in rows]
            answers = [[sides[0], sides[-1]] for *_, sides in rows]
            first = [row for row, *_ in rows]
            return _preferences(prompts, answers, first, labels)
        good = [i for i, (row, *_) in enumerate(rows) if row.chosen is not None]
        bad = [i for i, (row, *_) in enumerate(rows) if row.chosen is None]
        if not good or not bad:
            kind = "undesirable" if good else "desirable"
            raise ConfigError(
                f"{who} holds no {kind} answer and KTO needs both kinds: take fewer clients, "
                "partition=iid, or more data."
            )
        count = max(len(good), len(bad))
        pairs = list(zip(islice(cycle(good), count), islice(cycle(bad), count), strict=True))
        prompts = [[rows[g][1], rows[b][1]] for g, b in pairs]
        answers = [[rows[g][2][0], rows[b][2][0]] for g, b in pairs]
        first = [rows[g][0] for g, _ in pairs]
        return _preferences(prompts, answers, first, labels[[g for g, _ in pairs]])


def _preferences(
    prompts: Sequence[Sequence[list[int]]], answers: Sequence[Sequence[list[int]]],
    rows: Sequence[TextRow], labels: Any,
) -> Preferences:  # fmt: skip
    """prompts, answers: N times (chosen side, rejected side)."""
    sides = [
        Sequences.of([prompt[side] for prompt in prompts], [answer[side] for answer in answers])
        for side in (0, 1)
    ]
    return Preferences(
        chosen=sides[0],
        rejected=sides[1],
        scores=torch.tensor([row.scores for row in rows], dtype=torch.float32),
        strength=torch.tensor([row.strength for row in rows], dtype=torch.int64),
        topics=torch.from_numpy(np.asarray(labels, dtype=np.int64)),
        flipped=torch.zeros(len(rows), dtype=torch.bool),
    )
