"""Judges: how a claim is decided from a study's numbers.

A judge takes the `Board` of one panel and answers whether the claim holds, with the numbers it
went by. It raises NotMeasured where the grid does not hold them. Where Faker as such is judged,
its best mode counts; a difference counts when it exceeds both spreads over seeds, one point, and
what merely removing the attackers moves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from experiments.metrics import metric
from experiments.results import CellResult, grouped
from experiments.scores import attack_of
from experiments.statistics import CONTROLS, NO_ATTACK, REMOVED, Scores, is_faker, summarise

SMALLEST = 1.0  # points of accuracy below which nothing counts as a difference
NEAR = 5.0  # points: "keeps its accuracy"
FILTER, SPP, LAYERWISE = "norm_filter", "spp+norm_filter", "spp_layerwise+norm_filter"
COORDINATE = ("median", "trimmed_mean", "meamed")
OTHER_RULES = (
    "median", "trimmed_mean", "bulyan", "nnm+trimmed_mean", "centered_clipping", "flame",
    "foolsgold",
)  # fmt: skip

Judge = Callable[["Board"], tuple[bool, str]]


class NotMeasured(Exception):
    """The grid does not hold what a claim is about; says what."""


class Board:
    """The numbers of one panel: metric of (defense, attack) over its seeds."""

    def __init__(self, cells: Sequence[CellResult]):
        self.cells = cells
        self._groups = grouped(cells, ("defense", "attack"))
        done = {at for at, c in self._groups.items() if any(x.status == "done" for x in c)}
        self.attacks = list(dict.fromkeys(attack for _, attack in sorted(done)))
        self.defenses = list(dict.fromkeys(defense for defense, _ in sorted(done)))
        self._done = done

    def get(self, defense: str, attack: str, name: str = "accuracy") -> Scores:
        """Raises NotMeasured where no seed has it."""
        found = summarise(self._groups.get((defense, attack), ()), metric(name))
        if not found.count:
            raise NotMeasured(f"{name} of {defense} under {attack}")
        return found

    def has(self, defense: str, attack: str) -> bool:
        return (defense, attack) in self._done

    def margin(self, defense: str) -> float:
        """What merely removing the attackers moves is no effect of an attack."""
        if not self.has(defense, REMOVED) or not self.has(defense, NO_ATTACK):
            return SMALLEST
        moved = self.get(defense, NO_ATTACK).mean - self.get(defense, REMOVED).mean
        return max(SMALLEST, abs(moved))

    def lowest(self, defense: str, attacks: Sequence[str], what: str) -> tuple[str, Scores]:
        """The strongest of these attacks against a defense."""
        found = {a: self.get(defense, a) for a in attacks if self.has(defense, a)}
        if not found:
            raise NotMeasured(f"{defense} under {what}")
        attack = min(sorted(found), key=lambda a: found[a].mean)
        return attack, found[attack]

    def faker(self, defense: str) -> tuple[str, Scores]:
        return self.lowest(defense, [a for a in self.attacks if is_faker(a)], "any Faker")

    def others(self) -> list[str]:
        return [a for a in self.attacks if a not in (NO_ATTACK, *CONTROLS) and not is_faker(a)]


def _stronger(board: Board, defense: str, a: Scores, b: Scores) -> bool:
    """Whether attack a leaves less accuracy than b, beyond both spreads and the margin."""
    return b.mean - a.mean > max(board.margin(defense), a.std + b.std)


def beats(defense: str, rivals: Sequence[str], own: Sequence[str] = ()) -> Judge:
    """Faker (its best mode, or the best of `own`) against each named rival on one rule."""

    def judge(board: Board) -> tuple[bool, str]:
        name, best = board.lowest(defense, own, " or ".join(own)) if own else board.faker(defense)
        against = {rival: board.get(defense, rival) for rival in rivals}
        holds = all(_stronger(board, defense, best, rival) for rival in against.values())
        return holds, f"{defense}: {_say({name: best, **against})}; {_margin(board, defense)}"

    return judge


def strongest(defense: str, controls: bool = False) -> Judge:
    """Faker against the best of all the others, on one rule."""

    def judge(board: Board) -> tuple[bool, str]:
        name, best = board.faker(defense)
        crafted = [c for c in CONTROLS if c != REMOVED]
        rivals = crafted if controls else board.others()
        what = "a one-scalar control" if controls else "another attack"
        other, second = board.lowest(defense, rivals, what)
        shown = _say({name: best, other: second})
        return _stronger(board, defense, best, second), f"{defense}: {shown}"

    return judge


def on_other_rules(board: Board) -> tuple[bool, str]:
    told, all_hold = [], True
    for defense in (d for d in board.defenses if d in OTHER_RULES):
        try:
            holds, evidence = strongest(defense)(board)
        except NotMeasured:
            continue
        told.append(evidence)
        all_hold &= holds
    if not told:
        raise NotMeasured(f"one of {', '.join(OTHER_RULES)} under Faker and another attack")
    return all_hold, "; ".join(told)


def breaks(defense: str, *attacks: str) -> Judge:
    """Whether the first measured of these attacks takes more than half of the accuracy."""

    def judge(board: Board) -> tuple[bool, str]:
        attack = next((a for a in attacks if board.has(defense, a)), attacks[0])
        hit, clean = board.get(defense, attack), board.get(defense, NO_ATTACK)
        return hit.mean < clean.mean / 2, f"{defense}: {_say({NO_ATTACK: clean, attack: hit})}"

    return judge


def survives(defenses: Sequence[str], attack: str) -> Judge:
    def judge(board: Board) -> tuple[bool, str]:
        told, holds = [], True
        for defense in (d for d in defenses if board.has(d, attack)):
            clean, hit = board.get(defense, NO_ATTACK), board.get(defense, attack)
            holds &= clean.mean - hit.mean < NEAR
            told.append(f"{defense}: {_say({NO_ATTACK: clean, attack: hit})}")
        if not told:
            raise NotMeasured(f"{' or '.join(defenses)} under {attack}")
        return holds, "; ".join(told)

    return judge


def balance_is_caught(board: Board) -> tuple[bool, str]:
    full = board.get(FILTER, "faker_balance", "accepted")
    partial = board.get(SPP, "faker_balance", "accepted")
    shown = _say({FILTER: full, SPP: partial})
    return full.mean >= 85 and partial.mean <= 5, f"malicious rows accepted in %: {shown}"


def balance_is_harmless(board: Board) -> tuple[bool, str]:
    before, clean = board.get(FILTER, "faker_balance"), board.get(SPP, NO_ATTACK)
    after = board.get(SPP, "faker_balance")
    holds = clean.mean - after.mean < NEAR and after.mean - before.mean > NEAR
    return holds, _say({FILTER: before, SPP: after, f"{SPP} unattacked": clean})


def two_d_passes(board: Board) -> tuple[bool, str]:
    passed = {d: board.get(d, "faker_2d", "accepted") for d in (FILTER, SPP)}
    holds = all(share.mean >= 90 for share in passed.values())
    return holds, f"malicious rows accepted in %: {_say(passed)}"


def spread_is_not_stopped(board: Board) -> tuple[bool, str]:
    told, holds = [], True
    for attack in ("faker_norm", "faker_flip", "faker_2d", "neg"):
        if board.has(FILTER, attack) and board.has(SPP, attack):
            before, after = board.get(FILTER, attack), board.get(SPP, attack)
            holds &= after.mean - before.mean < NEAR
            told.append(f"{attack} {before.mean:.1f} -> {after.mean:.1f}")
    if not told:
        raise NotMeasured(f"{FILTER} and {SPP} under faker_norm, faker_flip, faker_2d or neg")
    return holds, f"accuracy {FILTER} -> {SPP}: {', '.join(told)}"


def spp_krum(board: Board) -> tuple[bool, str]:
    attack = "faker_distance_whitebox"
    before, after = board.get("krum", attack), board.get("spp+krum", attack)
    weights = {d: board.get(d, attack, "weight") for d in ("krum", "spp+krum")}
    holds = after.mean - before.mean > NEAR and _halves(weights["krum"], weights["spp+krum"])
    shown = _say({"krum": before, "spp+krum": after})
    return holds, f"accuracy: {shown}; malicious weight in %: {_say(weights)}"


def _halves(before: Scores, after: Scores) -> bool:
    return after.mean < 0.6 * before.mean


def spp_fltrust(board: Board) -> tuple[bool, str]:
    shared = [a for a in board.attacks if is_faker(a) and board.has("spp+fltrust", a)]
    pairs = {a: (board.get("fltrust", a), board.get("spp+fltrust", a)) for a in shared}
    if not pairs:
        raise NotMeasured("fltrust and spp+fltrust under Faker")
    told = [f"{a} {x.mean:.1f} -> {y.mean:.1f}" for a, (x, y) in pairs.items()]
    holds = all(abs(y.mean - x.mean) < NEAR for x, y in pairs.values())
    return holds, f"accuracy fltrust -> spp+fltrust: {', '.join(told)}"


def layerwise(board: Board) -> tuple[bool, str]:
    clean = board.get(LAYERWISE, NO_ATTACK)
    spread = {a: board.get(LAYERWISE, a) for a in ("faker_norm", "faker_2d")}
    flip = board.get(LAYERWISE, "faker_flip")
    stopped = all(clean.mean - s.mean < 2 * NEAR for s in spread.values())
    weak = clean.mean - flip.mean > 2 * NEAR
    shown = _say({NO_ATTACK: clean, **spread, "faker_flip": flip})
    return stopped and weak, f"{LAYERWISE}: {shown}"


def per_tensor(board: Board) -> tuple[bool, str]:
    adaptive = [a for a in board.attacks if is_faker(a) and "per_tensor" in a]
    attack, hit = board.lowest(LAYERWISE, adaptive, "a per-tensor Faker")
    clean = board.get(LAYERWISE, NO_ATTACK)
    return hit.mean < clean.mean / 2, f"{LAYERWISE}: {_say({NO_ATTACK: clean, attack: hit})}"


def update_space_fltrust(board: Board) -> tuple[bool, str]:
    rule = "fltrust_update"
    scores = {a: board.get(rule, a) for a in board.attacks if board.has(rule, a)}
    if len(scores) < 3:
        raise NotMeasured(f"{rule} under several attacks")
    means = {a: s.mean for a, s in scores.items()}
    low, high = min(means, key=means.get), max(means, key=means.get)
    shown = _say({low: scores[low], high: scores[high]})
    return means[high] - means[low] < NEAR, f"{rule}, lowest and highest: {shown}"


def faster(board: Board) -> tuple[bool, str]:
    for defense in (FILTER, "krum", "fltrust"):
        rivals = [a for a in ("la", "mb", "min_max", "fang") if board.has(defense, a)]
        own = [a for a in board.attacks if is_faker(a) and board.has(defense, a)]
        if rivals and own:
            ms = {a: board.get(defense, a, "craft_ms") for a in (*own, *rivals)}
            holds = max(ms[a].mean for a in own) < min(ms[a].mean for a in rivals)
            return holds, f"ms per round on {defense}: {_say(ms, 2)}"
    raise NotMeasured("crafting times of Faker and of la, mb, min_max or fang on one rule")


def one_attacker(board: Board) -> tuple[bool, str]:
    alone = [c for at in board._groups.values() for c in at if _byzantine(c) == 1]
    if not alone:
        raise NotMeasured("cells with exactly one malicious client")
    return _loses(Board(alone))


def one_round(board: Board) -> tuple[bool, str]:
    once = [
        cell
        for group in board._groups.values()
        for cell in group
        if cell.axes.get("attack") == NO_ATTACK or _attacked_once(cell)
    ]
    if not any(_attacked_once(cell) for cell in once):
        raise NotMeasured("cells that are attacked in exactly one round")
    return _loses(Board(once))


def _loses(board: Board) -> tuple[bool, str]:
    """Whether Faker costs at least one of the measured rules more than NEAR points."""
    told, worst = [], 0.0
    for defense in board.defenses:
        if board.has(defense, NO_ATTACK) and any(
            is_faker(a) and board.has(defense, a) for a in board.attacks
        ):
            clean, (name, hit) = board.get(defense, NO_ATTACK), board.faker(defense)
            told.append(f"{defense} {_say({NO_ATTACK: clean, name: hit})}")
            worst = max(worst, clean.mean - hit.mean)
    if not told:
        raise NotMeasured("a rule with and without Faker")
    return worst > NEAR, "; ".join(told)


def _byzantine(cell: CellResult) -> int:
    if "byzantine" in cell.facts:
        return int(cell.facts["byzantine"])
    clients, share = cell.config.get("clients"), cell.config.get("byzantine_fraction")
    return round(clients * share) if clients and share else 0


def _attacked_once(cell: CellResult) -> bool:
    if cell.config.get("attack_rounds") == 1:
        return attack_of(cell) != NO_ATTACK
    crafted = cell.rounds.get("craft_s")
    return crafted is not None and len(crafted) > 3 and int((crafted > 0).sum()) == 1


def _say(scores: Mapping[str, Scores], digits: int = 1) -> str:
    return ", ".join(
        f"{name} {s.mean:.{digits}f}" + (f"±{s.std:.{digits}f}" if s.count > 1 else "")
        for name, s in scores.items()
    )


def _margin(board: Board, defense: str) -> str:
    return f"counted from {board.margin(defense):.1f} points on"
