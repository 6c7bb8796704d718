"""The table and the figure, made from the record."""

import base64
import pathlib
from typing import Any

import numpy as np

from experiments.lab import Record, figures, results
from experiments.segmentation.recipe import SETS
from experiments.segmentation.sets import Words
from experiments.training.norms import TITLES

NETWORKS = {"2d": "slices (2D)", "3d": "volumes (3D)"}
METRICS = {"miou": "mean IoU", "dice": "mean Dice"}
Cells = dict[tuple[str, str, int], results.Cell]


def cells(record: Record, name: str) -> Cells:
    """A metric in percent by network, norm and batch, in the order of the runs."""
    return results.cells(
        record,
        lambda run: (run["network"], run["norm"], run["batch"]),
        f"test_{name}",
    )


def networks(record: Record) -> list[str]:
    return list(dict.fromkeys(run["network"] for run in record["runs"]))


def norms(record: Record) -> list[str]:
    return list(dict.fromkeys(run["norm"] for run in record["runs"]))


def batches(record: Record) -> list[int]:
    """Patches per device, from the most."""
    return sorted({run["batch"] for run in record["runs"]}, reverse=True)


def table(record: Record) -> str:
    """Mean IoU and mean Dice in percent, as lines of Markdown."""
    heads = [f"{m} at {batch}" for m in METRICS.values() for batch in batches(record)]
    lines = [
        "| patches per device | " + " | ".join(heads) + " |",
        "|---" * (len(heads) + 1) + "|",
    ]
    found = {name: cells(record, name) for name in METRICS}
    for network in networks(record):
        for norm in norms(record):
            row = [
                str(found[name][network, norm, batch])
                for name in METRICS
                for batch in batches(record)
            ]
            title = f"{NETWORKS[network]}, {TITLES[norm]}"
            lines.append(f"| {title} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def caption(record: Record) -> str:
    """What the numbers are, and where they come from."""
    runs, of = record["runs"], _words(record)
    run = runs[0]
    tested = " and ".join(
        f"{part['test']} patches of {'x'.join(map(str, part['shape']))} voxels"
        for part in record["patches"].values()
    )
    counts = {
        network: results.seeds({"runs": [r for r in runs if r["network"] == network]})
        for network in networks(record)
    }
    seeds = " and ".join(
        f"{count} seed{'s' * (count > 1)} of {NETWORKS[network]}"
        for network, count in counts.items()
    )
    return (
        f"Mean intersection over union of {of.measures}, in percent, "
        f"mean ± sample standard deviation over {seeds}, each the median of the last "
        f"{results.last_epochs(run['epochs'])} of {run['epochs']} epochs of "
        f"{run['epoch_examples']} patches; tested on {tested} {of.tested}. "
        f"{run['devices']} device, peak learning rate of Adam {run['rate']:g} per 256 "
        f"patches for both norms."
    )


def _words(record: Record) -> Words:
    """How to speak of the record's set."""
    return SETS[record["dataset"].partition(" ")[0]].words


def figure(record: Record, path: pathlib.Path) -> pathlib.Path:
    """Draws mean IoU by batch and by epoch, and what is said of one slice."""
    rows = len(networks(record))
    with figures.sheet(path, columns=3, rows=rows) as (fig, axes):
        fig.set_size_inches(10.8, 3.1 * rows)
        axes = np.reshape(axes, (rows, 3))
        for row, network in zip(axes, networks(record), strict=True):
            _by_batch(row[0], record, network)
            _by_epoch(row[1], record, network)
        axes[0, 0].legend()
        grid = axes[0, 0].get_gridspec()
        for panel in axes[:, 2]:
            panel.remove()
        _slices(fig, grid[:, 2], record)
    return path


def _slices(fig: Any, place: Any, record: Record) -> None:
    """The slice, its classes, and what the first seed of each network says."""
    shown = [
        (_words(record).image, record["shown"]["image"]),
        (_words(record).truth, record["shown"]["labels"]),
    ]
    shown += [
        (f"{run['network'].upper()}, {TITLES[run['norm']]}, at {run['batch']}", said)
        for run in record["runs"]
        if (said := run["measured"].get("said"))
    ]
    inner = place.subgridspec(-(-len(shown) // 2), 2)
    for index, (title, picture) in enumerate(shown):
        panel = fig.add_subplot(inner[index // 2, index % 2])
        most = 255 if index == 0 else record.get("classes", 3) - 1
        panel.imshow(
            decoded(picture).T[::-1],
            cmap="gray",
            vmin=0,
            vmax=most,
            interpolation="nearest",
        )
        panel.set_title(title, fontsize=6.5)
        panel.set_axis_off()


def _by_batch(panel: Any, record: Record, network: str) -> None:
    found = cells(record, "miou")
    for norm in norms(record):
        row = {batch: found[network, norm, batch] for batch in batches(record)}
        figures.bars(panel, row, label=TITLES[norm], **figures.STYLES[norm])
    panel.set_xlabel("batch size (patches per device)")
    panel.set_ylabel(f"{NETWORKS[network]}: mean IoU (%)")


def _by_epoch(panel: Any, record: Record, network: str) -> None:
    """At the smallest batch."""
    batch = batches(record)[-1]
    for norm in norms(record):
        curves = [
            run["curve"]["test_miou"]
            for run in record["runs"]
            if (run["network"], run["norm"], run["batch"]) == (network, norm, batch)
        ]
        style = {**figures.STYLES[norm], "marker": None}
        figures.epochs(panel, {TITLES[norm]: figures.mean_curve(curves)}, **style)
        figures.band(panel, curves, color=style["color"])
    panel.set_ylabel(f"mean IoU at {batch} per device (%)")


def decoded(picture: Record) -> np.ndarray:
    """What `session.encoded` made JSON of."""
    content = base64.b64decode(picture["bytes"])
    return np.frombuffer(content, np.uint8).reshape(picture["shape"])
