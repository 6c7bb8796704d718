"""A quick run from the command line to the record, on a brain made here."""

import json

import numpy as np
import pytest
from flax import linen as nn

from experiments.data import brain
from experiments.segmentation import experiment, recipe, report
from tests.experiments.data import test_brain


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


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("segmentation")
    with pytest.MonkeyPatch.context() as patch:
        file = test_brain.write_wheel(folder / "flax_gn" / brain.NAME, _brain())
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.setitem(brain.load.__kwdefaults__, "file", file)
        shapes = {"2d": ((8, 8, 1), (8, 8, 2)), "3d": ((8, 8, 8), (8, 8, 8))}
        for name, value in {
            "TRAIN": (0, 14),
            "TEST": (15, 23),
            "SHOWN": 8,
            "EPOCH": 32,
            "GEOMETRIES": {k: recipe.Geometry(*v, 8, 1) for k, v in shapes.items()},
            "network": lambda _, **kinds: Network(**kinds),
        }.items():
            patch.setattr(recipe, name, value)
        out = folder / "out"
        assert experiment.run(["--quick", "--epochs", "3", "--out", str(out)]) == 0
        yield out, json.loads((out / "quick.json").read_text())


def test_the_record_holds_every_run(finished):
    _, record = finished
    assert [(r["network"], r["norm"], r["batch"]) for r in record["runs"]] == [
        (network, norm, 1) for network in ("2d", "3d") for norm in ("bn", "gn")
    ]
    for run in record["runs"]:
        curve = run["curve"]
        assert curve["train_loss"][2] < curve["train_loss"][0], "it learns"
        assert all(0 <= value <= 1 for value in curve["test_miou"] + curve["test_dice"])
    # x 0 and 8, y 0, z 0 and 8 of 16; or z 2, 4, ..., 14: where there is brain.
    assert record["patches"]["3d"] == {"shape": [8, 8, 8], "test": 4}
    assert record["patches"]["2d"]["shape"] == [8, 8, 1]


def test_the_record_holds_the_slice_and_what_was_said_of_it(finished):
    _, record = finished
    shown = {name: report.decoded(record["shown"][name]) for name in record["shown"]}
    assert shown["image"].shape == shown["labels"].shape == (16, 8)
    assert set(np.unique(shown["labels"])) <= {0, 1, 2}
    for run in record["runs"]:
        said = report.decoded(run["measured"]["said"])
        assert said.shape == (16, 8)
        assert said.max() <= 2


def test_the_figure_is_a_small_picture(finished):
    out, _ = finished
    content = (out / "quick.png").read_bytes()
    assert content[:4] == b"\x89PNG"
    assert len(content) < 200_000


def test_a_missing_brain_is_said_before_any_training(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert experiment.run(["--quick", "--out", str(tmp_path / "out")]) == 2
    assert "-m experiments.data brain" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
