"""The decoder with one norm and another in it, on a small image."""

import json

import jax
import numpy as np
import pytest

from experiments.benchmark import decoder

WIDTHS = (32, 64)
SIDE = 16


@pytest.fixture(autouse=True)
def standard_promotion():
    with jax.numpy_dtype_promotion("standard"):  # flax.linen relies on it
        yield


def test_the_norms_decode_the_same_image():
    latents = decoder._latents(SIDE, WIDTHS)
    z = jax.random.normal(jax.random.key(0), latents.shape)
    images = {}
    for norm in decoder.NORMS:
        init, decode = decoder._decoder(norm, "float32", WIDTHS)
        images[norm] = np.asarray(jax.jit(decode)(jax.jit(init)(z), z))
        assert images[norm].shape == (1, SIDE, SIDE, 3)
    ours, linen, bare = images.values()
    np.testing.assert_allclose(ours, linen, rtol=0, atol=1e-4 * np.abs(linen).max())
    assert not np.allclose(ours, bare, rtol=0, atol=0.1 * np.abs(linen).max())


def test_every_norm_is_timed_in_every_round_and_shown(monkeypatch, tmp_path, capsys):
    path = tmp_path / "decoder.json"
    arguments = ["--side", str(SIDE), "--rounds", "2", "--targets", "--record", path]
    arguments += ["--widths", *WIDTHS]
    monkeypatch.setattr("sys.argv", ["decoder", *map(str, arguments)])
    decoder.main()
    assert f"wrote {path}" in capsys.readouterr().out
    record = json.loads(path.read_text())
    assert [row["norm"] for row in record["cpu"]] == list(decoder.NORMS)
    for row in record["cpu"]:
        assert len(row["seconds"]) == len(row["cpu_seconds"]) == 2
        assert min(row["seconds"]) > 0
        assert row["temporaries"] > SIDE**2 * 4 * max(WIDTHS)
    record["cpu"][0]["cpu_seconds"] = [4.0, 2.0]
    record["cpu"][1]["cpu_seconds"] = [6.0, 6.6]
    record["compiled"] = [
        {
            "target": "h100",
            "norm": "flax_gn xla",
            "dtype": "bfloat16",
            "kernels": 7,
            "moved": 1_234_000_000,
            "temporaries": 5_600_000,
        }
    ]
    lines = decoder.table(record).splitlines()
    assert any(line.startswith("| flax_gn xla | 3.0 | 2.10 |") for line in lines)
    assert any(line.startswith("| flax.linen | 6.3 | 1.00 |") for line in lines)
    assert "| h100, bfloat16 | flax_gn xla | 7 | 1.23 | 6 |" in lines
    assert f"One image of {SIDE}x{SIDE}; the median of 2 rounds" in lines[-1]
