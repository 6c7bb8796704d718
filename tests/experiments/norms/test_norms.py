"""The four norms: the command on tiny data, and the rules on records by hand."""

import json

import pytest

from experiments import __main__ as command
from experiments.norms import recipe, report
from experiments.norms.experiment import EXPERIMENT
from experiments.small_batch import recipe as small_batch
from experiments.small_batch import search
from tests.experiments.training import tiny


@pytest.mark.usefixtures("tiny_data")
def test_quick(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(small_batch, "network", tiny.Network)
    out = ["--batch-sizes", "2", "--out", str(tmp_path)]
    assert command.main(["norms", "--quick", "--norms", "bn", "in", *out]) == 0
    record = json.loads((tmp_path / "quick.json").read_text())
    rates = {run["norm"]: run["rate"] for run in record["runs"]}
    assert rates == {"bn": 0.8, "in": 0.8}
    assert record["memory_gb"] > 0
    assert (tmp_path / "quick.png").read_bytes().startswith(b"\x89PNG")
    assert "| validation error |" in capsys.readouterr().out


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
