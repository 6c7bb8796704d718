"""The GPU kernels under the real compiler: one kernel each way or two, and their bytes.

`pytest tests/compiled --whole-table` compiles every layer; without the option a few
stand for the rest. What a multiprocessor is given comes out of NVIDIA's assembler, and
its words on each kernel are written down when they are asked for.
"""

import math
import re

import jax
import jax.numpy as jnp
import pytest

from experiments.benchmark import compiled, layers, program
from flax_gn import group_norm
from flax_gn._pallas import gpu
from flax_gn._pallas._gpu.tiles import THREADS
from tests.compiled.conftest import devices

TABLE = layers.load()
# Every activation; kept by one block and by clusters of 2, 4 and 8, streamed, and kept
# forward alone; few channels and many, few positions, and a number of them that is odd.
SOME = (
    "r50_b1_gn2",
    "r50_b1_gn3_small",
    "r50_b2_gn2",
    "sd15_64_320",
    "sd15_64_960",
    "sdxl_vae_512_256",
    "segresnet_l0",
    "fpn_p5",
    "box_head",
    "wav2vec2_conv0",
    "diffusion_policy",
)
SOME_IN_FLOAT32 = ("r50_b2_gn2", "sd15_64_320", "diffusion_policy")
# x and y; x, dy and dx: what has to be moved, and what is, read twice.
ARRAYS = {"forward": 2, "backward": 3}
READ_TWICE = {"forward": 3, "backward": 5}
# Per sample and channel: coefficients, statistics and sums, each written and read.
ROWS = 256
# Of a multiprocessor. What streams wants some blocks on each.
REGISTERS = 64 * 1024
BLOCKS_PER_PROCESSOR = 3


def _programs(whole):
    for name in TABLE if whole else SOME:
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


def _ways(names):
    """How the kernels take these layers: kept or not, by how many blocks, both ways."""
    return {
        (tiles.kept, tiles.shares if tiles.kept else None)
        for name in names
        for arrays in ARRAYS.values()
        for tiles in [_tiles(TABLE[name], arrays, 2)]
    }


def _tiles(layer, arrays, size):
    return gpu.choose(layer.shape, layer.groups, (size,) * arrays, True)


def test_some_stand_for_the_rest():
    assert _ways(SOME) == _ways(TABLE)
    activations = [{TABLE[name].activation_name for name in n} for n in (SOME, TABLE)]
    assert activations[0] == activations[1]


@pytest.fixture
def assembled(monkeypatch, tmp_path):
    """The assembler's words on each kernel that is compiled."""
    monkeypatch.setenv("MOSAIC_GPU_DUMP_PTXAS", "1")
    monkeypatch.setenv("MOSAIC_GPU_DUMP_TO", str(tmp_path))
    return lambda: [path.read_text() for path in tmp_path.glob("*.ptxas")]


def test_program(made, assembled):
    name, dtype, part = made
    layer, norm = TABLE[name], compiled.NORMS["pallas_gpu"]
    (device, *_) = devices("h100")
    lowered = compiled.lower(norm(layer), layer, compiled.DTYPES[dtype], device, part)
    assert lowered.as_text().count("@mosaic_gpu") > 0
    read = program.read(lowered.compile())
    size = jnp.dtype(dtype).itemsize
    tiles = _tiles(layer, ARRAYS[part], size)
    assert len(_kernels(read)) == (1 if tiles.kept else 2)
    words = assembled()
    assert len(words) == len(_kernels(read))
    for word in words:
        assert "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads" in word
        (registers,) = map(int, re.findall(r"Used (\d+) registers", word))
        blocks = 1 if tiles.kept else BLOCKS_PER_PROCESSOR
        assert registers * THREADS * blocks <= REGISTERS
    n, _, c = tiles.shape
    x = math.prod(layer.shape) * size
    rows = n * c * (ROWS + 16 * tiles.shares)
    arrays = ARRAYS[part] if tiles.kept else READ_TWICE[part]
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
