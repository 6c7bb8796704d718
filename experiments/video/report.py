"""The table and the figure, made from the record."""

import base64
import pathlib
from typing import Any

import numpy as np

from experiments.lab import Record, figures, results
from experiments.training.norms import TITLES

Cells = dict[tuple[str, int], results.Cell]


def cells(record: Record) -> Cells:
    """Accuracy in percent by norm and batch, in the order of the runs."""
    errors = results.cells(record, lambda run: (run["norm"], run["batch"]))
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
    sizes = batches(record)
    found = cells(record)
    lines = [
        "| clips per device | " + " | ".join(map(str, sizes)) + " |",
        "|---" * (len(sizes) + 1) + "|",
    ]
    lines += [
        f"| {TITLES[norm]} | "
        + " | ".join(str(found[norm, batch]) for batch in sizes)
        + " |"
        for norm in norms(record)
    ]
    return "\n".join(lines)


def caption(record: Record) -> str:
    """What the numbers are, and where they come from."""
    run = record["runs"][0]
    frames, height, width = record["shape"]
    return (
        f"Accuracy in percent on {record['clips']} clips of {frames} frames of "
        f"{height}x{width} pixels with things of the test part, "
        f"{results.spread_of(record)}, each the median of the last "
        f"{results.last_epochs(run['epochs'])} of {run['epochs']} epochs of "
        f"{run['epoch_examples']} clips, all of them new; by chance it is 12.5. "
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
        frames = np.pad(clip.reshape(shown["shape"]), ((0, 0), (0, 0), (0, 1)))
        frames[..., -1] = 255
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
