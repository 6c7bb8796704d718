import dataclasses
import re

import numpy as np
import pytest

from experiments.data import cifar
from tests.experiments.data import formats

SETS = pytest.mark.parametrize(
    ("archive", "classes"), [(cifar.CIFAR10, 10), (cifar.CIFAR100, 100)]
)


def _write(folder, archive, members):
    """Writes the archive and returns it with the checksum of what was written."""
    content = formats.tar(members)
    (folder / archive.file.name).write_bytes(content)
    file = dataclasses.replace(archive.file, sha256=formats.sha256(content))
    return dataclasses.replace(archive, file=file)


def test_the_members_are_those_of_the_published_archives():
    assert cifar.CIFAR10.train == (
        "cifar-10-batches-bin/data_batch_1.bin",
        "cifar-10-batches-bin/data_batch_2.bin",
        "cifar-10-batches-bin/data_batch_3.bin",
        "cifar-10-batches-bin/data_batch_4.bin",
        "cifar-10-batches-bin/data_batch_5.bin",
    )
    assert cifar.CIFAR10.test == "cifar-10-batches-bin/test_batch.bin"
    assert cifar.CIFAR100.train == ("cifar-100-binary/train.bin",)
    assert cifar.CIFAR100.test == "cifar-100-binary/test.bin"
    assert cifar.CIFAR100.class_names == "cifar-100-binary/fine_label_names.txt"


@SETS
def test_load_returns_what_the_archive_holds(tmp_path, archive, classes):
    members, images, labels = formats.cifar_members(archive, classes)
    dataset = cifar.load(_write(tmp_path, archive, members), tmp_path)
    assert dataset.name == archive.name
    assert dataset.classes == tuple(f"class_{i}" for i in range(classes))
    assert dataset.train_images.flags.c_contiguous
    np.testing.assert_array_equal(dataset.train_images, np.concatenate(images[:-1]))
    np.testing.assert_array_equal(dataset.test_images, images[-1])
    fine = np.concatenate(labels[:-1])[:, -1]
    np.testing.assert_array_equal(dataset.train_labels, fine)
    np.testing.assert_array_equal(dataset.test_labels, labels[-1][:, -1])


@SETS
def test_an_archive_of_other_content_is_refused_unopened(tmp_path, archive, classes):
    members, _, _ = formats.cifar_members(archive, classes)
    _write(tmp_path, archive, members)
    message = f"{archive.file.name}: expected SHA-256 {archive.file.sha256}, got "
    with pytest.raises(ValueError, match=message):
        cifar.load(archive, tmp_path)


def test_an_archive_that_is_cut_off_is_refused(tmp_path):
    members, _, _ = formats.cifar_members(cifar.CIFAR10, 10)
    archive = _write(tmp_path, cifar.CIFAR10, members)
    path = tmp_path / archive.file.name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="it is cut off, damaged or another file"):
        cifar.load(archive, tmp_path)


@pytest.mark.parametrize("missing", [cifar.CIFAR10.train[2], cifar.CIFAR10.class_names])
def test_an_archive_without_a_member_is_refused(tmp_path, missing):
    members, _, _ = formats.cifar_members(cifar.CIFAR10, 10)
    del members[missing]
    archive = _write(tmp_path, cifar.CIFAR10, members)
    with pytest.raises(ValueError, match=f"got another archive .*{missing}"):
        cifar.load(archive, tmp_path)


def test_what_is_not_an_archive_is_refused(tmp_path):
    content = b"no tar file"
    (tmp_path / cifar.CIFAR10.file.name).write_bytes(content)
    file = dataclasses.replace(cifar.CIFAR10.file, sha256=formats.sha256(content))
    archive = dataclasses.replace(cifar.CIFAR10, file=file)
    with pytest.raises(ValueError, match="got another archive"):
        cifar.load(archive, tmp_path)


@pytest.mark.parametrize("content", [b"", bytes(3072), bytes(2 * 3073 - 1)])
def test_records_that_are_not_whole_are_refused(content):
    message = f"test.bin: expected records of 3073 bytes, got {len(content)} bytes"
    with pytest.raises(ValueError, match=re.escape(message)):
        cifar.parse(content, 1, "test.bin")


def test_labels_without_a_class_are_refused(tmp_path):
    members, _, _ = formats.cifar_members(cifar.CIFAR10, 10)
    members[cifar.CIFAR10.class_names] = b"only\n"
    archive = _write(tmp_path, cifar.CIFAR10, members)
    with pytest.raises(ValueError, match="training labels from 0 to 0, got"):
        cifar.load(archive, tmp_path)
