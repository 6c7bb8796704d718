"""Moving things, from the command on few and small clips to the page."""

import dataclasses
import functools

import numpy as np
from flax import linen as nn

from experiments import __main__ as command
from experiments.data import ucf101
from experiments.video import filmed, moving, recipe, report
from experiments.video.paths import Shape
from tests.experiments.data import film_files
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


def _put(patch, name, **changed):
    """A set as it is, but for this and a small network."""
    of = dataclasses.replace(
        recipe.SETS[name], network=Network, evaluation_batch=16, **changed
    )
    patch.setitem(recipe.SETS, name, of)


class TestQuick(quick.Quick):
    name = "video"
    options = ("--epochs", "3")

    @classmethod
    def shrink(cls, patch, folder):
        del folder
        small = functools.partial(
            moving.read, shape=Shape(frames=3, side=16, fastest=1), clips=24
        )
        _put(patch, "moving", source=small)

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


class TestFilms(quick.Quick):
    """The same command on files of the form of UCF101."""

    name = "video"

    @classmethod
    def shrink(cls, patch, folder):
        film_files.ucf101(folder)
        small = functools.partial(_small_films, folder)
        _put(patch, "ucf101", source=small)
        cls.options = ("--dataset", "ucf101", "--batch-sizes", "2", "1")

    def test_the_record_is_of_films(self, finished):
        record = finished.record
        assert (record["dataset"], record["clips"], record["classes"]) == (
            "ucf101",
            2,
            2,
        )
        assert record["shape"] == [4, 16, 16]
        assert record["shown"]["label"] == "ApplyEyeMakeup"
        assert record["shown"]["shape"] == [4, 16, 16, 3]
        assert "by chance it is 50." in report.caption(record)
        runs = [(r["norm"], r["batch"], r["epoch_examples"]) for r in record["runs"]]
        assert runs == [("bn", 2, 2), ("bn", 1, 2), ("gn", 2, 2), ("gn", 1, 2)]


def _small_films(folder, given, most):
    assert given is None
    assert most == filmed.EXAMPLES
    return filmed.Filmed("ucf101", ucf101.load(folder), most, 4, 16, 20)


def test_a_film_that_is_damaged_is_named_and_the_runs_are_kept(
    tmp_path, monkeypatch, capsys
):
    film_files.ucf101(tmp_path)
    small = functools.partial(_small_films, tmp_path)
    _put(monkeypatch, "ucf101", source=small)
    (bad,) = tmp_path.glob("UCF-101/Archery/*g08*")
    bad.write_bytes(b"no film")
    out = tmp_path / "out"
    argv = ["--quick", "--dataset", "ucf101", "--batch-sizes", "2", "--out", str(out)]
    assert command.main(["video", *argv]) == 2
    told = capsys.readouterr().err
    assert f"{bad.name}: expected a film" in told
    assert "--resume" in told
    assert (out / "runs" / "plan.json").exists()
