"""Segmentation, from the command on a brain made here to the page."""

import dataclasses
import functools

import numpy as np
import pytest
from flax import linen as nn

from experiments.data import brain, decathlon
from experiments.segmentation import organs, recipe, report, template
from experiments.segmentation.sets import Geometry
from tests.experiments.data import decathlon_files, test_brain
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


def _geometries(steps):
    shapes = {"2d": (8, 8, 1), "3d": (8, 8, 8)}
    return {name: Geometry(shapes[name], step, Network) for name, step in steps.items()}


def _put(patch, name, **changed):
    patch.setitem(recipe.SETS, name, dataclasses.replace(recipe.SETS[name], **changed))


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
        _put(
            patch,
            brain.NAME,
            cases=functools.partial(
                template.read, train=(0, 14), test=(15, 23), shown=8
            ),
            epoch=32,
            geometries=_geometries({"2d": (8, 8, 2), "3d": (8, 8, 8)}),
        )

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


class TestDecathlon(quick.Quick):
    """The same command on a task of the Decathlon's form."""

    name = "segmentation"

    @classmethod
    def shrink(cls, patch, folder):
        task = decathlon_files.write(folder / "Task04_Hippocampus", cases=6)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        _put(
            patch,
            decathlon.NAME,
            epoch=8,
            geometries=_geometries({"2d": (8, 8, 1), "3d": (8, 8, 8)}),
        )
        cls.options = ("--dataset", "decathlon", "--data-folder", str(task))

    def test_the_record_is_of_the_task(self, finished):
        record = finished.record
        assert record["dataset"] == "decathlon Hippocampus"
        assert record["classes"] == 3
        assert "of the cases held out" in report.caption(record)
        runs = [(r["network"], r["norm"], r["epoch_examples"]) for r in record["runs"]]
        assert runs == [(n, norm, 8) for n in ("2d", "3d") for norm in ("bn", "gn")]
        # Cases of 9, 10 and 7 voxels a side, of which the first is tested on, and the
        # sixth: boxes of 8, over the edges where need be.
        assert record["patches"]["3d"]["test"] == 2 * 2 * 2 * 1
        assert record["patches"]["2d"]["test"] == 2 * 2 * 2 * 7

    def test_the_slice_is_where_most_is_labelled(self, finished):
        shown = finished.record["shown"]
        labels = report.decoded(shown["labels"])
        assert labels.shape == (9, 10)
        assert np.count_nonzero(labels) == 5 * 5
        for run in finished.record["runs"]:
            assert report.decoded(run["measured"]["said"]).shape == (9, 10)


def test_cases_are_read_once_and_anew_when_they_change(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    task = decathlon_files.write(tmp_path / "task", cases=6)
    first = organs.read(task, None)
    read, names = decathlon.read, []

    def counted(case, of):
        names.append(case.image.name)
        return read(case, of)

    monkeypatch.setattr(decathlon, "read", counted)
    again = organs.read(task, None)
    assert not names
    for (one, places), (other, others) in zip(first.train, again.train, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(places, others)
    decathlon_files.write_case(task, 2, value=3)
    organs.read(task, None)
    assert names == ["hippocampus_002.nii.gz"]


def test_half_of_the_patches_are_around_what_is_labelled(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cases = organs.read(decathlon_files.write(tmp_path / "task", cases=2), None)
    ((volume, voxels),) = cases.train
    assert voxels.shape == (organs.VOXELS, 3)
    labelled = volume.labels[tuple(voxels.T)] > 0
    share = np.count_nonzero(volume.labels) / volume.labels.size
    assert labelled.mean() == pytest.approx(0.5 + share / 2, abs=0.02)
