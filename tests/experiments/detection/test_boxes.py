"""Boxes against their pixels, and suppression against a loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.detection import boxes
from tests.experiments.detection import draw


def test_area_and_iou_are_those_of_counted_pixels():
    rng = np.random.default_rng(0)
    a, b = draw.boxes(rng, 40, 12), draw.boxes(rng, 40, 12)
    want = [draw.iou(x, y) for x, y in zip(a, b, strict=True)]
    assert min(want) == 0 < max(want)
    np.testing.assert_allclose(boxes.iou(a, b), want, rtol=1e-6)
    area = [draw.pixels(box, 12).sum() for box in a]
    np.testing.assert_array_equal(boxes.area(jnp.asarray(a)), area)


def test_boxes_without_area_share_nothing():
    nothing = jnp.zeros(4)
    inverted = jnp.array([5.0, 5, 1, 1])
    whole = jnp.array([0.0, 0, 9, 9])
    for box in (nothing, inverted):
        assert boxes.iou(box, box) == boxes.iou(box, whole) == 0


def _greedy(
    found: np.ndarray, scores: np.ndarray, classes: np.ndarray, most: float
) -> set[int]:
    kept: list[int] = []
    for index in np.argsort(-scores):
        if all(
            draw.iou(found[index], found[other]) <= most
            for other in kept
            if classes[index] == classes[other]
        ):
            kept.append(index)
    return set(kept)


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("most", [0.0, 0.3, 0.5])
def test_suppression_keeps_what_a_greedy_loop_keeps(most, n):
    suppress = jax.jit(boxes.suppress)
    sizes = set()
    for seed in range(5):
        rng = np.random.default_rng(seed)
        found = draw.boxes(rng, 30, 16, least=6)
        scores = np.sort(rng.random(30))[::-1]
        classes = rng.integers(0, n, 30)
        kept = suppress(found, jnp.asarray(scores, jnp.float32), classes, most)
        kept = np.flatnonzero(kept)
        assert set(kept) == _greedy(found, scores, classes, most)
        sizes.add(len(kept))
    assert 1 < max(sizes) < 30


def test_what_a_suppressed_box_would_suppress_remains():
    row = np.array([[0, 0, 4, 4], [2, 0, 6, 4], [4, 0, 8, 4]], np.float32)
    scores = jnp.array([0.9, 0.8, 0.7])
    kept = boxes.suppress(row, scores, jnp.zeros(3, int), 0.2)
    assert kept.tolist() == [True, False, True]
