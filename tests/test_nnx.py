"""The nnx layers: Flax's arguments and state, linen's numbers."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import linen as nn
from flax import nnx
from jax.sharding import PartitionSpec as P

import flax_gn
from flax_gn import linen as linen_layers
from flax_gn import nnx as layers
from flax_gn.convert import choose_groups
from tests.cases import ALL, FEATURES, inputs, named, precision

SHAPE = (2, 4, 4, 8)


def random(shape=SHAPE, seed=0, dtype=jnp.float32):
    return jax.random.normal(jax.random.key(seed), shape, dtype)


def randomized(layer: Any, seed=1) -> Any:
    """The layer with random scale and bias, so that neither can be forgotten."""
    for i, variable in enumerate((layer.scale, layer.bias)):
        if variable is not None:
            shape, dtype = variable.shape, variable[...].dtype
            variable[...] = random(shape, seed + i, dtype)
    return layer


def group_norm(**options) -> Any:
    return randomized(layers.GroupNorm(8, 2, rngs=nnx.Rngs(0), **options))


def both(case):
    """One case as an nnx and as a linen call, each a function of x, with one state."""
    data = inputs(case)
    options: dict[str, Any] = {
        "epsilon": case.eps,
        "dtype": case.result_dtype,
        "param_dtype": case.parameter_dtype,
        "use_scale": case.gamma == "channel",
        "use_bias": case.beta == "channel",
        "reduction_axes": case.reduction_axes,
        "activation": jax.nn.mish if case.activation == "mish" else case.activation,
    }
    ours: Any = layers.GroupNorm(
        case.shape[-1], case.groups, rngs=nnx.Rngs(0), **options
    )
    if case.gamma == "channel":
        ours.scale[...] = jnp.asarray(data.gamma)
    if case.beta == "channel":
        ours.bias[...] = jnp.asarray(data.beta)
    call: dict[str, Any] = {
        "mask": data.mask,
        "scale": data.gamma if case.gamma == "sample" else None,
        "shift": data.beta if case.beta == "sample" else None,
    }
    twin = linen_layers.GroupNorm(case.groups, **options)
    variables = {"params": nnx.to_pure_dict(nnx.state(ours))}
    return (
        data.x,
        lambda x: ours(x, **call),
        lambda x: twin.apply(variables, x, **call),
    )


@pytest.mark.parametrize(**named(ALL))
def test_output_is_linens_bit_for_bit(case):
    with precision(case.dtype, case.parameter_dtype):
        x, ours, twin = both(case)
        y = ours(x)
        np.testing.assert_array_equal(y, twin(x))
    assert y.dtype == case.result_dtype


@pytest.mark.parametrize(**named(FEATURES))
def test_gradient_under_jit_is_linens_bit_for_bit(case):
    x, ours, twin = both(case)

    def gradient(f):
        return jax.jit(jax.grad(lambda x: (f(x).astype(jnp.float32) ** 2).sum()))(x)

    np.testing.assert_array_equal(gradient(ours), gradient(twin))


@pytest.mark.parametrize("axes", [-1, (-1,), (2, 3), (1, 2, 3), (0, 1, 2, 3), None])
def test_reduction_axes_mean_what_they_mean_in_flax_linen(axes):
    # flax.nnx repeats the statistics along axis 1 and is far off for all but None.
    layer = group_norm(reduction_axes=axes)
    flax = nn.GroupNorm(2, reduction_axes=axes, use_fast_variance=False)
    expected: Any = flax.apply({"params": nnx.to_pure_dict(nnx.state(layer))}, random())
    np.testing.assert_allclose(layer(random()), expected, atol=2e-5)


@pytest.mark.needs(flax="0.12.1")
def test_constructor_has_every_argument_of_flax_with_its_default():
    ours, flax = (
        inspect.signature(cls.__init__).parameters
        for cls in (layers.GroupNorm, nnx.GroupNorm)
    )
    for name, theirs in flax.items():
        assert (ours[name].kind, ours[name].default) == (theirs.kind, theirs.default)
    assert set(ours) - set(flax) == {"activation", "implementation"}


def test_call_has_every_argument_of_flax():
    ours = inspect.signature(layers.GroupNorm.__call__).parameters
    assert set(inspect.signature(nnx.GroupNorm.__call__).parameters) <= set(ours)


@pytest.mark.needs(flax="0.12.1")
def test_is_found_by_filters_on_flaxs_type():
    model = nnx.Sequential(nnx.Linear(8, 8, rngs=nnx.Rngs(0)), group_norm())
    found = [m for _, m in nnx.iter_modules(model) if isinstance(m, nnx.GroupNorm)]
    assert found == [model.layers[1]]


def flax_group_norm() -> Any:
    return randomized(nnx.GroupNorm(8, 2, rngs=nnx.Rngs(0)), seed=7)


@pytest.mark.parametrize(
    "pair", [(group_norm, flax_group_norm)] * 2, ids=["to", "from"]
)
def test_state_swaps_with_flax(pair, request):
    make_source, make_target = pair if "to" in request.node.name else pair[::-1]
    source, target = make_source(), make_target()
    nnx.update(target, nnx.state(source))
    for name in ("scale", "bias"):
        np.testing.assert_array_equal(getattr(target, name), getattr(source, name))
    np.testing.assert_allclose(target(random()), source(random()), atol=1e-5)


@pytest.mark.parametrize("ours_saves", [True, False])
def test_orbax_checkpoint_swaps_with_flax(ours_saves, tmp_path):
    source, target = group_norm(), flax_group_norm()
    if not ours_saves:
        source, target = target, source
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "norm", nnx.to_pure_dict(nnx.state(source)))
        checkpointer.wait_until_finished()
        graph, state = nnx.split(target)
        restored = checkpointer.restore(tmp_path / "norm", nnx.to_pure_dict(state))
    nnx.replace_by_pure_dict(state, restored)
    target = nnx.merge(graph, state)
    np.testing.assert_allclose(target(random()), source(random()), atol=1e-5)


def test_split_and_merge():
    layer = group_norm(activation="silu")
    merged = nnx.merge(*nnx.split(layer))
    assert merged.activation == "silu"
    np.testing.assert_array_equal(merged(random()), layer(random()))


def test_nnx_jit():
    layer = group_norm()
    y = nnx.jit(lambda layer, x: layer(x))(layer, random())
    np.testing.assert_allclose(y, layer(random()), atol=1e-6)


def test_nnx_grad_reaches_scale_and_bias():
    layer = group_norm()
    gradient = nnx.grad(lambda layer: (layer(random()) ** 2).sum())(layer)
    gamma, beta = jax.grad(
        lambda gamma, beta: (
            flax_gn.group_norm(random(), gamma, beta, 2, eps=1e-6) ** 2
        ).sum(),
        (0, 1),
    )(layer.scale[...], layer.bias[...])
    np.testing.assert_allclose(gradient["scale"][...], gamma, rtol=1e-5)
    np.testing.assert_allclose(gradient["bias"][...], beta, rtol=1e-5)


def stacked(n):
    """n layers as one, each with parameters of its own."""

    @nnx.vmap(in_axes=0, out_axes=0)
    def make(scale):
        layer: Any = layers.GroupNorm(8, 2, rngs=nnx.Rngs(0))
        layer.scale[...] = scale
        return layer

    return make(random((n, 8)))


def one_by_one(n):
    scales = random((n, 8))
    return [lambda x, s=s: flax_gn.group_norm(x, s, None, 2, eps=1e-6) for s in scales]


def test_nnx_vmap_over_layers():
    xs = random((3, *SHAPE))
    ys = nnx.vmap(lambda layer, x: layer(x))(stacked(3), xs)
    for y, x, f in zip(ys, xs, one_by_one(3), strict=True):
        np.testing.assert_allclose(y, f(x), atol=1e-6)


def test_nnx_scan_over_layers():
    @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
    def forward(layer, x):
        return layer(x)

    expected = random()
    for f in one_by_one(3):
        expected = f(expected)
    np.testing.assert_allclose(forward(stacked(3), random()), expected, atol=1e-5)


def test_nnx_remat_changes_no_gradient():
    layer = group_norm(activation="silu")

    def loss(layer, x):
        return (layer(x) ** 2).sum()

    plain, rematerialised = (
        nnx.grad(f)(layer, random()) for f in (loss, nnx.remat(loss))
    )
    np.testing.assert_allclose(
        rematerialised["scale"][...], plain["scale"][...], rtol=1e-6
    )


@pytest.mark.needs(flax="0.12.0")
def test_eval_shape_makes_an_abstract_layer():
    layer: Any = nnx.eval_shape(lambda: layers.GroupNorm(8, 2, rngs=nnx.Rngs(0)))
    assert isinstance(layer.scale.get_value(), jax.ShapeDtypeStruct)
    y = jax.eval_shape(
        lambda x: group_norm()(x), jax.ShapeDtypeStruct(SHAPE, "float32")
    )
    assert (y.shape, y.dtype) == (SHAPE, jnp.float32)


def test_prints_what_it_is():
    printed = repr(group_norm(activation="silu"))
    for part in ("GroupNorm(", "num_groups=2", "activation='silu'", "epsilon=1e-06"):
        assert part in printed


@pytest.mark.needs(flax="0.12.1")
def test_sharding_metadata_survives():
    mesh = jax.make_mesh((1,), ("model",))
    with jax.set_mesh(mesh):
        layer: Any = layers.GroupNorm(
            8,
            2,
            scale_metadata={"out_sharding": ("model",)},
            bias_metadata={"owner": "norm"},
            rngs=nnx.Rngs(0),
        )
        specs: Any = nnx.get_partition_spec(nnx.state(layer))
    assert specs["scale"].get_value() == P("model")
    assert layer.bias.get_metadata("owner") == "norm"


@pytest.mark.parametrize("dtype", [None, "bfloat16", "float32"])
@pytest.mark.parametrize("x_dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("param_dtype", ["bfloat16", "float32"])
@jax.numpy_dtype_promotion("standard")
def test_output_dtype_is_flaxs(dtype, x_dtype, param_dtype):
    x = random(dtype=x_dtype)
    ours, theirs = (
        cls(8, 2, dtype=dtype, param_dtype=param_dtype, rngs=nnx.Rngs(0))(x)
        for cls in (layers.GroupNorm, nnx.GroupNorm)
    )
    assert ours.dtype == theirs.dtype


def test_default_promotion_rounds_only_the_result():
    x = random() + 300  # bfloat16 would leave one or two digits of the fluctuation
    wide = group_norm(dtype=jnp.float32)(x)
    narrow = group_norm(dtype=jnp.bfloat16)(x)
    np.testing.assert_array_equal(narrow, wide.astype(jnp.bfloat16))


def test_own_promotion_is_applied_to_x_scale_and_bias():
    seen = []

    def promote(args, /, *, dtype):
        seen.append(([arg.shape for arg in args], dtype))
        return tuple(2 * arg for arg in args)

    layer = group_norm(promote_dtype=promote, dtype=jnp.float32)
    y = layer(random())
    assert seen == [([SHAPE, (8,), (8,)], jnp.float32)]
    expected = flax_gn.group_norm(
        2 * random(), 2 * layer.scale[...], 2 * layer.bias[...], 2, eps=1e-6
    )
    np.testing.assert_allclose(y, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "groups"),
    [
        pytest.param(layers.LayerNorm, 1, id="layer_norm"),
        pytest.param(
            *(layers.InstanceNorm, 8),
            id="instance_norm",
            marks=pytest.mark.needs(flax="0.12.0"),
        ),
    ],
)
def test_ends_are_the_papers(make, groups):
    layer = randomized(make(8, epsilon=1e-3, activation="relu", rngs=nnx.Rngs(0)))
    expected = flax_gn.group_norm(
        random(), layer.scale[...], layer.bias[...], groups, eps=1e-3, activation="relu"
    )
    np.testing.assert_array_equal(layer(random()), expected)


def test_batch_norm_is_flaxs():
    assert layers.BatchNorm is nnx.BatchNorm


def test_groups_by_rule_and_by_size():
    rngs = nnx.Rngs(0)
    assert layers.GroupNorm(48, choose_groups, rngs=rngs).num_groups == 24
    assert layers.GroupNorm(48, None, 4, rngs=rngs).num_groups == 12
    from_numpy: Any = np.int64(4)
    assert layers.GroupNorm(48, from_numpy, rngs=rngs).group_size == 12


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((8, 3), ValueError, "must divide"),
        ((8, 0), ValueError, "at least 1"),
        ((8, 2.0), TypeError, "must be an int"),
        ((8, None, 0), ValueError, "group_size must be at least 1"),
        ((8, None, 3), ValueError, "group_size=3 must divide"),
        ((8, 2, 4), ValueError, "either num_groups or group_size"),
        ((8, None, None), ValueError, "either num_groups or group_size"),
    ],
)
def test_bad_groups_are_refused_at_construction(arguments, error, message):
    with pytest.raises(error, match=message):
        layers.GroupNorm(*arguments, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("affine", [True, False])
def test_other_channels_are_refused(affine):
    layer = layers.GroupNorm(8, 2, use_scale=affine, use_bias=affine, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"num_features=8 .* got shape \(2, 8, 4, 4\)"):
        layer(jnp.zeros((2, 8, 4, 4)))
