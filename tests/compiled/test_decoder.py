"""The decoder of the record, small, compiled for a device that is not here."""

import jax

from experiments.benchmark import decoder
from tests.compiled.conftest import devices


def test_our_norm_moves_fewer_bytes_than_flaxs():
    devices("h100")
    with jax.numpy_dtype_promotion("standard"):  # flax.linen relies on it
        ours, linen = (
            decoder.compile_for("h100", norm, "bfloat16", 64, (32, 64))
            for norm in ("flax_gn xla", "flax.linen")
        )
    assert 0 < ours.moved < linen.moved
    assert ours.kernels > 0
    assert ours.temporaries > 0
