import dataclasses
import json
import math
import pathlib
import statistics
import subprocess
import sys

import jax
import pytest

from experiments.benchmark import __main__ as benchmark
from experiments.benchmark import (
    contenders,
    layers,
    measure,
    report,
    timing,
    workers,
)

ROOT = pathlib.Path(__file__).parents[3]


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """What the command writes, run as a user runs it."""
    out = tmp_path_factory.mktemp("benchmark") / "record.json"
    command = [sys.executable, "-m", "experiments.benchmark", "--out", str(out)]
    options = ["--layers", "diffusion_policy", "--seconds", "0", "--activation", "with"]
    run = subprocess.run(
        [*command, *options, "--contenders", "flax_gn xla", "flax.linen", "copy"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "diffusion_policy float32 forward mish" in run.stdout
    return out


def test_the_record_has_a_time_for_every_case_and_contender(record):
    rows = json.loads(record.read_text())["results"]
    cases = {(row["contender"], row["dtype"], row["mode"]) for row in rows}
    assert cases == {
        (contender, dtype, mode)
        for contender in ("flax_gn xla", "flax.linen", "copy")
        for dtype in ("float32", "bfloat16")
        for mode in ("forward", "step")
    }
    assert all(row["seconds"] > 0 for row in rows)
    assert all(row["error"] is None for row in rows)


def test_the_record_says_where_and_when_it_was_made(record):
    loaded = json.loads(record.read_text())
    assert {"date", "commit", "device", "processor", "versions"} <= set(loaded)
    assert "--layers diffusion_policy" in loaded["command"]
    assert loaded["allocator"]["MALLOC_MMAP_MAX_"] == "0"


def test_flax_gn_keeps_x_and_little_more(record):
    rows = json.loads(record.read_text())["results"]
    kept = {(row["contender"], row["dtype"]): row["kept"] for row in rows}
    assert kept["flax_gn xla", "bfloat16"] < 1.05
    assert kept["flax.linen", "bfloat16"] > 4


def test_the_figure_is_drawn_from_the_record(record, tmp_path):
    figure = report.figure(record, tmp_path / "figure.png")
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_the_table_shows_geometric_means_and_extremes():
    def row(layer, ratio):
        return {
            "contender": "mine",
            "layer": layer,
            "activation": "none",
            "mode": "forward",
            "dtype": "float32",
            "seconds": 1.0,
            "times_linen": ratio,
        }

    table = report.layers_table(
        {
            "results": [row("a", 2.0), row("b", 8.0)],
            "processor": "P",
            "cores": 2,
            "device": "1 x cpu",
            "versions": {"jax": "1", "flax": "2"},
            "date": "2026-01-02T03:04:05",
            "command": "run",
        }
    )
    assert "| mine | 4.00 (2.00 to 8.00) | - | - | - |" in table
    assert "over 2 layers" in table
    assert "2026-01-02; `run`." in table


def test_the_committed_record_bears_out_what_the_pages_say():
    committed = report.groups(report.load(report.RESULTS / "cpu.json"))
    ratios = {
        key: [row["times_linen"] for row in rows] for key, rows in committed.items()
    }
    means = {key: report.geometric_mean(found) for key, found in ratios.items()}
    aims = {"forward": 3, "step": 2.5}
    compiling = {"forward": (1.5, 3), "step": (1.3, 2)}
    for mode, aim in aims.items():
        for dtype in ("float32", "bfloat16"):
            ours = means["flax_gn xla", mode, dtype]
            torch = means["torch channels-last", mode, dtype]
            assert ours > (torch if mode == "step" else 0.9 * torch)
            for name in ("flax.nnx", "haiku", "equinox", "keras"):
                assert ours > means[name, mode, dtype]
        assert means["flax_gn xla", mode, "bfloat16"] > aim
        ours, linen = (
            [row["compile_seconds"] for row in committed[name, mode, "float32"]]
            + [row["compile_seconds"] for row in committed[name, mode, "bfloat16"]]
            for name in ("flax_gn xla", "flax.linen")
        )
        slower = statistics.median(a / b for a, b in zip(ours, linen, strict=True))
        least, most = compiling[mode]
        assert least < slower < most
        assert means["two passes", mode, "float32"] < 1.05 * aim
    below = [
        ratio
        for (name, *_), found in ratios.items()
        for ratio in found
        if name == "flax_gn xla" and ratio < 1
    ]
    assert len(below) == 3
    assert f"{min(below):.2f}" == "0.94"


def test_no_layer_is_slower_on_a_cpu_than_flax_linen():
    record = report.load(report.RESULTS / "cpu_layers.json")
    rows = [row for row in record["results"] if row["contender"] == "flax_gn xla"]
    assert {row["layer"] for row in rows} == layers.load().keys()
    assert min(row["times_linen"] for row in rows) > 1


def test_the_record_of_an_h100_bears_out_what_the_pages_say():
    table, record = layers.load(), report.load(report.RESULTS / "h100.json")
    assert "H100" in record["device"]
    assert not any(row["error"] for row in record["results"])
    found = report.groups(record)
    rates = {"float32": (0.94, 1.05), "bfloat16": (0.86, 0.93)}
    for dtype, itemsize in (("float32", 4), ("bfloat16", 2)):
        for i, mode in enumerate(("forward", "step")):
            ours, kernels, copies = (
                {row["layer"]: row for row in found[name, mode, dtype]}
                for name in ("flax_gn xla", "flax_gn pallas_gpu", "copy")
            )
            size = {
                name: itemsize * math.prod(table[name].shape) / 1e6 for name in ours
            }
            large = [name for name in ours if size[name] >= 50]
            shares = [_rate(ours[name]) / _rate(copies[name]) for name in large]
            share = report.geometric_mean(shares)
            assert share == pytest.approx(rates[dtype][i], abs=0.005)
            bar = 0.95 if mode == "forward" else 1
            slower = [n for n, row in ours.items() if row["times_linen"] < bar]
            if mode == "forward":
                assert slower == [min(size, key=lambda name: size[name])]
            else:
                assert min(row["times_xla"] for row in kernels.values()) > 1
                for name in slower:
                    assert ours[name]["times_linen"] > 0.905
                    assert table[name].activation is None


def _rate(row):
    """Bytes moved in a second, over those of x."""
    return row["moved"] / row["seconds"]


def test_a_step_of_a_unet_block_gains_most_of_what_there_is_to_gain():
    record = report.load(report.RESULTS / "h100_steps.json")
    times = {row["contender"]: row["times_linen"] for row in record["steps"]}
    assert f"{times['flax_gn xla']:.2f}" == "1.20"  # as README.md says
    assert f"{times['scale and shift']:.2f}" == "1.28"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--layers", "nope"], "--layers: expected some of r50_root"),
        (
            ["--dtypes", "int8"],
            "--dtypes: expected some of float32, bfloat16; got int8",
        ),
        (["--contenders", "nope"], "--contenders: expected some of flax_gn xla"),
        (["--networks", "nope"], "--networks: expected some of ResNet-50"),
        (["--jobs", "2"], "--jobs: expected 1 on a CPU"),
    ],
)
def test_an_unknown_name_is_refused_before_any_work(options, message, monkeypatch):
    monkeypatch.setattr(benchmark, "_keep_freed_memory", lambda _: None)
    monkeypatch.setattr(measure, "case", lambda *_, **__: pytest.fail("it went on"))
    with pytest.raises(SystemExit, match=message):
        benchmark.main(options)


def test_processes_measure_all_cases_between_them():
    layer = layers.load()["diffusion_policy"]
    cases = [workers.Case(layer, dtype, "forward") for dtype in measure.DTYPES]
    names = ["flax_gn xla", "copy"]
    found = dict(workers.in_processes(2, cases, names, 0.0, None))
    assert found.keys() == set(cases)
    for case, results in found.items():
        assert [result.contender for result in results] == names
        assert all(result.dtype == case.dtype for result in results)
        assert all((result.seconds or 0) > 0 for result in results)


def test_a_contender_that_fails_keeps_its_error_and_the_others_their_times(monkeypatch):
    def fail(_):
        raise ValueError("at run time")

    def compiles_and_fails(layer):
        del layer
        return lambda x, *_: jax.pure_callback(fail, jax.typeof(x), x)

    layer = layers.load()["diffusion_policy"]
    broken = dataclasses.replace(contenders.ALL["copy"], norm=compiles_and_fails)
    monkeypatch.setitem(contenders.ALL, "copy", broken)
    chosen = contenders.named(["copy", "flax_gn xla"])
    results = measure.case(layer, "float32", "forward", chosen, seconds=0)
    failed, timed = results
    assert failed.seconds is None
    assert "calling callback" in (failed.error or "")
    assert timed.error is None
    assert timed.seconds


TRACE = """
planes {
  name: "/device:GPU:0"
  lines {
    name: "Stream #14(Compute)"
    timestamp_ns: 1000
    events { metadata_id: 1 offset_ps: 0 duration_ps: 3000000 }
    events { metadata_id: 1 offset_ps: 5000000 duration_ps: 2000000 }
  }
  lines {
    name: "Stream #15(MemcpyD2D)"
    timestamp_ns: 1000
    events { metadata_id: 2 offset_ps: 2000000 duration_ps: 2000000 }
  }
  event_metadata { key: 1 value { id: 1 name: "loop_add_fusion" } }
  event_metadata { key: 2 value { id: 2 name: "MemcpyD2D" } }
}
planes {
  name: "/host:CPU"
  lines {
    name: "python"
    timestamp_ns: 1000
    events { metadata_id: 1 offset_ps: 0 duration_ps: 90000000 }
  }
  event_metadata { key: 1 value { id: 1 name: "main" } }
}
"""


def _written(folder, text):
    data = jax.profiler.ProfileData.text_proto_to_serialized_xspace(text)
    (folder / "host.xplane.pb").write_bytes(data)
    return folder


def test_a_device_is_busy_while_at_least_one_stream_is(tmp_path):
    assert timing.busy_seconds(_written(tmp_path, TRACE)) == pytest.approx(6e-6)


def test_a_trace_without_a_device_is_refused(tmp_path):
    host = TRACE[TRACE.rindex("planes {") :]
    with pytest.raises(RuntimeError, match="no device events"):
        timing.busy_seconds(_written(tmp_path, host))


def test_contenders_agree_with_each_other():
    layer = layers.load()["diffusion_policy"]
    x, gamma, beta = measure.inputs(layer, "float32", "forward")
    ours = contenders.ALL["flax_gn xla"].norm(layer)(x, gamma, beta)
    for name, contender in contenders.ALL.items():
        if contender.usable and contender.floor_step is None:
            theirs = contender.norm(layer)(x, gamma, beta)
            assert abs(theirs - ours).max() < 1e-4, name


def test_ratios_pair_runs_of_one_round():
    slow = timing.Times((4.0, 40.0, 4.0))
    fast = timing.Times((1.0, 20.0, 1.0))
    assert fast.times_faster_than(slow) == 4


def test_rounds_go_on_until_the_time_is_spent_each_in_an_order_of_its_own():
    order = []
    runs = {name: lambda name=name: order.append(name) or 1.0 for name in "abc"}
    times = timing.run_rounds(runs, seconds=0, least=5)
    rounds = [tuple(order[i : i + 3]) for i in range(0, 15, 3)]
    assert all(sorted(names) == ["a", "b", "c"] for names in rounds)
    assert len(set(rounds)) > 2
    assert times["a"].seconds == (1.0,) * 5
