"""Tiles of photographs: their boxes stay around what is in them."""

import numpy as np
import pytest

from experiments.data import coco
from experiments.detection import scenes, tiles
from tests.experiments.data import coco_files
from tests.experiments.detection import photographs

SHAPE = tiles.Shape(side=32, most=9)
# By class, which go from 0 in the order of their ids.
COLOURS = [coco_files.COLOURS[key] for key in sorted(coco_files.COLOURS)]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    wide, tall = photographs.drawings(12, 0), photographs.drawings(4, 2)
    turned = [
        drawing._replace(
            id=300 + drawing.id,
            width=drawing.height,
            height=drawing.width,
            boxes=[(c, [y, x, h, w], k) for c, (x, y, w, h), k in drawing.boxes],
        )
        for drawing in tall
    ]
    folder = tmp_path_factory.mktemp("scenes") / "coco"
    return coco.load(coco_files.write(folder, [*wide, *turned], turned))


def _check(image, boxes, classes) -> int:
    """A box has the colour of its class inside, and not two pixels outside."""
    there = boxes[:, 2] > boxes[:, 0]
    for box, of in zip(boxes[there], classes[there], strict=True):
        left, top, right, bottom = box
        inner = image[round(top + 2) : round(bottom - 2), round(left + 1.5)]
        if len(inner):
            assert abs(inner.mean(0) - COLOURS[of]).max() < 25
        down, across = (top + bottom) / 2, (left + right) / 2
        rim = [(top - 2, across), (bottom + 1, across)]
        rim += [(down, left - 2), (down, right + 1)]
        for place in np.floor(rim).astype(int):
            if place.min() >= 0 and place.max() < len(image):
                assert abs(image[*place].astype(int) - COLOURS[of]).max() > 60
    return int(there.sum())


@pytest.mark.parametrize("augment", [True, False])
def test_drawn_boxes_are_around_their_colours(found, augment):
    source = scenes.Drawn([scene.objects() for scene in found.train], SHAPE)
    got = source.drawn(1, 0, 0, 40, augment=augment)
    assert got.images.shape == (40, 32, 32, 3)
    counts = [_check(*tile) for tile in zip(*got, strict=True)]
    assert sum(counts) > 60
    whole = {scene.objects().read().scaled(32).image.tobytes() for scene in found.train}
    plain = [image[:20] for image in got.images]  # those of 64x40 pixels
    unchanged = sum(image.tobytes() in whole for image in plain)
    assert (unchanged > 20) == (not augment)


def test_tiles_are_scaled_shifted_and_mirrored_left_to_right_alone(found):
    wide = scenes.Drawn([found.train[0].objects()], SHAPE)
    got = wide.drawn(1, 0, 0, 60, augment=True)
    heights = [(image != tiles.PADDING).any((1, 2)).sum() for image in got.images]
    assert min(heights) == 20, "the whole picture"
    assert max(heights) == 25, "a quarter more"
    [fits] = wide.drawn(1, 0, 0, 1, augment=False).images
    exact = [image for image, n in zip(got.images, heights, strict=True) if n == 20]
    for image in exact:
        either = fits, fits[:, ::-1]
        assert any((image == other).all() for other in either)
    assert len({image.tobytes() for image in exact}) == 2
    assert len({image.tobytes() for image in got.images}) > 20


def test_a_tile_depends_on_its_place_alone(found):
    source = scenes.Drawn([scene.objects() for scene in found.train], SHAPE)
    whole = source.drawn(3, 2, 0, 10, augment=True)
    part = source.drawn(3, 2, 4, 5, augment=True)
    for one, other in zip(part, whole, strict=True):
        np.testing.assert_array_equal(one, other[4:9])
    for seed, epoch in ((4, 2), (3, 1)):
        other = source.drawn(seed, epoch, 0, 10, augment=True)
        assert not np.array_equal(other.images, whole.images)


def test_what_is_tested_on_is_whole_with_all_its_boxes_and_crowds(found):
    test = scenes.Whole(found.val, tiles.Shape(side=32, most=1))
    truth = test.truth()
    assert [len(rows) for rows in truth] == [len(scene.boxes) for scene in found.val]
    assert max(map(len, truth)) > 1
    assert any(scene.crowd.any() for scene in found.val)
    for scene, rows in zip(found.val, truth, strict=True):
        np.testing.assert_array_equal(rows[:, :4], scene.boxes / 2)
        np.testing.assert_array_equal(rows[:, 4], scene.classes)
        np.testing.assert_array_equal(rows[:, 5], scene.crowd)
    batches = list(test.batches(3))
    assert [len(batch.images) for batch in batches] == [3, 3]
    images = np.concatenate([batch.images for batch in batches])
    for index, scene in enumerate(found.val):
        np.testing.assert_array_equal(images[index], test.image(index))
        whole = scene.read().scaled(32).image
        np.testing.assert_array_equal(images[index][:, :20], whole)
        assert (images[index][:, 20:] == tiles.PADDING).all()
    assert (images[len(test) :] == 0).all()
    [whole] = scenes.Whole(found.val, SHAPE).batches(4)
    for tile, rows in zip(zip(*whole, strict=True), truth, strict=True):
        assert _check(*tile) == (rows[:, 5] == 0).sum()
