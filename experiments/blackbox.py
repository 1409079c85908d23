"""Black box: what an attacker loses who does not know which rule the server will draw.

The measured matrix I[attack, rule] of accuracy lost, and what a server that draws its rule loses:
as measured, and as expected from the matrix for uniform and for minimax probabilities. Whatever
attack is fixed before the draw: max_a sum_r p_r I <= sum_r p_r max_a I <= max_{a,r} I.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from experiments.build import build
from experiments.captions import describe, label, named, space_note
from experiments.metrics import metric
from experiments.results import CellResult, StudyResults, grouped, panels
from experiments.statistics import NO_ATTACK, Scores, summarise
from experiments.tables import Notes, bold_best, check_axis, over_seeds
from experiments.typeset import MISSING, Entry, Table, number

SERVER = "defenses.dynamic_server.DynamicServer"
UNMEASURED = "Failed, missing or without attack=none of the same rule and seed."
Groups = Mapping[tuple[str, ...], Sequence[CellResult]]


@dataclass(frozen=True)
class BlackBox:
    """Rows attacks, columns known rules, drawing servers and expectations. command: what ran the
    study, the note on the minimax server extends it."""

    command: str = "python run_experiment.py scenario=blackbox_server"

    def __call__(self, study: StudyResults, name: str = "blackbox") -> list[Table]:
        for axis in ("defense", "attack"):
            check_axis(study, axis)
        cut = panels(study, ("defense", "attack"))
        return [self._table(study, fixed, cells, named(study, name, fixed)) for fixed, cells in cut]

    def _table(
        self,
        study: StudyResults,
        fixed: Mapping[str, str],
        cells: Sequence[CellResult],
        name: str,
    ) -> Table:
        groups, notes = grouped(cells, ("defense", "attack")), Notes()
        attacks = [a for a in study.axes["attack"] if a != NO_ATTACK]
        nodes = _nodes(cells)
        servers = [d for d in study.axes["defense"] if _target(nodes.get(d)) == SERVER]
        known = [d for d in study.axes["defense"] if d in nodes and d not in servers]
        measured = {d: [impact(groups, d, a) for a in attacks] for d in [*known, *servers]}
        columns = [_column(scores, notes) for scores in measured.values()]
        game = _game(nodes, known, servers, attacks, measured)
        if game is not None:
            columns += [game.column(game.uniform, attacks), game.column(game.minimax, attacks)]
            marks = [_say(game, notes), _say_minimax(game, notes)]
            marks[1] += self._say_command(game, fixed, notes)
            others = {d: _say_other(game, d, notes) for d in known}
            for column, mark in zip(columns[-2:], marks, strict=True):
                column[-1] = replace(column[-1], notes=mark + sum(others.values(), ()))
            for column, d in zip(columns, known, strict=False):
                column[-1] = replace(column[-1], notes=others[d])
        heads = [label(study, "defense", d) for d in measured]
        expected = ["expected uniform", "expected minimax"] if game is not None else []
        marked = bold_best([column[-1] for column in columns], "low")
        rows = [[column[i] for column in columns] for i in range(len(attacks))] + [marked]
        return Table(
            name=name,
            caption="Points of accuracy an attack takes: the same rule and seed unattacked minus "
            f"attacked, both {_scored()}; {describe(study, cells, fixed)} A rule's own column: the "
            "server is known to use it; dynamic_server...: it draws a rule each round, measured; "
            "expected: a rule of the pool drawn once, sum over r of p_r I[attack, r] with I the "
            "rules' own columns. Bold: smallest maximum." + space_note(heads),
            header=["attack", *heads, *expected],
            rows=[
                [Entry.of(attack), *row]
                for attack, row in zip([*attacks, "maximum"], rows, strict=True)
            ],
            notes=notes.lines,
        )

    def _say_command(self, game: Game, fixed: Mapping[str, str], notes: Notes) -> tuple[int, ...]:
        if game.absent:
            line = (
                f"The game is over {', '.join(game.rules)}: the pool's {', '.join(game.absent)} "
                "are not in the grid, so the matrix does not fit the minimax server."
            )
            return (notes.number(line),)
        table = ",".join(f"[{','.join(number(x, 2) for x in row)}]" for row in game.impact)
        where = "".join(f" {axis}={value}" for axis, value in fixed.items())
        line = (
            "The minimax server with this matrix, in a folder of its own: "
            f"`{_base(self.command)}{where} defense=dynamic_server_minimax 'defense.impact=[{table}]' "
            "output_root=outputs/minimax`"
        )
        return (notes.number(line),)


@dataclass(frozen=True)
class Game:
    """The measured game. attacks (a,), rules (r,): names; impact (a, r): points lost.

    uniform, minimax (r,): probabilities. absent: rules of the server's pool that the grid lacks.
    stands_for: known rule -> the rule of the pool with other parameters that it stands for.
    """

    attacks: Sequence[str]
    rules: Sequence[str]
    impact: np.ndarray
    uniform: np.ndarray
    minimax: np.ndarray
    absent: Sequence[str] = ()
    stands_for: Mapping[str, str] = field(default_factory=dict)

    def chain(self, p: np.ndarray) -> tuple[float, float, float]:
        """max_a sum_r p_r I, sum_r p_r max_a I, max_{a,r} I."""
        drawn, told = (self.impact @ p).max(), self.impact.max(axis=0) @ p
        return float(drawn), float(told), float(self.impact.max())

    def column(self, p: np.ndarray, attacks: Sequence[str]) -> list[Entry]:
        """What each attack takes from a server that draws with p, and the maximum."""
        lost = dict(zip(self.attacks, (self.impact @ p).tolist(), strict=True))
        shown = [Entry.of(lost[a], 1) if a in lost else Entry(MISSING) for a in attacks]
        largest = max(lost.values())
        return [*shown, Entry(number(largest, 1), {"mean": largest})]


def _base(command: str) -> str:
    """The command without what the minimax server replaces or does not have."""
    from defenses.dynamic_server import DynamicServer

    own = {f"defense.{f.name}" for f in fields(DynamicServer)} - {"defense.mode", "defense.impact"}
    words = [(word, word.split("=")[0]) for word in command.split()]
    kept = [w for w, key in words if key in own or not key.startswith("defense")]
    return " ".join(w for w in kept if not w.startswith("output_root="))


def impact(groups: Groups, defense: str, attack: str) -> Scores:
    """Points of accuracy lost against the same rule unattacked, paired by seed."""
    clean = summarise(groups.get((defense, NO_ATTACK), ()), metric("accuracy")).by_seed
    hit = summarise(groups.get((defense, attack), ()), metric("accuracy")).by_seed
    return Scores({seed: clean[seed] - value for seed, value in hit.items() if seed in clean})


def _nodes(cells: Sequence[CellResult]) -> dict[str, Mapping[str, Any]]:
    """defense -> the config node of its rule."""
    found = {cell.axes["defense"]: cell.config.get("defense") for cell in cells}
    return {defense: node for defense, node in found.items() if isinstance(node, Mapping)}


def _target(node: Mapping[str, Any] | None) -> str:
    return str((node or {}).get("_target_", ""))


def _column(scores: Sequence[Scores], notes: Notes) -> list[Entry]:
    """One entry per attack and the largest."""
    absent = [not s.count for s in scores]
    shown = [
        Entry(MISSING, notes=(notes.number(UNMEASURED),)) if gone else over_seeds(s)
        for s, gone in zip(scores, absent, strict=True)
    ]
    worst = max((s for s in scores if s.count), key=lambda s: s.mean, default=Scores({}))
    return [*shown, over_seeds(worst)]


def _game(
    nodes: Mapping[str, Mapping[str, Any]],
    known: Sequence[str],
    servers: Sequence[str],
    attacks: Sequence[str],
    measured: Mapping[str, Sequence[Scores]],
) -> Game | None:
    """The game over the known rules that are in the pool of the grid's first drawing server (of
    all known rules where there is none), and over the attacks measured on all of them."""
    from defenses.dynamic_server import DynamicServer

    rules = {d: build(nodes[d]) for d in known}
    pool = build(nodes[servers[0]]).pool if servers else tuple(rules.values())
    names, played, absent, stands_for = [], [], [], {}
    for rule in pool:
        same = [d for d in known if rules[d] == rule]
        near = [d for d in known if type(rules[d]) is type(rule)]
        if same or near:
            names.append((same or near)[0])
            played.append(rule)
            stands_for |= {} if same else {near[0]: _written(rule, rules[near[0]])}
        else:
            absent.append(type(rule).__name__)
    whole = [i for i in range(len(attacks)) if all(measured[d][i].count for d in names)]
    if not names or not whole:
        return None
    matrix = np.array([[measured[d][i].mean for d in names] for i in whole])  # (a, r)
    server = DynamicServer(played, mode="minimax", impact=matrix.tolist())
    uniform = np.full(len(names), 1.0 / len(names))
    found = [attacks[i] for i in whole]
    return Game(found, names, matrix, uniform, np.array(server.minimax), absent, stands_for)


def _written(rule: Any, other: Any) -> str:
    """The rule with those of its parameters that differ from the other's."""
    mine = vars(rule)
    different = [f"{k}={v}" for k, v in mine.items() if v != getattr(other, k, None)]
    return f"{type(rule).__name__}({', '.join(different)})"


def _scored() -> str:
    return metric("accuracy").label.split(", ")[1]


def _say(game: Game, notes: Notes) -> tuple[int, ...]:
    return (notes.number(f"Uniform p: {_chain(game, game.uniform)}."),)


def _say_minimax(game: Game, notes: Notes) -> tuple[int, ...]:
    p = ", ".join(f"{r} {x:.3f}" for r, x in zip(game.rules, game.minimax.tolist(), strict=True))
    line = f"Minimax p: {p} (linear program); {_chain(game, game.minimax)}. The value of the game "
    line += f"is the first number, {number(game.chain(game.minimax)[0], 2)} points."
    return (notes.number(line),)


def _chain(game: Game, p: np.ndarray) -> str:
    drawn, told, worst = game.chain(p)
    holds = drawn <= told + 1e-9 and told <= worst + 1e-9
    return (
        f"max_a sum_r p_r I = {number(drawn, 2)} ≤ sum_r p_r max_a I = {number(told, 2)} ≤ "
        f"max_a,r I = {number(worst, 2)} {'holds' if holds else 'DOES NOT HOLD'}"
    )


def _say_other(game: Game, defense: str, notes: Notes) -> tuple[int, ...]:
    if defense not in game.stands_for:
        return ()
    line = (
        f"In the game {defense} stands in for the pool's {game.stands_for[defense]}, which may "
        "lose more or less."
    )
    return (notes.number(line),)
