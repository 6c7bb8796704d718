"""Batch norm of ghost batches, held against Flax's batch norm of each."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.training.norms import GHOSTS, NORMS


@pytest.fixture
def x():
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(2, 3, (8, 3, 5, 4)), jnp.float32)


def _applied(name, x, variables=None, *, training=True):
    norm = NORMS[name](training)()
    variables = variables or norm.init(jax.random.key(0), x[:1])
    return norm.apply(variables, x, mutable=["batch_stats"])


@pytest.mark.parametrize("size", [size for size in GHOSTS if size < 16])
def test_ghost_batches_are_normalised_each_by_itself(x, size):
    y, found = _applied(f"ghost{size}", x)
    parts = [_applied("bn", part) for part in jnp.split(x, len(x) // size)]
    expected = jnp.concatenate([part for part, _ in parts])
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    average = jax.tree.map(lambda *a: sum(a) / len(a), *(stats for _, stats in parts))
    chex.assert_trees_all_close(found, average, rtol=1e-5)


def test_evaluation_uses_the_running_averages(x):
    _, found = _applied("ghost2", x)
    params = {"scale": jnp.arange(1.0, 5), "bias": jnp.ones(4)}
    variables = {"params": params, **found}
    ours, _ = _applied("ghost2", x[:3], variables, training=False)
    flax, _ = _applied("bn", x[:3], variables, training=False)
    np.testing.assert_allclose(ours, flax, rtol=1e-5, atol=1e-5)
