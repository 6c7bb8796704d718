"""How the schedules of the TPU kernels are read, and the page that shows them."""

import dataclasses
import math
import pathlib

import pytest

from experiments import markers
from experiments.benchmark import layers, schedule

ROOT = pathlib.Path(__file__).parents[3]
ROW = schedule.Row(
    "v5e", "fpn_p5", "none", "bfloat16", "forward", 1, 4, bundles=3000, bytes=4100
)

# As libtpu writes it: a bundle may go on over lines, and one may hold nothing.
BUNDLES = """\
     0   :  { %s1 = inlined_call_operand.hbm [shape: bf16[2,8]] }
   0x1 LB: > { %s2 = sadd.s32 1, %s3 }
   0x2   : > { %4 = dma.hbm_to_vmem [thread:$0]
window_bounds: (1, 512, 3)
element_size_in_bytes: 2048 */ } /* End region 25 */
   0x3   :  {}
   0x4 LB: >> { %p5 = scmp.ge.s32.totalorder %s6, 16 /* loop exit test */ }
   0x5   : >> { %v7 = vadd.f32 %v8, %v9 }
   0x6 LB: >>> { %p10 = scmp.ge.s32.totalorder %s11, 3 /* loop exit test */ }
   0x7 PF: > { %p12 = scmp.ge.s32.totalorder %s13, 4 /* loop exit test */ }
   0x8   :  { %14 = vsyncpa [#allocation5], 1 }
"""


def test_bundles_count_once_for_each_trip():
    assert schedule.count(BUNDLES, [16, 3], steps=4) == [3, 2 * 16, 1 * 16 * 3]


def test_a_grid_of_one_step_is_no_loop():
    text = BUNDLES.replace("> {", " {")
    assert schedule.count(text, [16, 3], steps=1) == [3 + 3, 2 * 16, 1 * 16 * 3]


@pytest.mark.parametrize("trips", [[], [16], [16, 4], [8, 3]])
def test_other_loops_than_expected_are_refused(trips):
    with pytest.raises(ValueError, match="expected loops"):
        schedule.count(BUNDLES, trips, steps=4)


def test_table_says_from_which_clock_on_the_computing_is_hidden():
    line = schedule.table([ROW], {"v5e": 820_000_000}).splitlines()[-1]
    assert line.endswith("| 1 | 4 | 3,000 | 5.0 | 0.60 |")


def test_a_record_takes_the_newer_of_two(tmp_path, monkeypatch):
    monkeypatch.setattr(schedule, "bandwidth", lambda _: 1)
    path = tmp_path / "record.json"
    other = dataclasses.replace(ROW, name="backward")
    schedule.save(path, [ROW, other])
    newer = dataclasses.replace(ROW, bundles=2000)
    schedule.save(path, [newer])
    stamp, speeds, rows = schedule.load(path)
    assert rows == [newer, other]
    assert speeds == {"v5e": 1}
    assert stamp["versions"]["jax"]


def test_the_committed_record_has_every_generation_both_ways():
    _, speeds, rows = schedule.load(schedule.RECORD)
    table = layers.load()
    made = {(row.target, row.layer, row.name) for row in rows}
    assert made >= {
        (target, layer, name)
        for target in schedule.TPUS
        for layer in schedule.LAYERS
        for name in ("forward", "backward")
    }
    assert set(speeds) == set(schedule.TPUS)
    for row in rows:
        # All of x in, all of y out, and padding.
        size = {"bfloat16": 2, "float32": 4}[row.dtype]
        x = size * math.prod(table[row.layer].shape)
        assert row.blocks * row.bytes >= {"forward": 2, "backward": 3}[row.name] * x
        assert row.bundles > 0


def test_the_page_shows_the_record():
    page = ROOT / "docs" / "kernels.md"
    assert markers.read(page, "schedule") == schedule.text()


def test_computing_hides_behind_memory_on_a_v5e():
    """As README.md and docs/kernels.md say: a v5e runs at 1.5 GHz."""
    _, speeds, rows = schedule.load(schedule.RECORD)
    clocks = {
        row.key: row.bundles * speeds[row.target] / row.bytes
        for row in rows
        if row.target == "v5e"
    }
    assert len(clocks) == 4 * len(schedule.LAYERS)  # both dtypes, both ways
    assert max(clocks.values()) < 1.5e9
