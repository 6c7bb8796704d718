"""COCO: files of the published form, made here, and wrong ones."""

import json

import numpy as np
import PIL.Image
import pytest

from experiments.data import __main__ as command
from experiments.data import coco
from tests.experiments.data import coco_files
from tests.experiments.data.coco_files import Drawing

FIRST = Drawing(
    42,
    64,
    48,
    [(13, [8, 16, 24, 16], 0), (90, [40, 0, 24, 40], 1), (1, [0, 0, 8, 8], 0)],
)
# One box has no area, as some of the published ones, and one sticks out by a hair.
SECOND = Drawing(7, 32, 40, [(1, [3.5, 4, 9, 0], 0), (90, [16, 20, 16.01, 8.5], 0)])
GREY = Drawing(9, 24, 24, [], "L")
CMYK = Drawing(11, 16, 32, [(13, [0, 8, 16, 16], 0)], "CMYK")


@pytest.fixture
def folder(tmp_path):
    return coco_files.write(tmp_path / "coco", [FIRST, SECOND, GREY], [CMYK])


def test_load_returns_pictures_by_id_and_classes_without_gaps(folder):
    got = coco.load(folder)
    assert got.classes == ("person", "bus", "zebra")
    assert [scene.path.name[-6:] for scene in got.train] == [
        "07.jpg",
        "09.jpg",
        "42.jpg",
    ]
    second, grey, first = got.train
    assert first.boxes.dtype == np.float32
    assert first.boxes.tolist() == [[8, 16, 32, 32], [40, 0, 64, 40], [0, 0, 8, 8]]
    assert first.classes.tolist() == [1, 2, 0]
    assert first.crowd.tolist() == [False, True, False]
    assert second.boxes.tolist() == [[16, 20, 32, 28.5]]
    assert second.classes.tolist() == [2]
    assert grey.boxes.shape == (0, 4)
    assert (first.width, first.height) == (64, 48)
    assert len(got.val) == 1


def test_crowds_and_the_smallest_boxes_can_be_left_out(folder):
    first = coco.load(folder).train[2]
    assert first.objects().boxes.tolist() == [[8, 16, 32, 32], [0, 0, 8, 8]]
    assert first.objects().classes.tolist() == [1, 0]
    assert first.largest(2).boxes.tolist() == first.boxes[:2].tolist()
    assert first.largest(1).classes.tolist() == [2]
    assert first.largest(9).boxes.tolist() == first.boxes.tolist()


def test_a_picture_is_read_with_its_pixels_in_colour(folder):
    second, grey, first = (scene.read() for scene in coco.load(folder).train)
    assert first.image.dtype == np.uint8
    with PIL.Image.open(folder / "train2017" / "000000000042.jpg") as file:
        np.testing.assert_array_equal(first.image, np.asarray(file))
    for (left, top, right, bottom), colour in zip(
        first.boxes.astype(int),
        ((40, 220, 40), (40, 40, 220), (220, 40, 40)),
        strict=True,
    ):
        inner = first.image[top + 1 : bottom - 1, left + 1 : right - 1]
        assert abs(inner.mean((0, 1)) - colour).max() < 5
    assert second.image.shape == (40, 32, 3)
    assert grey.image.shape == (24, 24, 3)
    assert abs(grey.image.astype(int) - 100).max() < 3
    [cmyk] = (scene.read() for scene in coco.load(folder).val)
    assert abs(cmyk.image[10:22, 2:-2].mean((0, 1)) - (40, 220, 40)).max() < 8


def _changed(folder, change, part="train2017"):
    path = folder / "annotations" / f"instances_{part}.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("categories"), "got another form .*categories"),
        (lambda c: c["images"][0].pop("width"), "got another form .*width"),
        (lambda c: c.update(annotations=3), "got another form"),
        (
            lambda c: c["annotations"][1].update(category_id=12),
            "got annotation 1001 of picture 42 and category 12",
        ),
        (
            lambda c: c["annotations"][1].update(image_id=43),
            "got annotation 1001 of picture 43 and category 90",
        ),
        (
            lambda c: c["annotations"][0].update(bbox=[65, 1, 3, 3]),
            r"meet their picture of 64x48 pixels, got \[\[65, 1, 3, 3\]",
        ),
        (lambda c: c["annotations"][0].update(bbox=[1, 3, 3]), r"got \[\[1, 3, 3\]"),
        (lambda c: c["annotations"][0].update(bbox=[1, 3, 3, float("nan")]), "nan"),
    ],
)
def test_wrong_annotations_are_refused(folder, change, message):
    _changed(folder, change)
    with pytest.raises(ValueError, match=rf"instances_train2017\.json: .*{message}"):
        coco.load(folder)


def test_annotations_that_were_cut_off_are_refused(folder):
    path = folder / "annotations" / "instances_val2017.json"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"val2017\.json: expected a whole JSON file"):
        coco.load(folder)


def test_parts_of_other_sets_are_refused(folder):
    _changed(folder, lambda c: c["categories"][2].update(name="tram"), "val2017")
    with pytest.raises(ValueError, match="expected the same categories"):
        coco.load(folder)


@pytest.mark.parametrize("missing", ["annotations", "train2017", "val2017"])
def test_a_folder_that_lacks_a_part_is_refused(folder, missing):
    (folder / missing).rename(folder / "elsewhere")
    with pytest.raises(FileNotFoundError, match=rf"{missing}.*\.zip .*cocodataset"):
        coco.load(folder)


def test_a_missing_picture_is_named(folder):
    (folder / "train2017" / "000000000009.jpg").unlink()
    message = r"expected the 3 pictures of .*, got 2; 000000000009\.jpg is missing"
    with pytest.raises(FileNotFoundError, match=message):
        coco.load(folder)


def test_a_damaged_picture_is_refused_when_it_is_read(folder):
    path = folder / "train2017" / "000000000042.jpg"
    path.write_bytes(path.read_bytes()[:-400])
    scene = coco.load(folder).train[2]
    with pytest.raises(ValueError, match=r"42\.jpg: expected a whole picture, got one"):
        scene.read()
    path.write_bytes(b"<html>")
    with pytest.raises(ValueError, match=r"42\.jpg: expected a whole picture, got one"):
        scene.read()
    PIL.Image.new("RGB", (48, 64)).save(path)
    with pytest.raises(ValueError, match=r"42\.jpg: expected 64x48 .*, got 48x64"):
        scene.read()


def test_the_command_says_what_is_there(folder, capsys, tmp_path):
    command.main(["coco", "--folder", str(folder)])
    assert capsys.readouterr().out.splitlines() == [
        "train2017: 3 pictures, 3 boxes around objects, 1 around crowds",
        "val2017: 1 pictures, 1 boxes around objects, 0 around crowds",
        "3 classes: person, bus, zebra",
    ]
    with pytest.raises(SystemExit, match=r"Unpack train2017\.zip"):
        command.main(["coco", "--folder", str(tmp_path)])
