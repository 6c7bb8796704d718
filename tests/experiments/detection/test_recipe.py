"""The recipe at its own size, traced and never compiled."""

import jax
import numpy as np
import pytest

from experiments.data.boxed import Picture
from experiments.detection import aerial, recipe, sources, tiles
from experiments.detection.task import Detection


@pytest.mark.parametrize("norm", recipe.NORMS)
@pytest.mark.parametrize(("name", "classes"), [("trees", 1), ("coco", 80)])
def test_the_network_fits_the_tiles_and_their_targets(name, classes, norm):
    known = recipe.SETS[name]
    side = known.shape.side
    picture = Picture(np.zeros((side, side, 3), np.uint8), np.zeros((0, 4), np.float32))
    test = tiles.stack([picture], known.shape)
    of = Detection(
        sources.Aerial(picture, known.shape),
        sources.Held(test),
        known.shape,
        known.network,
        norm,
        classes=classes,
        reach=known.reach,
        candidates=known.candidates,
    )
    params, stats = jax.eval_shape(of.init, 0)
    assert bool(stats) == (norm != "gn")
    loss, (after, sums) = jax.eval_shape(of.loss, params, stats, test)
    assert loss.shape == sums["loss"].shape == ()
    assert jax.tree.structure(after) == jax.tree.structure(stats)
    found = jax.eval_shape(of.evaluate, params, stats, test)
    assert found["boxes"].shape == (1, 100, 4)
    assert found["scores"].shape == found["classes"].shape == (1, 100)


@pytest.mark.parametrize(("name", "runs"), [("trees", 30), ("coco", 6)])
def test_runs_differ_in_norm_batch_and_seed_alone(name, runs):
    known = recipe.SETS[name]
    configs = recipe.configs(known, recipe.NORMS, known.sizes["default"])
    assert len({config.name for config in configs}) == len(configs) == runs
    assert len({config.steps * config.global_batch for config in configs}) == 1
    assert {config.norm: config.rate for config in configs} == known.rates
    for size in known.sizes.values():
        before = recipe.first(known, "gn", 0, size)
        assert before.epoch_examples == known.examples(size)
    assert set(recipe.SOURCES) == set(recipe.NORMS)


def test_the_strip_that_is_held_out_is_not_trained_on():
    image = np.zeros((1160, 400, 3), np.uint8)
    image[-2 * 384 :] = 200
    boxes = np.array([[2, 2, 40, 40], [2, 800, 40, 840]], np.float32)
    other = Picture(np.zeros((300, 300, 3), np.uint8), boxes[:1])
    sites = aerial.sites(Picture(image, boxes), other, aerial.SHAPE, 384)
    first, second = sites.first.picture, sites.second.picture
    [test] = sites.test.batches(8)
    assert second.image.shape == (580 - 384, 200, 3)
    assert len(sites.test) == 8
    assert test.images.shape == (8, 96, 96, 3)
    assert second.image.max() == 0
    assert test.images.min() == 200
    assert second.boxes.tolist() == [[1, 1, 20, 20]]
    assert sum(map(len, sites.test.truth())) == 1
    assert first.image.shape == (150, 150, 3)


def test_a_picture_too_small_to_hold_a_strip_out_is_refused():
    small = Picture(np.zeros((900, 900, 3), np.uint8), np.zeros((0, 4), np.float32))
    with pytest.raises(ValueError, match="at least 960 rows, got 900"):
        aerial.sites(small, small, aerial.SHAPE, 384)
