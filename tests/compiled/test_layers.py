"""Kernels, bytes, temporaries and relayouts of the layers of the table.

`pytest tests/compiled --whole-table` compiles every layer for every device, in half an
hour; without the option a few layers stand for the rest.
"""

import dataclasses

import pytest

from experiments.benchmark import compiled, layers, targets
from tests.compiled import limits
from tests.compiled.conftest import devices

TABLE = layers.load()

# Few channels per group and many, 1 to 3 spatial axes, few positions and so many that
# the statistics' slices have run out of a TPU's memory, positions with odd divisors,
# positions that run faster than channels in a TPU's memory.
SOME = {
    "h100": (
        "sd15_64_320",
        "sd15_32_1920",
        "r50_b1_gn3",
        "fpn_p5",
        "segresnet_l2",
        "wav2vec2_conv0",
        "sd15_8_2560",
        "diffusion_policy",
        "box_head",
    ),
    "v5e": ("sdxl_vae_1024_128", "sd15_64_320", "r50_root", "box_head"),
    "v4": ("sdxl_vae_512_256", "sd15_32_640"),
    "v5p": ("sdxl_vae_512_256", "sd15_32_640"),
    "v6e": ("sdxl_vae_512_256", "sd15_32_640"),
    "7x": ("sdxl_vae_512_256", "sd15_32_640"),
}
SOME_IN_FLOAT32 = {("h100", "sd15_64_320"), ("v5e", "sd15_64_320")}


def _programs(whole):
    for target in targets.TARGETS:
        for name in TABLE if whole else SOME[target]:
            for dtype in compiled.DTYPES:
                if whole or dtype == "bfloat16" or (target, name) in SOME_IN_FLOAT32:
                    yield from ((target, name, dtype, part) for part in limits.NEEDED)


def pytest_generate_tests(metafunc):
    if "program" in metafunc.fixturenames:
        programs = list(_programs(metafunc.config.getoption("whole_table")))
        ids = ["-".join(program) for program in programs]
        metafunc.parametrize("program", programs, ids=ids)


def test_every_device_has_layers():
    assert set(SOME) == set(targets.TARGETS)


def test_program(program):
    target, name, dtype, part = program
    devices(target)
    layer = TABLE[name]
    row = compiled.measure(target, layer, "xla", dtype, part)
    # It is the program it should be; a small x may stay on a TPU's chip.
    assert row.moved >= limits.LEAST[part] * row.x
    assert not limits.bars(row, layer).exceeded(row)
    assert not row.relayout
    before = limits.recorded(row)
    assert before is None or not before.exceeded(row), "worse than in the record"


def test_without_its_activation():
    devices("h100")
    layer = dataclasses.replace(TABLE["sd15_64_320"], activation_name="none")
    for part in limits.NEEDED:
        row = compiled.measure("h100", layer, "xla", "bfloat16", part)
        assert not limits.bars(row, layer).exceeded(row)


@pytest.mark.parametrize("target", ["v5e", "v5p"])
@pytest.mark.parametrize(
    ("samples", "groups", "dtype"),
    [(8, 16, "bfloat16"), (16, 8, "bfloat16"), (8, 32, "float32"), (64, 64, "float32")],
)
def test_many_samples(target, samples, groups, dtype):
    # A batch that fills sublanes tempts the compiler to reorder x: up to 12|x|.
    devices(target)
    layer = dataclasses.replace(
        TABLE["sd15_64_320"], shape=(samples, 64, 64, 512), groups=groups
    )
    row = compiled.measure(target, layer, "xla", dtype, "forward")
    assert not row.relayout
    assert not limits.bars(row, layer).exceeded(row)
