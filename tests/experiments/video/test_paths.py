"""Clips: what moves, where to, and what stands still."""

import zlib

import numpy as np
import pytest

from experiments.video import moving, paths
from experiments.video.paths import Shape

SHAPE = Shape(frames=4, side=16, fastest=3)
ONE = np.full((1, 5, 5), 200, np.uint8)


def _drawn(things, n=64, start=0, shape=SHAPE):
    return paths.drawn(things, shape, 5, 2, start, n)


def test_the_label_is_the_way_of_what_moves():
    """The middle of all that is bright moves with the one thing that does."""
    clips = _drawn(ONE)
    rows, columns = np.mgrid[:16, :16]
    for clip, label in zip(clips.images, clips.labels, strict=True):
        weight = clip.astype(float)
        # Where the two things overlap less or more, the middle strays; ends tell.
        if len(np.unique(np.count_nonzero(clip, axis=(1, 2)))) > 1:
            continue
        total = weight.sum((1, 2))
        middle = np.stack([(weight * at).sum((1, 2)) / total for at in (rows, columns)])
        steps = np.diff(middle, axis=1).T
        np.testing.assert_allclose(steps, steps[:1].repeat(3, 0), atol=1e-9)
        want = list(paths.DIRECTIONS.values())[label]
        np.testing.assert_array_equal(np.sign(steps[0].round(9)), want)


def test_some_of_the_clips_of_the_test_above_are_looked_at():
    counts = np.count_nonzero(_drawn(ONE).images, axis=(2, 3))
    assert np.sum(np.ptp(counts, axis=1) == 0) > 8


def test_every_direction_comes_as_often():
    labels = _drawn(ONE, 80, 8).labels
    assert np.bincount(labels).tolist() == [10] * len(paths.DIRECTIONS)


def test_nothing_ever_leaves_the_frame_and_places_differ():
    clips = _drawn(ONE, 200)
    counts = np.count_nonzero(clips.images, axis=(2, 3))
    # Two things of 25 pixels, over each other or apart, and never cut.
    assert counts.max() == 50
    assert counts.min() >= 25
    alone = clips.images[:, 0].astype(bool)
    assert len(np.unique(alone, axis=0)) > 150


def test_the_background_of_a_clip_stands_still():
    """What is bright in all frames holds a whole thing, or the two came too close."""
    clips = _drawn(ONE, 64)
    always = clips.images.min(axis=1).astype(bool)
    assert (always.sum((1, 2)) >= 25).all()


def test_clips_depend_on_their_place_in_the_epoch_alone():
    things = np.random.default_rng(0).integers(1, 256, (9, 5, 4), np.uint8)
    whole = _drawn(things, 16)
    for part, start in ((_drawn(things, 8, s), s) for s in (0, 8)):
        np.testing.assert_array_equal(part.images, whole.images[start : start + 8])
        np.testing.assert_array_equal(part.labels, whole.labels[start : start + 8])
    other = paths.drawn(things, SHAPE, 6, 2, 0, 16)
    assert not np.array_equal(other.images, whole.images)


def test_the_clips_of_the_committed_record_are_made_as_they_were():
    """By their checksums: another draw would be another set."""
    source = moving.read(None, None)
    (test,) = source.batches(256)
    drawn = source.drawn(0, 0, 0, 4).images
    assert drawn.shape == (4, 6, 20, 20, 1)
    assert zlib.crc32(np.ascontiguousarray(drawn)) == 2115970178
    assert zlib.crc32(np.ascontiguousarray(test.images)) == 1543589836


def test_speeds_go_up_to_the_fastest_and_a_frame_too_small_for_it_is_refused():
    exact = Shape(frames=4, side=5 + 3 * 3, fastest=3)
    clips = _drawn(ONE, 200, shape=exact)
    # To the right at three pixels a frame there is one way: from edge to edge.
    right = clips.images[clips.labels == 0].astype(bool).any(2)
    assert any(clip[0, 0] and clip[-1, -1] for clip in right)
    with pytest.raises(ValueError, match=r"at least 14 pixels, .* that move 9; got 13"):
        _drawn(ONE, shape=exact._replace(side=13))


def test_shrunk_averages_the_pixels():
    image = np.array([[0, 4, 8, 8], [8, 4, 0, 1]], np.uint8).reshape(1, 2, 4, 1)
    assert paths.shrunk(image, 1).tolist() == [[[4, 4]]]
    assert paths.shrunk(
        np.pad(image, ((0, 0), (0, 2), (0, 0), (0, 0))), 2
    ).tolist() == [[[2]]]
