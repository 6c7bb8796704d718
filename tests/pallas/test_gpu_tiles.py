"""The cut of a GPU kernel: whole groups where kept, copies that can be made."""

import itertools
import math

import pytest

from experiments.benchmark import layers
from flax_gn._pallas._gpu import tiles as cuts

TABLE = layers.load()
PASSES = {"forward": 2, "backward": 3}
DTYPES = {"bfloat16": 2, "float32": 4}


def every_cut(layer):
    for (size, arrays), keep in itertools.product(
        itertools.product(DTYPES.values(), PASSES.values()), (True, False)
    ):
        sizes = (size,) * arrays
        yield cuts.choose(layer.shape, layer.groups, sizes, keep=keep), sizes, keep


@pytest.mark.parametrize("name", TABLE)
def test_cut_of_the_table(name):
    layer = TABLE[name]
    n, *spatial, c = layer.shape
    positions = math.prod(spatial)
    for tiles, sizes, keep in every_cut(layer):
        assert tiles.shape == (n, positions, c)
        assert tiles.columns * tiles.channels == c
        # What the copy engine takes, and what fills the threads.
        assert tiles.channels * sizes[0] % 16 == 0
        assert max(tiles.channels, tiles.chunk) <= 256
        assert tiles.lanes % 128 == tiles.chunk % tiles.rows == 0
        # Every position once.
        assert (tiles.chunks - 1) * tiles.chunk < positions
        assert positions <= tiles.chunks * tiles.chunk
        if tiles.splits:
            held = tiles.per_split * tiles.chunk
            assert (tiles.splits - 1) * held < positions <= tiles.splits * held
        else:
            assert keep
            assert tiles.channels % (c // layer.groups) == 0
            slab = tiles.chunks * tiles.chunk * tiles.channels * sum(sizes[:-1])
            assert slab < cuts.slab_bytes(tiles, sizes) <= cuts.SHARED_BYTES


@pytest.mark.parametrize("name", TABLE)
def test_streams_fill_the_chip(name):
    for tiles, _, keep in every_cut(TABLE[name]):
        blocks = tiles.shape[0] * tiles.columns * tiles.splits
        if not keep:
            # Or else a block's sums would weigh too much beside what it reads.
            assert blocks >= 2 * cuts.PROCESSORS or tiles.per_split <= 7
            assert tiles.per_split >= min(4, tiles.chunks)


@pytest.mark.parametrize(
    ("name", "arrays", "kept"),
    [
        ("r50_b1_gn3", 2, True),
        ("r50_b1_gn3", 3, False),
        ("sd15_32_640", 2, True),
        ("sdxl_vae_512_512", 2, False),
        ("box_head", 3, True),
    ],
)
def test_what_is_read_once(name, arrays, kept):
    layer = TABLE[name]
    tiles = cuts.choose(layer.shape, layer.groups, (2,) * arrays, keep=True)
    assert (tiles.splits == 0) is kept


def test_a_result_of_another_dtype_has_a_slab_of_its_own():
    tiles = cuts.choose((1, 64, 128), 8, (4, 4), keep=True)
    both = cuts.slab_bytes(tiles, (4, 2)) - cuts.slab_bytes(tiles, (4, 4))
    assert both == tiles.chunks * tiles.chunk * tiles.channels * 2


@pytest.mark.parametrize(("arrays", "number"), [(2, 17), (3, 13)])
def test_how_many_layers_are_read_once(arrays, number):
    """As docs/kernels.md says."""
    cut = [
        cuts.choose(layer.shape, layer.groups, (2,) * arrays, keep=True)
        for layer in TABLE.values()
    ]
    assert sum(tiles.splits == 0 for tiles in cut) == number
