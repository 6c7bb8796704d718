"""What Flax's layers take, ours take with the same meaning: side by side with Flax."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import flax_gn
from flax_gn import linen as linen_layers
from flax_gn import nnx as nnx_layers
from tests import oracle
from tests.cases import IMPLEMENTATIONS
from tests.variables import SHAPE, apply, random, randomized

EXACT: dict[str, Any] = {"use_fast_variance": False}


def in_nnx(make: Any, channels, *args, variables=None, **options) -> Any:
    """An nnx layer with the parameters of a linen layer."""
    layer = make(channels, *args, rngs=nnx.Rngs(0), **options)
    if variables is not None:
        params = variables.get("params", {})
        nnx.update(layer, {name: value.reshape(-1) for name, value in params.items()})
    return layer


# Types and the things that go by type.


@pytest.mark.parametrize("name", ["GroupNorm", "InstanceNorm", "BatchNorm"])
@pytest.mark.parametrize(
    ("ours", "flaxs"), [(linen_layers, nn), (nnx_layers, nnx)], ids=["linen", "nnx"]
)
def test_layers_are_flaxs_by_type(ours, flaxs, name):
    assert issubclass(getattr(ours, name), getattr(flaxs, name))


def test_layer_norm_is_not_flaxs():
    assert not issubclass(linen_layers.LayerNorm, nn.LayerNorm)
    assert not issubclass(nnx_layers.LayerNorm, nnx.LayerNorm)
    for ours in (linen_layers, nnx_layers):
        first, *_ = (ours.LayerNorm.__doc__ or "").splitlines()
        assert "another norm than `flax." in first


def test_an_interceptor_by_flaxs_type_reaches_it():
    layer = linen_layers.GroupNorm(2)
    variables, seen = randomized(layer, random()), []

    def intercept(call, args, kwargs, context):
        if isinstance(context.module, nn.GroupNorm):
            seen.append(context.method_name)
            return 2 * call(*args, **kwargs)
        return call(*args, **kwargs)

    plain: Any = layer.apply(variables, random())
    with nn.intercept_methods(intercept):
        doubled: Any = layer.apply(variables, random())
    assert seen == ["__call__"]
    np.testing.assert_array_equal(doubled, 2 * plain)


def test_map_variables_and_clone_reach_its_parameters():
    layer = linen_layers.GroupNorm(2, activation="silu")
    variables = randomized(layer, random())
    negated: Any = nn.map_variables(
        linen_layers.GroupNorm,
        "params",
        lambda params: jax.tree.map(jnp.negative, params),
        init=False,
    )(2, activation="silu")
    opposite = jax.tree.map(jnp.negative, variables)
    np.testing.assert_array_equal(
        negated.apply(variables, random()), layer.apply(opposite, random())
    )
    twin = layer.clone(num_groups=4)
    assert (type(twin), twin.num_groups) == (linen_layers.GroupNorm, 4)
    assert twin.activation == "silu"


# Groups.


@pytest.mark.parametrize("size", [1, 2, 8])
def test_a_group_size_needs_no_word_about_the_default_groups(size):
    layer = linen_layers.GroupNorm(group_size=size)
    variables = randomized(layer, random())
    flax = nn.GroupNorm(None, group_size=size, **EXACT)
    expected = apply(flax, variables, random())
    np.testing.assert_allclose(apply(layer, variables, random()), expected, atol=5e-6)
    twin = in_nnx(nnx_layers.GroupNorm, 8, group_size=size, variables=variables)
    assert (twin.num_groups, twin.group_size) == (8 // size, size)
    np.testing.assert_allclose(twin(random()), expected, atol=5e-6)


def test_groups_and_a_group_size_that_were_both_given_are_refused_as_in_flax():
    with pytest.raises(ValueError, match="specified"):
        nn.GroupNorm(2, group_size=4).init(jax.random.key(0), random())
    with pytest.raises(
        ValueError, match=r"^GroupNorm: give either num_groups or group"
    ):
        linen_layers.GroupNorm(2, group_size=4).init(jax.random.key(0), random())
    with pytest.raises(
        ValueError, match=r"^GroupNorm: give either num_groups or group"
    ):
        nnx_layers.GroupNorm(8, 2, 4, rngs=nnx.Rngs(0))


# Mapped axes that are not there yet.


@pytest.mark.parametrize("name", ["GroupNorm", "InstanceNorm"])
def test_initialises_outside_of_its_mapped_axis_as_flaxs_batch_norm(name):
    options = {"num_groups": 2} if name == "GroupNorm" else {}
    layer = getattr(linen_layers, name)(axis_name="i", **options)
    flax = nn.BatchNorm(use_running_average=False, axis_name="i")
    ours, flaxs = (f.init(jax.random.key(0), random()) for f in (layer, flax))
    assert jax.tree.map(jnp.shape, ours["params"]) == jax.tree.map(
        jnp.shape, flaxs["params"]
    )
    with pytest.raises(ValueError, match=f"^{name}: axis_name must be the name"):
        layer.apply(ours, random())
    parts = random((2, *SHAPE))
    y = jax.vmap(lambda x: layer.apply(ours, x), axis_name="i")(parts)
    whole = jnp.concatenate(list(parts), 1)
    expected = apply(getattr(linen_layers, name)(**options), ours, whole)
    np.testing.assert_allclose(jnp.concatenate(list(y), 1), expected, atol=2e-6)


# What x may be.


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.int64, bool])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dtype": "bfloat16"},
        {"param_dtype": "bfloat16"},
        {"use_scale": False, "use_bias": False},
    ],
    ids=["plain", "bfloat16", "bfloat16_parameters", "no_parameters"],
)
def test_integers_are_normalised_as_flax_does(options, dtype):
    most = 2 if dtype is bool else min(np.iinfo(dtype).max, 30_000)  # beyond bfloat16
    x = np.random.default_rng(0).integers(0, most, SHAPE).astype(dtype)
    layer = linen_layers.GroupNorm(2, **options)
    variables = randomized(layer, x)
    with jax.numpy_dtype_promotion("standard"):
        expected = apply(nn.GroupNorm(2, **EXACT, **options), variables, x)
    y = apply(layer, variables, x)
    twin = in_nnx(nnx_layers.GroupNorm, 8, 2, variables=variables, **options)(x)
    assert y.dtype == twin.dtype == expected.dtype
    rounding = 2.0**-7 if y.dtype == jnp.bfloat16 else 1e-6
    y, twin, expected = (np.asarray(v, np.float32) for v in (y, twin, expected))
    np.testing.assert_allclose(y, expected, rtol=rounding, atol=5e-6)
    np.testing.assert_array_equal(y, twin)


def test_instance_norm_takes_images_of_bytes():
    x = np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)
    with jax.numpy_dtype_promotion("standard"):
        flax = nn.InstanceNorm(use_scale=False, use_bias=False, **EXACT)
        expected = apply(flax, {}, x)
    y = apply(linen_layers.InstanceNorm(use_scale=False, use_bias=False), {}, x)
    np.testing.assert_allclose(y, expected, atol=5e-6)
    np.testing.assert_array_equal(in_nnx(nnx_layers.InstanceNorm, 8)(x), y)


def test_complex_numbers_are_refused_without_the_advice_to_cast():
    for call in (
        lambda x: linen_layers.GroupNorm(2).init(jax.random.key(0), x),
        in_nnx(nnx_layers.GroupNorm, 8, 2),
        lambda x: flax_gn.group_norm(x, groups=2),
    ):
        with pytest.raises(TypeError, match="complex64") as raised:
            call(random().astype("complex64"))
        assert "Cast" not in str(raised.value)
        assert "asarray" not in str(raised.value)


@pytest.mark.parametrize("dtype", [">f4", ">f8"])
@pytest.mark.parametrize("which", ["linen", "nnx"])
def test_floats_that_jax_does_not_hold_are_refused_in_the_words_of_the_layer(
    which, dtype
):
    layer = in_nnx(nnx_layers.GroupNorm, SHAPE[-1], 2)
    if which == "linen":
        layer = functools.partial(linen_layers.GroupNorm(2).init, jax.random.key(0))
    with pytest.raises(TypeError, match=r"^GroupNorm: x must be floating-point"):
        layer(np.ones(SHAPE, dtype))


@pytest.mark.parametrize("axes", [np.array([1, -1]), {1, len(SHAPE) - 1}])
def test_reduction_axes_are_all_that_flax_iterates(axes):
    variables, x = randomized(linen_layers.GroupNorm(2), random()), random()
    flaxs = nn.GroupNorm(2, reduction_axes=axes, use_fast_variance=False)
    expected = apply(flaxs, variables, x)
    ours = apply(linen_layers.GroupNorm(2, reduction_axes=axes), variables, x)
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    layer = in_nnx(
        nnx_layers.GroupNorm, SHAPE[-1], 2, variables=variables, reduction_axes=axes
    )
    np.testing.assert_array_equal(layer(x), ours)


def test_one_vector_is_normalised_as_flax_linen_does():
    layer, flax = linen_layers.GroupNorm(2), nn.GroupNorm(2, **EXACT)
    x, y = random((8,)), random((3, 8))
    variables = randomized(layer, x)
    np.testing.assert_allclose(
        apply(layer, variables, x), apply(flax, variables, x), atol=2e-6
    )
    mapped, flaxs = (
        jax.jit(jax.vmap(functools.partial(f.apply, variables)))(y)
        for f in (layer, flax)
    )
    np.testing.assert_allclose(mapped, flaxs, atol=2e-6)
    twin = in_nnx(nnx_layers.GroupNorm, 8, 2, variables=variables)
    np.testing.assert_allclose(jax.vmap(twin)(y), flaxs, atol=2e-6)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_one_vector_is_a_batch_of_one(implementation):
    x, gamma, beta = random((8,)), random((8,), 1), random((8,), 2)
    mask = jnp.arange(8) != 3

    def pull(x):
        def f(x, gamma, beta):
            return flax_gn.group_norm(
                x,
                gamma,
                beta,
                2,
                mask=mask,
                activation="silu",
                implementation=implementation,
            )

        y, pullback = jax.vjp(f, x, gamma, beta)
        return y, *pullback(y)

    one, batch = pull(x), pull(x[None])
    for a, b in zip(one, batch, strict=True):
        np.testing.assert_allclose(a, b.reshape(a.shape), atol=2e-6)
    mean, var = flax_gn.group_stats(x, 2, implementation=implementation)
    assert mean.shape == var.shape == (2,)
    np.testing.assert_allclose(mean, x.reshape(2, 4).mean(-1), atol=1e-6)


# dtype.


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_wider_result_has_wider_statistics(implementation, masked):
    with jax.enable_x64(True):
        x, mask = random() + 3, random(seed=5) > -1 if masked else None
        f = functools.partial(
            flax_gn.group_norm,
            groups=2,
            mask=mask,
            dtype=jnp.float64,
            implementation=implementation,
        )
        y, pullback = jax.vjp(f, x)
        (dx,) = pullback(jnp.cos(y))
        wide, wide_pullback = jax.vjp(f, x.astype(jnp.float64))
        (wide_dx,) = wide_pullback(jnp.cos(y))
        exact = oracle.group_norm(np.asarray(x), None, None, 2, mask=mask)
    assert (y.dtype, dx.dtype) == (jnp.float64, jnp.float32)
    np.testing.assert_allclose(y, exact.y, rtol=0, atol=1e-14)
    np.testing.assert_allclose(y, wide, rtol=0, atol=1e-14)
    np.testing.assert_allclose(dx, wide_dx, rtol=2e-7, atol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
@jax.numpy_dtype_promotion("standard")
def test_a_layer_with_dtype_float64_is_as_exact_as_flaxs(dtype):
    with jax.enable_x64(True):
        x = np.asarray(100 * random()).astype(dtype)
        options: dict[str, Any] = {"num_groups": 2, "dtype": jnp.float64}
        flax = nn.GroupNorm(**options, **EXACT)
        variables = randomized(flax, x)
        expected = apply(flax, variables, x)
        y = apply(linen_layers.GroupNorm(**options), variables, x)
        twin = in_nnx(nnx_layers.GroupNorm, 8, variables=variables, **options)(x)
    assert y.dtype == twin.dtype == jnp.float64
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-13)
    np.testing.assert_array_equal(y, twin)


# epsilon.


def test_no_epsilon_is_flaxs_no_epsilon():
    variables = randomized(nn.GroupNorm(2), random())
    x = random().at[0].set(3.0)  # a constant: 0 / 0
    expected = apply(nn.GroupNorm(2, epsilon=0.0, **EXACT), variables, x)
    y = apply(linen_layers.GroupNorm(2, epsilon=0.0), variables, x)
    twin = in_nnx(nnx_layers.GroupNorm, 8, 2, epsilon=0.0, variables=variables)
    np.testing.assert_allclose(y, expected, atol=1e-5)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
    np.testing.assert_array_equal(twin(x), y)


# Shapes of parameters and of conditioning.


@pytest.mark.parametrize("lead", [(1,), (1, 1), (1, 1, 1), (1, 1, 1, 1)], ids=str)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_gamma_and_beta_may_have_axes_of_size_one(lead, implementation):
    gamma, beta = random((8,), 1), random((8,), 2)
    f = functools.partial(
        flax_gn.group_norm, random(), groups=2, implementation=implementation
    )
    expected = f(gamma, beta)
    spread = gamma.reshape(*lead, 8), beta.reshape(*lead, 8)
    np.testing.assert_array_equal(f(*spread), expected)
    _, pullback = jax.vjp(f, *spread)
    for gradient, parameter in zip(pullback(expected), spread, strict=True):
        assert gradient.shape == parameter.shape


@pytest.mark.parametrize("shape", [(2, 8), (2, 1, 1, 8), (1, 8), (1, 1, 1, 8)], ids=str)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_gamma_per_sample_may_too(shape, implementation):
    gamma, beta = random(shape, 1), random(shape, 2)
    full = [np.broadcast_to(p.reshape(-1, 8), (2, 8)) for p in (gamma, beta)]
    f = functools.partial(
        flax_gn.group_norm, random(), groups=2, implementation=implementation
    )
    np.testing.assert_allclose(f(gamma, beta), f(*full), atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 3, 8), (1, 3, 8), (2, 1, 8), (1, 3, 1, 1, 8)])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_gamma_may_vary_along_some_of_the_kept_axes(shape, implementation):
    x, dy = random((2, 3, 4, 4, 8)), random((2, 3, 4, 4, 8), 9)
    gamma = random(shape, 1)
    f = functools.partial(
        flax_gn.group_norm,
        groups=2,
        reduction_axes=(2, 3, 4),
        implementation=implementation,
    )
    rows = gamma.reshape(*shape[:2], 8)
    y, pullback = jax.vjp(lambda g: f(x, g), gamma)
    want, of_rows = jax.vjp(lambda g: f(x) * g[:, :, None, None], rows)
    np.testing.assert_allclose(y, want, atol=2e-6)
    np.testing.assert_allclose(
        pullback(dy)[0].reshape(rows.shape), of_rows(dy)[0], rtol=1e-5, atol=1e-4
    )


@pytest.mark.parametrize("lead", [(1,), (1, 1, 1)], ids=str)
def test_checkpoints_may_hold_parameters_with_axes_of_size_one(lead):
    """As before linen, in old big_vision checkpoints, and in score_sde."""
    layer = linen_layers.GroupNorm(2)
    variables = randomized(layer, random())
    stored = jax.tree.map(lambda p: p.reshape(*lead, 8), variables)
    expected = apply(layer, variables, random())
    np.testing.assert_array_equal(apply(layer, stored, random()), expected)
    twin: Any = in_nnx(nnx_layers.GroupNorm, 8, 2)
    nnx.update(twin, stored["params"])
    np.testing.assert_array_equal(twin(random()), expected)
    gradient = jax.grad(lambda v: (apply(layer, v, random()) ** 2).sum())(stored)
    assert gradient["params"]["scale"].shape == (*lead, 8)
    boxed = jax.tree.map(lambda p: nn.Partitioned(p, (None,) * p.ndim), stored)
    np.testing.assert_array_equal(apply(layer, boxed, random()), expected)


def test_parameters_of_another_size_are_refused_as_in_flax():
    wrong = {"params": {"scale": jnp.ones((1, 4)), "bias": jnp.ones((1, 4))}}
    with pytest.raises(Exception, match=r"\(1, 4\)"):
        linen_layers.GroupNorm(2).apply(wrong, random())


CONDITIONS = {
    "per channel": random((8,), 4),
    "row": random((1, 8), 4),
    "per sample": random((2, 8), 4),
    "of x's rank": random((2, 1, 1, 8), 4),
    "of x's rank, shared": random((1, 1, 1, 8), 4),
    "a float": 0.25,
    "an int": 2,
    "a numpy scalar": np.float32(0.25),
    "a traced scalar": jnp.float32(0.25),
    "bfloat16": random((2, 8), 4).astype(jnp.bfloat16),
}


@pytest.mark.parametrize("shift", ["per sample", "a float", "of x's rank", None])
@pytest.mark.parametrize("scale", [*CONDITIONS, None])
@pytest.mark.parametrize("affine", [True, False], ids=["affine", "plain"])
def test_conditioning_of_every_shape(affine, scale, shift):
    given = [None if name is None else CONDITIONS[name] for name in (scale, shift)]
    options: dict[str, Any] = {"use_scale": affine, "use_bias": affine}
    layer = linen_layers.GroupNorm(2, **options)
    variables = randomized(layer, random()) if affine else {"params": {}}
    y: Any = layer.apply(variables, random(), scale=given[0], shift=given[1])
    twin = in_nnx(nnx_layers.GroupNorm, 8, 2, variables=variables, **options)
    np.testing.assert_array_equal(twin(random(), scale=given[0], shift=given[1]), y)

    def wide(value):
        value = np.asarray(0 if value is None else value, np.float32)
        return value if value.ndim in (0, 4) else value.reshape(-1, 1, 1, 8)

    plain = np.asarray(apply(nn.GroupNorm(2, **EXACT, **options), variables, random()))
    expected = plain * (1 + wide(given[0])) + wide(given[1])
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=2e-5)


def test_instance_norm_is_conditioned_likewise():
    scale, shift = random((2, 1, 1, 8), 4), random((2, 8), 5)
    layer = linen_layers.InstanceNorm()
    variables = randomized(layer, random())
    plain = apply(nn.InstanceNorm(**EXACT), variables, random())
    y = apply(layer, variables, random(), scale=scale, shift=shift)
    expected = plain * (1 + scale) + shift[:, None, None]
    np.testing.assert_allclose(y, expected, atol=1e-5)


# Masks.


@pytest.mark.parametrize(
    ("shape", "given"),
    [
        ((4, 8), (8,)),
        ((4, 8), (1, 8)),
        ((4, 5, 8), (8,)),
        ((4, 5, 8), (5, 8)),
        ((4, 5, 6, 8), (6, 8)),
        ((4, 5, 6, 8), (8,)),
    ],
    ids=str,
)
def test_a_mask_from_the_last_axis_on_is_flaxs(shape, given):
    mask = np.random.default_rng(0).random(given) < 0.7
    mask[..., ::4] = True
    layer, flax = linen_layers.GroupNorm(2), nn.GroupNorm(2, **EXACT)
    variables, kept = randomized(layer, random(shape)), np.broadcast_to(mask, shape)
    y, flaxs = (apply(f, variables, random(shape), mask=mask) for f in (layer, flax))
    np.testing.assert_allclose(y[kept], flaxs[kept], atol=1e-5)
    twin = in_nnx(nnx_layers.GroupNorm, 8, 2, variables=variables)
    np.testing.assert_allclose(twin(random(shape), mask=mask), y, atol=1e-6)


@pytest.mark.parametrize("given", [(5, 1), (3, 1, 1), (5, 8), (8,), (1, 5, 1)], ids=str)
def test_instance_norms_masks_are_flaxs(given):
    shape = (3, 5, 8)
    mask = np.random.default_rng(2).random(given) < 0.6
    mask.flat[0] = True
    variables = randomized(nn.InstanceNorm(), random(shape))
    y, flaxs = (
        apply(f, variables, random(shape), mask=mask)
        for f in (linen_layers.InstanceNorm(), nn.InstanceNorm(**EXACT))
    )
    kept = np.broadcast_to(mask, shape)
    np.testing.assert_allclose(y[kept], flaxs[kept], atol=1e-5)


@pytest.mark.parametrize("dtype", ["int32", "uint8", "float32", "bfloat16"])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_mask_of_zeros_and_ones_is_a_mask(dtype, implementation):
    mask = np.random.default_rng(0).random((2, 4, 4)) < 0.6
    f = functools.partial(
        flax_gn.group_norm, random(), groups=2, implementation=implementation
    )
    np.testing.assert_array_equal(f(mask=jnp.asarray(mask, dtype)), f(mask=mask))


@pytest.mark.parametrize(
    ("shape", "given", "meanings"),
    [
        ((8, 8), (8,), r"\(8, 1\) or \(1, 8\)"),
        ((8, 8, 8), (8, 8), r"\(8, 8, 1\) or \(1, 8, 8\)"),
        ((4, 4, 8), (4, 1), r"\(4, 1, 1\) or \(1, 4, 1\)"),
    ],
    ids=str,
)
def test_a_mask_of_two_meanings_is_refused_and_both_are_named(shape, given, meanings):
    with pytest.raises(ValueError, match=f"mask must have one meaning.*{meanings}"):
        flax_gn.group_norm(random(shape), groups=2, mask=np.ones(given, bool))


@pytest.mark.parametrize(("shape", "given"), [((8, 8), (1,)), ((1, 8, 8), (1, 1))])
def test_two_readings_of_one_meaning_are_taken(shape, given):
    x = random(shape)
    y = flax_gn.group_norm(x, groups=2, mask=np.ones(given, bool))
    np.testing.assert_allclose(y, flax_gn.group_norm(x, groups=2), atol=1e-6)


# InstanceNorm's features.


FEATURES = [
    ((2, 4, 5, 6), -1),
    ((2, 4, 5, 6), (3,)),
    ((2, 4, 5, 6), (1, 3)),
    ((2, 4, 5, 6), (-1, -2)),
    ((2, 4, 5, 6), 1),  # channels first
    ((2, 4, 5, 6), (1, 2)),
    ((2, 4, 5, 6), (1, 2, 3)),
    ((2, 6), -1),
]


@pytest.mark.parametrize(("shape", "axes"), FEATURES, ids=str)
def test_feature_axes_are_flaxs(shape, axes):
    x, dy = random(shape), random(shape, 9)
    flax = nn.InstanceNorm(feature_axes=axes, **EXACT)
    layer = linen_layers.InstanceNorm(feature_axes=axes)
    variables = randomized(layer, x)
    fresh = [jax.eval_shape(f.init, jax.random.key(0), x) for f in (layer, flax)]
    assert fresh[0] == fresh[1]

    @jax.jit
    def pull(variables, x):
        pulled = []
        for f in (layer, flax):
            y, pullback = jax.vjp(f.apply, variables, x)
            pulled.append((y, pullback(dy)))
        return pulled

    ours, flaxs = pull(variables, x)
    # Of one value the deviation is 0, and 1 / sqrt(epsilon) multiplies what is rounded.
    atol = 1e-3 if axes == (1, 2, 3) or x.ndim == 2 else 2e-5
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=atol), ours, flaxs
    )
    features = [axes] if isinstance(axes, int) else axes
    channels = int(np.prod([shape[axis] for axis in features]))
    twin = in_nnx(
        nnx_layers.InstanceNorm, channels, feature_axes=axes, variables=variables
    )
    np.testing.assert_allclose(twin(x), ours[0], atol=1e-6)
    flax_nnx = in_nnx(
        nnx.InstanceNorm, channels, feature_axes=axes, variables=variables, **EXACT
    )
    np.testing.assert_allclose(twin(x), flax_nnx(x), atol=2e-5)


@pytest.mark.parametrize("make", [linen_layers.InstanceNorm, nn.InstanceNorm])
def test_the_batch_axis_has_no_features(make):
    with pytest.raises(ValueError, match=r"include the (batch axis|leading dimension)"):
        make(feature_axes=(0, 3)).init(jax.random.key(0), random())


def test_instance_norm_takes_epsilon_first_as_flaxs():
    assert linen_layers.InstanceNorm(0.5).epsilon == nn.InstanceNorm(0.5).epsilon == 0.5


# Errors.


LAYERS = ["linen GroupNorm", "nnx GroupNorm", "linen InstanceNorm", "nnx InstanceNorm"]
LAYERS += ["linen LayerNorm", "nnx LayerNorm"]


def made(which, **options):
    library, name = which.split()
    if name == "GroupNorm":
        options = {"num_groups": 2} | options
    if library == "nnx":
        return in_nnx(getattr(nnx_layers, name), 8, **options)
    layer = getattr(linen_layers, name)(**options)
    variables = {"params": {"scale": jnp.ones(8), "bias": jnp.ones(8)}}
    return functools.partial(layer.apply, variables)


@pytest.mark.parametrize("which", LAYERS)
@pytest.mark.parametrize(
    ("options", "call", "words"),
    [
        ({"epsilon": -1.0}, {}, "epsilon must be 0, or positive"),
        ({"epsilon": "a"}, {}, "epsilon must be a float"),
        ({"reduction_axes": 1}, {}, "reduction_axes must include the channel"),
        ({"axis_name": "gone"}, {}, "axis_name must be"),
        ({"activation": "swish"}, {}, "activation must be None"),
        ({"activation": jnp.sum}, {}, "activation must be elementwise"),
        ({"implementation": "cuda"}, {}, "implementation must be"),
        ({"implementation": "pallas_tpu"}, {}, 'implementation="pallas_tpu" runs on'),
        ({}, {"mask": jnp.ones((3, 3))}, "mask must broadcast to x's shape"),
        ({}, {"scale": jnp.ones((3, 8))}, "scale must have shape (8,)"),
        ({}, {"shift": jnp.ones((3, 8))}, "shift must have shape (8,)"),
        ({}, {"scale": jnp.ones(8, int)}, "scale must be floating-point"),
        ({}, {"shift": "a"}, "shift must be a floating-point array"),
        ({}, {"x": [1.0]}, "x must be a floating-point array; got list"),
        ({}, {"x": random().astype("complex64")}, "x must be floating-point"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_errors_speak_the_words_of_the_layer(which, options, call, words):
    layer = made(which, **options)
    with pytest.raises((TypeError, ValueError, NotImplementedError)) as raised:
        layer(**({"x": random()} | call))
    message = str(raised.value)
    assert message.startswith(f"{which.split()[1]}: {words}")
    for word in ("group_norm", "gamma", "beta", "eps ", "groups="):
        assert word not in message.replace("num_groups=", "")


@pytest.mark.parametrize("which", LAYERS[:2])
def test_errors_about_groups_speak_of_num_groups(which):
    with pytest.raises(ValueError, match=r"^GroupNorm: num_groups=3 must divide"):
        made(which, num_groups=3)(random())
    with pytest.raises(TypeError, match=r"^GroupNorm: num_groups must be an int"):
        made(which, num_groups=2.0)(random())


def test_a_subclass_speaks_in_its_own_name():
    class Mine(linen_layers.GroupNorm):
        pass

    with pytest.raises(ValueError, match=r"^Mine: num_groups=3"):
        Mine(3).init(jax.random.key(0), random())
    flax_gn.group_norm(random(), groups=2)
    with pytest.raises(ValueError, match=r"^group_norm: groups=3"):
        flax_gn.group_norm(random(), groups=3)


@pytest.mark.parametrize("which", LAYERS)
def test_layers_take_an_implementation(which):
    y, by_definition = (
        made(which, implementation=name)(random()) for name in ("xla", "reference")
    )
    np.testing.assert_allclose(y, by_definition, atol=2e-6)
    jaxprs = [
        str(jax.make_jaxpr(made(which, implementation=name))(random()))
        for name in (None, "xla", "reference")
    ]
    assert jaxprs[0] == jaxprs[1]
    assert len(jaxprs[2]) < len(jaxprs[0]) / 2  # the equations, and nothing else
