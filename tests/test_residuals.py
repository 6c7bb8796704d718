"""What the backward pass keeps: x, the parameters and the statistics per group.

Flax's group norm keeps two float32 copies of a bfloat16 x, four times its bytes, and
more once an activation follows.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_gn import group_norm
from tests.cases import IMPLEMENTATIONS, LITERAL

LEAN = [name for name in IMPLEMENTATIONS if name not in LITERAL]
SHAPE, GROUPS = (2, 32, 32, 64), 8
BUDGET = 1.05

CALLS = {
    "plain": {},
    "silu": {"activation": "silu"},
    "gelu": {"activation": "gelu"},
    "callable": {"activation": jax.nn.mish},
    "mask": {"mask": "column"},
    "mask and silu": {"mask": "column", "activation": "silu"},
    "reduction axes": {"reduction_axes": (2, 3)},
    "to float32": {"dtype": jnp.float32},
}


def _data(dtype=jnp.bfloat16, per_sample=False):
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], SHAPE, jnp.float32).astype(dtype)
    shape = (SHAPE[0], SHAPE[-1]) if per_sample else SHAPE[-1:]
    gamma, beta = (jax.random.normal(key, shape) for key in keys[1:])
    return x, gamma, beta


def _options(call):
    options = dict(CALLS[call])
    if "mask" in options:
        options["mask"] = np.random.default_rng(0).random((*SHAPE[:-1], 1)) < 0.7
    return options


def _kept_bytes(f, *primals):
    """Bytes of what the pullback closes over, each array counted once."""
    _, pullback = jax.vjp(f, *primals)
    leaves = {id(a): a for a in jax.tree.leaves(pullback) if hasattr(a, "nbytes")}
    return sum(a.nbytes for a in leaves.values())


@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("implementation", LEAN)
def test_residuals_are_the_input(implementation, call, jit):
    x, gamma, beta = _data()
    options = _options(call)

    def f(x, gamma, beta):
        return group_norm(
            x, gamma, beta, GROUPS, implementation=implementation, **options
        )

    kept = _kept_bytes(jax.jit(f) if jit else f, x, gamma, beta)
    assert x.nbytes <= kept  # the count saw x itself
    # A mask is an input too: a byte for each of its positions.
    mask = options["mask"].nbytes if "mask" in options else 0
    assert kept - mask <= BUDGET * x.nbytes


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("implementation", LEAN)
def test_other_dtypes(implementation, dtype):
    x, gamma, beta = _data(jnp.dtype(dtype))
    kept = _kept_bytes(
        lambda *a: group_norm(
            *a, GROUPS, activation="silu", implementation=implementation
        ),
        x,
        gamma,
        beta,
    )
    assert x.nbytes <= kept <= BUDGET * x.nbytes


@pytest.mark.parametrize("implementation", LEAN)
def test_parameters_per_sample(implementation):
    x, gamma, beta = _data(per_sample=True)
    kept = _kept_bytes(
        lambda *a: group_norm(*a, GROUPS, implementation=implementation),
        x,
        gamma,
        beta,
    )
    assert x.nbytes <= kept <= BUDGET * x.nbytes


@pytest.mark.parametrize("implementation", LEAN)
def test_a_vmapped_call(implementation):
    x, gamma, beta = _data()
    kept = _kept_bytes(
        jax.vmap(
            lambda x, gamma, beta: group_norm(
                x[None], gamma, beta, GROUPS, implementation=implementation
            )[0],
            in_axes=(0, None, None),
        ),
        x,
        gamma,
        beta,
    )
    assert x.nbytes <= kept <= BUDGET * x.nbytes


@pytest.mark.parametrize("implementation", LEAN)
def test_a_scan_keeps_one_input_per_step(implementation):
    steps = 4
    x, gamma, beta = _data()
    stacked = [jnp.stack([a] * steps) for a in (gamma, beta)]

    def f(x, gamma, beta):
        def step(x, parameters):
            y = group_norm(
                x, *parameters, GROUPS, activation="silu", implementation=implementation
            )
            return y, None

        return jax.lax.scan(step, x, (gamma, beta))[0]

    kept = _kept_bytes(f, x, *stacked)
    assert steps * x.nbytes <= kept <= BUDGET * steps * x.nbytes


@pytest.mark.parametrize("call", ["plain", "silu", "mask and silu"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("implementation", LEAN)
def test_compiled_forward_has_at_most_one_copy_of_x(implementation, dtype, call):
    x, gamma, beta = _data(jnp.dtype(dtype))
    options = _options(call)
    mask = options.pop("mask", None)

    def f(x, gamma, beta, mask):
        return group_norm(
            x, gamma, beta, GROUPS, mask=mask, implementation=implementation, **options
        )

    memory = jax.jit(f).lower(x, gamma, beta, mask).compile().memory_analysis()
    assert memory.output_size_in_bytes >= x.nbytes  # the analysis is of this program
    # XLA's CPU compiler widens bfloat16: the one copy is a float32 one.
    assert memory.temp_size_in_bytes <= BUDGET * x.size * 4


@pytest.mark.parametrize("call", ["plain", "silu"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("implementation", LEAN)
def test_compiled_backward_has_few_copies_of_x(implementation, dtype, call):
    x, gamma, beta = _data(jnp.dtype(dtype))
    options = _options(call)

    def pull(x, gamma, beta, dy):
        return jax.vjp(
            lambda *a: group_norm(*a, GROUPS, implementation=implementation, **options),
            x,
            gamma,
            beta,
        )[1](dy)

    memory = jax.jit(pull).lower(x, gamma, beta, x).compile().memory_analysis()
    # Widened copies of x and dy where they are bfloat16.
    copies = 2 if dtype == "bfloat16" else 1
    assert memory.temp_size_in_bytes <= BUDGET * copies * x.size * 4
