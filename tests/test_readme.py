"""What README.md and docs/ say in numbers is what committed records say."""

import pathlib
import re

import pytest

from experiments import markers
from experiments.benchmark import compiled_report, tables
from experiments.small_batch import report as small_batch
from experiments.small_batch import results as small_batch_results

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [
    str(path.relative_to(ROOT))
    for path in [*ROOT.glob("docs/**/*.md"), ROOT / "experiments" / "README.md"]
]


# The pages that show a record, by the name of the markers.
SHOWN = {
    "times-headline": ["README.md", "docs/index.md"],
    "headline": ["README.md", "docs/index.md"],
    "numerics-headline": ["README.md", "docs/index.md"],
    "small_batch": ["README.md"],
    "benchmark": ["docs/performance.md"],
    "layers": ["docs/performance.md"],
    "h100": ["docs/performance.md"],
    "h100_peers": ["docs/performance.md"],
    "h100_steps": ["docs/performance.md"],
    "steps": ["docs/performance.md"],
    "compiled": ["docs/performance.md"],
    "cost": ["docs/performance.md"],
    "h100_kernels": ["docs/kernels.md"],
    "decoder": ["docs/trained.md"],
    "numerics": ["docs/numerics.md"],
}


@pytest.mark.parametrize("marker", SHOWN)
def test_each_record_is_shown_where_it_belongs(marker):
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    found = [page for page in pages if f"<!-- {marker}:begin -->" in page.read_text()]
    assert [str(page.relative_to(ROOT)) for page in found] == SHOWN[marker]


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "docs/index.md",
        "docs/performance.md",
        "docs/kernels.md",
        "docs/trained.md",
    ],
)
def test_the_tables_of_times_are_the_records(page, tmp_path):
    copy = tmp_path / "page.md"
    copy.write_text((ROOT / page).read_text())
    tables.write(copy)
    assert copy.read_text() == (ROOT / page).read_text()


@pytest.mark.parametrize("page", ["README.md", "docs/index.md", "docs/performance.md"])
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


def test_the_readme_fits_on_two_screens():
    """Of 45 lines of 110 characters each, the figure, 20 lines high, aside."""
    text = (ROOT / "README.md").read_text()
    text = re.sub(r"<!--.*?-->\n", "", text)
    text = re.sub(r"\n*!?\[([^]]*)\]\([^)]*\)", r" \1", text)
    code, height = False, 0
    for paragraph in text.split("\n\n"):
        lines = paragraph.strip().splitlines()
        code ^= paragraph.count("```") % 2 == 1
        kept = code or lines[0].startswith(("|", "```", "-"))
        for line in lines if kept else [" ".join(lines)]:
            height += -(-len(line) // 110)
    assert height <= 90


@pytest.mark.parametrize("page", ["README.md", *PAGES])
def test_links_lead_to_files(page):
    text = re.sub(r"```.*?```|`[^`]*`", "", (ROOT / page).read_text(), flags=re.DOTALL)
    folder = (ROOT / page).parent
    for path in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text):
        assert (folder / path).exists(), path
