"""The rules and the table, on records written by hand."""

import pytest

from experiments.video import experiment, report
from tests.experiments.lab.ruled import F, H, U, rulings


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
                "curve": {"test_errors": [value], "train_errors": [value / 2]},
            }
            for name, values in errors.items()
            for seed, value in enumerate(values)
        ],
        "dataset": "moving things",
        "clips": 9,
        "classes": 4,
        "shape": [8, 32, 16],
    }


AS_IN_THE_PAPER = {
    "bn8": (0.25, 0.27),
    "bn4": (0.33, 0.34),
    "gn8": (0.27, 0.27),
    "gn4": (0.28, 0.28),
}


def _held(**errors):
    return rulings(experiment.verdicts(_record(**errors)))


def test_the_claims_hold_where_the_numbers_are_as_in_the_paper():
    assert _held(**AS_IN_THE_PAPER) == [H, H]
    first, second = experiment.verdicts(_record(**AS_IN_THE_PAPER))
    assert first.ours == "72.0 ± 0.0 against 66.5 ± 0.7%"
    assert second.ours == "7.5 against 1.0 points"


@pytest.mark.parametrize(
    ("changed", "held"),
    [
        ({"gn4": (0.40, 0.41)}, [F, F]),
        ({"bn8": (0.38, 0.39)}, [H, F]),
        ({"bn4": (0.20, 0.38)}, [U, U]),  # 8 points less, and 10 more
    ],
)
def test_they_do_not_where_the_numbers_are_not(changed, held):
    assert _held(**AS_IN_THE_PAPER | changed) == held


def test_nothing_is_decided_before_all_have_learned():
    record = _record(**AS_IN_THE_PAPER)
    record["runs"][-1]["curve"]["train_errors"] = [0.9]
    assert rulings(experiment.verdicts(record)) == [U, U]


def test_the_table_and_the_caption():
    record = _record(**AS_IN_THE_PAPER)
    assert report.table(record).splitlines() == [
        "| clips per device | test at 8 | test at 4 | training at 8 | training at 4 |",
        "|---|---|---|---|---|",
        "| batch norm | 74.0 ± 1.4 | 66.5 ± 0.7 | 87.0 ± 0.7 | 83.2 ± 0.4 |",
        "| group norm | 73.0 ± 0.0 | 72.0 ± 0.0 | 86.5 ± 0.0 | 86.0 ± 0.0 |",
    ]
    caption = report.caption(record)
    assert "9 clips of 8 frames of 32x16 pixels with things of the test" in caption
    assert "of 64 clips, all of them new; by chance it is 25." in caption
    films = report.caption(record | {"dataset": "kinetics", "classes": 400})
    assert "one from the middle of each of as many films" in films
    assert "of 64 clips; by chance it is 0.25." in films
