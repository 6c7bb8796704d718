"""Sites so small, and a network so small, that a run compiles and trains in seconds."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from experiments.data import trees
from experiments.detection import aerial, recipe, tiles
from flax_gn.models import Level
from tests.experiments.data import test_trees


class Network(nn.Module):
    """One convolution, one norm and the outputs, on one level of stride 4."""

    norm: Callable
    conv: Callable
    classes: int = 1
    strides = (4,)

    @nn.compact
    def __call__(self, x: jax.Array) -> list[Level]:
        x = self.conv(
            8, (8, 8), strides=4, padding=[(2, 2)] * 2, use_bias=False, name="conv"
        )(x)
        x = nn.relu(self.norm(name="norm")(x))
        n = self.classes
        x = self.conv(n + 5, (1, 1), strides=1, padding=[(0, 0)] * 2, name="outputs")(x)
        return [Level(x[..., :n] - 2, x[..., n], 4 * jnp.exp(x[..., n + 1 :]))]


SHAPE = tiles.Shape(side=16, most=9)


def site(width: int, height: int, seed: int) -> tuple[np.ndarray, str]:
    """A picture of bright squares on dark ground, twelve pixels wide, and its XML."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 60, (height, width, 3)).astype(np.uint8)
    boxes = []
    for top in range(4, height - 12, 20):
        for left in range(4, width - 12, 20):
            if rng.random() < 0.7:
                image[top : top + 12, left : left + 12] += 150
                boxes.append((left, top, left + 12, top + 12))
    return image, test_trees.annotation(boxes, width, height)


def install(monkeypatch, cache: pathlib.Path) -> None:
    """Puts the sites where the experiment looks, and shrinks what it trains."""
    names = ("larger", "smaller")
    pictures = {"larger": site(80, 96, 0), "smaller": site(64, 48, 1)}
    file = test_trees.write_wheel(cache / "flax_gn" / trees.NAME, pictures)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setattr(
        trees.load,
        "__kwdefaults__",
        {"download": False, "file": file, "pictures": names},
    )
    small = dataclasses.replace(
        recipe.SETS["trees"],
        sites=functools.partial(aerial.read, shape=SHAPE, held=SHAPE.side),
        network=Network,
        shape=SHAPE,
        epoch=32,
        evaluation_batch=4,
    )
    monkeypatch.setitem(recipe.SETS, "trees", small)
