"""What batch norm's statistics do to the gradient as the batch shrinks.

The same examples, cut into batches of B, give the same mean gradient whatever B is, if
no example looks at another. With batch norm they do: the statistics of B examples stand
in for those of all. So what is left between the gradient over batches of B and that
over one batch of all is the work of the statistics, and nothing else:

    bias  = |mean over cuts of g_B - g_all| / |g_all|
    noise = sqrt(mean over cuts of |g_B - mean g_B|^2) / |g_all|

where a cut is a random one and g_B is the mean gradient over its batches.
"""

import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from experiments import training
from experiments.lab import Record
from experiments.small_batch import recipe
from experiments.training.classification import Batch

NORMS = ("bn", "gn")


def measure(
    dataset: Any, batches: Sequence[int], *, examples: int, cuts: int, epochs: int
) -> list[Record]:
    """A row per norm and batch, on a network that was trained for a while.

    Args:
      dataset: images to train and measure on.
      batches: examples in a batch, each a divisor of ``examples``.
      examples: how many to take the gradient over.
      cuts: random cuts into batches.
      epochs: to train before, by `small_batch`'s recipe, 256 examples on one device.
    """
    rows = []
    for norm in NORMS:
        task, state = _trained(dataset, norm, epochs)
        chosen = np.random.default_rng(0).permutation(len(dataset.train_labels))
        chosen = chosen[:examples]
        whole = _gradients(task, state, [chosen], examples)[0]
        size = np.linalg.norm(whole)
        for batch in batches:
            orders = [
                np.random.default_rng([1, cut]).permutation(chosen)
                for cut in range(cuts)
            ]
            gradients = np.stack(_gradients(task, state, orders, batch))
            mean = gradients.mean(axis=0)
            spread = np.sum(np.square(gradients - mean), axis=1).sum() / (cuts - 1)
            rows.append(
                {
                    "norm": norm,
                    "batch": batch,
                    "bias": float(np.linalg.norm(mean - whole) / size),
                    "noise": float(np.sqrt(spread) / size),
                    "examples": examples,
                    "cuts": cuts,
                    "epochs": epochs,
                }
            )
    return rows


def _trained(
    dataset: Any, norm: str, epochs: int
) -> tuple[training.Classification, Any]:
    taken = len(dataset.train_labels) // 256 * 256
    config = training.Config(
        norm=norm,
        batch=256,
        devices=1,
        seed=0,
        epochs=epochs,
        epoch_examples=taken,
        rate=recipe.RATES[norm],
        parallelism="jit",
    )
    task = training.Classification(dataset, recipe.shallow, norm)
    states: list[Any] = []
    with tempfile.TemporaryDirectory() as folder:
        training.train(
            config,
            training.Program(task, config),
            pathlib.Path(folder),
            at_end=states.append,
        )
    return task, jax.device_get(states[0])


def _gradients(
    task: training.Classification, state: Any, orders: list[np.ndarray], batch: int
) -> list[np.ndarray]:
    """For each order, the mean gradient over batches, as one vector in float64."""

    def gradient(params: Any, part: Batch) -> jax.Array:
        loss = lambda p: task.loss(p, state.stats, part)[0]  # noqa: E731
        return ravel_pytree(jax.grad(loss)(params))[0]

    @jax.jit
    def mean(params: Any, parts: Batch) -> jax.Array:
        def add(total: jax.Array, part: Batch) -> tuple[jax.Array, None]:
            return total + gradient(params, part), None

        count = len(parts.labels)
        size = sum(leaf.size for leaf in jax.tree.leaves(params))
        total, _ = jax.lax.scan(add, jnp.zeros(size), parts)
        return total / count

    found = []
    for order in orders:
        images, labels = task.dataset.train_images, task.dataset.train_labels
        parts = Batch(
            images[order].reshape(-1, batch, *images.shape[1:]),
            labels[order].reshape(-1, batch),
        )
        found.append(np.asarray(mean(state.params, parts), np.float64))
    return found
