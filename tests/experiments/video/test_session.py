"""What the command refuses, and the numbers of the test clips."""

import jax
import numpy as np
import pytest
from flax import linen as nn

from experiments import __main__ as command
from experiments.training import examples
from experiments.video.sets import Clips
from experiments.video.task import Recognition


def test_a_batch_of_more_than_an_epoch_is_refused(tmp_path, capsys):
    argv = ["--quick", "--batch-sizes", "257", "--out", str(tmp_path / "out")]
    assert command.main(["video", *argv]) == 2
    assert "at least 257 training examples" in capsys.readouterr().err


class Told(nn.Module):
    """Says the class that stands in the first pixel, with logit 4."""

    norm: object
    conv: object
    classes: int

    @nn.compact
    def __call__(self, x):
        said = jax.numpy.round(x[:, 0, 0, 0, 0] * 64 + 127.5).astype(int)
        return 4 * jax.nn.one_hot(said, self.classes)


class Held:
    """Three test clips, each with its class in its first pixel, but for the first."""

    classes = tuple("abcdefgh")
    shape = 2, 4, 4, 1
    tested = 3

    def batches(self, size):
        images = np.zeros((3, *self.shape), np.uint8)
        images[:, 0, 0, 0, 0] = [3, 1, 0]
        test = Clips(images, np.array([3, 2, 0], np.int32))
        return examples.batches(test, size, Clips(0, -1))


@pytest.mark.parametrize("size", [1, 2, 4])
def test_metrics_leave_the_padding_out(size):
    of = Recognition(Held(), Told, "gn")
    got = of.metrics(
        jax.tree.map(np.asarray, jax.jit(of.evaluate)({}, {}, batch))
        for batch in of.evaluation_batches(size)
    )
    right, wrong = -np.log(np.exp([4, 0]) / (np.exp(4) + 7))
    assert got["errors"] == pytest.approx(1 / 3)
    assert got["loss"] == pytest.approx((2 * right + wrong) / 3, rel=1e-5)
