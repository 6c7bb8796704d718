"""What a step costs and the gradient's noise: by closed form, and the rules."""

import numpy as np
import pytest

from experiments.analysis import noise, report, steps
from experiments.small_batch import recipe
from tests.experiments.lab.ruled import F, H, rulings
from tests.experiments.training import tiny


def test_a_norm_that_looks_at_no_other_example_has_no_noise(monkeypatch):
    monkeypatch.setattr(recipe, "shallow", tiny.Network)
    dataset = tiny.dataset(train=256)
    rows = noise.measure(dataset, (8, 2), examples=16, cuts=3, epochs=1)
    found = {(row["norm"], row["batch"]): row for row in rows}
    for batch in (8, 2):
        assert found["gn", batch]["bias"] < report.ROUND_OFF
        assert found["gn", batch]["noise"] < report.ROUND_OFF
        assert found["bn", batch]["noise"] > 100 * report.ROUND_OFF
    assert found["bn", 2]["bias"] > found["bn", 8]["bias"]


def test_the_memory_kept_is_that_which_the_gradient_needs():
    """A loss whose gradient is its input."""
    x = np.ones((4, 3), np.float32)
    params = {"w": np.ones(3, np.float32)}

    def forward(params, stats, batch):
        return (batch * params["w"]).sum(), stats

    assert steps._kept(forward, (params, (), x)) == x.nbytes


def _record(bn, gn):
    rows = [
        {"norm": norm, "batch": batch, "bias": value, "noise": value}
        for norm, values in (("bn", bn), ("gn", gn))
        for batch, value in zip((32, 8, 2), values, strict=True)
    ]
    return {"noise": rows, "steps": []}


@pytest.mark.parametrize(
    ("bn", "gn", "held"),
    [
        ((0.1, 0.2, 0.4), (1e-6, 2e-6, 1e-6), [H, H]),
        ((0.1, 0.4, 0.2), (1e-6, 2e-3, 1e-6), [F, F]),
    ],
)
def test_the_verdicts(bn, gn, held):
    assert rulings(report.verdicts(_record(bn, gn))) == held
