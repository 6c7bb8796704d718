"""The losses against their equations in double precision, one position at a time."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.detection.losses import Losses, losses
from experiments.detection.targets import Targets


def _sigmoid(x):
    return 1 / (1 + math.exp(-x))


def _iou(a, b):
    """Of boxes around one point, from the distances to their edges."""
    wide, high = (min(a[k], b[k]) + min(a[k + 2], b[k + 2]) for k in (0, 1))
    areas = sum((d[0] + d[2]) * (d[1] + d[3]) for d in (a, b))
    return wide * high / (areas - wide * high)


def _problem(seed=0, n=20, positives=7, classes=3):
    rng = np.random.default_rng(seed)
    positive = np.arange(n) < positives
    logits = rng.normal(0, 2, (n, classes))
    centerness, distances = rng.normal(0, 2, n), rng.uniform(0.5, 9, (n, 4))
    truth = Targets(
        positive,
        rng.uniform(0.5, 9, (n, 4)),
        rng.integers(0, classes, n),
        np.where(positive, rng.random(n), 0),
    )
    return logits, centerness, distances, truth


def _wanted(logits, centerness, distances, truth):
    classes = boxes = off_centre = 0.0
    for i, row in enumerate(logits):
        for index, logit in enumerate(row):
            p = _sigmoid(logit)
            if truth.positive[i] and truth.classes[i] == index:
                classes -= 0.25 * (1 - p) ** 2 * math.log(p)
            else:
                classes -= 0.75 * p**2 * math.log(1 - p)
        if truth.positive[i]:
            overlap = _iou(distances[i], truth.distances[i])
            boxes -= truth.centerness[i] * math.log(overlap)
            c, q = truth.centerness[i], _sigmoid(centerness[i])
            off_centre -= c * math.log(q) + (1 - c) * math.log(1 - q)
    return classes, boxes, off_centre


def _single(problem):
    return jax.tree.map(
        lambda a: jnp.asarray(a, jnp.float32 if a.dtype == float else None), problem
    )


@pytest.mark.parametrize("of", [1, 3])
def test_the_losses_are_those_of_the_equations(of):
    problem = _problem(classes=of)
    got = losses(*_single(problem))
    classes, boxes, off_centre = _wanted(*problem)
    weight = problem[3].centerness.sum()
    want = (classes, boxes, off_centre, 7, weight)
    np.testing.assert_allclose(got, want, rtol=1e-5)
    total = (classes + off_centre) / 7 + boxes / weight
    assert got.total() == pytest.approx(total, rel=1e-5)


def test_without_positives_the_loss_is_the_classes_and_its_gradient_finite():
    *said, truth = _single(_problem(positives=0))
    value, gradients = jax.value_and_grad(lambda said: losses(*said, truth).total())(
        said
    )
    assert value == pytest.approx(_wanted(*_problem(positives=0))[0], rel=1e-5)
    assert all(np.isfinite(g).all() for g in gradients)
    assert np.any(gradients[0])
    assert not np.any(gradients[1])
    assert not np.any(gradients[2])


def test_perfect_boxes_cost_nothing_and_larger_ones_more():
    logits, centerness, _, truth = _single(_problem())
    exact = losses(logits, centerness, truth.distances, truth)
    assert exact.boxes == pytest.approx(0, abs=1e-5)
    twice = losses(logits, centerness, 2 * truth.distances, truth)
    assert twice.boxes == pytest.approx(
        math.log(4) * float(truth.centerness.sum()), rel=1e-5
    )


def test_sums_over_pictures_weigh_positions_and_not_pictures():
    one, other = (
        losses(*_single(_problem(s, positives=p))) for s, p in ((1, 2), (2, 9))
    )
    both = Losses(*(a + b for a, b in zip(one, other, strict=True)))
    want = (both.classes + both.centerness) / 11 + both.boxes / both.weight
    assert both.total() == pytest.approx(float(want), rel=1e-6)
