"""Average precision of cases small enough for pencil and paper."""

import numpy as np
import pytest

from experiments.detection.metric import average_precision

BOXES = [[0, 0, 10, 8], [20, 20, 30, 28]]
TREES = np.array([[*box, 0, 0] for box in BOXES], np.float32)


def _found(*rows):
    """Of a box and its score; the class is that of trees."""
    rows = np.array(rows, np.float32).reshape(-1, 5)
    return np.column_stack([rows, np.zeros(len(rows), np.float32)])


def test_perfect_boxes():
    found = _found([*BOXES[0], 0.9], [*BOXES[1], 0.1])
    assert average_precision([TREES], [found]) == {"ap": 1.0, "ap50": 1.0}


def test_a_false_box_between_two_true_ones():
    """Precision is 1 at recalls 0, 0.01, ..., 0.5, and 2/3 at the 50 above."""
    found = _found([*BOXES[0], 0.9], [40, 40, 50, 50, 0.8], [*BOXES[1], 0.7])
    got = average_precision([TREES], [found])
    want = (51 + 50 * 2 / 3) / 101
    assert got == pytest.approx({"ap": want, "ap50": want})


def test_a_box_that_is_off_counts_at_three_of_ten_thresholds():
    """10x8 in 10x5: an intersection over union of 0.625."""
    found = _found([0, 0, 10, 5, 0.9])
    got = average_precision([TREES[:1]], [found])
    assert got == pytest.approx({"ap": 0.3, "ap50": 1.0})


def test_a_second_box_on_a_tree_is_false():
    found = _found([*BOXES[0], 0.9], [*BOXES[0], 0.8], [*BOXES[1], 0.7])
    assert average_precision([TREES], [found])["ap"] < 0.85


def test_pictures_are_told_apart():
    """The right box in the wrong picture is false."""
    truth = [TREES[:1], TREES[1:], np.zeros((0, 6), np.float32)]
    right = [_found([*BOXES[0], 0.9]), _found([*BOXES[1], 0.9]), _found()]
    assert average_precision(truth, right)["ap"] == 1.0
    assert average_precision(truth, [right[1], right[0], right[2]])["ap"] == 0.0
    low = _found([1, 1, 5, 5, 0.1])
    assert average_precision(truth, [*right[:2], low])["ap"] == 1.0, "it comes last"


def test_classes_are_told_apart_and_count_alike():
    """Class 0 is found, class 3 is not, and a box of class 5 counts nowhere."""
    truth = np.vstack([TREES, [[40, 40, 50, 50, 3, 0]]])
    found = _found([*BOXES[0], 0.9], [*BOXES[1], 0.8], [40, 40, 50, 50, 0.7])
    found[2, 5] = 5
    assert average_precision([truth], [found]) == {"ap": 0.5, "ap50": 0.5}
    found[:, 5] = [0, 3, 3]
    got = average_precision([truth], [found])["ap"]
    want = (51 / 101 + 0.5) / 2  # a half of the trees; then a wrong box and a right one
    assert got == pytest.approx(want)


def test_what_is_found_in_a_crowd_is_neither_right_nor_wrong():
    crowd = np.vstack([TREES, [[40, 40, 90, 90, 0, 1]]])
    found = _found([45, 45, 60, 60, 0.95], [*BOXES[0], 0.9], [*BOXES[1], 0.8])
    assert average_precision([crowd], [found])["ap"] == 1.0
    assert average_precision([TREES], [found])["ap"] < 0.7
    with pytest.raises(ValueError, match="expected pictures with boxes in them"):
        average_precision([crowd[2:]], [found])


def test_nothing_found_is_nothing_precise():
    assert average_precision([TREES], [_found()]) == {"ap": 0.0, "ap50": 0.0}


def test_pictures_without_any_box_are_refused():
    with pytest.raises(ValueError, match="expected pictures with boxes in them"):
        average_precision([np.zeros((0, 6))], [_found()])


def test_what_cocos_program_prints_is_kept_back(capsys):
    average_precision([TREES], [_found([*BOXES[0], 0.9])])
    assert not capsys.readouterr().out
