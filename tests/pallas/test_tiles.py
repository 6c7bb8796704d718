"""The cut of a TPU kernel: whole groups, whole tiles, no more memory than there is."""

import itertools
import math

import pytest

from experiments.benchmark import layers
from flax_gn._pallas._tpu import tiles as cuts

TABLE = layers.load()
VMEM = {"v4": 16, "v5e": 128, "v5p": 64, "v6e": 128, "7x": 64}
PASSES = {"forward": 2, "backward": 3}
DTYPES = {"bfloat16": 2, "float32": 4}


def choose(layer, chip, size, arrays):
    vmem = VMEM[chip] * cuts.MIB
    return cuts.choose(layer.shape, layer.groups, (size,) * arrays, vmem)


@pytest.mark.parametrize("chip", VMEM)
@pytest.mark.parametrize("name", TABLE)
def test_cut_of_the_table(name, chip):
    layer = TABLE[name]
    n, *spatial, c = layer.shape
    for size, arrays in itertools.product(DTYPES.values(), PASSES.values()):
        tiles = choose(layer, chip, size, arrays)
        assert math.prod(tiles.shape) == math.prod(layer.shape)
        assert tiles.shape[0] == n
        assert math.prod(tiles.shape[1:-1]) == math.prod(spatial)
        assert n % tiles.samples == 0
        assert c % tiles.channels == 0
        assert tiles.channels % (c // layer.groups) == 0
        assert tiles.channels == c or tiles.channels % cuts.LANES == 0
        if tiles.blocks > 1:
            assert tiles.samples == 1
            assert tiles.positions % tiles.chunk == 0
        block = (tiles.positions, *tiles.shape[2:-1], tiles.channels)
        buffers = 2 * arrays * tiles.samples * cuts.block_bytes(block, size)
        assert buffers < tiles.vmem_bytes <= VMEM[chip] * cuts.MIB
        if tiles.holding_bytes:
            held = tiles.samples * cuts.block_bytes(block, 4)
            assert buffers + held < tiles.holding_bytes <= VMEM[chip] * cuts.MIB


def test_reads_once_what_fits():
    layer = TABLE["sdxl_vae_256_512"]
    assert choose(layer, "v5e", 2, 2).blocks == 1
    assert choose(layer, "v4", 2, 2).blocks > 1
    assert choose(TABLE["sd15_32_640"], "v4", 2, 3).blocks == 1


def test_holds_a_slab_where_there_is_room():
    assert choose(TABLE["sd15_64_320"], "v5e", 2, 3).holding_bytes
    assert not choose(TABLE["fpn_p2"], "v5e", 2, 3).holding_bytes


def test_takes_some_channels_where_that_is_enough():
    tiles = choose(TABLE["sdxl_vae_128_512"], "v5e", 2, 2)
    assert tiles.blocks == 1
    assert tiles.channels == 128


def test_takes_several_samples_of_small_slabs():
    tiles = choose(TABLE["r50_b4_gn2"], "v5e", 2, 2)
    assert tiles.samples > 1
    assert tiles.shape[0] // tiles.samples >= 8


@pytest.mark.parametrize(
    ("shape", "view"),
    [
        ((2, 12), (2, 1, 12)),
        ((2, 5, 12), (2, 5, 12)),
        ((2, 3, 8, 12), (2, 24, 12)),
        ((2, 3, 7, 12), (2, 3, 7, 12)),
        ((2, 4, 3, 7, 12), (2, 12, 7, 12)),
        ((2, 3, 1001, 12), (2, 3003, 12)),
    ],
)
def test_keeps_apart_what_would_move(shape, view):
    assert cuts.choose(shape, 3, (4, 4), 16 * cuts.MIB).shape == view


def test_blocks_are_padded_to_tiles():
    assert cuts.block_bytes((9, 130), 4) == 16 * 256 * 4
    assert cuts.block_bytes((9, 130), 2) == 16 * 256 * 2
    assert cuts.block_bytes((3, 17, 1), 2) == 3 * 32 * 128 * 2


def test_says_so_when_nothing_fits():
    with pytest.raises(cuts.DoesNotFitError):
        cuts.choose((1, 1024, 1 << 20), 1, (4, 4), 16 * cuts.MIB)
