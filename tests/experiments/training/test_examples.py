"""Which examples a step sees, and what is done to them."""

import numpy as np

from experiments.training import Classification, examples
from tests.experiments.training import tiny


def test_an_epoch_takes_no_example_twice_and_epochs_and_seeds_differ():
    orders = [examples.order(*at, 100, 90) for at in ((0, 0), (0, 1), (1, 0))]
    for order in orders:
        assert len(set(order.tolist())) == 90
        assert order.min() >= 0
        assert order.max() < 100
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert not np.array_equal(orders[a], orders[b])
    np.testing.assert_array_equal(orders[0], examples.order(0, 0, 100, 90))


def test_the_examples_do_not_depend_on_the_batch():
    task = Classification(tiny.dataset(), tiny.Network, "gn")
    whole = task.training_batch(tiny.config(batch=8), 1, 0, 64)
    parts = [
        task.training_batch(tiny.config(batch=2), 1, start, 16)
        for start in range(0, 64, 16)
    ]
    for a, b in zip(whole, zip(*parts, strict=True), strict=True):
        np.testing.assert_array_equal(a, np.concatenate(b))


def test_images_are_flipped_and_shifted_and_nothing_else():
    image = np.arange(1, 31, dtype=np.uint8).reshape(6, 5, 1)
    images = np.stack([image] * 400)
    changed = examples.augment(images, 3, 1, 0)
    possible = {}
    for flip in (False, True):
        padded = np.pad(image[:, ::-1] if flip else image, ((2, 2), (2, 2), (0, 0)))
        for i in range(5):
            for j in range(5):
                possible[padded[i : i + 6, j : j + 5].tobytes()] = flip
    seen = [found.tobytes() for found in changed]
    assert set(seen) == set(possible), "400 draws of 50 find each"
    flips = sum(possible[key] for key in seen)
    assert abs(flips - 200) < 5 * 10, "five standard deviations"
    assert changed.dtype == np.uint8


def test_epochs_and_seeds_change_the_augmentation():
    images = tiny.dataset().train_images[:32]
    a, b, c = (examples.augment(images, *at, 0) for at in ((0, 0), (0, 1), (1, 0)))
    assert not np.array_equal(a, b)
    assert not np.array_equal(a, c)
