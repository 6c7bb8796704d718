import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmark import contenders, steps


def tiny(norm, dtype):
    """A network with norms, small enough to compile many times."""
    norm = functools.partial(norm, num_groups=2)
    keys = jax.random.split(jax.random.key(0))
    x = jax.random.normal(keys[0], (2, 4, 4, 8))
    embedding = jax.random.normal(keys[1], (2, 6))
    block = steps.UNetBlock(norm=norm, dtype=dtype)
    return block, (x, embedding), lambda y: jnp.mean(jnp.square(y), dtype=jnp.float32)


@pytest.fixture
def network(monkeypatch):
    monkeypatch.setitem(steps.NETWORKS, "tiny", tiny)
    return "tiny"


def test_the_swapped_norms_compute_the_same_step(network):
    values = {}
    for name in ("flax_gn xla", "flax.linen", "haiku"):
        step, arguments = steps._step(network, name, "float32")
        values[name] = jax.jit(step)(*arguments)
    for other in ("flax.linen", "haiku"):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
            values["flax_gn xla"],
            values[other],
        )


def test_every_contender_is_timed_and_the_floors_of_layers_are_left_out(network):
    results = steps.case(network, "float32", list(contenders.ALL), seconds=0)
    errors = {result.contender: result.error for result in results if result.error}
    assert not errors
    names = [result.contender for result in results]
    assert "scale and shift" in names
    assert not {"copy", "two passes"} & set(names)
    assert all((result.seconds or 0) > 0 for result in results)
    (linen,) = (r for r in results if r.contender == "flax.linen")
    assert linen.times_linen == 1


def test_flax_gn_keeps_less_for_the_backward_pass_than_flax(network):
    with jax.numpy_dtype_promotion("standard"):  # flax.linen relies on it
        results = steps.case(
            network, "bfloat16", ["flax_gn xla", "flax.linen"], seconds=0
        )
    kept = {result.contender: result.kept or 0 for result in results}
    assert 0 < kept["flax_gn xla"] < 0.6 * kept["flax.linen"]


def test_the_unet_block_keeps_its_shape_and_uses_both_inputs():
    norm = functools.partial(steps.SwappedNorm, "flax_gn xla", num_groups=2)
    block = steps.UNetBlock(norm=norm, dtype=jnp.float32)
    x = jax.random.normal(jax.random.key(0), (2, 4, 4, 8))
    embedding = jax.random.normal(jax.random.key(1), (2, 6))
    y, variables = block.init_with_output(jax.random.key(2), (x, embedding))
    assert y.shape == x.shape
    other: Any = block.apply(variables, (x, -embedding))
    assert not np.allclose(y, other)


def test_a_contender_that_fails_is_reported_and_the_others_are_timed(
    network, monkeypatch
):
    def broken(layer):
        raise RuntimeError(f"no kernel for {layer.groups} groups")

    failing = contenders.Contender("broken", broken)
    monkeypatch.setitem(contenders.ALL, "broken", failing)
    results = steps.case(network, "float32", ["broken", "flax.linen"], seconds=0)
    assert results[0].error == "RuntimeError: no kernel for 2 groups"
    assert results[0].seconds is None
    assert results[1].seconds is not None
