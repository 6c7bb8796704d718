"""The GPU kernels under the real compiler: one kernel each way or two, and their bytes.

Every layer of the table, both ways; `pytest tests/compiled --whole-table` compiles them
in float32 as well. The compiler that this asks is XLA with Pallas' own; what turns the
kernel's code into that of a device runs on a machine that has one.
"""

import math

import jax
import jax.numpy as jnp

from experiments.benchmark import compiled, layers, program
from flax_gn import group_norm
from flax_gn._pallas import gpu
from tests.compiled.conftest import devices

TABLE = layers.load()
SOME_IN_FLOAT32 = ("r50_b2_gn2", "sd15_64_320", "fpn_p3", "diffusion_policy")
# x and y; x, dy and dx: what has to be moved, and what is, read twice.
ARRAYS = {"forward": 2, "backward": 3}
READ_TWICE = {"forward": 3, "backward": 5}
# Per sample and channel: coefficients, statistics and sums, each written and read.
ROWS = 256


def _programs(whole):
    for name in TABLE:
        for dtype in compiled.DTYPES:
            if whole or dtype == "bfloat16" or name in SOME_IN_FLOAT32:
                yield from ((name, dtype, part) for part in ARRAYS)


def pytest_generate_tests(metafunc):
    if "made" in metafunc.fixturenames:
        programs = list(_programs(metafunc.config.getoption("whole_table")))
        ids = ["-".join(each) for each in programs]
        metafunc.parametrize("made", programs, ids=ids)


def _kernels(made):
    return [kernel for kernel in made.kernels if kernel.opcode == "custom-call"]


def test_program(made):
    name, dtype, part = made
    layer, norm = TABLE[name], compiled.NORMS["pallas_gpu"]
    (device, *_) = devices("h100")
    lowered = compiled.lower(norm(layer), layer, compiled.DTYPES[dtype], device, part)
    assert lowered.as_text().count("@mosaic_gpu") > 0
    read = program.read(lowered.compile())
    size = jnp.dtype(dtype).itemsize
    tiles = gpu.choose(layer.shape, layer.groups, (size,) * ARRAYS[part], True)
    kept = tiles.splits == 0
    assert len(_kernels(read)) == (1 if kept else 2)
    n, _, c = tiles.shape
    x = math.prod(layer.shape) * size
    rows = n * c * (ROWS + 16 * tiles.splits)
    arrays = ARRAYS[part] if kept else READ_TWICE[part]
    assert arrays * x <= read.moved <= arrays * x + rows
    assert read.temporaries <= rows


def test_rematerialised():
    """The simulation cannot tell: its callbacks do not go through jax.checkpoint."""
    (device, *_) = devices("h100")

    @jax.checkpoint
    def loss(x):
        y = group_norm(x, groups=32, activation="silu", implementation="pallas_gpu")
        return jnp.sum(jnp.square(y.astype(jnp.float32)))

    sharding = jax.sharding.SingleDeviceSharding(device)
    x = jax.ShapeDtypeStruct((8, 16, 16, 512), jnp.bfloat16, sharding=sharding)
    made = program.read(jax.jit(jax.grad(loss)).lower(x).compile())
    assert len(_kernels(made)) == 2
