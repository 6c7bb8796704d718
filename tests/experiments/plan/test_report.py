"""The record of plans, and the page that it makes."""

import dataclasses
import pathlib

import pytest

from experiments import markers
from experiments.plan import report
from experiments.plan.step import Made, target

PAGE = pathlib.Path(__file__).parents[3] / "docs" / "scale.md"
MADE = Made(
    devices=8,
    batch=32,
    arguments=2 * report.GIB,
    temporaries=3 * report.GIB,
    results=0,
    code=report.GIB,
    moved=7 * report.GIB,
    collectives=[("all-reduce", 2, 98 * report.MIB)],
    seconds=1.5,
)
CONFIG = {
    "network": "resnet50",
    "norm": "gn",
    "image_size": 224,
    "dtype": "bfloat16",
    "remat": False,
    "accumulation": 1,
    "classes": 1000,
}
ROW = report.Row("v5e:2x4", CONFIG, False, 32, MADE)


def test_the_page_is_that_of_the_record():
    assert markers.read(PAGE, "plan") == report.section(report.RECORD)


def test_the_record_has_what_the_page_promises():
    _, rows = report.load(report.RECORD)
    by_place = {
        row.topology: row.made
        for row in rows
        if row.batch == 32 and row.config["norm"] == "gn" and not row.config["remat"]
    }
    pod, one = by_place["v5e:16x16"], by_place["h100"]
    assert pod is not None
    assert one is not None
    # ResNet-50 has 25.6 million parameters, of four bytes each.
    ((kind, _, size),) = pod.collectives
    assert kind == "all-reduce"
    assert size == pytest.approx(4 * 25.557e6, rel=0.02)
    assert one.collectives == []
    # Two compilers keep about the same for the backward pass.
    assert one.temporaries == pytest.approx(pod.temporaries, rel=0.2)
    assert any(row.largest and row.topology == "h100" for row in rows)


def test_what_is_saved_is_what_is_loaded(tmp_path):
    path = tmp_path / "plan.json"
    nothing = dataclasses.replace(ROW, topology="h100", batch=9999, made=None)
    report.save(path, [ROW, nothing])
    again = dataclasses.replace(ROW, made=dataclasses.replace(MADE, seconds=9.0))
    report.save(path, [again])
    _, rows = report.load(path)
    assert {row.topology: row.made and row.made.seconds for row in rows} == {
        "v5e:2x4": 9.0,
        "h100": None,
    }
    rows.sort(key=lambda row: row.topology)
    line = report.table(rows).splitlines()[-1]
    assert line == (
        "| v5e-8 | gn | 32 | 256 | 6.00 | 3.00 | 7.00 | "
        "2 all-reduce, 98.0 MiB together |"
    )


def test_an_answer_in_words():
    text = report.plain(ROW)
    assert "batch                     32 per device, 256 in all" in text
    assert "memory per device         6.00 GiB: 3.00 for activations" in text
    none = dataclasses.replace(ROW, made=None)
    assert "does not fit, at 32 examples per device" in report.plain(none)


def test_a_topology_of_no_known_device():
    with pytest.raises(ValueError, match=r"expected a topology of h100, .*got 'v1:2'"):
        target("v1:2")
