"""`python -m experiments`: the list, the refusals, and the page made from records."""

import importlib
import pathlib

import pytest

from experiments import __main__ as command
from experiments import paper
from experiments.lab import Ruling, catalogue, page
from tests.experiments.lab import quick

ROOT = pathlib.Path(__file__).parents[3]
EXPERIMENTS = [catalogue.load(name) for name in catalogue.NAMES]
RECORDED = [e for e in EXPERIMENTS if e.path.is_file()]


def test_the_list_names_every_experiment_with_its_time_and_memory(capsys):
    assert command.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    for experiment in EXPERIMENTS:
        (line,) = [line for line in lines if f"{experiment.command} " in line]
        assert f"{experiment.minutes:g} min" in line
        assert f"{experiment.memory_gb:.1f} GB" in line


@pytest.mark.parametrize("name", catalogue.NAMES)
def test_the_quick_run_of_every_experiment_is_tested(name):
    of = importlib.import_module(f"tests.experiments.{name}.test_quick").TestQuick
    assert issubclass(of, quick.Quick)
    assert of.name == name
    whole = "test_from_the_command_to_the_page"
    assert getattr(of, whole) is getattr(quick.Quick, whole)


def test_every_folder_with_an_experiment_is_in_the_list():
    folders = {
        path.parent.name for path in (ROOT / "experiments").glob("*/experiment.py")
    }
    assert folders == set(catalogue.NAMES) | {"lab"}


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda e: e.name)
def test_an_experiment_is_where_its_name_says(experiment):
    assert experiment.folder == ROOT / "experiments" / experiment.name
    assert experiment.minutes <= 60
    with pytest.raises(SystemExit) as stopped:
        command.main([experiment.name, "--bogus"])
    assert stopped.value.code == 2


def test_an_unknown_name_is_refused(capsys):
    assert command.main(["norm"]) == 2
    assert "no experiment 'norm'; choose from small_batch" in capsys.readouterr().err


def test_report_takes_no_more_words(capsys):
    assert command.main(["report", "norms"]) == 2
    assert "expected nothing more, got 'norms'" in capsys.readouterr().err


def test_the_page_is_that_of_the_records():
    assert page.PATH.read_text() == page.render(EXPERIMENTS)


def test_the_page_says_what_has_not_run_on_an_accelerator():
    ran = [e.name for e in EXPERIMENTS if (e.folder / "results/paper.json").exists()]
    missing = [part.name for part in paper.PARTS if part.name not in ran]
    told = " ".join(page.render(EXPERIMENTS).split())
    assert ("not run there yet" in told) == bool(missing)
    assert not missing or f"not run there yet: {', '.join(missing)}." in told


@pytest.mark.parametrize("experiment", RECORDED, ids=lambda e: e.name)
def test_the_figure_of_a_record(experiment, tmp_path):
    record = experiment.record()
    assert record is not None
    experiment.figure(record, tmp_path / "figure.png")
    for drawn in (tmp_path / "figure.png", experiment.picture):
        assert drawn.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("experiment", RECORDED, ids=lambda e: e.name)
def test_a_record_says_where_it_comes_from(experiment):
    record = experiment.record()
    assert record is not None
    assert record["size"] == experiment.size
    assert record["stamp"]["date"]
    assert record["stamp"]["commit"]
    verdicts = experiment.verdicts(record)
    assert len({verdict.claim for verdict in verdicts}) == len(verdicts) > 0
    section = page.section(experiment, record)
    for verdict in verdicts:
        words = " ".join(section.split())
        said = verdict.ruling.value.capitalize()
        said = said if verdict.ruling is Ruling.HELD else f"**{said}**"
        assert f"- {said}: {verdict.claim}" in words
    assert experiment.command in section
