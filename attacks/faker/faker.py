"""Faker: rescale one's own honest model group by group, so that what a rule measures stays put.

Paper: Wang et al., "Can We Trust the Similarity Measurement in Federated Learning?",
arXiv 2311.03369, Theorems 2-4, Sections 5.4, 6.1; solvers N, D, C, F, 2D: our closed forms.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatch
from typing import Literal

import torch
from torch import Tensor

from attacks import _checks
from attacks._krum import neighbours
from attacks._rows import clones, dot, norm
from attacks.faker._flip import flip
from attacks.faker._groups import Groups
from attacks.faker._scalars import Budget, alphas, step_direction
from attacks.faker._sums import Sums
from attacks.faker._whitebox import largest_radius
from fedalign.core.errors import ConfigError
from fedalign.core.threat import Crafted, Knowledge, View
from fedalign.core.vectors import Layout

SOLVERS = ("auto", "balance", "norm", "distance", "cosine", "flip", "2d", "product")
BY_FAMILY = {"norm": "norm", "distance": "distance", "cosine": "flip"}
DEFAULT_GROUPS = {"distance": 8}


@dataclass(frozen=True)
class Faker:
    """Send alpha * w, one scalar alpha per group of parameters, w the honest row in view.space.

    solver: the similarity that is kept. balance: scalars `drawn`, the last one restores the norm
    (or the distance, where dist_bound is given); norm, distance, product (FLTrust), cosine and
    norm, flip (signs only), 2d (all budgets at once); auto takes the one for the rule's family.
    objective: difference = sum n |alpha - 1| as published, relative = |w' - w| / |w|; for norm,
    distance and 2d.
    groups: T, 1 <= T <= d; null is min(64, d), 8 for distance, one per parameter for balance.
    grouping: permuted (members scattered), contiguous, or tensor (one group per tensor).
    tau: cosine floor in [-1, 1] of cosine, flip and 2d.
    norm_bound: M > 0, "own" is the honest row's norm, null none (2d only).
    dist_bound: R > 0; "prev_global" is |w_g - w|; "rule" bisects the largest R that Krum still
    picks and needs full knowledge (distance only); null: none, for distance prev_global.
    signs: of the distance solver, shrink (all -1) or random.
    drawn: the scalar of balance, null draws each from [-1, 1].
    a_max: no |alpha| above it (> 1), null for none; balance ignores it.
    margin: budgets are cut by this share, so that rounding cannot cross them.
    norm_floor: 2d keeps at least this share of the norm bound.
    cooperate: with distance, all attackers send the first one's row.
    freeze: name patterns of tensors that keep alpha = 1.
    adaptive: per_tensor crafts every tensor as a vector of its own (against layer-wise tests).
    sybil_angle: theta in radians of the Sybil family, for cosine and 2d; null sends plain rows.
    """

    solver: str = "auto"
    objective: Literal["difference", "relative"] = "difference"
    groups: int | None = None
    grouping: Literal["permuted", "contiguous", "tensor"] = "permuted"
    tau: float = 0.5
    norm_bound: float | str | None = "own"
    dist_bound: float | str | None = None
    signs: Literal["shrink", "random"] = "shrink"
    drawn: float | None = -0.5
    a_max: float | None = 10.0
    margin: float = 1e-6
    norm_floor: float = 0.9
    cooperate: bool = True
    freeze: tuple[str, ...] = ()
    adaptive: str | None = None
    sybil_angle: float | None = None

    def __post_init__(self):
        _checks.one_of(self, "solver", self.solver, SOLVERS)
        _checks.one_of(self, "objective", self.objective, ("difference", "relative"))
        _checks.one_of(self, "grouping", self.grouping, ("permuted", "contiguous", "tensor"))
        _checks.one_of(self, "signs", self.signs, ("shrink", "random"))
        _checks.one_of(self, "adaptive", self.adaptive, (None, "per_tensor"))
        _checks.in_range(self, "tau", self.tau, -1, 1)
        _checks.in_range(self, "margin", self.margin, 0, 0.1)
        _checks.in_range(self, "norm_floor", self.norm_floor, 0, 1)
        if self.groups is not None:
            _checks.in_range(self, "groups", self.groups, 1)
        if self.drawn is not None:
            _checks.in_range(self, "drawn", self.drawn, -1e6, 1e6)
        if self.a_max is not None:
            _checks.in_range(self, "a_max", self.a_max, 1, open_low=True)
        _bound(self, "norm_bound", ("own", None))
        _bound(self, "dist_bound", ("prev_global", "rule", None))
        object.__setattr__(self, "freeze", tuple(self.freeze))
        self._check_combinations()

    @property
    def knowledge(self) -> Knowledge:
        """Its own rows only, but everything where R is bisected against the rule."""
        return Knowledge.FULL if self.dist_bound == "rule" else Knowledge.OWN

    def __call__(self, view: View) -> Crafted:
        plan = self._resolved(view.family)
        alone = plan.sybil_angle is not None or (plan.cooperate and plan.solver == "distance")
        own = view.own[:1] if alone else view.own
        honest = view.in_space(own)
        if plan.adaptive == "per_tensor":
            crafted = plan._per_tensor(view, honest, own)
        elif plan.freeze:
            crafted = plan._beside_frozen(view, honest, own)
        else:
            crafted = plan._craft(view, honest, own, view.layout)
        if len(crafted) < len(view.own):
            crafted = clones(crafted[0], len(view.own))
        return Crafted(view.as_updates(crafted), notes={"solver": plan.solver})

    def _resolved(self, family: str) -> Faker:
        """auto becomes a solver; a radius bisected against Krum means nothing to the others."""
        if self.solver != "auto":
            return self
        solver = BY_FAMILY.get(family, "2d")
        unused = solver != "distance" and self.dist_bound == "rule"
        return replace(self, solver=solver, dist_bound=None if unused else self.dist_bound)

    def _check_combinations(self) -> None:
        if self.solver in ("auto", "norm", "product") and self.norm_bound is None:
            raise ConfigError(f"Faker.solver={self.solver} needs a norm_bound: a number or 'own'.")
        if self.dist_bound == "rule" and self.solver not in ("auto", "distance"):
            raise ConfigError(
                f"Faker.dist_bound='rule' bisects the distance solver, got solver={self.solver}: "
                "use solver=distance (or auto), or dist_bound=prev_global."
            )
        if self.dist_bound == "rule" and (self.adaptive or self.freeze):
            raise ConfigError(
                "Faker.dist_bound='rule' searches one radius for the whole row: "
                "drop adaptive and freeze, or use dist_bound=prev_global."
            )
        if self.sybil_angle is not None and (
            self.solver not in ("cosine", "2d") or self.adaptive or self.freeze
        ):
            raise ConfigError(
                f"Faker.sybil_angle spreads rows of equal norm, distance and cosine, got "
                f"solver={self.solver}: use solver=cosine or 2d, without adaptive and freeze."
            )

    # ------------------------------------------------------------ which columns

    def _per_tensor(self, view: View, honest: Tensor, own: Tensor) -> Tensor:
        """Every tensor with budgets of its own; absolute ones are shared out in proportion."""
        layout, crafted = _layout(view), honest.clone()
        for part in layout.parts:
            rows, updates = honest[:, part.span], own[:, part.span]
            plan = replace(
                self,
                groups=None if self.groups is None else min(self.groups, part.size),
                norm_bound=_share(self.norm_bound, rows[0], honest[0]),
                dist_bound=_share(self.dist_bound, updates[0], own[0]),
                grouping="permuted" if self.grouping == "tensor" else self.grouping,
            )
            crafted[:, part.span] = plan._craft(view, rows, updates, None)
        return crafted

    def _beside_frozen(self, view: View, honest: Tensor, own: Tensor) -> Tensor:
        """Only the tensors that no pattern of `freeze` names; budgets count the frozen energy."""
        layout = _layout(view)
        for pattern in self.freeze:
            if not any(fnmatch(part.name, pattern) for part in layout.parts):
                names = ", ".join(part.name for part in layout.parts)
                raise ConfigError(f"Faker.freeze={pattern!r} names no tensor of: {names}.")
        free = [
            torch.arange(part.offset, part.offset + part.size, device=honest.device)
            for part in layout.parts
            if not any(fnmatch(part.name, pattern) for pattern in self.freeze)
        ]
        if not free:
            return honest
        columns, crafted = torch.cat(free), honest.clone()
        rows = honest[:, columns]
        frozen = [max(dot(a, a) - dot(b, b), 0.0) for a, b in zip(honest, rows, strict=True)]
        left = Layout.of({"free": (len(columns),)})
        crafted[:, columns] = self._craft(view, rows, own, left, frozen)
        return crafted

    # ------------------------------------------------------------ which values

    def _craft(
        self, view: View, rows: Tensor, own: Tensor, layout: Layout | None, frozen=None
    ) -> Tensor:
        """Rows (k, d') -> crafted rows, or m of them for the Sybil family."""
        frozen = frozen or [0.0] * len(rows)
        if self.solver == "flip":
            return torch.stack(
                [flip(row, self.tau, f) for row, f in zip(rows, frozen, strict=True)]
            )
        groups, crafted = self._groups(rows.shape[1], layout, view), []
        sizes = groups.sizes()
        for row, update, still in zip(rows, own, frozen, strict=True):
            sums = Sums.of(sizes, groups.sums(row, row), frozen=still)
            if len(sums.energies) == 0:  # nothing but zeros: every alpha gives the same row
                crafted.append(row)
                continue
            budget = self._budget(view, groups, sums, row, update)
            lines = alphas(self, sums, budget, len(view.own), view.rng)
            crafted += [groups.scale(sums.complete(line), row) for line in lines]
        return torch.stack(crafted)

    def _groups(self, columns: int, layout: Layout | None, view: View) -> Groups:
        if self.grouping == "tensor":
            return Groups.tensors(layout or _layout(view))
        default = columns if self.solver == "balance" else DEFAULT_GROUPS.get(self.solver, 64)
        count = min(default, columns) if self.groups is None else self.groups
        if self.grouping == "contiguous":
            return Groups.contiguous(columns, count)
        return Groups.permuted(columns, count, view.rng)

    def _budget(
        self, view: View, groups: Groups, sums: Sums, row: Tensor, update: Tensor
    ) -> Budget:
        """Norm and distance budgets of one row in numbers, the margin taken off."""
        whole = (sums.frozen + sums.total) ** 0.5
        bound = whole if self.norm_bound == "own" else self.norm_bound
        wanted = self.dist_bound
        if wanted is None and self.solver == "distance":
            wanted = "prev_global"
        signs = None
        if self.solver == "distance" and self.signs == "random":
            signs = 2.0 * view.rng.integers(0, 2, len(sums.energies)) - 1
        radius = wanted
        if wanted == "rule":
            radius = self._whitebox(view, groups, sums, row, signs)
        if radius == "prev_global":
            radius = norm(update)
        keep = 1 - self.margin
        return Budget(
            bound=None if bound is None else bound * keep,
            radius=None if radius is None else radius * keep,
            whole=whole,
            signs=signs,
        )

    def _whitebox(self, view: View, groups: Groups, sums: Sums, row: Tensor, signs):
        """The largest R Krum still picks; prev_global where it picks none."""
        benign = view.in_space(_checks.benign(self, view))
        direction, most = step_direction(self, sums, signs)
        full = sums.complete(direction)
        full[~sums.free] = 0.0
        copies = len(view.own) if self.cooperate else 1
        step = groups.scale(full, row)
        found = largest_radius(row, step, benign, copies, neighbours(view), most)
        return "prev_global" if found is None else found


def _bound(owner: Faker, name: str, words: tuple) -> None:
    value = getattr(owner, name)
    if isinstance(value, str) or value is None:
        _checks.one_of(owner, name, value, (*words, "a positive number"))
    else:
        _checks.in_range(owner, name, value, 0, open_low=True)


def _share(bound: float | str | None, part: Tensor, whole: Tensor) -> float | str | None:
    if bound is None or isinstance(bound, str):
        return bound
    total = norm(whole)
    return max(bound * norm(part) / total, 1e-30) if total > 0 else bound


def _layout(view: View) -> Layout:
    if view.layout is None:
        raise ConfigError("Faker was asked to work by tensor, but this view has no layout.")
    return view.layout
