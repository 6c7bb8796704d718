"""Activations that are objects: fused, applied by the layer, or refused."""

import functools
from typing import Any

import equinox
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import flax_gn
from flax_gn import linen as linen_layers
from flax_gn import nnx as nnx_layers
from flax_gn._xla import _op
from tests.variables import random, randomized


def scaled(slope, z):
    return jnp.where(z > 0, z, slope * z)


def in_nnx(activation, make: Any = nnx_layers.GroupNorm, **options) -> Any:
    if make is nnx_layers.GroupNorm:
        options["num_groups"] = 2
    return make(8, activation=activation, rngs=nnx.Rngs(0), **options)


# nnx: state of the layer.


@pytest.mark.parametrize("make", [nnx_layers.GroupNorm, nnx_layers.InstanceNorm])
def test_the_slope_of_an_nnx_module_is_state_that_shows(make):
    layer, plain = in_nnx(nnx.PReLU(0.25), make), in_nnx(None, make)
    assert set(nnx.to_pure_dict(nnx.state(layer))) == {"scale", "bias", "activation"}
    compiled = nnx.jit(lambda layer, x: layer(x))
    for slope in (0.25, -3.0, 7.0):
        layer.activation.negative_slope[...] = jnp.float32(slope)
        expected = scaled(slope, plain(random()))
        np.testing.assert_allclose(layer(random()), expected, atol=1e-6)
        np.testing.assert_allclose(compiled(layer, random()), expected, atol=2e-5)


def test_the_slope_of_an_nnx_module_has_a_gradient():
    layer, plain = in_nnx(nnx.PReLU(0.25)), in_nnx(None)

    def by_hand(scale, slope):
        z = flax_gn.group_norm(random(), scale, groups=2, eps=1e-6)
        return (scaled(slope, z) ** 2).sum()

    got = nnx.grad(lambda layer: (layer(random()) ** 2).sum())(layer)
    want = jax.grad(by_hand, (0, 1))(plain.scale[...], jnp.float32(0.25))
    np.testing.assert_allclose(got["scale"][...], want[0], rtol=1e-4)
    slope = got["activation"]["negative_slope"][...]
    np.testing.assert_allclose(slope, want[1], rtol=1e-4)


def test_an_nnx_module_survives_split_and_merge():
    layer = in_nnx(nnx.PReLU(0.25))
    layer.activation.negative_slope[...] = jnp.float32(-2.0)
    merged: Any = nnx.merge(*nnx.split(layer))
    np.testing.assert_array_equal(merged(random()), layer(random()))


# linen: a submodule.


def test_a_linen_module_is_a_submodule_with_its_parameters():
    layer: Any = linen_layers.GroupNorm(2, activation=nn.PReLU())
    variables = randomized(layer, random())
    assert jax.tree.map(jnp.shape, variables["params"]) == {
        "scale": (8,),
        "bias": (8,),
        "activation": {"negative_slope": ()},
    }
    norm = {k: v for k, v in variables["params"].items() if k != "activation"}

    def composed(params, slope):
        z: Any = linen_layers.GroupNorm(2).apply({"params": params}, random())
        return scaled(slope, z)

    slope = variables["params"]["activation"]["negative_slope"]
    np.testing.assert_allclose(
        layer.apply(variables, random()), composed(norm, slope), atol=1e-6
    )
    got = jax.grad(lambda v: (layer.apply(v, random()) ** 2).sum())(variables)
    want = jax.grad(lambda *a: (composed(*a) ** 2).sum(), (0, 1))(norm, slope)
    got = dict(got["params"])
    np.testing.assert_allclose(got.pop("activation")["negative_slope"], want[1], 1e-4)
    for name, gradient in got.items():
        np.testing.assert_allclose(gradient, want[0][name], rtol=1e-4, atol=1e-4)


def test_a_linen_module_made_within_another_belongs_to_that_one_as_ever():
    class Ours(nn.Module):
        @nn.compact
        def __call__(self, x):
            return linen_layers.GroupNorm(2, activation=nn.PReLU())(x)

    class Composed(nn.Module):
        @nn.compact
        def __call__(self, x):
            norm, activation = nn.GroupNorm(2), nn.PReLU()
            return activation(norm(x))

    ours, composed = (
        jax.eval_shape(m.init, jax.random.key(0), random())
        for m in (Ours(), Composed())
    )
    assert ours == composed  # a checkpoint of the one is one of the other


# What closes over values.


def test_a_lambda_over_a_traced_slope_is_applied_by_the_layer():
    layer = in_nnx(None)

    @jax.jit
    def both(slope):
        def ours(slope):
            twin = linen_layers.GroupNorm(2, activation=lambda z: scaled(slope, z))
            variables = {"params": nnx.to_pure_dict(nnx.state(layer))}
            y: Any = twin.apply(variables, random())
            return (y**2).sum()

        def theirs(slope):
            return (scaled(slope, layer(random())) ** 2).sum()

        return jax.value_and_grad(ours)(slope), jax.value_and_grad(theirs)(slope)

    ours, theirs = both(0.25)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def _method():
    class Holder:
        def __init__(self):
            self.slope = jnp.float32(0.1)

        def apply(self, z):
            return scaled(self.slope, z)

    return Holder().apply


SLOPE = jnp.float32(0.1)
HOLDERS = {
    "closure": (lambda slope: lambda z: scaled(slope, z))(jnp.float32(0.1)),
    "numpy closure": (lambda s: lambda z: scaled(s, z))(
        np.full((1, 1, 1, 1), 0.1, np.float32)
    ),
    "default": lambda z, slope=SLOPE: scaled(slope, z),
    "global": lambda z: scaled(SLOPE, z),
    "partial": functools.partial(scaled, jnp.float32(0.1)),
    "keyword": functools.partial(lambda z, slope: scaled(slope, z), slope=SLOPE),
    "list": (lambda held: lambda z: scaled(held[0], z))([jnp.float32(0.1)]),
    "method": _method(),
    "jitted": jax.jit((lambda s: lambda z: scaled(s, z))(jnp.float32(0.1))),
    "variable": (lambda s: lambda z: scaled(s[...], z))(nnx.Param(jnp.float32(0.1))),
    "nnx module": nnx.PReLU(0.1),
    "lambda over a module": (lambda act: lambda z: act(z))(nnx.PReLU(0.1)),
    "method of a module": nnx.PReLU(0.1).__call__,
    "nnx sequence": nnx.Sequential(nnx.PReLU(0.1), lambda z: z),
    "equinox module": equinox.nn.PReLU(0.1),
    "unbound linen module": nn.PReLU(negative_slope_init=0.1),
}


@pytest.mark.parametrize("name", HOLDERS)
def test_the_function_refuses_what_holds_arrays_and_names_the_way_out(name):
    with pytest.raises(ValueError, match=r"^layer_norm: activation must hold no array"):
        flax_gn.layer_norm(random(), activation=HOLDERS[name])
    with pytest.raises(
        ValueError, match=r"Apply it to the result, or give it to a lay"
    ):
        jax.jit(lambda x: flax_gn.layer_norm(x, activation=HOLDERS[name]))(random())


@pytest.mark.parametrize("name", HOLDERS)
def test_the_layers_apply_what_holds_arrays(name):
    plain = in_nnx(None)
    expected = scaled(0.1, plain(random()))
    layer: Any = linen_layers.GroupNorm(2, activation=HOLDERS[name])
    y, _ = layer.init_with_output(jax.random.key(0), random())
    np.testing.assert_allclose(y, expected, atol=1e-6)
    if isinstance(HOLDERS[name], nn.Module):
        return  # of the other library
    np.testing.assert_allclose(in_nnx(HOLDERS[name])(random()), expected, atol=1e-6)


def test_the_result_of_a_module_is_held_to_the_contract_and_to_the_dtype():
    with pytest.raises(
        ValueError, match=r"activation must be elementwise.*\[2,4,4,1\]"
    ):
        in_nnx(nnx.Linear(8, 1, rngs=nnx.Rngs(0)))(random())
    layer = in_nnx(nnx.PReLU(dtype=jnp.float32), dtype=jnp.bfloat16)
    assert layer(random()).dtype == jnp.bfloat16


# Plain functions are fused, and compiled once.

PLAIN = {
    "relu": jax.nn.relu,
    "silu": nn.silu,
    "gelu": nnx.gelu,
    "tanh": jnp.tanh,
    "lax": jax.lax.logistic,
    "jitted": jax.jit(lambda z: 2 * z),
    "closure over a number": (lambda slope: lambda z: scaled(slope, z))(0.1),
    "numpy number": functools.partial(scaled, np.float32(0.1)),
    "partial": functools.partial(jax.nn.leaky_relu, negative_slope=0.1),
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_functions_are_fused(name):
    """The derivative keeps x, and no argument of the activation."""
    layer = in_nnx(PLAIN[name])
    _, pullback = jax.vjp(layer, random())
    kept = [leaf for leaf in jax.tree.leaves(pullback) if leaf.size == random().size]
    assert len(kept) == 1
    np.testing.assert_allclose(
        layer(random()), PLAIN[name](in_nnx(None)(random())), atol=1e-6
    )


def _compiled() -> int:
    jitted: Any = _op._jitted
    return jitted._cache_size()


def test_equal_partials_are_compiled_once():
    def call(function, *args, **keywords):
        given = functools.partial(function, *args, **keywords)
        return flax_gn.group_norm(random(), groups=2, activation=given)

    leaky = jax.nn.leaky_relu
    y = call(leaky, negative_slope=0.125)
    before = _compiled()
    for _ in range(3):
        call(leaky, negative_slope=0.125)
    in_nnx(functools.partial(leaky, negative_slope=0.125), epsilon=1e-5)
    assert _compiled() == before
    np.testing.assert_allclose(
        y, leaky(flax_gn.group_norm(random(), groups=2), 0.125), atol=1e-6
    )
    other = call(leaky, negative_slope=0.5)
    assert np.abs(other - y).max() > 0.1


def test_partials_over_one_and_over_true_are_two():
    def power(n, z):
        return z if isinstance(n, bool) else 0 * z + n

    ones, same = (
        flax_gn.group_norm(random(), groups=2, activation=functools.partial(power, n))
        for n in (1, True)
    )
    np.testing.assert_array_equal(ones, 1)
    np.testing.assert_array_equal(same, flax_gn.group_norm(random(), groups=2))
