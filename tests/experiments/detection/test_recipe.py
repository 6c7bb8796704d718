"""The recipe at its own size, traced and never compiled."""

import jax
import numpy as np
import pytest

from experiments.data.trees import Picture
from experiments.detection import recipe, tiles
from experiments.detection.task import Detection


@pytest.mark.parametrize("norm", recipe.NORMS)
def test_the_network_fits_the_tiles_and_their_targets(norm):
    side = recipe.SHAPE.side
    picture = Picture(np.zeros((side, side, 3), np.uint8), np.zeros((0, 4), np.float32))
    test = tiles.grid(picture, recipe.SHAPE)
    of = Detection(picture, test, recipe.SHAPE, recipe.network, norm)
    params, stats = jax.eval_shape(of.init, 0)
    assert bool(stats) == (norm != "gn")
    loss, (after, sums) = jax.eval_shape(of.loss, params, stats, test)
    assert loss.shape == sums["loss"].shape == ()
    assert jax.tree.structure(after) == jax.tree.structure(stats)
    found = jax.eval_shape(of.evaluate, params, stats, test)
    assert found["boxes"].shape == (1, 100, 4)
    assert found["scores"].shape == (1, 100)


def test_runs_differ_in_norm_batch_and_seed_alone():
    configs = recipe.configs(recipe.NORMS, recipe.SIZES["default"])
    assert len({config.name for config in configs}) == len(configs) == 18
    assert len({config.steps * config.global_batch for config in configs}) == 1
    assert {config.rate for config in configs} == {recipe.RATE}
    assert set(recipe.SOURCES) == set(recipe.NORMS)


def test_the_strip_that_is_held_out_is_not_trained_on():
    image = np.zeros((1160, 400, 3), np.uint8)
    image[-2 * recipe.HELD_OUT :] = 200
    boxes = np.array([[2, 2, 40, 40], [2, 800, 40, 840]], np.float32)
    other = Picture(np.zeros((300, 300, 3), np.uint8), boxes[:1])
    first, second, test = recipe.sites(Picture(image, boxes), other)
    assert second.image.shape == (580 - 384, 200, 3)
    assert test.images.shape == (8, 96, 96, 3)
    assert second.image.max() == 0
    assert test.images.min() == 200
    assert second.boxes.tolist() == [[1, 1, 20, 20]]
    assert (test.boxes[..., 2] > 0).sum() == 1
    assert first.image.shape == (150, 150, 3)


def test_a_picture_too_small_to_hold_a_strip_out_is_refused():
    small = Picture(np.zeros((900, 900, 3), np.uint8), np.zeros((0, 4), np.float32))
    with pytest.raises(ValueError, match="at least 960 rows, got 900"):
        recipe.sites(small, small)
