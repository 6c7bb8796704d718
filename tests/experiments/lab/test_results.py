"""Numbers over seeds, from rows written by hand."""

import pytest

from experiments.lab import results
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
