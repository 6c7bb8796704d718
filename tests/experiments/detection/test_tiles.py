"""Tiles: a box stays on what it was drawn around."""

import itertools

import numpy as np
import pytest

from experiments.data.boxed import Picture
from experiments.detection import tiles
from tests.experiments.detection import draw

SHAPE = tiles.Shape(side=16, most=9)


def _painted(side: int = 40, n: int = 6, seed: int = 0) -> Picture:
    """Separate boxes of one colour each; the background is black."""
    rng = np.random.default_rng(seed)
    image = np.zeros((side, side, 3), np.uint8)
    boxes = []
    while len(boxes) < n:
        [box] = draw.boxes(rng, 1, side, least=4).astype(int)
        left, top, right, bottom = box
        if max(right - left, bottom - top) > 9 or image[top:bottom, left:right].any():
            continue
        image[top:bottom, left:right] = (*rng.integers(1, 255, 2), len(boxes) + 1)
        boxes.append(box)
    return Picture(image, np.array(boxes, np.float32))


def _extents(image: np.ndarray) -> dict[int, tuple[list[int], int]]:
    """By colour: the box around its pixels, and how many they are."""
    found = {}
    for colour in np.unique(image[..., 2])[1:]:
        down, across = np.nonzero(image[..., 2] == colour)
        box = [across.min(), down.min(), across.max() + 1, down.max() + 1]
        found[int(colour)] = [int(edge) for edge in box], len(down)
    return found


def _check(image: np.ndarray, boxes: np.ndarray, whole: dict) -> int:
    """Boxes are those around colours of which at least half is there."""
    want = sorted(
        box for colour, (box, n) in _extents(image).items() if 2 * n >= whole[colour][1]
    )
    assert sorted(boxes[boxes[:, 2] > 0].tolist()) == want
    return len(want)


def test_a_grid_holds_the_picture_and_its_boxes():
    picture = _painted()
    got = tiles.grid(picture, SHAPE)
    assert got.images.shape == (4, 16, 16, 3)
    whole = _extents(picture.image)
    for index, (row, column) in enumerate(itertools.product(range(2), range(2))):
        corner = picture.image[16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
        np.testing.assert_array_equal(got.images[index], corner)
        _check(got.images[index], got.boxes[index], whole)


@pytest.mark.parametrize("mirrors", list(itertools.product((0, 1), repeat=3)))
def test_mirrored_boxes_stay_around_their_colours(mirrors):
    picture = _painted()
    turned = tiles.mirrored(picture, mirrors)
    extents = _extents(turned.image)
    assert turned.boxes.tolist() == [extents[k + 1][0] for k in range(6)]
    assert np.array_equal(turned.image, picture.image) == (mirrors == (0, 0, 0))


def test_classes_go_with_their_boxes_and_padding_fills_the_tile():
    picture = _painted()
    picture = Picture(
        picture.image,
        picture.boxes,
        picture.image[*(picture.boxes[:, [1, 0]].astype(int).T), 2].astype(np.int32),
    )
    part = tiles.mirrored(tiles.cut(picture, 3, 0, 33, 40), [1, 0, 1])
    assert part.image.shape == (40, 33, 3)
    got = tiles.stack([part], tiles.Shape(side=48, most=9))
    assert (got.images[0, 40:] == tiles.PADDING).all()
    assert (got.images[0, :, 33:] == tiles.PADDING).all()
    boxes = got.boxes[0][got.boxes[0, :, 2] > 0]
    assert len(boxes) > 3
    extents = _extents(part.image)
    for box, colour in zip(boxes, got.classes[0], strict=False):
        assert box.tolist() == extents[colour][0]


def test_drawn_tiles_hold_boxes_and_all_mirrors():
    picture = _painted()
    whole = _extents(picture.image)
    got = tiles.drawn(picture, SHAPE, seed=1, epoch=0, start=0, n=60)
    counts = [_check(*pair, whole) for pair in zip(*got[:2], strict=True)]
    # A tile may hold the middle of its box and less than half of its area, in a corner.
    assert np.mean(np.array(counts) > 0) > 0.9
    assert len({image.tobytes() for image in got.images}) > 50
    plain = tiles.drawn(picture, SHAPE, 1, 0, 0, 60, augment=False)
    windows = np.lib.stride_tricks.sliding_window_view(picture.image, (16, 16, 3))
    known = {window.tobytes() for window in windows.reshape(-1, 16, 16, 3)}
    assert all(image.tobytes() in known for image in plain.images)
    assert not all(image.tobytes() in known for image in got.images)


def test_a_tile_depends_on_its_place_alone():
    picture = _painted()
    whole = tiles.drawn(picture, SHAPE, 3, 2, 0, 10)
    part = tiles.drawn(picture, SHAPE, 3, 2, 4, 5)
    np.testing.assert_array_equal(part.images, whole.images[4:9])
    np.testing.assert_array_equal(part.boxes, whole.boxes[4:9])
    for other in (
        tiles.drawn(picture, SHAPE, 4, 2, 0, 10),
        tiles.drawn(picture, SHAPE, 3, 1, 0, 10),
    ):
        assert not np.array_equal(other.images, whole.images)


def test_too_many_boxes_for_a_tile_are_refused():
    picture = _painted()
    with pytest.raises(ValueError, match="at most 5 boxes in a tile, got 6"):
        tiles.grid(picture, tiles.Shape(side=40, most=5))
