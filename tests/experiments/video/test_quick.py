"""Moving things, from the command on few and small clips to the page."""

import numpy as np
from flax import linen as nn

from experiments.video import recipe
from experiments.video.paths import Shape
from tests.experiments.lab import quick


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


class TestQuick(quick.Quick):
    name = "video"
    options = ("--epochs", "3")

    @classmethod
    def shrink(cls, patch, folder):
        del folder
        for name, value in {
            "SHAPE": Shape(frames=3, side=16, fastest=1),
            "TEST": 24,
            "EPOCH": 32,
            "EVALUATION_BATCH": 16,
            "network": Network,
        }.items():
            patch.setattr(recipe, name, value)

    def test_the_record_holds_every_run(self, finished):
        record = finished.record
        runs = [(r["norm"], r["batch"]) for r in record["runs"]]
        assert runs == [("bn", 4), ("gn", 4)]
        for run in record["runs"]:
            curve = run["curve"]
            assert curve["train_loss"][2] < curve["train_loss"][0], "it learns"
            # Parts of 24 clips.
            parts = 24 * np.array(curve["test_errors"])
            np.testing.assert_allclose(parts, parts.round(), atol=1e-4)
        assert record["clips"] == 24
        assert record["shown"]["label"] == "right"
