"""Boxes of voxels: where they are cut, drawn and put back."""

import zlib

import numpy as np
import pytest

from experiments.data.nifti import Volume
from experiments.segmentation import patches

RNG = np.random.default_rng(0)
# Every voxel has its own number, and the same one as its label.
NUMBERS = np.arange(6 * 7 * 5, dtype=np.uint8).reshape(6, 7, 5)
VOLUME = Volume(NUMBERS, NUMBERS)
VOXELS = np.argwhere(NUMBERS >= 0)
SHAPES = [(3, 4, 1), (3, 2, 4)]


def _drawn(shape, start, n, **options):
    return patches.drawn([(VOLUME, VOXELS)], shape, 3, 1, start, n, **options)


def test_the_grid_leaves_out_what_is_outside_the_brain_and_what_is_cut_off():
    image = np.zeros((5, 4, 3), np.uint8)
    image[4, :, :] = 1  # beyond the last whole patch
    image[0, 3, 2] = 1
    corners = patches.grid(Volume(image, image), (2, 2, 1), (2, 2, 1))
    assert corners.tolist() == [[0, 2, 2]]


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_cut_can_be_put_back(shape):
    corners = patches.grid(VOLUME, shape, shape)
    found = patches.cut(VOLUME, corners, shape)
    assert found.images.shape[1:] == tuple(side for side in shape if side > 1)
    whole = patches.assembled(found.labels, corners, shape, NUMBERS.shape)
    covered = whole > 0
    np.testing.assert_array_equal(whole[covered], NUMBERS[covered])
    assert np.count_nonzero(covered) == found.labels.size - 1  # one is number 0


@pytest.mark.parametrize("shape", SHAPES)
def test_patches_depend_on_their_place_in_the_epoch_alone(shape):
    whole = _drawn(shape, 0, 8)
    parts = [_drawn(shape, start, 4) for start in (0, 4)]
    for name in ("images", "labels"):
        joined = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_array_equal(getattr(whole, name), joined)
    assert not np.array_equal(whole.images[:4], whole.images[4:])


@pytest.mark.parametrize("shape", SHAPES)
def test_image_and_labels_are_mirrored_alike_along_every_axis(shape):
    plain, mirrored = (_drawn(shape, 0, 64, augment=a) for a in (False, True))
    np.testing.assert_array_equal(mirrored.images, mirrored.labels)
    axes = range(plain.images.ndim - 1)
    seen = set()
    for before, after in zip(plain.images, mirrored.images, strict=True):
        ways = [
            way
            for way in np.ndindex(*(2 for _ in axes))
            if np.array_equal(np.flip(before, tuple(np.flatnonzero(way))), after)
        ]
        assert len(ways) == 1
        seen |= set(ways)
    assert len(seen) == 2 ** len(axes), "all mirrors were drawn"


def test_every_patch_holds_one_of_the_voxels():
    image = np.zeros((8, 8, 8), np.uint8)
    image[6, 1, 3] = image[0, 7, 7] = 9
    found = patches.drawn(
        [(Volume(image, image), np.argwhere(image))], (3, 3, 3), 0, 0, 0, 32
    )
    assert (found.images.max((1, 2, 3)) == 9).all()
    # Anywhere in the patch, as far as the edges allow.
    places = {tuple(np.argwhere(picture)[0]) for picture in found.images}
    assert len(places) > 8


def test_patches_come_from_all_volumes_and_stand_over_the_edges_of_small_ones():
    values = (40, 90)
    cases = []
    for value, sides in zip(values, ((6, 7, 5), (2, 3, 4)), strict=True):
        image = np.full((*sides, 2), value, np.uint8)
        image[..., 1] += 1
        labels = np.full(sides, value, np.uint8)
        cases.append((Volume(image, labels), np.argwhere(labels)))
    found = patches.drawn(cases, (4, 3, 3), 0, 0, 0, 40)
    assert found.images.shape == (40, 4, 3, 3, 2)
    assert found.labels.shape == (40, 4, 3, 3)
    large = found.labels == 40
    small = found.labels == 90
    assert set(large.all((1, 2, 3))) == {True, False}, "both volumes"
    # The small one has two of four rows; what is beyond is padding.
    over = ~large.all((1, 2, 3))
    assert (small[over].sum((1, 2, 3)) == 2 * 3 * 3).all()
    assert (found.labels[~(large | small)] == patches.PADDING).all()
    np.testing.assert_array_equal(found.images[large], [[40, 41]] * large.sum())
    np.testing.assert_array_equal(found.images[small], [[90, 91]] * small.sum())
    assert not found.images[found.labels == patches.PADDING].any()


def test_a_grid_over_the_edges_has_every_voxel_once():
    corners = patches.grid(VOLUME, (4, 4, 4), (4, 4, 4), whole=False)
    found = patches.cut(VOLUME, corners, (4, 4, 4))
    assert np.count_nonzero(found.labels != patches.PADDING) == NUMBERS.size
    whole = patches.assembled(found.labels, corners, (4, 4, 4), NUMBERS.shape)
    np.testing.assert_array_equal(whole, NUMBERS)


def test_the_patches_of_the_committed_record_are_drawn_as_they_were():
    """By their checksum: other draws would be another experiment."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (40, 50, 45), np.uint8)
    volume = Volume(image, image // 128)
    cases = [(volume, np.argwhere(image > 100))]
    sums = []
    for shape in ((32, 32, 1), (16, 16, 16)):
        found = patches.drawn(cases, shape, 2, 5, 3, 9)
        content = np.ascontiguousarray(found.images).tobytes() + found.labels.tobytes()
        sums.append(zlib.crc32(content))
    assert sums == [1908438209, 3685258316]
