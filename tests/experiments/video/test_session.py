"""What the command refuses, and the numbers of the test clips."""

import jax
import numpy as np
import pytest
from flax import linen as nn

from experiments import __main__ as command
from experiments.video.paths import Clips, Shape
from experiments.video.task import Motion


def test_a_batch_that_does_not_divide_an_epoch_is_refused(tmp_path, capsys):
    argv = ["--quick", "--batch-sizes", "7", "--out", str(tmp_path / "out")]
    assert command.main(["video", *argv]) == 2
    assert "epoch_examples must be a positive multiple" in capsys.readouterr().err


class Told(nn.Module):
    """Says the class that stands in the first pixel, with logit 4."""

    norm: object
    conv: object
    classes: int

    @nn.compact
    def __call__(self, x):
        said = jax.numpy.round(x[:, 0, 0, 0, 0] * 64 + 127.5).astype(int)
        return 4 * jax.nn.one_hot(said, self.classes)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_metrics_leave_the_padding_out(size):
    images = np.zeros((3, 2, 4, 4), np.uint8)
    images[:, 0, 0, 0] = [3, 1, 0]
    test = Clips(images, np.array([3, 2, 0], np.int32))
    of = Motion(images[:, 0], test, Shape(2, 4, 1), Told, "gn")
    got = of.metrics(
        jax.tree.map(np.asarray, jax.jit(of.evaluate)({}, {}, batch))
        for batch in of.evaluation_batches(size)
    )
    right, wrong = -np.log(np.exp([4, 0]) / (np.exp(4) + 7))
    assert got["errors"] == pytest.approx(1 / 3)
    assert got["loss"] == pytest.approx((2 * right + wrong) / 3, rel=1e-5)
