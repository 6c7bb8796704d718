"""Which host reads what, and in which order."""

import dataclasses
import itertools

import numpy as np
import pytest

from experiments.imagenet import data
from experiments.imagenet.config import TRY
from experiments.imagenet.data.feed import (
    EvaluationPlaces,
    Order,
    Rows,
    TrainingPlaces,
)

CONFIG = dataclasses.replace(TRY, batch=12, image_size=8, epochs=3, augment="crop")
EXAMPLES = 70


@pytest.fixture(scope="module")
def source():
    return data.open_split("synthetic", "train", image_size=11, examples=EXAMPLES)


def batches(source, rows, first=0, config=CONFIG, **options):
    feed = data.training(
        source, config, rows, first, **({"threads": 2, "workers": 0} | options)
    )
    try:
        return list(feed)
    finally:
        feed.close()


@pytest.mark.parametrize("hosts", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("seed", [0, 1, 2**20])
def test_in_every_epoch_hosts_read_different_examples_and_together_all(hosts, seed):
    order = Order(EXAMPLES, CONFIG.batch, seed)
    count = CONFIG.batch // hosts
    read = [
        TrainingPlaces(order, Rows(h * count, count), 0, 3 * order.epoch_steps)
        for h in range(hosts)
    ]
    for epoch in range(3):
        seen = [p.example for places in read for p in places if p.epoch == epoch]
        assert len(seen) == len(set(seen)) == EXAMPLES // CONFIG.batch * CONFIG.batch
        assert set(seen) <= set(range(EXAMPLES))


def test_epochs_and_seeds_have_orders_of_their_own():
    def order(seed, epoch):
        order = Order(EXAMPLES, EXAMPLES, seed)
        return tuple(order.example(epoch, row) for row in range(EXAMPLES))

    orders = [order(seed, epoch) for seed in (0, 1, 2) for epoch in (0, 1, 2)]
    for one, other in itertools.combinations(orders, 2):
        assert sum(a == b for a, b in zip(one, other, strict=True)) < EXAMPLES / 4


@pytest.mark.parametrize("hosts", [2, 3])
def test_the_batches_do_not_depend_on_the_number_of_hosts(source, hosts):
    whole = batches(source, Rows(0, 12))
    count = 12 // hosts
    parts = [batches(source, Rows(h * count, count)) for h in range(hosts)]
    assert len(whole) == 3 * (EXAMPLES // 12)
    for step, (images, labels) in enumerate(whole):
        assert images.dtype == np.uint8
        assert images.shape == (12, 8, 8, 3)
        joined = np.concatenate([part[step][0] for part in parts])
        assert np.array_equal(images, joined)
        joined = np.concatenate([part[step][1] for part in parts])
        assert np.array_equal(labels, joined)


def test_it_goes_on_at_any_step_with_other_readers(source):
    whole = batches(source, Rows(4, 4))
    for first, threads in ((1, 1), (7, 5), (14, 2)):
        rest = batches(source, Rows(4, 4), first, threads=threads)
        assert len(rest) == len(whole) - first
        for one, other in zip(whole[first:], rest, strict=True):
            assert np.array_equal(one[0], other[0])
            assert np.array_equal(one[1], other[1])


@pytest.mark.slow
def test_processes_read_what_threads_do(source):
    whole = batches(source, Rows(0, 12), 3)
    rest = batches(source, Rows(0, 12), 3, workers=2)
    for one, other in zip(whole, rest, strict=True):
        assert np.array_equal(one[0], other[0])
        assert np.array_equal(one[1], other[1])


def test_augmentation_is_drawn_anew_in_every_epoch(source):
    config = dataclasses.replace(CONFIG, batch=EXAMPLES)
    images = [
        {int(label): image for image, label in zip(*batch, strict=True)}
        for batch in batches(source, Rows(0, EXAMPLES), config=config)
    ]
    assert not np.array_equal(images[0][3], images[1][3])


@pytest.mark.parametrize("hosts", [1, 2, 4])
@pytest.mark.parametrize("examples", [1, 16, 17, 31])
def test_evaluation_reads_every_example_once(hosts, examples):
    count = 16 // hosts
    read = [
        [p.example for p in EvaluationPlaces(examples, 16, Rows(h * count, count))]
        for h in range(hosts)
    ]
    assert len({len(places) for places in read}) == 1
    assert sorted(e for places in read for e in places if e >= 0) == [*range(examples)]


def test_padding_has_no_label():
    source = data.open_split("synthetic", "validation", image_size=8, examples=40)
    feed = data.evaluation(source, CONFIG, Rows(0, 12), threads=1, workers=0)
    labels = [labels for _, labels in feed]
    feed.close()
    assert len(labels) == 1
    assert (labels[0] >= 0).tolist() == [True] * 10 + [False] * 2


def test_too_few_examples():
    with pytest.raises(ValueError, match=r"at least 12 training examples, .* got 11"):
        Order(11, 12, 0)
