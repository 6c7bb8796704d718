"""The assignment against loops over levels, positions and boxes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.detection import targets
from tests.experiments.detection import draw

STRIDES, HEIGHT, WIDTH = (4, 8, 16), 48, 64


def _positions():
    for stride in STRIDES:
        for i in range(HEIGHT // stride):
            for j in range(WIDTH // stride):
                yield stride, (j + 0.5) * stride, (i + 0.5) * stride


def _answer(stride, x, y, boxes):
    """The distances to the edges of the box that the position answers for, or None."""
    range_of = {4: (0, 16), 8: (16, 32), 16: (32, np.inf)}[stride]
    best = None
    for index, (left, top, right, bottom) in enumerate(boxes):
        distances = [x - left, y - top, right - x, bottom - y]
        inside = min(distances) > 0
        near = max(abs(x - (left + right) / 2), abs(y - (top + bottom) / 2))
        fits = range_of[0] < max(distances) <= range_of[1]
        size = (right - left) * (bottom - top)
        if (
            inside
            and near <= 1.5 * stride
            and fits
            and (best is None or size < best[0])
        ):
            best = size, distances, index
    return best and best[1:]


def test_the_assignment_is_that_of_the_loops():
    assign = jax.jit(
        lambda boxes, classes: targets.assign(boxes, classes, STRIDES, HEIGHT, WIDTH)
    )
    levels = set()
    for seed in range(6):
        rng = np.random.default_rng(seed)
        # Of distinct areas, so that no two are equally good.
        boxes = draw.boxes(rng, 12, HEIGHT, least=5)
        _, first = np.unique((boxes[:, 2:] - boxes[:, :2]).prod(1), return_index=True)
        padded = np.zeros((14, 4), np.float32)
        padded[: len(first)] = boxes[first]
        classes = rng.integers(0, 9, len(padded))
        got = jax.tree.map(np.asarray, assign(padded, classes))
        for index, (stride, x, y) in enumerate(_positions()):
            want = _answer(stride, x, y, boxes[first])
            assert got.positive[index] == (want is not None)
            if want is None:
                assert got.centerness[index] == 0
                continue
            levels.add(stride)
            (left, top, right, bottom), chosen = want
            np.testing.assert_array_equal(got.distances[index], want[0])
            assert got.classes[index] == classes[chosen]
            across = min(left, right) / max(left, right)
            down = min(top, bottom) / max(top, bottom)
            assert got.centerness[index] == pytest.approx((across * down) ** 0.5)
    assert levels == set(STRIDES)


def test_a_picture_without_boxes_has_no_positives():
    got = targets.assign(jnp.zeros((3, 4)), jnp.zeros(3, int), STRIDES, HEIGHT, WIDTH)
    assert not got.positive.any()
    assert not got.centerness.any()
    assert np.isfinite(got.distances).all()


def test_the_reach_moves_the_boxes_to_finer_levels():
    """A box of 40 pixels, whose farthest edge is 20 to 36 pixels from a point."""
    box, classes = jnp.array([[4.0, 4, 44, 44]]), jnp.zeros(1, int)
    _, stride = targets.points(STRIDES, HEIGHT, WIDTH)
    for reach, levels in ((4.0, {8, 16}), (8.0, {4}), (2.0, {16})):
        got = targets.assign(box, classes, STRIDES, HEIGHT, WIDTH, reach)
        assert set(np.asarray(stride)[got.positive].tolist()) == levels


def test_points_are_the_middles_of_their_cells():
    at, stride = targets.points(STRIDES, HEIGHT, WIDTH)
    want = [(x, y, s) for s, x, y in _positions()]
    np.testing.assert_array_equal(np.column_stack([at, stride]), want)
