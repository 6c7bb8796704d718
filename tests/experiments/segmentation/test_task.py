"""What the task makes of the network's numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from experiments.data.nifti import Volume
from experiments.segmentation import metric
from experiments.segmentation.patches import PADDING
from experiments.segmentation.sets import Cases, Geometry
from experiments.segmentation.task import Segmentation


class Told(nn.Module):
    """Says, of each voxel, the class that stands in its intensity, with logit 4."""

    norm: object
    conv: object
    classes: int

    @nn.compact
    def __call__(self, x):
        image = jnp.round(x[..., 0] * 64 + 127.5).astype(int)
        return 4 * jax.nn.one_hot(image, self.classes)


# What is said, and what is true.
SAID = np.array([0, 1, 2, 1, 1, 0], np.uint8).reshape(1, 6, 1)
TRUE = np.array([0, 1, 2, 2, 1, 1], np.uint8).reshape(1, 6, 1)


def _task():
    volume = Volume(np.repeat(SAID, 2, 0)[..., None], np.repeat(TRUE, 2, 0))
    cases = Cases("set", ("a", "b", "c"), 1, [], [volume], whole=True, slice=0)
    of = Geometry((2, 2, 1), (2, 2, 1), Told)
    return Segmentation(cases, of, Told, "gn")


@pytest.mark.parametrize("size", [1, 2, 4])
def test_metrics_leave_the_padding_out(size):
    of = _task()
    outputs = [
        jax.tree.map(np.asarray, jax.jit(of.evaluate)({}, {}, batch))
        for batch in of.evaluation_batches(size)
    ]
    got = of.metrics(outputs)
    # By hand: neither 1 of 1 and 1 too many, grey 2 of 3 and 1 too many, white 1 of 2.
    assert got["miou"] == pytest.approx((1 / 2 + 2 / 4 + 1 / 2) / 3)
    assert got["dice"] == pytest.approx((4 / 6 + 2 / 3) / 2)
    right, wrong = -np.log(np.exp([4, 0]) / (np.exp(4) + 2))
    assert got["loss"] == pytest.approx((4 * right + 2 * wrong) / 6, rel=1e-5)
    np.testing.assert_array_equal(of.said(outputs), np.repeat(SAID[..., 0], 2, 0))


def test_the_loss_leaves_the_padding_out():
    of = _task()
    (batch,) = of.evaluation_batches(3)
    cut = batch._replace(labels=batch.labels.copy())
    cut.labels[0, 0] = cut.labels[2, 1] = PADDING
    loss, _ = of.loss({}, {}, cut)
    there = cut.labels != PADDING
    right = (batch.images[..., 0] == batch.labels)[there]
    terms = np.where(right, *-np.log(np.exp([4, 0]) / (np.exp(4) + 2)))
    assert float(loss) == pytest.approx(terms.mean(), rel=1e-5)


def test_a_class_that_nobody_names_and_that_is_not_there_is_right():
    iou, dice = metric.overlap(np.array([[4, 0], [0, 0]]))
    assert iou.tolist() == dice.tolist() == [1, 1]
    iou, dice = metric.overlap(np.array([[3, 1], [0, 0]]))
    assert iou.tolist() == [0.75, 0]
    assert dice.tolist() == [6 / 7, 0]
