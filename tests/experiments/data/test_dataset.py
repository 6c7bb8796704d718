import re

import numpy as np
import pytest

from experiments.data import Dataset

CLASSES = ("a", "b", "c")


def _pair(n=6, shape=(5, 4, 2), seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, *shape), np.uint8), np.arange(n) % 3


def test_mean_and_std_are_those_of_the_scaled_training_images():
    train, test = _pair(), _pair(3, seed=1)
    dataset = Dataset.of("x", train, test, CLASSES)
    scaled = train[0].astype(np.float64) / 255
    assert dataset.mean.dtype == dataset.std.dtype == np.float32
    np.testing.assert_allclose(dataset.mean, scaled.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(dataset.std, scaled.std((0, 1, 2)), rtol=1e-6)


def test_grey_images_get_a_channel_axis_and_labels_become_int32():
    train = _pair(shape=(5, 4))
    dataset = Dataset.of("x", train, _pair(3, (5, 4)), CLASSES)
    np.testing.assert_array_equal(dataset.train_images, train[0][:, :, :, None])
    np.testing.assert_array_equal(dataset.train_labels, train[1])
    assert dataset.train_images.dtype == np.uint8
    assert dataset.train_labels.dtype == dataset.test_labels.dtype == np.int32


def test_a_dataset_does_not_change():
    dataset = Dataset.of("x", _pair(), _pair(), CLASSES)
    with pytest.raises(AttributeError):
        dataset.name = "y"  # pyright: ignore[reportAttributeAccessIssue]


images, labels = _pair()


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ((images / 255, labels), "training images of dtype uint8"),
        ((images[0, 0], labels), "got uint8[4, 2]"),
        ((images[:0], labels[:0]), "none of them 0; got uint8[0, 5, 4, 2]"),
        ((images, labels[:-1]), "each of the 6 training images, got int64[5]"),
        ((images, labels / 2), "got float64[6]"),
        ((images, labels - 1), "training labels from 0 to 2, got -1 to 1"),
        ((images, labels + 1), "training labels from 0 to 2, got 1 to 3"),
        ((images[:, 1:], labels), "shape (4, 4, 2), got (5, 4, 2)"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(train, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Dataset.of("x", train, _pair(), CLASSES)
