"""Boxes of voxels: where they are cut, drawn and put back."""

import numpy as np
import pytest

from experiments.data.brain import Volume
from experiments.segmentation import patches

RNG = np.random.default_rng(0)
# Every voxel has its own number, and the same one as its label.
NUMBERS = np.arange(6 * 7 * 5, dtype=np.uint8).reshape(6, 7, 5)
VOLUME = Volume(NUMBERS, NUMBERS)
VOXELS = np.argwhere(NUMBERS >= 0)
SHAPES = [(3, 4, 1), (3, 2, 4)]


def _drawn(shape, start, n, **options):
    return patches.drawn(VOLUME, VOXELS, shape, 3, 1, start, n, **options)


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
        Volume(image, image), np.argwhere(image), (3, 3, 3), 0, 0, 0, 32
    )
    assert (found.images.max((1, 2, 3)) == 9).all()
    # Anywhere in the patch, as far as the edges allow.
    places = {tuple(np.argwhere(picture)[0]) for picture in found.images}
    assert len(places) > 8
