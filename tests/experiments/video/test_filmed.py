"""Clips of films: which films, when, where, and that all depends on the place alone."""

import numpy as np
import pytest

from experiments import __main__ as command
from experiments.data import kinetics
from experiments.video.filmed import Filmed
from tests.experiments.data import film_files


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kinetics")
    film_files.kinetics(folder, train=3, val=2)
    return folder


def _filmed(folder, **options):
    options = {"frames": 3, "side": 12, "short": 16} | options
    return Filmed("kinetics", kinetics.load(folder), **options)


def test_every_film_comes_once_in_an_epoch(folder):
    source = _filmed(folder)
    assert (source.available, source.tested) == (6, 4)
    clips = source.drawn(0, 0, 0, 6)
    assert clips.images.shape == (6, *source.shape) == (6, 3, 12, 12, 3)
    assert clips.images.dtype == np.uint8
    assert sorted(clips.labels.tolist()) == [0, 0, 0, 1, 1, 1]
    assert clips.labels.dtype == np.int32
    orders = {tuple(source.drawn(0, epoch, 0, 6).labels) for epoch in range(8)}
    assert len(orders) > 1


def test_clips_depend_on_their_place_in_the_epoch_alone(folder):
    source = _filmed(folder)
    whole = source.drawn(3, 1, 0, 6)
    again = _filmed(folder)
    for start, n in ((0, 2), (2, 3), (5, 1)):
        part = again.drawn(3, 1, start, n)
        np.testing.assert_array_equal(part.images, whole.images[start : start + n])
        np.testing.assert_array_equal(part.labels, whole.labels[start : start + n])
    assert not np.array_equal(source.drawn(4, 1, 0, 6).images, whole.images)


def test_when_where_and_how_clips_are_cut_differ(folder):
    source = _filmed(folder)
    clips = [
        clip for epoch in range(12) for clip in source.drawn(0, epoch, 0, 6).images
    ]
    # Films of 8 to 10 pictures, of which 3 at a stride of 2 take 5; by their middle.
    starts = {round((clip[0, :, 5:7].mean() - 20) / 10) for clip in clips}
    assert {0, 1, 2, 3} <= starts
    # Stripes of another class are at the right, or at the left where it is mirrored;
    # in the middle third of a film there is none.
    left = [clip[0, :, 0].mean() for clip in clips]
    right = [clip[0, :, -1].mean() for clip in clips]
    assert sum(value > 150 for value in left) > 4
    assert sum(value > 150 for value in right) > 4


def test_tests_are_cut_from_the_middle_and_padded(folder):
    source = _filmed(folder)
    first, second = source.batches(3)
    assert first.labels.tolist() == [0, 0, 1]
    assert second.labels.tolist() == [1, -1, -1]
    # 8 pictures, 5 of them in the clip: it starts at the second.
    assert film_files.times(first.images[0]) == pytest.approx([1, 3, 5], abs=0.4)
    again = np.concatenate([batch.images for batch in source.batches(2)])
    np.testing.assert_array_equal(again[:3], first.images)
    np.testing.assert_array_equal(again[3], second.images[0])


def test_few_of_many_come_from_all_classes(folder):
    source = _filmed(folder, most=2)
    assert (source.available, source.tested) == (2, 2)
    (batch,) = source.batches(2)
    assert batch.labels.tolist() == [0, 1]


def test_without_films_it_says_where_they_come_from(tmp_path, capsys):
    argv = ["--dataset", "kinetics", "--data-folder", str(tmp_path), "--quick"]
    assert command.main(["video", *argv, "--out", str(tmp_path / "out")]) == 2
    assert "fetch the films as https://github.com" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
