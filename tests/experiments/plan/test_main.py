"""The command line, with a compiler that knows what fits."""

import dataclasses
import json

import pytest

from experiments.plan import __main__ as program
from experiments.plan import report, step
from tests.experiments.plan.test_report import MADE


@pytest.fixture
def asked(monkeypatch):
    """What it was asked for; 100 examples fit, and one takes a quarter of a GiB."""
    found = []

    def make(config, topology, batch, classes):
        found.append((config.norm, config.batch, topology, batch, classes))
        scratch = batch * report.GIB // 4
        made = dataclasses.replace(MADE, batch=batch, temporaries=scratch)
        return made if batch <= 100 else None

    monkeypatch.setattr(step, "make", make)
    return found


def test_the_largest_batch(asked, tmp_path, capsys):
    record = tmp_path / "plan.json"
    arguments = f"--topology v5e:2x4 --norm gn bn --largest --record {record}"
    assert program.main(arguments.split()) == 0
    printed = capsys.readouterr().out
    # 16 GiB are thought to hold 70, and all that the search tries is told.
    assert [a[3] for a in asked[:5]] == [32, 72, 80, 88, 96]
    assert "96 per device: fits" in printed
    assert "104 per device: does not fit" in printed
    assert "largest batch that fits   96 per device, 768 in all" in printed
    rows = json.loads(record.read_text())["rows"]
    assert sorted((r["config"]["norm"], r["made"]["batch"]) for r in rows) == [
        ("bn", 32),
        ("bn", 96),
        ("gn", 32),
        ("gn", 96),
    ]


def test_what_does_not_fit(asked, capsys):
    assert program.main(["--topology", "h100", "--per-device", "200"]) == 0
    assert len(asked) == 1
    assert "does not fit, at 200 examples per device" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("", "--topology"),
        ("--topology h100 --per-device 0", "expected a positive integer, got '0'"),
        ("report --record nowhere.json", "there is no file nowhere.json"),
    ],
)
def test_a_wrong_command(arguments, told, capsys):
    with pytest.raises(SystemExit):
        program.main(arguments.split())
    assert told in capsys.readouterr().err


def test_the_table_goes_into_a_document(asked, tmp_path, capsys):
    record, page = tmp_path / "plan.json", tmp_path / "page.md"
    page.write_text("Before.\n<!-- plan:begin -->\n<!-- plan:end -->\nAfter.\n")
    program.main(f"--topology v5e:2x4 --record {record}".split())
    assert program.main(f"report --record {record} --docs {page}".split()) == 0
    assert len(asked) == 1
    text = page.read_text()
    assert text.startswith("Before.\n")
    assert text.endswith("After.\n")
    assert "| v5e-8 | gn | 32 | 256 |" in text
    assert report.section(record) in capsys.readouterr().out
