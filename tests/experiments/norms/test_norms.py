"""The four norms: the rules on records by hand."""

import pytest

from experiments.norms import report
from tests.experiments.lab.ruled import F, H, U, rulings, two_seeds


def _record(**errors):
    return {
        "runs": [
            {
                "norm": norm,
                "seed": 0,
                "epochs": 1,
                "curve": {"test_errors": [test], "train_errors": [train]},
            }
            for norm, (test, train) in errors.items()
        ]
    }


@pytest.mark.parametrize(
    ("gn", "held"),
    [
        ((0.11, 0.04), [H, H, H]),
        ((0.125, 0.06), [H, F, F]),
        ((0.09, 0.05), [F, H, U]),
    ],
)
def test_the_verdicts(gn, held):
    record = _record(bn=(0.1, 0.05), ln=(0.12, 0.0), **{"in": (0.13, 0.0)}, gn=gn)
    assert rulings(report.verdicts(two_seeds(record))) == held
