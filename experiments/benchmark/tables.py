"""The tables of README.md and docs/, each made from its committed record."""

import pathlib

from experiments import markers
from experiments.benchmark import kernels, report

# By the name of its markers, how a table is made and from what.
_TABLES = {
    "benchmark": (report.readme_table, "cpu.json"),
    "steps": (report.steps_table, "cpu_steps.json"),
    "h100": (report.readme_table, "h100.json"),
    "h100_peers": (report.readme_table, "h100_peers.json"),
    "h100_steps": (report.steps_table, "h100_steps.json"),
    "h100_kernels": (kernels.table, "h100.json"),
}


def write(page: pathlib.Path) -> None:
    """Rewrites those tables of a page that it has markers for."""
    for marker, (table, record) in _TABLES.items():
        if f"<!-- {marker}:begin -->" in page.read_text():
            markers.replace(page, marker, table(report.load(report.RESULTS / record)))
