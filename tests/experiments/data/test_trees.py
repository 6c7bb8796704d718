"""The tree pictures: an archive of the published form, made here, and wrong ones."""

import dataclasses
import io
import re
import zipfile

import numpy as np
import PIL.Image
import pytest

from experiments.data import __main__ as command
from experiments.data import trees
from tests.experiments.data import formats

BOXES = np.array([[1, 2, 5, 8], [0, 0, 12, 9]])


def annotation(boxes, width=12, height=9) -> str:
    """As the authors write it, down to what is not read."""
    objects = "".join(
        "<object><name>Tree</name><truncated>0</truncated><bndbox>"
        f"<xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax>"
        "</bndbox></object>"
        for a, b, c, d in boxes
    )
    return (
        "<annotation><folder>data</folder><filename>one.png</filename><size>"
        f"<width>{width}</width><height>{height}</height><depth>3</depth></size>"
        f"<segmented>0</segmented>{objects}</annotation>"
    )


def write_wheel(folder, pictures):
    """Writes (image, XML) by name, and returns the file that they make."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as wheel:
        for name, (image, xml) in pictures.items():
            png = io.BytesIO()
            PIL.Image.fromarray(image).save(png, "PNG")
            wheel.writestr(f"deepforest/data/{name}.png", png.getvalue())
            wheel.writestr(f"deepforest/data/{name}.xml", xml)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / trees.FILE.name).write_bytes(buffer.getvalue())
    return dataclasses.replace(trees.FILE, sha256=formats.sha256(buffer.getvalue()))


def test_load_returns_the_pictures_and_their_boxes(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (2, 9, 12, 3), np.uint8)
    with_alpha = np.dstack([images[1], np.full((9, 12), 255, np.uint8)])
    held = {
        "one": (images[0], annotation(BOXES)),
        "two": (with_alpha, annotation(BOXES[:1])),
        "three": (images[0], annotation([])),
    }
    file = write_wheel(tmp_path, held)
    got = trees.load(tmp_path, file=file, pictures=("two", "one", "three"))
    for picture, at, boxes in zip(got, (1, 0, 0), (BOXES[:1], BOXES, []), strict=True):
        assert picture.image.dtype == np.uint8
        assert picture.boxes.dtype == np.float32
        np.testing.assert_array_equal(picture.image, images[at])
        np.testing.assert_array_equal(picture.boxes, np.reshape(boxes, (-1, 4)))
    assert trees.summary(got[:1]) == "12x9 pixels with 1 trees"


def test_halved_averages_four_pixels_and_halves_the_boxes():
    image = np.arange(5 * 5 * 3, dtype=np.uint8).reshape(5, 5, 3) * 3
    boxes = np.array([[1, 0, 5, 4]], np.float32)
    half = trees.Picture(image, boxes).halved()
    want = [[image[y : y + 2, x : x + 2].mean((0, 1)) for x in (0, 2)] for y in (0, 2)]
    np.testing.assert_allclose(half.image, want, atol=0.5)
    # The fifth column is lost, and the box that reached into it ends where it began.
    assert half.boxes.tolist() == [[0.5, 0, 2, 2]]


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        ("", "in the XML of Pascal VOC, got something else"),
        ("<annotation><object>", "in the XML of Pascal VOC, got something else"),
        (annotation(BOXES, width=13), "a picture of 12x9 pixels, got one of 13x9"),
        ("<annotation/>", "a picture of 12x9 pixels, got one of 0x0"),
        (annotation([(3, 1, 3, 4)]), r"an area, .* got \[3.0, 1.0, 3.0, 4.0\]"),
        (annotation([(3, 1, 13, 4)]), r"inside 12x9 pixels; got \[3.0, 1.0, 13.0"),
        (annotation([(-1, 1, 2, 4)]), r"inside 12x9 pixels; got \[-1.0"),
        (annotation([("", 1, 2, 4)]), r"inside 12x9 pixels; got \[nan"),
        (annotation([("left", 1, 2, 4)]), "something else"),
    ],
)
def test_a_wrong_annotation_is_refused(xml, message):
    with pytest.raises(ValueError, match=f"one: expected .*{message}"):
        trees.parse(xml.encode(), "one", (9, 12, 3))


def test_another_wheel_is_refused_unopened(tmp_path):
    (tmp_path / trees.FILE.name).write_bytes(b"PK")
    with pytest.raises(ValueError, match=f"expected SHA-256 {trees.FILE.sha256}"):
        trees.load(tmp_path)


def test_a_missing_wheel_is_not_fetched_unasked(tmp_path, monkeypatch):
    monkeypatch.setattr("urllib.request.urlopen", None)
    with pytest.raises(FileNotFoundError, match=r"-m experiments\.data trees --folder"):
        trees.load(tmp_path)


def test_the_command_fetches_and_says_what_is_there(tmp_path, monkeypatch, capsys):
    """From the published address, whose parts are the BLAKE2b of the file."""
    image = np.zeros((9, 12, 3), np.uint8)
    file = write_wheel(tmp_path, dict.fromkeys("ab", (image, annotation(BOXES))))
    monkeypatch.setattr(
        "experiments.data.trees.load.__kwdefaults__",
        {"download": False, "file": file, "pictures": ("a", "b")},
    )
    command.main(["trees", "--folder", str(tmp_path)])
    assert capsys.readouterr().out == "12x9 pixels with 2 trees\n" * 2
    assert re.fullmatch(r".*/packages/../../[0-9a-f]{60}/deepforest.*whl", file.url)
