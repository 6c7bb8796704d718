"""Segmentation, from the command on a brain made here to the page."""

import numpy as np
from flax import linen as nn

from experiments.data import brain
from experiments.segmentation import recipe, report
from tests.experiments.data import test_brain
from tests.experiments.lab import quick


class Network(nn.Module):
    """One convolution and one norm."""

    norm: object
    conv: object
    classes: int

    @nn.compact
    def __call__(self, x):
        axes = x.ndim - 2
        x = self.conv(8, (3,) * axes, padding=[(1, 1)] * axes, name="conv")(x)
        return nn.Dense(self.classes)(nn.relu(self.norm(name="norm")(x)))


def _brain():
    """Grey inside, white around it, nothing beyond; twice the resolution of the run."""
    at = np.stack(np.meshgrid(*(np.arange(n) - n / 2 + 0.5 for n in (32, 48, 32))))
    far = np.sqrt((at**2).sum(0)).swapaxes(0, 1)
    image = np.select([far < 9, far < 14], [200, 120], 0).astype(np.uint8)
    grey, white = (np.where(image == value, 255, 0) for value in (120, 200))
    return [array.astype(np.uint8) for array in (image, grey, white)]


class TestQuick(quick.Quick):
    name = "segmentation"
    options = ("--epochs", "3")

    @classmethod
    def shrink(cls, patch, folder):
        file = test_brain.write_wheel(folder / "flax_gn" / brain.NAME, _brain())
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.setitem(brain.load.__kwdefaults__, "file", file)
        shapes = {"2d": ((8, 8, 1), (8, 8, 2)), "3d": ((8, 8, 8), (8, 8, 8))}
        for name, value in {
            "TRAIN": (0, 14),
            "TEST": (15, 23),
            "SHOWN": 8,
            "EPOCH": 32,
            "GEOMETRIES": {k: recipe.Geometry(*v, 8) for k, v in shapes.items()},
            "network": lambda _, **kinds: Network(**kinds),
        }.items():
            patch.setattr(recipe, name, value)

    def test_the_record_holds_every_run(self, finished):
        record = finished.record
        assert [(r["network"], r["norm"], r["batch"]) for r in record["runs"]] == [
            (network, norm, 1) for network in ("2d", "3d") for norm in ("bn", "gn")
        ]
        for run in record["runs"]:
            curve = run["curve"]
            assert curve["train_loss"][2] < curve["train_loss"][0], "it learns"
            measures = curve["test_miou"] + curve["test_dice"]
            assert all(0 <= value <= 1 for value in measures)
        # x 0 and 8, y 0, z 0 and 8 of 16; or z 2, 4, ..., 14: where there is brain.
        assert record["patches"]["3d"] == {"shape": [8, 8, 8], "test": 4}
        assert record["patches"]["2d"]["shape"] == [8, 8, 1]

    def test_the_record_holds_the_slice_and_what_was_said_of_it(self, finished):
        shown = finished.record["shown"]
        image, labels = (report.decoded(shown[name]) for name in ("image", "labels"))
        assert image.shape == labels.shape == (16, 8)
        assert set(np.unique(labels)) <= {0, 1, 2}
        for run in finished.record["runs"]:
            said = report.decoded(run["measured"]["said"])
            assert said.shape == (16, 8)
            assert said.max() <= 2
