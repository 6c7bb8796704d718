import importlib.resources

import numpy as np
import pytest

from experiments import data
from experiments.data import fashion_mnist, subset
from tests.experiments.data import formats

FOLDER = importlib.resources.files("experiments.data")


@pytest.fixture(scope="module")
def dataset():
    return data.load("fashion-mnist-subset")


def test_shapes_and_dtypes(dataset):
    assert dataset.train_images.shape == (10000, 28, 28, 1)
    assert dataset.test_images.shape == (2000, 28, 28, 1)
    assert dataset.train_images.dtype == dataset.test_images.dtype == np.uint8
    assert dataset.train_labels.dtype == dataset.test_labels.dtype == np.int32
    assert len(dataset.classes) == 10


def test_classes_are_balanced(dataset):
    assert np.bincount(dataset.train_labels).tolist() == [1000] * 10
    assert np.bincount(dataset.test_labels).tolist() == [200] * 10


def test_the_statistics_are_near_those_of_the_full_set(dataset):
    # 0.2860 and 0.3530; 10,000 images of 60,000 shift the mean by about 0.001.
    np.testing.assert_allclose(dataset.mean, [0.2860], atol=0.005)
    np.testing.assert_allclose(dataset.std, [0.3530], atol=0.005)


def test_no_test_image_is_a_training_image(dataset):
    seen = {image.tobytes() for image in dataset.train_images}
    assert not any(image.tobytes() in seen for image in dataset.test_images)


def test_the_file_is_the_one_that_was_made():
    content = FOLDER.joinpath(subset.FILE).read_bytes()
    assert len(content) <= 6_000_000
    made = "efefbe05b9d7eaf04f28ae39025070e3f555b25bf705ff9319bf8a7a4784fc6b"
    assert formats.sha256(content) == made


def test_its_licence_lies_beside_it():
    licence = FOLDER.joinpath("fashion_mnist_subset.LICENSE.txt").read_text("utf-8")
    assert subset.FILE in licence
    assert "The MIT License (MIT) Copyright © 2017 Zalando SE" in licence
    words = " ".join(licence.split())
    assert "this permission notice shall be included in all copies" in words


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"expected no folder, .*load fashion-mnist from"
    ):
        data.load("fashion-mnist-subset", tmp_path)


@pytest.mark.skipif(
    not fashion_mnist.DEBIAN.is_dir(), reason="dataset-fashion-mnist is not installed"
)
def test_it_is_a_part_of_the_full_set(dataset):
    (images, labels), _ = fashion_mnist.read(fashion_mnist.DEBIAN)
    for label in range(10):
        np.testing.assert_array_equal(
            dataset.train_images[dataset.train_labels == label, ..., 0],
            images[labels == label][:1000],
        )
