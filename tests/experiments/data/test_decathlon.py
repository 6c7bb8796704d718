"""The Decathlon: tasks of the published form, made here, and wrong ones."""

import json

import nibabel
import numpy as np
import pytest

from experiments.data import __main__ as command
from experiments.data import decathlon
from tests.experiments.data import decathlon_files


def test_every_fifth_case_by_name_is_tested_on(tmp_path):
    found = decathlon.load(decathlon_files.write(tmp_path / "task", cases=7))
    assert found.name == "Hippocampus"
    assert found.classes == ("background", "Anterior", "Posterior")
    assert found.modalities == ("MRI",)
    names = [[case.image.name[12:15] for case in part] for part in found[3:]]
    assert names == [["001", "002", "003", "004", "006"], ["000", "005"]]
    for case in found.train:
        assert case.labels.parent.name == "labelsTr"
        assert case.labels.name == case.image.name


@pytest.mark.parametrize("modalities", [("MRI",), ("T2", "ADC")])
def test_a_case_is_scaled_by_its_percentiles_and_turned(tmp_path, modalities):
    task = decathlon_files.write(tmp_path / "task", cases=2, modalities=modalities)
    found = decathlon.load(task)
    volume = decathlon.read(found.train[0], found)
    stored = np.asarray(nibabel.load(found.train[0].image).dataobj)
    stored = stored.reshape(9, 10, 7, len(modalities))[::-1]  # it points to the left
    assert volume.image.shape == stored.shape
    assert volume.image.dtype == volume.labels.dtype == np.uint8
    for channel in range(len(modalities)):
        low, high = np.percentile(stored[..., channel], (0.5, 99.5))
        want = 255 * ((stored[..., channel] - low) / (high - low)).clip(0, 1)
        np.testing.assert_allclose(volume.image[..., channel], want, atol=0.51)
    assert volume.labels[2, 3, 2] == 2
    assert volume.labels[4, 5, 1] == 1
    assert np.bincount(volume.labels.ravel()).tolist() == [630 - 90, 65, 25]


def test_a_constant_image_is_no_error(tmp_path):
    task = decathlon_files.write(tmp_path / "task", cases=2)
    found = decathlon.load(task)
    image = nibabel.Nifti1Image(np.ones((9, 10, 7), np.int16), np.eye(4))
    nibabel.save(image, found.train[0].image)
    assert not decathlon.read(found.train[0], found).image.any()


def _with(task, **changed):
    path = task / "dataset.json"
    content = json.loads(path.read_text()) | changed
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (
            lambda task: (task / "dataset.json").unlink(),
            FileNotFoundError,
            r"dataset\.json, which does not exist; unpack a task of http",
        ),
        (
            lambda task: (task / "dataset.json").write_text("{"),
            ValueError,
            r"dataset\.json: expected the description of a task",
        ),
        (
            lambda task: _with(task, modality=None),
            ValueError,
            r"another form \(KeyError\('modality'\)\)",
        ),
        (
            lambda task: (task / "labelsTr" / "hippocampus_001.nii.gz").unlink(),
            FileNotFoundError,
            r"labelsTr/hippocampus_001\.nii\.gz, which does not exist",
        ),
        (
            lambda task: _with(task, training=[]),
            ValueError,
            "got 0 cases of 3 classes",
        ),
    ],
    ids=["missing", "cut off", "incomplete", "no labels", "no cases"],
)
def test_a_wrong_task_is_refused(tmp_path, spoil, error, message):
    task = decathlon_files.write(tmp_path / "task", cases=3)
    spoil(task)
    with pytest.raises(error, match=message):
        decathlon.load(task)


def _save(case, which, voxels):
    path = getattr(case, which)
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda case: case.image.write_bytes(b"no NIfTI"), "got something else"),
        (
            lambda case: case.labels.write_bytes(case.labels.read_bytes()[:-9]),
            "got something else",
        ),
        (
            lambda case: _save(case, "image", np.zeros((9, 10, 7, 2), np.float32)),
            r"in 1 modalities, as dataset.json says, got shape \(9, 10, 7, 2\)",
        ),
        (
            lambda case: _save(case, "labels", np.zeros((9, 10, 8), np.uint8)),
            r"labels for \(9, 10, 7\) voxels, as the image has, got \(9, 10, 8\)",
        ),
        (
            lambda case: _save(case, "labels", np.full((9, 10, 7), 3, np.uint8)),
            "labels from 0 to 2, got 3 to 3",
        ),
        (
            lambda case: _save(case, "labels", np.full((9, 10, 7), 0.5, np.float32)),
            "labels from 0 to 2, got 0.5 to 0.5",
        ),
    ],
    ids=["no NIfTI", "cut off", "modalities", "shape", "no class", "no integers"],
)
def test_a_wrong_case_is_named(tmp_path, spoil, message):
    found = decathlon.load(decathlon_files.write(tmp_path / "task", cases=2))
    (case,) = found.train
    spoil(case)
    with pytest.raises(ValueError, match=message) as why:
        decathlon.read(case, found)
    assert "hippocampus_001.nii.gz" in str(why.value)


def test_the_command_says_what_is_in_a_task(tmp_path, capsys):
    task = decathlon_files.write(tmp_path / "task", cases=6)
    command.main(["decathlon", "--folder", str(task)])
    told = capsys.readouterr().out
    assert "Hippocampus: 4 cases to train on, 2 to test on" in told
    assert "classes: background, Anterior, Posterior" in told
