"""The same pictures in every kind of file, whole and damaged."""

import io
import pickle
import sys

import numpy as np
import pytest
from PIL import Image

from experiments.imagenet.data import (
    BadExampleError,
    images,
    open_split,
    tf_example,
)
from tests.experiments.imagenet import writers
from tests.experiments.imagenet.pictures import LABELS, PICTURES, encoded
from tests.experiments.imagenet.writers import (
    WRITERS,
    array_record,
    folder,
    parquet,
)


@pytest.fixture(params=WRITERS)
def source(request, tmp_path):
    WRITERS[request.param](tmp_path)
    return open_split(str(tmp_path), "train", image_size=8)


def test_every_kind_holds_the_same_pictures(source):
    assert source.classes == 3
    assert len(source) == len(LABELS)
    seen = {}
    for index in range(len(source)):
        found = source[index]
        assert isinstance(found.image, bytes)
        seen[found.image] = found.label
    want = zip(PICTURES, LABELS, strict=True)
    assert seen == {encoded(picture): label for picture, label in want}


def test_another_process_can_read_it(source):
    assert source[4] == source[4]
    again = pickle.loads(pickle.dumps(source))
    assert again[4] == source[4]


def test_names_are_those_of_files(source, tmp_path):
    names = [source[index].name for index in range(len(source))]
    assert len(set(names)) == len(names)
    assert all(name.startswith(str(tmp_path)) for name in names)


def test_a_picture_is_what_was_stored(source):
    """As far as JPEG keeps it."""
    view = images.evaluation_view(source[0], 16, "none")
    flat = np.concatenate([p.reshape(-1, 3) for p in PICTURES]).mean(axis=0)
    assert view.shape == (16, 16, 3)
    assert np.abs(view.mean(axis=(0, 1)) - flat).max() < 60


@pytest.mark.parametrize("kind", ["array_record", "tfrecord", "parquet"])
def test_a_file_that_is_cut_short(kind, tmp_path):
    WRITERS[kind](tmp_path)
    (path,) = tmp_path.rglob("*00001-of-00002*")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="cut short") as raised:
        open_split(str(tmp_path), "train", image_size=8)
    assert str(raised.value).startswith(f"{path}: ")


@pytest.mark.parametrize("kind", ["array_record", "tfrecord"])
def test_a_record_that_is_something_else(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(writers, "example", lambda _: b"\xff\xff\xff")
    WRITERS[kind](tmp_path)
    source = open_split(str(tmp_path), "train", image_size=8)
    with pytest.raises(BadExampleError, match=r"record 2: it is no tf\.train"):
        source[2]
    other = tf_example.serialize({"text": [b"..."]})
    monkeypatch.setattr(writers, "example", lambda _: other)
    WRITERS[kind](tmp_path)
    source = open_split(str(tmp_path), "train", image_size=8)
    with pytest.raises(BadExampleError, match=r"named image and label, got \['text'\]"):
        source[0]


def test_a_file_that_went_away(tmp_path):
    folder(tmp_path)
    source = open_split(str(tmp_path), "train", image_size=8)
    (tmp_path / "train" / "a" / "0.JPEG").unlink()
    with pytest.raises(BadExampleError, match=r"a/0\.JPEG: No such file"):
        source[0]


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    parquet(tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ModuleNotFoundError, match="--group parquet"):
        open_split(str(tmp_path), "train", image_size=8)


def test_parquet_with_other_columns(tmp_path):
    parquet(tmp_path, ("picture", "label"))
    with pytest.raises(ValueError, match=r"expected a column image or img and .* got"):
        open_split(str(tmp_path), "train", image_size=8)


def test_records_without_their_classes(tmp_path):
    array_record(tmp_path)
    (tmp_path / "label.labels.txt").unlink()
    with pytest.raises(ValueError, match=r"expected a file label\.labels\.txt"):
        open_split(str(tmp_path), "train", image_size=8)


def test_a_wrong_path(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: there is no such folder"):
        open_split(str(tmp_path / "nowhere"), "train", image_size=8)
    with pytest.raises(ValueError, match="got a folder with nothing in it"):
        open_split(str(tmp_path), "train", image_size=8)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="got a file"):
        open_split(str(tmp_path / "file"), "train", image_size=8)
    (tmp_path / "train").mkdir()
    with pytest.raises(ValueError, match="there are 0 folders and no such file"):
        open_split(str(tmp_path), "train", image_size=8)


def test_validation_has_many_names(tmp_path):
    for name in ("test", "valid", "val", "validation"):
        folder(tmp_path)
        (tmp_path / "train").rename(tmp_path / name)
        # The better name comes first.
        found = open_split(str(tmp_path), "validation", image_size=8)
        assert found.name == str(tmp_path / name)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF"])
@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_every_picture_becomes_rgb(kind, mode):
    file = io.BytesIO()
    Image.new(mode, (20, 10), 3).save(file, kind)
    view = images.evaluation_view(images.Example(file.getvalue(), 0, "x"), 8, "crop")
    assert view.shape == (8, 8, 3)
    assert view.dtype == np.uint8


@pytest.mark.parametrize("cut", [0, 1, 20, 200, 600])
def test_a_picture_that_is_cut_short(cut):
    bad = images.Example(encoded(PICTURES[0])[:cut], 0, "some/file.JPEG")
    rng = np.random.default_rng(0)
    for view in (
        lambda: images.evaluation_view(bad, 8, "crop"),
        lambda: images.training_view(bad, 8, "crop", rng),
    ):
        with pytest.raises(BadExampleError, match=r"^some/file\.JPEG: "):
            view()


def test_the_parts_that_training_takes():
    """A gradient tells where a part comes from, and how large it is."""
    ramp = np.linspace(0, 255, 200)
    picture = np.zeros((100, 200, 3), np.uint8)
    picture[..., 0] = ramp
    example = images.Example(picture, 0, "ramp")
    rng = np.random.default_rng(0)
    views = [images.training_view(example, 32, "crop", rng) for _ in range(200)]
    first = np.array([view[0, 0, 0] for view in views], int)
    last = np.array([view[0, -1, 0] for view in views], int)
    flipped = first > last
    assert 60 < flipped.sum() < 140
    width = np.abs(last - first) / 255
    # At least 8% of the area at a ratio of 3 to 4; at most the height times 4/3.
    assert width.min() > 0.9 * np.sqrt(0.08 * 100 * 200 * 3 / 4) / 200 - 0.02
    assert width.max() < 4 / 3 * 100 / 200 + 0.02
    left = np.minimum(first, last) / 255
    assert left.min() < 0.1
    assert left.max() > 0.5


def test_the_middle():
    picture = np.zeros((100, 200, 3), np.uint8)
    picture[:, 50:150, 0] = 200
    example = images.Example(picture, 0, "middle")
    assert (images.evaluation_view(example, 50, "none")[..., 0] > 190).mean() > 0.95
    whole = np.zeros((64, 64, 1), np.uint8)
    whole[:4] = 255
    example = images.Example(whole, 0, "margin")
    # An eighth of the sides is cut away, and nothing of them without augmentation.
    assert images.evaluation_view(example, 56, "crop").max() == 0
    assert images.evaluation_view(example, 64, "none")[:4].min() == 255
