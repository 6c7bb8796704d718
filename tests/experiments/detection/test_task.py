"""What the task makes of the network's numbers."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from experiments.data.boxed import Picture
from experiments.detection import sources, task, tiles
from experiments.detection.losses import losses
from experiments.detection.targets import assign
from experiments.training import NORMS
from flax_gn.linen import BatchNorm
from flax_gn.models import Level

SIDE, STRIDES = 16, (4, 8)


class Told(nn.Module):
    """Says, wherever it looks, what its attribute holds for one tile."""

    norm: Any
    conv: Any
    levels: Any
    classes: int = 1
    strides: tuple[int, ...] = STRIDES

    @nn.compact
    def __call__(self, x):
        return [
            Level(*(jnp.broadcast_to(a, (len(x), *a.shape)) for a in level))
            for level in self.levels
        ]


def _levels(said: dict[tuple[int, int, int], tuple[float, float, list[float]]]):
    """From (level, i, j): the probability, the centerness and the distances there."""
    levels = []
    for index, stride in enumerate(STRIDES):
        side = SIDE // stride
        level = Level(
            np.full((side, side, 1), -9, np.float32),
            np.zeros((side, side), np.float32),
            np.full((side, side, 4), 1, np.float32),
        )
        for (at, i, j), (p, c, distances) in said.items():
            if at == index:
                level.classes[i, j] = math.log(p / (1 - p))
                level.centerness[i, j] = math.log(c / (1 - c))
                level.distances[i, j] = distances
        levels.append(level)
    return levels


def _detection(said, test: tiles.Tiles) -> task.Detection:
    picture = Picture(np.zeros((SIDE, SIDE, 3), np.uint8), np.zeros((0, 4), np.float32))
    levels = _levels(said)
    shape = tiles.Shape(SIDE, test.boxes.shape[1])
    return task.Detection(
        sources.Aerial(picture, shape),
        sources.Held(test),
        shape,
        lambda **kinds: Told(levels=levels, **kinds),
        "gn",
        classes=levels[0].classes.shape[-1],
    )


def _tiles(*boxes: list) -> tiles.Tiles:
    padded = np.zeros((len(boxes), 3, 4), np.float32)
    for index, row in enumerate(boxes):
        padded[index, : len(row)] = np.reshape(row, (-1, 4))
    images = np.zeros((len(boxes), SIDE, SIDE, 3), np.uint8)
    return tiles.Tiles(images, padded, np.zeros((len(boxes), 3), np.int32))


def _outputs(of: task.Detection, size: int) -> list[dict[str, np.ndarray]]:
    evaluate = jax.jit(of.evaluate)
    return [
        jax.tree.map(np.asarray, evaluate({}, {}, batch))
        for batch in of.evaluation_batches(size)
    ]


SAID = {
    # Around the point (6, 2): the box 5, 0, 9, 6. Its top would lie above the tile.
    (0, 0, 1): (0.9, 0.4, [1, 3, 3, 4]),
    # Nearly the same box, less certain: suppressed.
    (0, 0, 2): (0.6, 0.4, [5, 3, -1 + 1e-3, 4]),
    # Around the point (12, 4) of the coarse level.
    (1, 0, 1): (0.8, 0.9, [2, 1, 3, 4]),
}


def test_found_boxes_are_clipped_scored_suppressed_and_sorted():
    of = _detection(SAID, _tiles([[5, 0, 9, 6]]))
    [found] = of.found(_outputs(of, 1))
    strong = [row for row in found.tolist() if row[4] > 0.2]
    np.testing.assert_allclose(
        strong,
        [
            [10, 3, 15, 8, math.sqrt(0.8 * 0.9), 0],
            [5, 0, 9, 6, math.sqrt(0.9 * 0.4), 0],
        ],
        rtol=1e-5,
    )
    assert (np.diff(found[:, 4]) <= 0).all()
    assert len(found) == 4 * 4 + 2 * 2 - 1, "every other position has a box of its own"


def test_metrics_leave_the_padding_out():
    test = _tiles([[5, 0, 9, 6]], [[10, 3, 15, 8], [5, 0, 9, 6]], [[0, 9, 9, 16]])
    of = _detection(SAID, test)
    outputs = _outputs(of, 2)
    assert [len(output["loss"]) for output in outputs] == [2, 2]
    got = of.metrics(outputs)
    said = [
        np.concatenate([a.reshape(-1, *a.shape[2:]) for a in part])
        for part in zip(*_levels(SAID), strict=True)
    ]
    want = [
        losses(*said, assign(boxes, jnp.zeros(3, int), STRIDES, SIDE, SIDE))
        for boxes in jnp.asarray(test.boxes)
    ]
    loss = np.mean([float(each.total()) for each in want])
    assert got["loss"] == pytest.approx(loss, rel=1e-5)
    # By score, and tile by tile where scores are equal: wrong, right, wrong, and then
    # right, right, wrong. Three trees of four are found among the first five boxes.
    assert got["ap50"] == pytest.approx(3 / 5 * 76 / 101)
    assert [len(boxes) for boxes in of.test.truth()] == [1, 2, 1]


def test_classes_are_scored_and_suppressed_apart():
    """At one position two classes, and at the next the first of them again."""
    of = _detection(SAID, _tiles([[5, 0, 9, 6]]))
    levels = _levels(SAID)
    for index, level in enumerate(levels):
        more = np.full((*level.centerness.shape, 2), -9, np.float32)
        levels[index] = level._replace(
            classes=np.concatenate([level.classes, more], axis=-1)
        )
    levels[0].classes[0, 1, 2] = math.log(0.7 / 0.3)
    of = dataclasses.replace(
        of,
        network=lambda **kinds: Told(levels=levels, **kinds),
        classes=3,
        candidates=40,
    )
    [found] = of.found(_outputs(of, 1))
    strong = [row for row in found.tolist() if row[4] > 0.2]
    np.testing.assert_allclose(
        strong,
        [
            [10, 3, 15, 8, math.sqrt(0.8 * 0.9), 0],
            [5, 0, 9, 6, math.sqrt(0.9 * 0.4), 0],
            [5, 0, 9, 6, math.sqrt(0.7 * 0.4), 2],
        ],
        rtol=1e-5,
    )
    few = dataclasses.replace(of, candidates=2)
    assert len(few.found(_outputs(few, 1))[0]) == 2


@pytest.mark.parametrize(("norm", "moves"), [("frozen", False), ("bn", True)])
def test_frozen_batch_norm_is_an_affine_map_in_training(norm, moves):
    x = jax.random.normal(jax.random.key(0), (2, 3, 3, 4))
    statistics = {"mean": jnp.full(4, 0.5), "var": jnp.full(4, 4.0)}
    variables = {
        "params": {"scale": jnp.arange(1.0, 5), "bias": jnp.ones(4)},
        "batch_stats": statistics,
    }
    layer = NORMS[norm](True)()
    assert isinstance(layer, BatchNorm)
    y, state = layer.apply(variables, x, mutable=["batch_stats"])
    affine = (x - 0.5) / math.sqrt(4 + 1e-5) * jnp.arange(1.0, 5) + 1
    assert np.allclose(y, affine, atol=1e-5) == (not moves)
    after = state["batch_stats"]
    assert np.array_equal(after["mean"], statistics["mean"]) == (not moves)
    assert np.array_equal(after["var"], statistics["var"]) == (not moves)
