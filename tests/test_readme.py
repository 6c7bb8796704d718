"""The tables in README.md and docs/performance.md are those of committed records."""

import pathlib

import pytest

from experiments import markers
from experiments.benchmark import compiled_report, tables
from experiments.small_batch import report as small_batch
from experiments.small_batch import results as small_batch_results

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.parametrize(
    "page", ["README.md", "docs/performance.md", "docs/kernels.md"]
)
def test_the_tables_of_times_are_the_records(page, tmp_path):
    copy = tmp_path / "page.md"
    copy.write_text((ROOT / page).read_text())
    tables.write(copy)
    assert copy.read_text() == (ROOT / page).read_text()


@pytest.mark.parametrize("page", ["README.md", "docs/performance.md"])
def test_what_is_said_of_compiled_programs_is_the_record(page, tmp_path):
    copy = tmp_path / "page.md"
    copy.write_text((ROOT / page).read_text())
    assert not compiled_report.write(copy)


def test_the_table_of_batch_sizes_is_the_records(tmp_path):
    copy = tmp_path / "README.md"
    copy.write_text((ROOT / "README.md").read_text())
    record = small_batch_results.read(small_batch_results.FOLDER / "full.json")
    small_batch.write_readme(copy, record)
    assert copy.read_text() == (ROOT / "README.md").read_text()
    assert "batch norm" in markers.read(copy, "small_batch")


def test_the_pictures_are_there():
    for line in (ROOT / "README.md").read_text().replace("\n", " ").split("![")[1:]:
        path = line.split("](", 1)[1].split(")", 1)[0]
        assert (ROOT / path).is_file(), path
