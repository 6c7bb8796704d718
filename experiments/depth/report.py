"""The tables, the figure and the verdicts, from the record."""

import pathlib

from experiments.depth.task import PERCENTILES
from experiments.lab import Record, Ruling, Verdict, figures, results
from experiments.training.norms import TITLES

Cells = dict[tuple[str, str, int], results.Cell]  # by network, norm and batch


def table(record: Record) -> str:
    """Final errors in percent, as two tables of Markdown."""
    cells = _errors(record)
    parts = []
    for network, title in (
        ("resnet", "ResNet-20, examples per device"),
        ("vgg", "VGG, examples per device"),
    ):
        norms = list(dict.fromkeys(n for k, n, _ in cells if k == network))
        batches = sorted({b for k, _, b in cells if k == network}, reverse=True)
        lines = [f"| {title} | " + " | ".join(map(str, batches)) + " |"]
        lines.append("|---" * (len(batches) + 1) + "|")
        for norm in norms:
            row = [str(cells[network, norm, batch]) for batch in batches]
            lines.append(f"| {TITLES[norm]} | " + " | ".join(row) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def caption(record: Record) -> str:
    """What the numbers are."""
    run = record["runs"][0]
    rates = {(row["network"], row["norm"]): row["rate"] for row in record["runs"]}
    stated = ", ".join(
        f"{rate:g} ({network}, {TITLES[norm]})"
        for (network, norm), rate in rates.items()
    )
    epochs = {row["network"]: row["epochs"] for row in record["runs"]}
    lengths = " and ".join(
        f"{results.last_epochs(length)} of {length} epochs ({network})"
        for network, length in epochs.items()
    )
    return (
        f"Test error in percent on {record['dataset']}, {results.spread_of(record)}, "
        f"each the median of the last {lengths} of {run['epoch_examples']:,} examples, "
        f"on {run['devices']} devices. Peak learning rate per 256 examples {stated}. "
        "The figure's percentiles are of the last convolution's output, before norm "
        "and activation, over the test images."
    )


def verdicts(record: Record) -> list[Verdict]:
    """By means over seeds, as `results.exceeds` tells them apart."""
    cells = _errors(record)
    large = max(batch for _, _, batch in cells)
    small = min(batch for _, _, batch in cells)
    bn, gn = (
        results.apart(cells["resnet", n, small], cells["resnet", n, large])
        for n in ("bn", "gn")
    )
    none, vgg_bn, vgg_gn = (cells["vgg", n, large] for n in ("none", "bn", "gn"))
    widths = {norm: _width(record, norm) for norm in ("none", "bn", "gn")}
    return [
        Verdict(
            f"in a deeper ResNet too batch norm's error rises at {small} per device, "
            "more than group norm's",
            "+9.9 against +0.6 points (ResNet-101, at 2)",
            f"{bn.mean:+.1f} against {gn.mean:+.1f} points",
            results.exceeds(bn, gn)
            & results.exceeds(
                cells["resnet", "bn", small], cells["resnet", "bn", large]
            ),
        ),
        Verdict(
            "and group norm is better there",
            "23.0 against 31.9%",
            f"{cells['resnet', 'gn', small]} against {cells['resnet', 'bn', small]}%",
            results.exceeds(cells["resnet", "bn", small], cells["resnet", "gn", small]),
        ),
        Verdict(
            "without shortcuts group norm is better than batch norm",
            "27.6 against 28.0%",
            f"{vgg_gn} against {vgg_bn}%",
            results.exceeds(vgg_bn, vgg_gn),
        ),
        Verdict(
            "and both are better than no norm",
            "28.0 and 27.6 against 29.2%",
            f"{vgg_bn} and {vgg_gn} against {none}%",
            results.exceeds(none, vgg_bn) & results.exceeds(none, vgg_gn),
        ),
        Verdict(
            "a norm keeps the distribution of late features from spreading in training",
            "figure 6",
            "width from 1st to 99th percentile grows "
            + ", ".join(f"{width:.1f} times ({n})" for n, width in widths.items()),
            Ruling.of(max(widths["bn"], widths["gn"]) < widths["none"]),
        ),
    ]


def figure(record: Record, path: pathlib.Path) -> None:
    """Draws the percentiles over epochs as figure 6, and the ResNet's errors."""
    cells = _errors(record)
    norms = [n for n in ("none", "bn", "gn") if any(k[:2] == ("vgg", n) for k in cells)]
    with figures.sheet(path, 2, 2, height=3.0) as (fig, axes):
        panels = list(axes.flat)
        for ax, norm in zip(panels, norms, strict=False):
            for q, style in zip(PERCENTILES, (":", "--", "-.", "-"), strict=True):
                values = _curve(record, norm, q)
                figures.epochs(ax, {f"{q}%": values}, color="black", linestyle=style)
            ax.set_title(f"VGG, {TITLES[norm]}", fontsize=9)
            ax.set_ylabel("last convolution's output")
            ax.sharey(panels[0])
        # Where the lines leave room: batch norm's stay close together.
        panels[min(1, len(norms) - 1)].legend(
            title="percentile", ncols=2, loc="lower right"
        )
        last = panels[-1]
        for norm in ("bn", "gn"):
            row = {b: c for (k, n, b), c in cells.items() if (k, n) == ("resnet", norm)}
            figures.bars(last, row, label=TITLES[norm], **figures.STYLES[norm])
        last.set_title("ResNet-20", fontsize=9)
        last.set_xlabel("batch size (examples per device)")
        last.set_ylabel("test error (%)")
        last.legend()
        fig.suptitle(f"{record['dataset']}, {results.spread_of(record)}", fontsize=9)


def _errors(record: Record) -> Cells:
    return results.cells(record, lambda r: (r["network"], r["norm"], r["batch"]))


def _curve(record: Record, norm: str, percentile: int) -> list[float]:
    """A percentile over epochs, the mean over seeds."""
    curves = [
        run["curve"][f"test_percentile{percentile}"]
        for run in record["runs"]
        if (run["network"], run["norm"]) == ("vgg", norm)
    ]
    return figures.mean_curve(curves, 1.0)


def _width(record: Record, norm: str) -> float:
    """How much wider 1% to 99% is after the last epoch than after the first."""
    low, high = (_curve(record, norm, q) for q in (PERCENTILES[0], PERCENTILES[-1]))
    return (high[-1] - low[-1]) / (high[0] - low[0])
