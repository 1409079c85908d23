"""Frozen values: every rule on one 7 x 4 matrix, as Flower and ByzFL compute it.

X[i, j] = sin(1 + 1.3 i + 0.7 j + 0.11 i j), row 6 times 3. The numbers were obtained from
Flower's `flwr.server.strategy.aggregate`, from ByzFL 0.0.11, or in closed form; six decimals.
"""

import pytest
import torch

from defenses.bulyan import Bulyan
from defenses.centered_clipping import CenteredClipping
from defenses.fedavg import FedAvg
from defenses.geometric_median import GeometricMedian
from defenses.krum import Krum
from defenses.meamed import Meamed
from defenses.median import Median
from defenses.multi_krum import MultiKrum
from defenses.pre.arc import ARC
from defenses.pre.nnm import NNM
from defenses.trimmed_mean import TrimmedMean
from fedalign.core.contracts import Aggregate, Defense


class Spy(Defense):
    """Returns the last row it was given, unchanged."""

    def __call__(self, updates, context=None):
        return Aggregate.select(updates, len(updates) - 1)


@pytest.fixture
def matrix():
    i, j = torch.meshgrid(
        torch.arange(7, dtype=torch.float64), torch.arange(4, dtype=torch.float64), indexing="ij"
    )
    rows = torch.sin(1 + 1.3 * i + 0.7 * j + 0.11 * i * j)
    rows[6] *= 3
    return rows


TABLE = {
    "mean": (FedAvg(), [0.395981, -0.117275, -0.353946, -0.018145]),
    "median": (Median(), [0.745705, 0.031587, -0.544021, 0.041581]),
    "trimmed_mean": (TrimmedMean(2), [0.501362, 0.103474, -0.206618, -0.025222]),
    "multi_krum": (MultiKrum(2, keep=5), [0.399913, 0.307444, -0.101421, -0.408663]),
    "multi_krum_n-f-1": (
        MultiKrum(2, keep=5, neighbors="n-f-1"),
        [0.399913, 0.307444, -0.101421, -0.408663],
    ),
    "geometric_median": (
        GeometricMedian(nu=1e-9, iterations=2000),
        [0.400695, 0.133057, -0.214938, -0.267523],
    ),
    "geometric_median_byzfl": (
        GeometricMedian(nu=0.1, iterations=3, start="zero"),
        [0.367486, 0.122855, -0.188386, -0.228226],
    ),
    "centered_clipping": (
        CenteredClipping(tau=1, iterations=3),
        [0.308110, 0.099581, -0.154047, -0.174128],
    ),
    "meamed": (Meamed(2), [0.839368, 0.434576, -0.138231, 0.368128]),
    "nnm_mean": (NNM(FedAvg(), 2), [0.262475, 0.157231, -0.089678, -0.214249]),
    "nnm_trimmed_mean": (NNM(TrimmedMean(2), 2), [0.327922, 0.242736, -0.023398, -0.223515]),
    "bulyan": (Bulyan(1), [0.841725, 0.829061, -0.664311, -0.025222]),
    "bulyan_oneshot": (
        Bulyan(1, selection="oneshot"),
        [0.841725, 0.829061, -0.664311, -0.025222],
    ),
    "arc_row_6": (ARC(Spy(), 2), [0.716955, -0.822166, -1.061013, 0.378156]),
}


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_rule_gives_the_frozen_vector(matrix, name, dtype):
    rule, expected = TABLE[name]
    vector = rule(matrix.to(dtype)).vector
    assert vector.dtype == dtype
    assert vector.tolist() == pytest.approx(expected, abs=1e-6 if dtype == torch.float64 else 2e-6)


@pytest.mark.parametrize(
    ("neighbors", "scores"),
    [
        ("n-f-2", [7.506377, 7.927465, 12.633868, 13.162161, 8.206129, 6.601133, 37.945545]),
        ("n-f-1", [13.525487, 12.255741, 18.692190, 22.018506, 12.534404, 12.219270, 58.607548]),
    ],
)
def test_krum_scores_and_choice(matrix, neighbors, scores):
    decided = Krum(2, neighbors=neighbors)(matrix)
    assert decided.scores.tolist() == pytest.approx(scores, abs=1e-6)
    assert torch.equal(decided.vector, matrix[5])
    assert decided.accepted.tolist() == [False] * 5 + [True, False]
