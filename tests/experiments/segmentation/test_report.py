"""The rules and the table, on records written by hand."""

import pytest

from experiments.segmentation import experiment, report
from tests.experiments.lab.ruled import F, H, U, rulings


def _record(**mious):
    """By norm and batch, such as bn1, the mean IoU of two seeds, of both networks."""
    return {
        "runs": [
            {
                "network": network,
                "norm": name[:2],
                "batch": int(name[2:]),
                "seed": seed,
                "epochs": 1,
                "epoch_examples": 64,
                "devices": 1,
                "rate": 0.5,
                "curve": {"test_miou": [value], "test_dice": [value / 2]},
            }
            for network in ("2d", "3d")
            for name, values in mious.items()
            for seed, value in enumerate(values)
        ],
        "dataset": "brain",
        "patches": {"2d": {"shape": [8, 8, 1], "test": 5}},
    }


AS_CLAIMED = {
    "bn2": (0.80, 0.82),
    "bn1": (0.60, 0.70),
    "gn2": (0.90, 0.91),
    "gn1": (0.89, 0.91),
}


def _held(**mious):
    verdicts = experiment.verdicts(_record(**mious))
    assert rulings(verdicts[:3]) == rulings(verdicts[3:])
    return rulings(verdicts[:3])


def test_the_claims_hold_where_the_numbers_are_as_claimed():
    assert _held(**AS_CLAIMED) == [H, H, H]
    found = experiment.verdicts(_record(**AS_CLAIMED))
    assert found[1].claim.startswith("slices (2D): at 1 per device")
    assert found[1].ours == "90.0 ± 1.4 against 65.0 ± 7.1% mean IoU"
    assert found[5].claim.startswith("volumes (3D): batch norm loses more")
    assert found[5].ours == "16.0 against 0.5 points of mean IoU"


@pytest.mark.parametrize(
    ("changed", "held"),
    [
        ({"bn1": (0.95, 0.96)}, [H, F, F]),
        ({"bn2": (0.95, 0.96)}, [F, H, H]),
        ({"gn1": (0.50, 0.50)}, [H, F, F]),
        # 25 points more or 24 less: no more than chance.
        ({"bn1": (0.64, 1.15)}, [H, U, U]),
    ],
)
def test_they_do_not_where_the_numbers_are_not(changed, held):
    assert _held(**AS_CLAIMED | changed) == held


def test_one_batch_size_says_nothing_about_the_change():
    found = experiment.verdicts(_record(bn1=(0.1, 0.2), gn1=(0.8, 0.9)))
    assert rulings(found) == [H, H]


def test_the_table_and_the_caption():
    record = _record(**AS_CLAIMED)
    lines = report.table(record).splitlines()
    assert lines[0] == (
        "| patches per device | mean IoU at 2 | mean IoU at 1 | mean Dice at 2 | "
        "mean Dice at 1 |"
    )
    assert lines[2] == (
        "| slices (2D), batch norm | 81.0 ± 1.4 | 65.0 ± 7.1 | 40.5 ± 0.7 | "
        "32.5 ± 3.5 |"
    )
    assert len(lines) == 6
    caption = report.caption(record)
    assert "union of grey matter, white matter and neither, and mean Dice" in caption
    assert "5 patches of 8x8x1 voxels of the region held out." in caption
    organs = report.caption(record | {"dataset": "decathlon Hippocampus"})
    assert "union of all classes and mean Dice coefficient of all but the" in organs
    assert "5 patches of 8x8x1 voxels of the cases held out." in organs
