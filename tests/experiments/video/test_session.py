"""A quick run from the command line to the record, of a tiny network."""

import json

import jax
import numpy as np
import pytest
from flax import linen as nn

from experiments.video import experiment, recipe
from experiments.video.paths import Clips, Shape
from experiments.video.task import Motion


class Network(nn.Module):
    """One convolution and one norm."""

    norm: object
    conv: object
    classes: int

    @nn.compact
    def __call__(self, x):
        x = self.conv(8, (3,) * 3, padding=[(1, 1)] * 3, name="conv")(x)
        x = nn.relu(self.norm(name="norm")(x))
        return nn.Dense(self.classes)(x.mean((1, 2, 3)))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("video")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "SHAPE": Shape(frames=3, side=16, fastest=1),
            "TEST": 24,
            "EPOCH": 32,
            "EVALUATION_BATCH": 16,
            "network": Network,
        }.items():
            patch.setattr(recipe, name, value)
        argv = ["--quick", "--epochs", "3", "--out", str(out)]
        assert experiment.run(argv) == 0
        yield out, json.loads((out / "quick.json").read_text())


def test_the_record_holds_every_run(finished):
    _, record = finished
    assert [(r["norm"], r["batch"]) for r in record["runs"]] == [("bn", 4), ("gn", 4)]
    for run in record["runs"]:
        curve = run["curve"]
        assert curve["train_loss"][2] < curve["train_loss"][0], "it learns"
        # Parts of 24 clips.
        parts = 24 * np.array(curve["test_errors"])
        np.testing.assert_allclose(parts, parts.round(), atol=1e-4)
    assert record["clips"] == 24
    assert record["shown"]["label"] == "right"


def test_the_figure_is_a_small_picture(finished):
    out, _ = finished
    content = (out / "quick.png").read_bytes()
    assert content[:4] == b"\x89PNG"
    assert len(content) < 200_000


def test_a_batch_that_does_not_divide_an_epoch_is_refused(tmp_path, capsys):
    argv = ["--quick", "--batch-sizes", "7", "--out", str(tmp_path / "out")]
    assert experiment.run(argv) == 2
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
