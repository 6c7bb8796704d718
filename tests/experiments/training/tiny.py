"""A network and images so small that a run compiles and trains in seconds."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from experiments.data import Dataset
from experiments.training import Config

DEVICES = 8


class Network(nn.Module):
    """One convolution and one norm."""

    norm: Callable
    conv: Callable
    classes: int
    features: int = 8
    width: int = 16  # which those of `flax_gn.models` take; not used

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.conv(
            self.features, (3, 3), padding=[(1, 1)] * 2, use_bias=False, name="conv"
        )(x)
        x = nn.relu(self.norm(name="norm")(x))
        return nn.Dense(self.classes, name="head")(jnp.mean(x, axis=(1, 2)))


def dataset(train: int = 70, test: int = 21, seed: int = 0) -> Dataset:
    """Two classes: bright at the top, or bright at the left."""
    generator = np.random.default_rng(seed)

    def part(n):
        labels = generator.integers(0, 2, n).astype(np.int32)
        images = generator.integers(0, 128, (n, 6, 6, 1))
        images[labels == 0, :2] += 100
        images[labels == 1, :, :2] += 100
        return images.astype(np.uint8), labels

    return Dataset.of("tiny", part(train), part(test), ("top", "left"))


def config(**changes) -> Config:
    defaults = {
        "norm": "gn",
        "batch": 2,
        "devices": DEVICES,
        "seed": 0,
        "epochs": 3,
        "epoch_examples": 64,
        "rate": 8.0,
    }
    return Config(**(defaults | changes))
