"""The tables of docs/ and a sentence of README.md, each made from committed records."""

import pathlib

from experiments import markers
from experiments.benchmark import cost_report, decoder, kernels, report


def headline(h100: report.Row, cpu: report.Row) -> str:
    """One sentence: times beside flax.linen's, forward and backward."""
    times, layers = {}, {}
    for device, record in (("h100", h100), ("cpu", cpu)):
        for dtype in ("bfloat16", "float32"):
            rows = report.groups(record)["flax_gn xla", "step", dtype]
            mean = report.geometric_mean(row["times_linen"] for row in rows)
            times[device, dtype] = f"{mean:.2f}"
            layers[device] = len({row["layer"] for row in rows})
    return (
        f"Forward and backward it is {times['h100', 'bfloat16']} times as fast as "
        f"flax.linen on an H100 in bfloat16 and {times['h100', 'float32']} times in "
        f"float32, in the geometric mean of {layers['h100']} layers; on "
        f"{cpu['cores']} cores of a CPU it is {times['cpu', 'bfloat16']} and "
        f"{times['cpu', 'float32']} times."
    )


# By the name of its markers, how a table is made and from what.
_TABLES = {
    "times-headline": (headline, "h100.json", "cpu_layers.json"),
    "benchmark": (report.layers_table, "cpu.json"),
    "layers": (report.layers_table, "cpu_layers.json"),
    "steps": (report.steps_table, "cpu_steps.json"),
    "h100": (report.layers_table, "h100.json"),
    "h100_peers": (report.layers_table, "h100_peers.json"),
    "h100_steps": (report.steps_table, "h100_steps.json"),
    "h100_kernels": (kernels.table, "h100.json"),
    "decoder": (decoder.table, "decoder.json"),
    "cost": (cost_report.table, "cost.json"),
}


def write(page: pathlib.Path) -> None:
    """Rewrites those tables of a page that it has markers for."""
    for marker, (table, *names) in _TABLES.items():
        if f"<!-- {marker}:begin -->" in page.read_text():
            records = (report.load(report.RESULTS / name) for name in names)
            markers.replace(page, marker, table(*records))
