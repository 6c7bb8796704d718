"""The rules and the table, on records written by hand."""

import pytest

from experiments.video import experiment, report


def _record(**errors):
    """By norm and batch, such as bn8, the errors of two seeds."""
    return {
        "runs": [
            {
                "norm": name[:2],
                "batch": int(name[2:]),
                "seed": seed,
                "epochs": 1,
                "epoch_examples": 64,
                "devices": 1,
                "rate": 0.5,
                "curve": {"test_errors": [value]},
            }
            for name, values in errors.items()
            for seed, value in enumerate(values)
        ],
        "clips": 9,
        "shape": [8, 32, 16],
    }


AS_IN_THE_PAPER = {
    "bn8": (0.25, 0.27),
    "bn4": (0.30, 0.34),
    "gn8": (0.27, 0.27),
    "gn4": (0.28, 0.28),
}


def _held(**errors):
    return [verdict.held for verdict in experiment.verdicts(_record(**errors))]


def test_the_claims_hold_where_the_numbers_are_as_in_the_paper():
    assert _held(**AS_IN_THE_PAPER) == [True, True]
    first, second = experiment.verdicts(_record(**AS_IN_THE_PAPER))
    assert first.ours == "72.0 ± 0.0 against 68.0 ± 2.8%"
    assert second.ours == "6.0 against 1.0 points"


@pytest.mark.parametrize(
    ("changed", "held"),
    [
        ({"gn4": (0.35, 0.36)}, [False, False]),
        ({"bn8": (0.32, 0.36)}, [True, False]),
        ({"bn4": (0.20, 0.38)}, [False, False]),  # 8 points less, and 10 more
    ],
)
def test_they_do_not_where_the_numbers_are_not(changed, held):
    assert _held(**AS_IN_THE_PAPER | changed) == held


def test_the_table_and_the_caption():
    record = _record(**AS_IN_THE_PAPER)
    assert report.table(record).splitlines() == [
        "| clips per device | 8 | 4 |",
        "|---|---|---|",
        "| batch norm | 74.0 ± 1.4 | 68.0 ± 2.8 |",
        "| group norm | 73.0 ± 0.0 | 72.0 ± 0.0 |",
    ]
    assert "9 clips of 8 frames of 32x16 pixels" in report.caption(record)
