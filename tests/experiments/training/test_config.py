import pytest

from experiments.training.config import epoch_examples
from tests.experiments.training import tiny


def test_the_learning_rate_is_linear_in_the_batch():
    small, large = (tiny.config(batch=b, rate=0.4) for b in (2, 8))
    assert small.peak_rate == pytest.approx(0.4 * 16 / 256)
    assert large.peak_rate == pytest.approx(4 * small.peak_rate)


@pytest.mark.parametrize("batch", [2, 4, 8, 32])
def test_every_batch_sees_the_same_examples(batch):
    config = tiny.config(batch=batch, epochs=5, epoch_examples=9984)
    assert config.steps * config.global_batch == 5 * 9984
    assert config.epoch_steps % config.chunk_steps == 0
    assert 13 <= config.chunk_steps <= 64


def test_an_epoch_leaves_out_fewer_examples_than_a_batch():
    assert epoch_examples(10_000, [256, 64, 32, 16]) == 9984
    assert epoch_examples(60_000, [32, 24]) == 60_000 // 96 * 96


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epoch_examples": 65}, r"multiple of the global batch, 2 x 8; got 65"),
        ({"epoch_examples": 0}, r"positive multiple .* got 0"),
        ({"schedule": "linear"}, r"'cosine' or 'steps'; got 'linear'"),
        ({"optimizer": "lamb"}, r"'sgd' or 'adam'; got 'lamb'"),
        ({"warmup": 1.0}, r"from 0 to below 1; got 1.0"),
        ({"parallelism": "shard"}, r"one of pmap, jit, vmap; got 'shard'"),
    ],
)
def test_impossible_values_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny.config(**changes)


def test_the_name_tells_networks_apart():
    assert tiny.config().name == "gn-2-seed0"
    assert tiny.config(network="vgg", norm="bn", seed=1).name == "vgg-bn-2-seed1"


def test_too_few_examples_are_refused():
    with pytest.raises(ValueError, match=r"at least 96 .* \[32, 24\]; got 95"):
        epoch_examples(95, [32, 24])
