"""The cut of a GPU kernel: whole groups where kept, copies that can be made."""

import dataclasses
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
        held = tiles.per_block * tiles.chunk
        assert positions <= tiles.shares * held
        if not tiles.kept:
            assert (tiles.shares - 1) * held < positions
        else:
            assert keep
            assert tiles.shares in (1, 2, 4, 8)
            assert tiles.channels % (c // layer.groups) == 0
            slab = held * tiles.channels * sum(sizes[:-1])
            assert slab < cuts.slab_bytes(tiles, sizes) <= cuts.SHARED_BYTES


@pytest.mark.parametrize("name", TABLE)
def test_streams_fill_the_chip(name):
    for tiles, _, _ in every_cut(TABLE[name]):
        if not tiles.kept:
            # Or else a block's sums would weigh too much beside what it reads.
            assert tiles.blocks >= 2 * cuts.PROCESSORS or tiles.per_block <= 7
            assert tiles.per_block >= min(4, tiles.chunks)


@pytest.mark.parametrize(
    ("name", "arrays", "cluster"),
    [
        ("box_head", 3, 1),
        ("r50_b1_gn3", 2, 1),
        ("r50_b1_gn3", 3, 2),  # one block does not hold it
        ("sd15_64_320", 2, 8),  # 32 groups in a block each would leave the chip idle
        ("sd15_16_2560", 2, 1),  # as here, but there is too little to share
        ("sdxl_vae_128_512", 2, 8),
        ("sdxl_vae_512_512", 2, None),
    ],
)
def test_what_is_read_once(name, arrays, cluster):
    layer = TABLE[name]
    tiles = cuts.choose(layer.shape, layer.groups, (2,) * arrays, keep=True)
    assert (tiles.shares if tiles.kept else None) == cluster


@pytest.mark.parametrize("name", TABLE)
def test_a_cluster_is_no_larger_than_it_has_to_be(name):
    layer = TABLE[name]
    for tiles, sizes, _ in every_cut(layer):
        if not tiles.kept or tiles.shares == 1:
            continue
        half = dataclasses.replace(tiles, shares=tiles.shares // 2)
        fits = cuts.slab_bytes(half, sizes) <= cuts.SHARED_BYTES
        assert not fits or half.blocks < cuts.PROCESSORS


def test_a_result_of_another_dtype_has_a_slab_of_its_own():
    tiles = cuts.choose((1, 64, 128), 8, (4, 4), keep=True)
    both = cuts.slab_bytes(tiles, (4, 2)) - cuts.slab_bytes(tiles, (4, 4))
    assert both == tiles.per_block * tiles.chunk * tiles.channels * 2


@pytest.mark.parametrize(("arrays", "alone", "together"), [(2, 14, 13), (3, 12, 11)])
def test_how_many_layers_are_read_once(arrays, alone, together):
    """As docs/kernels.md says."""
    cut = [
        cuts.choose(layer.shape, layer.groups, (2,) * arrays, keep=True)
        for layer in TABLE.values()
    ]
    kept = [tiles.shares for tiles in cut if tiles.kept]
    assert (kept.count(1), len(kept) - kept.count(1)) == (alone, together)
