"""The four norms: the rules on records by hand, and where the rates come from."""

import json

import pytest

from experiments.norms import recipe, report
from experiments.norms.experiment import EXPERIMENT
from experiments.small_batch import search


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
        ((0.11, 0.04), [True, True, True]),
        ((0.125, 0.06), [True, False, False]),
        ((0.09, 0.05), [False, True, False]),
    ],
)
def test_the_verdicts(gn, held):
    record = _record(bn=(0.1, 0.05), ln=(0.12, 0.0), **{"in": (0.13, 0.0)}, gn=gn)
    assert [verdict.held for verdict in report.verdicts(record)] == held


def test_the_rates_are_those_that_the_search_found():
    record = json.loads((EXPERIMENT.folder / "results" / "search.json").read_text())
    for norm in ("ln", "in"):
        tried = [r for r in record["results"] if r["config"]["norm"] == norm]
        assert [r["config"]["rate"] for r in tried] == list(search.RATES)
        best = min(tried, key=lambda r: r["error"])
        assert recipe.RATES[norm] == best["config"]["rate"]
