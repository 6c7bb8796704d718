"""Numbers over seeds, from rows written by hand."""

import itertools

import pytest

from experiments.lab import Ruling, results
from experiments.lab.results import Cell
from tests.experiments.lab.ruled import F, H, U
from tests.experiments.training import tiny


def _run(norm, seed, *errors):
    return {
        "norm": norm,
        "seed": seed,
        "epochs": len(errors),
        "curve": {"test_errors": list(errors)},
    }


def test_cells_are_over_the_seeds_of_a_key_and_of_the_last_epochs():
    record = {
        "runs": [
            _run("gn", 0, *[0.9] * 12, 0.3, 0.1, 0.2),
            _run("bn", 0, 0.9, 0.5),
            _run("gn", 1, *[0.9] * 12, 0.1, 0.1, 0.9),
        ]
    }
    cells = results.cells(record, lambda run: run["norm"])
    assert list(cells) == ["gn", "bn"]
    assert cells["gn"].values == [20.0, 10.0]
    assert f"{cells['gn']:.2f}" == "15.00 ± 7.07"
    assert str(cells["bn"]) == "50.0"
    assert cells["bn"].spread is None
    assert results.spread_of(record).endswith("of 2 seeds")


def test_a_row_keeps_its_config_and_every_curve():
    epochs = [
        {"epoch": 1, "examples": 64, "seconds": 1.26, "train_loss": 1.0, "test_iou": a}
        for a in (0.25, 0.12345678)
    ]
    config = tiny.config(epochs=2, network="unet")
    row = results.row(config, epochs)
    assert row["network"] == "unet"
    assert row["seconds"] == pytest.approx(2.5)
    assert row["curve"] == {"train_loss": [1.0, 1.0], "test_iou": [0.25, 0.123457]}
    assert results.told(row) == "iou 0.123"


@pytest.mark.parametrize(
    ("a", "b", "ruling"),
    [
        # Seeds far apart hide nothing that every one of them has.
        ([10.0, 20.0, 30.0], [9.0, 19.1, 28.9], H),
        ([9.0, 19.1, 28.9], [10.0, 20.0, 30.0], F),
        ([9.5, 19.6, 29.5], [10.0, 20.0, 30.0], F),
        # Differences of 1, 2 and 3: a mean of 2 and a standard error of 0.58.
        ([1.0, 2.0, 3.0], [0.0, 0.0, 0.0], H),
        # Of 0, 2 and 4: a mean of 2 and a standard error of 1.15, of which two decide.
        ([0.0, 2.0, 4.0], [0.0, 0.0, 0.0], U),
        ([0.0, 0.0, 0.0], [0.0, 2.0, 4.0], U),
        ([2.0], [1.0], U),
        ([2.0, 2.0, 2.1], [1.0, 1.0], U),
    ],
)
def test_what_exceeds_by_pairs_of_seeds(a, b, ruling):
    assert results.exceeds(Cell(a), Cell(b)) is ruling
    assert results.exceeds(Cell(a), Cell([x - 1 for x in b]), by=1.0) is ruling


@pytest.mark.parametrize(("a", "b"), list(itertools.product((H, F, U), repeat=2)))
def test_both_claims_hold_where_each_does(a, b):
    want = F if F in (a, b) else U if U in (a, b) else H
    assert a & b is want
    assert results.all_of([a, b]) is want
    assert results.all_of([]) is H


def test_a_ruling_is_no_truth_value():
    with pytest.raises(TypeError, match="three values"):
        bool(Ruling.UNDECIDED)
