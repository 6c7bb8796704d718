"""Numbers of the trees' case, of one class, as they were before there were several."""

import hashlib
from typing import Any

import jax
import numpy as np
import pytest

from experiments.data.boxed import Picture
from experiments.detection import sources, task, tiles
from experiments.training import Config
from tests.experiments.detection import draw, tiny


def _picture() -> Picture:
    rng = np.random.default_rng(7)
    image = rng.integers(0, 256, (48, 40, 3)).astype(np.uint8)
    return Picture(image, draw.boxes(rng, 6, 40, least=4))


def _detection(picture: Picture) -> task.Detection:
    return task.Detection(
        sources.Aerial(picture, tiny.SHAPE),
        sources.Held(tiles.grid(picture, tiny.SHAPE)),
        tiny.SHAPE,
        tiny.Network,
        "gn",
    )


def _weights(of: task.Detection) -> Any:
    params, _ = jax.eval_shape(of.init, 0)
    rng = np.random.default_rng(1)
    return jax.tree.map(
        lambda a: rng.normal(0, 0.1, a.shape).astype(np.float32), params
    )


def test_the_drawn_tiles_are_the_same_to_the_bit():
    config = Config("gn", 2, 1, seed=5, epochs=1, epoch_examples=4, rate=1.0)
    batch = _detection(_picture()).training_batch(config, 3, 2, 6)
    digest = hashlib.sha256(batch.images.tobytes() + batch.boxes.tobytes())
    assert digest.hexdigest()[:16] == "7c4914a8e72ac19c"


def test_the_loss_and_its_gradient_are_the_same():
    of = _detection(_picture())
    config = Config("gn", 2, 1, seed=5, epochs=1, epoch_examples=4, rate=1.0)
    batch = of.training_batch(config, 0, 0, 4)
    params = _weights(of)
    loss, gradient = jax.value_and_grad(lambda p: of.loss(p, {}, batch)[0])(params)
    norms = [float(np.linalg.norm(g)) for g in jax.tree.leaves(gradient)]
    assert float(loss) == pytest.approx(0.10733750, rel=1e-6)
    want = [0.00285427, 0.04005494, 0.01300978, 0.28754431, 0.07660735]
    assert norms == pytest.approx(want, rel=1e-5)


def test_what_is_found_and_its_loss_are_the_same():
    of = _detection(_picture())
    outputs = [
        jax.tree.map(np.asarray, of.evaluate(_weights(of), {}, batch))
        for batch in of.evaluation_batches(4)
    ]
    assert of.metrics(outputs)["loss"] == pytest.approx(0.39800832, rel=1e-6)
    found = np.concatenate(of.found(outputs))
    want = [387.79883, 466.13965, 1137.7673, 1134.4144, 24.838537]
    assert len(found) == 96
    assert found[:, :5].sum(0) == pytest.approx(want, rel=1e-5)
