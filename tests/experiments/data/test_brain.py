"""The brain: NIfTI files of the published form, made here, and wrong ones."""

import dataclasses
import gzip
import io
import zipfile

import nibabel
import numpy as np
import pytest

from experiments.data import __main__ as command
from experiments.data import brain
from tests.experiments.data import formats


def nifti(voxels: np.ndarray, directions=(1, 1, 1)) -> bytes:
    """A compressed NIfTI file with voxels of 1 mm along these directions."""
    image = nibabel.Nifti1Image(voxels, np.diag([*directions, 1.0]))
    return gzip.compress(image.to_bytes())


def volumes(shape=(6, 5, 4)) -> list[np.ndarray]:
    """An image, and maps whose sum is at most 255."""
    rng = np.random.default_rng(0)
    image, grey = rng.integers(0, 256, (2, *shape), np.uint8)
    return [image, grey, rng.integers(0, 256 - grey.astype(int)).astype(np.uint8)]


def write_wheel(folder, three, make=nifti):
    """Writes the image and the maps, and returns the file that they make."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as wheel:
        for kind, voxels in zip(("t1", "gm", "wm"), three, strict=True):
            wheel.writestr(brain.MEMBER.format(kind), make(voxels))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / brain.FILE.name).write_bytes(buffer.getvalue())
    return dataclasses.replace(brain.FILE, sha256=formats.sha256(buffer.getvalue()))


def test_load_gives_each_voxel_its_most_probable_class(tmp_path):
    image, grey, white = volumes()
    got = brain.load(tmp_path, file=write_wheel(tmp_path, (image, grey, white)))
    np.testing.assert_array_equal(got.image, image)
    assert got.labels.dtype == got.image.dtype == np.uint8
    for index in np.ndindex(image.shape):
        maps = int(grey[index]), int(white[index])
        assert got.labels[index] == np.argmax([255 - sum(maps), *maps])


def test_halving_averages_the_probabilities_and_not_the_classes(tmp_path):
    image = np.zeros((2, 3, 2), np.uint8)
    image[:, :2] = [[[8, 16]] * 2, [[24, 32]] * 2]
    white = np.zeros_like(image)
    white[0, 0, 0] = 255  # of eight voxels one is white for sure,
    grey = np.full_like(image, 100)  # and the others are grey by less than one half.
    grey[0, 0, 0] = 0
    white[0, 1], white[1, :2] = 130, 130
    got = brain.load(
        tmp_path, file=write_wheel(tmp_path, (image, grey, white)), halvings=1
    )
    assert got.image.tolist() == [[[20]]]
    # Means: grey 87.5, white (255 + 6 * 130) / 8 = 129.4, neither the rest.
    assert got.labels.tolist() == [[[2]]]


def test_axes_point_to_the_right_the_front_and_up():
    voxels = volumes()[0]
    turned = brain.read(nifti(voxels, (-1, 1, -1)), "t1")
    np.testing.assert_array_equal(turned, voxels[::-1, :, ::-1])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a compressed NIfTI file, got something else"),
        (b"no gzip", "a compressed NIfTI file, got something else"),
        (nifti(volumes()[0])[:-20], "a compressed NIfTI file, got something else"),
        (gzip.compress(b"no NIfTI" * 99), "a compressed NIfTI file, got something"),
        (nifti(np.zeros((2, 2, 2), np.float32)), "bytes in three .* got float32"),
        (nifti(np.zeros((2, 2), np.uint8)), r"bytes in three .* shape \(2, 2\)"),
    ],
    ids=["empty", "no gzip", "cut off", "no NIfTI", "no bytes", "flat"],
)
def test_a_wrong_file_is_refused(content, message):
    with pytest.raises(ValueError, match=f"t1: expected {message}"):
        brain.read(content, "t1")


def test_maps_of_another_shape_are_refused(tmp_path):
    three = [*volumes()[:2], volumes((6, 5, 3))[2]]
    with pytest.raises(ValueError, match=r"one shape, got \(6, 5, 4\), .*\(6, 5, 3\)"):
        brain.load(tmp_path, file=write_wheel(tmp_path, three))


def test_a_missing_wheel_is_not_fetched_unasked(tmp_path, monkeypatch):
    monkeypatch.setattr("urllib.request.urlopen", None)
    with pytest.raises(FileNotFoundError, match=r"-m experiments\.data brain --folder"):
        brain.load(tmp_path)


def test_the_command_says_what_is_there(tmp_path, monkeypatch, capsys):
    maps = [np.full((4, 4, 4), value, np.uint8) for value in (9, 100, 155)]
    maps[2][0] = 0
    file = write_wheel(tmp_path, maps)
    monkeypatch.setitem(brain.load.__kwdefaults__, "file", file)
    command.main(["brain", "--folder", str(tmp_path)])
    told = "4x4x4 voxels: 25.0% neither, 0.0% grey matter, 75.0% white matter\n"
    assert capsys.readouterr().out == told
