"""The linen layers: Flax's arguments, parameters and numbers.

That linen and nnx agree bit for bit is held in test_nnx.py.
"""

import dataclasses
import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import linen as nn

from flax_gn import linen as layers
from tests.variables import SHAPE, random, randomized

OPTIONS: dict[str, dict[str, Any]] = {
    "two_groups": {"num_groups": 2},
    "group_size": {"num_groups": None, "group_size": 4},
    "epsilon": {"num_groups": 2, "epsilon": 0.5},
    "no_bias": {"num_groups": 2, "use_bias": False},
    "no_scale": {"num_groups": 2, "use_scale": False},
    "no_affine": {"num_groups": 2, "use_bias": False, "use_scale": False},
    "initialisers": {
        "num_groups": 2,
        "scale_init": nn.initializers.normal(),
        "bias_init": nn.initializers.constant(3.0),
    },
    "bfloat16": {"num_groups": 2, "dtype": jnp.bfloat16},
    "bfloat16_parameters": {"num_groups": 2, "param_dtype": jnp.bfloat16},
    "slow_variance": {"num_groups": 2, "use_fast_variance": False},
    "narrow_reductions": {"num_groups": 2, "force_float32_reductions": False},
    "channel_alone": {"num_groups": 2, "reduction_axes": -1},
    "last_axes": {"num_groups": 2, "reduction_axes": (2, 3)},
    "whole_batch": {"num_groups": 2, "reduction_axes": [0, 1, 2, 3]},
}

over_options = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


def pair(options) -> tuple[Any, Any]:
    return layers.GroupNorm(**options), nn.GroupNorm(**options)


def test_constructor_has_every_argument_of_flax_with_its_default():
    ours, flax = (
        {f.name: (f.type, f.default) for f in dataclasses.fields(cls)}
        for cls in (layers.GroupNorm, nn.GroupNorm)
    )
    for name, (_, default) in flax.items():
        assert ours[name][1] is default or ours[name][1] == default, name
    assert list(ours)[: len(flax) - 2] == list(flax)[:-2]  # then parent and name
    assert set(ours) - set(flax) == {"activation", "implementation"}


def test_call_has_every_argument_of_flax():
    ours, flax = (
        inspect.signature(cls.__call__).parameters
        for cls in (layers.GroupNorm, nn.GroupNorm)
    )
    for name, theirs in flax.items():
        assert (ours[name].kind, ours[name].default) == (theirs.kind, theirs.default)


@over_options
@jax.numpy_dtype_promotion("standard")  # Flax promotes x and the parameters
def test_parameter_tree_is_flaxs(options):
    ours, flax = (
        jax.eval_shape(lambda f=f: f.init(jax.random.key(0), random()))
        for f in pair(options)
    )
    assert ours == flax  # names, shapes and dtypes


@jax.numpy_dtype_promotion("standard")
def test_initial_values_are_flaxs():
    options = OPTIONS["initialisers"] | {"param_dtype": jnp.bfloat16}
    ours, flax = (jax.jit(f.init)(jax.random.key(3), random()) for f in pair(options))
    jax.tree.map(np.testing.assert_array_equal, ours, flax)
    assert ours["params"]["scale"].std() > 0


@over_options
@jax.numpy_dtype_promotion("standard")
def test_output_and_gradients_are_flaxs(options):
    ours, flax = pair(options)
    variables, dy = randomized(ours, random()), random(seed=9)

    @jax.jit
    def run(variables, x):
        def pull(layer):
            y, pullback = jax.vjp(layer.apply, variables, x)
            return y, pullback(dy.astype(y.dtype))

        return pull(ours), pull(flax)

    mine, theirs = run(variables, random())
    assert jax.tree.structure(mine) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(theirs), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        rounding = 2**-7 if a.dtype == jnp.bfloat16 else 0  # to either neighbour
        a, b = (np.asarray(v, np.float32) for v in (a, b))
        np.testing.assert_allclose(a, b, rtol=rounding, atol=5e-6 * np.abs(b).max())


@pytest.mark.parametrize("shape", [(5, 8), (3, 7, 8), (2, 2, 3, 2, 8)], ids=str)
def test_ranks(shape):
    ours, flax = pair({"num_groups": 2})
    variables = randomized(ours, random(shape))
    np.testing.assert_allclose(
        *(jax.jit(f.apply)(variables, random(shape)) for f in (ours, flax)), atol=1e-5
    )


@pytest.mark.parametrize("dtype", [None, "bfloat16", "float32"])
@pytest.mark.parametrize("x_dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("param_dtype", ["bfloat16", "float32"])
@jax.numpy_dtype_promotion("standard")
def test_output_dtype_is_flaxs(dtype, x_dtype, param_dtype):
    options = {"num_groups": 2, "dtype": dtype, "param_dtype": param_dtype}
    x = jax.ShapeDtypeStruct(SHAPE, x_dtype)
    ours, flax = (
        jax.eval_shape(f.init_with_output, jax.random.key(0), x)[0]
        for f in pair(options)
    )
    assert ours.dtype == flax.dtype


@jax.numpy_dtype_promotion("standard")
def test_bfloat16_becomes_float32_unless_the_dtype_is_named():
    x = random(dtype=jnp.bfloat16)
    layer = layers.GroupNorm(2)
    variables = randomized(layer, x)
    promoted: Any = layer.apply(variables, x)
    kept: Any = layer.clone(dtype=jnp.bfloat16).apply(variables, x)
    assert (promoted.dtype, kept.dtype) == (jnp.float32, jnp.bfloat16)
    np.testing.assert_array_equal(kept, promoted.astype(jnp.bfloat16))  # rounded once


@pytest.mark.parametrize("ours_saves", [True, False])
def test_orbax_checkpoint_swaps_with_flax(ours_saves, tmp_path):
    source, target = pair({"num_groups": 2})[:: 1 if ours_saves else -1]
    x = random()
    saved = randomized(source, x)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "norm", saved)
        checkpointer.wait_until_finished()
        abstract = jax.eval_shape(lambda: target.init(jax.random.key(5), x))
        restored = checkpointer.restore(tmp_path / "norm", abstract)
    jax.tree.map(np.testing.assert_array_equal, restored, saved)
    np.testing.assert_allclose(
        target.apply(restored, x), source.apply(saved, x), atol=1e-5
    )


def test_full_mask_is_flaxs_where_it_keeps():
    mask = np.random.default_rng(0).random(SHAPE) < 0.6
    ours, flax = pair({"num_groups": 2})
    variables = randomized(ours, random())
    mine: Any = ours.apply(variables, random(), mask=jnp.asarray(mask))
    theirs: Any = flax.apply(variables, random(), mask=jnp.asarray(mask))
    np.testing.assert_allclose(mine[mask], theirs[mask], atol=1e-5)
    bias = np.broadcast_to(variables["params"]["bias"], SHAPE)
    np.testing.assert_array_equal(mine[~mask], bias[~mask])


@pytest.mark.parametrize("index_groups", [None, [[0, 1], [2, 3]]], ids=["all", "pairs"])
def test_axis_name_under_pmap_is_flaxs(index_groups):
    parts = random((4, 2, 3, 8)) + jnp.arange(4.0)[:, None, None, None]
    options = {
        "num_groups": 2,
        "axis_name": "space",
        "axis_index_groups": index_groups,
        "use_fast_variance": False,
    }
    variables = randomized(nn.GroupNorm(2), parts[0])
    mine, flax = (
        jax.pmap(f.apply, "space", in_axes=(None, 0), devices=jax.devices()[:4])(
            variables, parts
        )
        for f in pair(options)
    )
    np.testing.assert_allclose(mine, flax, atol=1e-5)
