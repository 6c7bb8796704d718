"""The paths of all platforms give the same numbers; here they run on the CPU.

tests/compiled holds the compilers of GPUs and TPUs to what the paths are for.
"""

import dataclasses
from functools import partial

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

from flax_gn import _target
from flax_gn._call import call
from flax_gn._xla import _cpu, _gpu_rows, _gpu_sums, _moments, _plain
from tests import cases, check
from tests.cases import Case

# Enough positions for sums in two steps.
LARGE = [
    Case("square", (2, 32, 32, 12), 4, activation="silu"),
    Case("bfloat16", (2, 32, 32, 12), 4, "bfloat16"),
    Case("float64", (1, 1025, 4), 2, "float64", parameter_dtype="float64"),
    Case("few_divisors", (2, 25, 42, 6), 2),
    Case("volume_masked", (2, 8, 9, 10, 6), 3, mask="full"),
    Case("axes_gap", (3, 5, 7, 40, 20, 4), 2, reduction_axes=(1, 3, 4, 5)),
    Case("no_split", (2, 509, 6), 2),
]

# Few enough for a GPU to sum rows of channels.
ROWS = [
    Case("rows", (2, 20, 30, 16), 2, activation="silu", mean=1e4),
    Case("rows_bfloat16", (2, 13, 17, 64), 2, "bfloat16"),
    Case("rows_masked", (2, 5, 6, 7, 16), 2, mask="full"),
]

# Few enough for the gradients of gamma and beta to be summed in the last pass too.
FEW = [
    Case("few", (16, 3, 2, 32), 2, activation="relu"),
    Case("few_bfloat16", (4, 7, 7, 8), 1, "bfloat16"),
    Case("few_wide", (2, 8, 8, 120), 3, activation="silu", mean=1e4),
    Case("few_instances", (4, 2, 6), 6),
    Case("few_no_gamma", (8, 16, 16), 2, gamma="none", activation="mish"),
    Case("few_no_affine", (4, 16, 16), 2, gamma="none", beta="none"),
    Case("few_per_sample", (4, 16, 16), 2, gamma="sample", mean=1e4),
    Case("few_and_two_kept", (2, 4, 3, 2, 16), 2, reduction_axes=(2, 3, 4), mean=1e4),
    Case("few_of_a_gap", (4, 3, 3, 16), 2, reduction_axes=(1, 3)),
    Case("few_bfloat16_parameters", (8, 8, 16), 2, parameter_dtype="bfloat16"),
    Case("few_and_no_samples_to_share", (3, 16, 16), 2),
]


@pytest.fixture(params=["cpu", "gpu", "tpu"])
def platform(request, monkeypatch):
    """What is lowered is lowered for that platform."""
    of_lowering = _target.of_lowering

    def pretended(_, context):
        return dataclasses.replace(of_lowering("cpu", context), platform=request.param)

    monkeypatch.setattr(_target, "of_lowering", pretended)
    monkeypatch.setattr(_gpu_rows, "_FEWEST_SUMS", 1)
    monkeypatch.setattr(_gpu_rows, "_MANY_SUMS", 1)
    jax.clear_caches()
    yield
    jax.clear_caches()


@pytest.mark.usefixtures("platform")
@pytest.mark.parametrize(**cases.named([*LARGE, *ROWS, *FEW, *cases.FEATURES]))
def test_values_and_gradients(case):
    data = cases.inputs(case)
    with cases.precision(case.dtype, case.parameter_dtype):
        f = cases.function(case, "xla")
        y, pullback = jax.vjp(partial(f, mask=data.mask), *data.primals)
        check.values(case, data, y, "xla")
        check.gradients(case, data, pullback(jnp.asarray(data.dy)), "xla")


@pytest.mark.usefixtures("platform")
@pytest.mark.parametrize(
    ("shape", "activation"),
    [((1, 20, 40, 4), "silu"), ((1, 8, 20, 16), None), ((4, 4, 5, 16), "silu")],
    ids=["channels", "rows", "few_positions"],
)
def test_vmap_forward_mode_and_second_derivatives(shape, activation):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((3, *shape)), "f4")
    f = cases.function(Case("plain", shape, 2, activation=activation), "xla")
    gamma = jnp.resize(jnp.array([1.0, 2.0, 0.5, -1.0]), shape[-1])
    beta = jnp.zeros_like(gamma)

    def loss(x):
        return jnp.sum(f(x, gamma, beta) ** 3)

    slopes = jax.vmap(jax.grad(loss))(x)
    # The largest slopes are above 100, of which 1e-5 is the last digit.
    np.testing.assert_allclose(slopes[1], jax.grad(loss)(x[1]), rtol=1e-5, atol=1e-5)
    _, along = jax.jvp(loss, (x[0],), (x[1],))
    np.testing.assert_allclose(along, jnp.vdot(slopes[0], x[1]), rtol=1e-4)

    def along_second(t):
        return jax.jvp(loss, (x[0] + t * x[1],), (x[1],))[1]

    step = 1e-2
    numeric = (along_second(step) - along_second(-step)) / (2 * step)
    np.testing.assert_allclose(jax.grad(along_second)(0.0), numeric, rtol=2e-2)


@pytest.mark.usefixtures("platform")
@pytest.mark.parametrize(**cases.named([*ROWS[:2], *FEW[:3]]))
def test_open_number_of_samples(case):
    data = cases.inputs(case)
    arrays = data.x, jnp.asarray(data.dy)
    f = cases.function(case, "xla")

    def run(x, dy):
        y, pullback = jax.vjp(f, x, data.gamma, data.beta)
        return y, pullback(dy)

    (samples,) = jax.export.symbolic_shape("n")
    opened = (jax.ShapeDtypeStruct((samples, *a.shape[1:]), a.dtype) for a in arrays)
    y, grads = jax.export.export(jax.jit(run))(*opened).call(*arrays)
    check.values(case, data, y, "xla")
    check.gradients(case, data, grads, "xla")


def test_one_program_for_several_platforms_has_the_form_of_each():
    def form(x):
        return {"cpu": jnp.sin, "gpu": jnp.cos, "tpu": jnp.tan}[
            _target.target().platform or "cpu"
        ](x)

    exported = jax.export.export(
        jax.jit(lambda x: call(form, x)), platforms=("cpu", "cuda", "tpu")
    )(jnp.ones(3))
    text = exported.mlir_module()
    assert all(name in text for name in ("sine", "cosine", "tan"))
    np.testing.assert_allclose(
        exported.call(jnp.ones(3)), np.sin(np.ones(3)), rtol=1e-6
    )


def test_the_traced_program_holds_the_plain_form():
    """For whoever walks a program: operations of jax.lax, and one of our own."""
    x = jnp.ones((2, 40, 40, 8))
    f = cases.function(Case("plain", x.shape, 2, activation="silu"), "xla")
    ones = jnp.ones(8)

    def step(x):
        y, pullback = jax.vjp(f, x, ones, ones)
        return y, pullback(y)

    calls = [
        equation
        for equation in _equations(jax.make_jaxpr(step)(x).jaxpr)
        if equation.primitive.name == "group_norm_call"
    ]
    assert len(calls) == 2  # forward and backward
    for each in calls:
        inside = {e.primitive.name for e in _equations(each.params["jaxpr"].jaxpr)}
        assert {"reduce_sum", "rsqrt"} <= inside
        known = vars(jax.extend.core.primitives).keys() | {"add_any_p"}
        assert {f"{name}_p" for name in inside} <= known


def _equations(jaxpr):
    """All equations of a program, but for those inside our calls."""
    for equation in jaxpr.eqns:
        yield equation
        if equation.primitive.name == "group_norm_call":
            continue
        for value in equation.params.values():
            if hasattr(value, "eqns"):
                yield from _equations(getattr(value, "jaxpr", value))


def test_a_function_and_its_derivative_are_traced_together_but_once(monkeypatch):
    """Tracing is what a network with a norm in fifty places waits for.

    Once more when it is lowered, for the one platform that it is lowered for.
    """
    traced = []
    whole = _moments.moments_of

    def moments_of(problem, *args):
        traced.append(problem.groups)
        return whole(problem, *args)

    for passes in (_plain, _cpu):
        monkeypatch.setattr(passes, "moments_of", moments_of)
    shape = (3, 17, 29, 6)  # of no other test
    f = cases.function(Case("once", shape, 3), "xla")
    ones = jnp.ones(6)
    step = jax.jit(jax.grad(lambda x: jnp.sum(f(x, ones, ones))))
    trace = step.trace(jnp.ones(shape))
    assert traced == [3]
    trace.lower()
    assert traced == [3, 3]


@pytest.mark.parametrize(
    ("shape", "axes", "block"),
    [
        # The smallest block of at least 256 positions, and of sqrt(positions).
        ((2, 64, 64, 8), (1, 2), (1, 4)),
        ((1, 1024, 1024, 8), (1, 2), (1, 1)),
        ((8, 31999, 8), (1,), (1, 2909)),
        # No divisor gives 256: the largest of at least 160.
        ((2, 25, 42, 8), (1, 2), (1, 5)),
        # One block would hold everything, or the only ones are too small.
        ((2, 14, 14, 8), (1, 2), None),
        ((2, 509, 8), (1,), None),
        ((2, 8), (), None),
    ],
)
def test_blocks(shape, axes, block):
    assert _gpu_sums._block(axes, axes, shape) == block


def test_an_axis_that_a_mesh_shards_is_not_split():
    shape = (2, 64, 64, 8)
    assert _gpu_sums._block((1, 2), (2,), shape) is None
    assert _gpu_sums._block((1, 2), (1,), shape) == (1, 4)
