"""Exact: run any rule on dyadic rows, so that every server gets the same bits.

Paper: none; our derivation (rows are multiples of 2^-s, sample-weighted means and other linear
combinations are integer arithmetic, every result is rounded to 2^-s).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from consensus.pofel import evaluation
from fedalign.core.contracts import Aggregate, Context, Defense, Evaluate
from fedalign.core.errors import ConfigError
from fedalign.core.wrapping import Wrapper

COEFFICIENT_BITS = 20
_LARGEST = 2**11  # |coefficient|; 128 rows below 2^23 times 2^31 stay below 2^61


@dataclass(frozen=True)
class Exact(Wrapper):
    """`rule` on rows rounded to 2^-scale and sorted by client id; the result likewise rounded.

    rule: any rule. scale: s, 0 .. 40; |values| are clipped at (2^23 - 1) 2^-s. Means weighted by
    samples use floor((2 Σ D q + Σ D) / (2 Σ D)); other linear results round their coefficients to
    2^-20 and apply them in int64; all else is the rule's float64, rounded. Acceptance,
    coefficients and scores come back in the order the rows arrived in. At most 128 rows.
    """

    rule: Defense
    scale: int = 16

    def __post_init__(self) -> None:
        if not 0 <= self.scale <= evaluation.MAX_SCALE:
            raise ConfigError(
                f"Exact's scale is 0 .. {evaluation.MAX_SCALE} bits (default 16), got {self.scale}."
            )

    def __call__(self, updates: Tensor, context: Context = Context()) -> Aggregate:
        rows = evaluation.quantize(updates.detach().cpu().numpy(), self.scale)
        return self.decide(rows, context)[0]

    def decide(self, rows: Sequence[np.ndarray], context: Context) -> tuple[Aggregate, np.ndarray]:
        """The same on n rows (d,) int64 that are quantised already, in any order, with the
        aggregate's integers (d,)."""
        order = _order(len(rows), context)
        result, values = self.integers([rows[i] for i in order], self._prepared(context, order))
        arrived = torch.from_numpy(np.argsort(order, kind="stable"))
        decision = replace(
            result,
            vector=torch.from_numpy(evaluation.dequantize(values, self.scale)),
            accepted=result.accepted[arrived],
            coefficients=None if result.coefficients is None else result.coefficients[arrived],
            scores=None if result.scores is None else result.scores[arrived],
        )
        return decision, values

    def integers(
        self, rows: Sequence[np.ndarray], context: Context
    ) -> tuple[Aggregate, np.ndarray]:
        """rows: n of (d,) int64 in client order -> (the rule's decision, its integers (d,))."""
        if len(rows) > evaluation.MAX_SERVERS:
            raise ConfigError(
                f"Exact arithmetic takes at most {evaluation.MAX_SERVERS} rows, got {len(rows)}."
            )
        if self.rule.test == "always":  # its coefficients look at no row: one column tells them
            narrow = np.stack([row[:1] for row in rows])
            result = self._ruled(narrow, context.columns(slice(0, 1)))
            if not result.skipped and (sizes := _sizes(self.rule, result, context)) is not None:
                return result, evaluation.aggregate(rows, sizes)
        result = self._ruled(np.stack(rows), context)
        if result.skipped:
            return result, np.zeros(len(rows[0]), dtype=np.int64)
        if result.coefficients is not None:
            whole = _whole_coefficients(result.coefficients)
            exact = torch.from_numpy(np.ldexp(whole.astype(np.float64), -COEFFICIENT_BITS))
            return replace(result, coefficients=exact), _combined(whole, rows)
        return result, _rounded(result.vector, self.scale)

    def _ruled(self, rows: np.ndarray, context: Context) -> Aggregate:
        return self.rule(torch.from_numpy(evaluation.dequantize(rows, self.scale)), context)

    def _prepared(self, context: Context, order: np.ndarray) -> Context:
        """What a rule may look at besides rows: sorted alike, float64, measurements rounded."""
        context = context.rows(torch.from_numpy(order))
        root, model, previous = context.root_update, context.model, context.previous
        if root is not None:
            values = evaluation.quantize(root.detach().cpu().numpy(), self.scale)
            root = torch.from_numpy(evaluation.dequantize(values, self.scale))
        return replace(
            context,
            root_update=root,
            model=None if model is None else model.double(),
            previous=None if previous is None else previous.double(),
            evaluate=None if context.evaluate is None else _measured(context),
        )


def _order(rows: int, context: Context) -> np.ndarray:
    if context.clients is None:
        return np.arange(rows)
    return np.argsort(context.clients.cpu().numpy(), kind="stable")


def _measured(context: Context) -> Evaluate:
    """Evaluation in the model's own precision, its numbers as multiples of 2^-20."""
    evaluate, model = context.evaluate, context.model
    dtype = torch.float32 if model is None else model.dtype

    def rounded(vector: Tensor) -> Mapping[str, float]:
        found = evaluate(vector.to(dtype))
        return {name: _to_grid(value) for name, value in found.items()}

    return rounded


def _to_grid(value: float) -> float:
    """Rules answer infinities themselves, so they pass."""
    if not np.isfinite(value) or abs(value) > 2**31:
        return value
    return float(np.ldexp(np.rint(np.ldexp(value, COEFFICIENT_BITS)), -COEFFICIENT_BITS))


def _sizes(rule: Defense, result: Aggregate, context: Context) -> list[int] | None:
    """The integer weights of a mean whose coefficients look at no row, or None."""
    if rule.test != "always" or result.coefficients is None:
        return None
    found = result.coefficients.numpy()
    for weights in (np.ones(len(found)), context.weights):
        if weights is None:
            continue
        weights = np.asarray(weights, dtype=np.float64)
        whole = np.rint(weights)
        usable = bool((whole == weights).all() and (whole > 0).all())
        if usable and np.allclose(found, weights / weights.sum(), rtol=1e-12, atol=0):
            return [int(x) for x in whole]
    return None


def _whole_coefficients(coefficients: Tensor) -> np.ndarray:
    """Multiples of 2^-20, ties to even, as int64."""
    values = coefficients.detach().cpu().numpy().astype(np.float64)
    if not (np.abs(values) < _LARGEST).all():
        raise ConfigError(
            f"A coefficient inside consensus is finite and below {_LARGEST}, got {values.tolist()}."
        )
    return np.rint(np.ldexp(values, COEFFICIENT_BITS)).astype(np.int64)


def _combined(whole: np.ndarray, rows: Sequence[np.ndarray]) -> np.ndarray:
    """Σ c_i q_i 2^-20, rounded half up."""
    total = np.full(len(rows[0]), 1 << (COEFFICIENT_BITS - 1), dtype=np.int64)
    for c, row in zip(whole.tolist(), rows, strict=True):
        if c:
            total += np.multiply(row, c)
    return np.right_shift(total, COEFFICIENT_BITS, out=total)


def _rounded(vector: Tensor, s: int) -> np.ndarray:
    wide = np.rint(np.ldexp(vector.detach().cpu().numpy().astype(np.float64), s))
    if not (np.abs(wide) < 2.0**53).all():
        raise ConfigError(
            "The rule's result is not finite, or too long for the scale: no aggregate to agree on."
        )
    return wide.astype(np.int64)
