"""The TPU kernels under the real compiler: one kernel each way, and what it moves.

`pytest tests/compiled --whole-table` compiles every layer for every generation.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding

from experiments.benchmark import compiled, layers, program, targets
from flax_gn import group_norm
from tests.compiled.conftest import devices

TABLE = layers.load()
TPUS = [name for name, t in targets.TARGETS.items() if t.platform == "tpu"]

# Read once and twice, few channels per group and many, widths that are whole tiles and
# not, several samples in a block, an odd number of positions, an own activation.
SOME = {
    "v4": ("sd15_64_320", "sdxl_32_2560", "sdxl_vae_512_256", "r50_b4_gn3"),
    "v5e": ("sd15_64_320", "fpn_p5", "segresnet_l2", "diffusion_policy"),
    "v5p": ("wav2vec2_conv0", "sd15_8_2560"),
    "v6e": ("sdxl_vae_256_512", "box_head"),
    "7x": ("cogvideox_vae", "sd15_32_1920"),
}
SOME_IN_FLOAT32 = {("v5e", "sd15_64_320"), ("v4", "sdxl_32_2560")}

# x and y; x, dy and dx. A kernel that reads twice is counted as one that reads once.
NEEDED = {"forward": 2, "backward": 3}

# Layers that XLA lays out as the kernels want them when nothing is around them: their
# channels fill whole registers, and their width whole tiles.
AS_IT_LIES = {"sd15_32_640", "sd15_32_1920", "sdxl_vae_256_512", "sdxl_vae_512_256"}


def _programs(whole):
    for target in TPUS:
        for name in TABLE if whole else SOME[target]:
            for dtype in compiled.DTYPES:
                if whole or dtype == "bfloat16" or (target, name) in SOME_IN_FLOAT32:
                    yield from ((target, name, dtype, part) for part in NEEDED)


def pytest_generate_tests(metafunc):
    if "program" in metafunc.fixturenames:
        programs = list(_programs(metafunc.config.getoption("whole_table")))
        ids = ["-".join(program) for program in programs]
        metafunc.parametrize("program", programs, ids=ids)


def _kernels(made, part):
    name = f"group_norm_{part}"
    return [kernel for kernel in made.kernels if kernel.name.startswith(name)]


def test_every_generation_has_layers():
    assert set(SOME) == set(TPUS)


def test_program(program):
    target, name, dtype, part = program
    (device, *_) = devices(target)
    layer, norm = TABLE[name], compiled.NORMS["pallas_tpu"]
    lowered = compiled.lower(norm(layer), layer, compiled.DTYPES[dtype], device, part)
    made = _read(lowered)
    (kernel,) = _kernels(made, part)
    assert kernel.opcode == "custom-call"
    x = np.prod(layer.shape) * jnp.dtype(dtype).itemsize
    assert made.moved >= NEEDED[part] * x
    if name in AS_IT_LIES:
        # Rows of coefficients are padded to whole tiles, which tells beside a small x.
        assert made.moved <= (NEEDED[part] + 0.15) * x


def _read(lowered):
    return program.read(lowered.compile())


def _gradient(x, gamma, beta, groups=32):
    def loss(x, gamma, beta):
        y = group_norm(
            x, gamma, beta, groups, activation="silu", implementation="pallas_tpu"
        )
        return jnp.sum(jnp.square(y.astype(jnp.float32)))

    return jax.grad(loss, (0, 1, 2))(x, gamma, beta)


def _on_mesh(f, kind, spec):
    mesh = jax.sharding.Mesh(np.array(devices("v5e")), ("d",), axis_types=(kind,))
    x = jax.ShapeDtypeStruct(
        (8, 32, 32, 640), jnp.bfloat16, sharding=NamedSharding(mesh, spec)
    )
    gamma = jax.ShapeDtypeStruct(
        (640,), jnp.float32, sharding=NamedSharding(mesh, jax.P())
    )
    with jax.set_mesh(mesh):
        return jax.jit(f).lower(x, gamma, gamma)


@pytest.mark.parametrize("spec", [jax.P("d"), jax.P(None, None, None, "d")])
def test_explicit_mesh_runs_it_on_each_part(spec):
    made = _read(_on_mesh(_gradient, AxisType.Explicit, spec))
    assert len(_kernels(made, "forward")) == len(_kernels(made, "backward")) == 1
    assert {c.kind for c in made.collectives} <= {"all-reduce"}
    assert all(c.bytes < 8 * 640 * 4 for c in made.collectives)


def test_shard_map_runs_it_on_each_part():
    def f(x, gamma, beta):
        part = jax.P("d")
        return jax.shard_map(
            lambda *arrays: _gradient(*arrays)[0],
            in_specs=(part, jax.P(), jax.P()),
            out_specs=part,
        )(x, gamma, beta)

    made = _read(_on_mesh(f, AxisType.Auto, jax.P("d")))
    assert len(_kernels(made, "forward")) == len(_kernels(made, "backward")) == 1
    assert not made.collectives


@pytest.mark.parametrize(
    "spec",
    [jax.P(None, "d"), jax.P(None, None, None, "d")],
    ids=["height", "channels_within_groups"],
)
def test_explicit_mesh_that_splits_groups_shares_their_sums(spec):
    # 32 groups of 20 channels over 4 devices are whole; one group of 640 is not.
    f = functools.partial(_gradient, groups=32 if spec[-1] != "d" else 1)
    made = _read(_on_mesh(f, AxisType.Explicit, spec))
    for part in ("statistics", "normalise", "gradient_sums"):
        assert len(_kernels(made, part)) == 1, part
    assert len(_kernels(made, "gradient")) == 2  # with gradient_sums
    assert not _kernels(made, "forward") + _kernels(made, "backward")
    assert {c.kind for c in made.collectives} == {"all-reduce"}
    # One each way, and those of gamma and beta, which are whole on every device.
    assert len(made.collectives) <= 4
    assert all(c.bytes < 8 * 640 * 4 * 4 for c in made.collectives)


def test_automatic_mesh_is_refused():
    with pytest.raises(NotImplementedError, match="cannot be automatically partition"):
        _on_mesh(_gradient, AxisType.Auto, jax.P("d"))
