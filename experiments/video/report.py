"""The table and the figure, made from the record."""

import base64
import pathlib
from typing import Any

import numpy as np

from experiments.lab import Record, figures, results
from experiments.training.norms import TITLES
from experiments.video.paths import DIRECTIONS
from experiments.video.recipe import SETS

Cells = dict[tuple[str, int], results.Cell]


def cells(record: Record, part: str = "test") -> Cells:
    """Accuracy in percent by norm and batch, in the order of the runs."""
    errors = results.cells(
        record, lambda run: (run["norm"], run["batch"]), f"{part}_errors"
    )
    return {
        key: results.Cell([100 - value for value in cell.values])
        for key, cell in errors.items()
    }


def norms(record: Record) -> list[str]:
    return list(dict.fromkeys(run["norm"] for run in record["runs"]))


def batches(record: Record) -> list[int]:
    """Clips per device, from the most."""
    return sorted({run["batch"] for run in record["runs"]}, reverse=True)


def table(record: Record) -> str:
    """Accuracy in percent, as lines of Markdown."""
    parts = {"test": "test", "train": "training"}
    heads = [f"{p} at {batch}" for p in parts.values() for batch in batches(record)]
    found = {part: cells(record, part) for part in parts}
    lines = [
        "| clips per device | " + " | ".join(heads) + " |",
        "|---" * (len(heads) + 1) + "|",
    ]
    for norm in norms(record):
        row = [
            str(found[part][norm, batch]) for part in parts for batch in batches(record)
        ]
        lines.append(f"| {TITLES[norm]} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def caption(record: Record) -> str:
    """What the numbers are, and where they come from."""
    run = record["runs"][0]
    frames, height, width = record["shape"]
    of = SETS[record["dataset"].partition(" ")[0]].words
    classes = record.get("classes", len(DIRECTIONS))  # older records do not say
    return (
        f"Accuracy in percent on {record['clips']} clips of {frames} frames of "
        f"{height}x{width} pixels {of.tested}, "
        f"{results.spread_of(record)}, each the median of the last "
        f"{results.last_epochs(run['epochs'])} of {run['epochs']} epochs of "
        f"{run['epoch_examples']} clips{of.trained}; by chance it is "
        f"{100 / classes:.3g}. "
        f"{run['devices']} device, peak learning rate of Adam {run['rate']:g} per 256 "
        f"clips for both norms."
    )


def figure(record: Record, path: pathlib.Path) -> pathlib.Path:
    """Draws accuracy by batch and by epoch, and a clip."""
    with figures.sheet(path, columns=2, rows=2) as (fig, axes):
        fig.set_size_inches(8.4, 4.8)
        _by_batch(axes[0][0], record)
        _by_epoch(axes[0][1], record)
        axes[0][0].legend()
        grid = axes[0][0].get_gridspec()
        grid.set_height_ratios([3, 1])
        for panel in axes[1]:
            panel.remove()
        panel = fig.add_subplot(grid[1, :])
        shown = record["shown"]
        clip = np.frombuffer(base64.b64decode(shown["bytes"]), np.uint8)
        frames = clip.reshape(shown["shape"])
        gap = [(0, 0), (0, 0), (0, 1), (0, 0)][: frames.ndim]
        frames = np.pad(frames, gap, constant_values=255)
        panel.imshow(np.concatenate(list(frames), axis=1), cmap="gray")
        panel.set_title(f'a clip, of "{shown["label"]}": frames 1 to {len(frames)}')
        panel.set_axis_off()
    return path


def _by_batch(panel: Any, record: Record) -> None:
    found = cells(record)
    for norm in norms(record):
        row = {batch: found[norm, batch] for batch in batches(record)}
        figures.bars(panel, row, label=TITLES[norm], **figures.STYLES[norm])
    panel.set_xlabel("batch size (clips per device)")
    panel.set_ylabel("test accuracy (%)")


def _by_epoch(panel: Any, record: Record) -> None:
    """At the smallest batch."""
    batch = batches(record)[-1]
    for norm in norms(record):
        curves = [
            [1 - error for error in run["curve"]["test_errors"]]
            for run in record["runs"]
            if (run["norm"], run["batch"]) == (norm, batch)
        ]
        style = {**figures.STYLES[norm], "marker": None}
        figures.epochs(panel, {TITLES[norm]: figures.mean_curve(curves)}, **style)
        figures.band(panel, curves, color=style["color"])
    panel.set_ylabel(f"test accuracy at {batch} per device (%)")
