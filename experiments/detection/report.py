"""The table and the figure, made from the record."""

import base64
import io
import pathlib
from typing import Any

import numpy as np

from experiments.detection.recipe import SETS, TITLES
from experiments.detection.sets import Words
from experiments.lab import Record, figures
from experiments.lab.results import Cell, cells, rates_of, spread_of

SHOWN_SCORE = 0.4  # the least score of a box in the pictures
_STYLES = {
    **figures.STYLES,
    "frozen": {"color": "#4d4d4d", "marker": "^", "linestyle": ":"},
}


def by_norm(record: Record, name: str) -> dict[str, dict[int, Cell]]:
    """A metric in percent by norm and then by batch, in the order of the runs."""
    found: dict[str, dict[int, Cell]] = {}
    for (norm, batch), cell in cells(
        record, lambda run: (run["norm"], run["batch"]), f"test_{name}"
    ).items():
        found.setdefault(norm, {})[batch] = cell
    return found


def words(record: Record) -> Words:
    """How to speak of the record's set."""
    return SETS[record["dataset"]].words


def batches(record: Record) -> list[int]:
    """Tiles per device, from the fewest."""
    return sorted({run["batch"] for run in record["runs"]})


def table(record: Record) -> str:
    """Average precision in percent, as lines of Markdown."""
    sizes = batches(record)
    names = {"ap": "AP", "ap50": "AP50"}
    head = [f"{title} at {batch}" for title in names.values() for batch in sizes]
    lines = [
        f"| {words(record).tiles} per device | AP before | " + " | ".join(head) + " |",
        "|---" * (len(head) + 2) + "|",
    ]
    before = {
        norm: Cell([100 * run["ap"] for run in record["first"] if run["norm"] == norm])
        for norm in ("bn", "gn")
    }
    found = {name: by_norm(record, name) for name in names}
    for norm in found["ap"]:
        row = [
            str(found[name][norm].get(batch, "")) for name in names for batch in sizes
        ]
        start = before["gn" if norm == "gn" else "bn"]
        lines.append(f"| {TITLES[norm]} | {start} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def caption(record: Record) -> str:
    """What the numbers are, and where they come from."""
    run, first, of = record["runs"][0], record["first"][0], words(record)
    several = record.get("classes", 1) > 1
    classes = f" of {record['classes']} classes" if several else ""
    devices = f"{run['devices']} device" + ("s" if run["devices"] > 1 else "")
    rates = {each["norm"]: each["rate"] for each in record["runs"]}
    stated = rates_of(rates, TITLES)
    told = (
        f"Average precision in percent as COCO defines it, on {record[of.tiles]} "
        f"{of.tiles} with {record[of.objects]} {of.objects}{classes} of {of.test}, "
        f"{spread_of(record)}, each the median of the last epochs. Fine-tuned for "
        f"{run['epochs']} epochs of {run['epoch_examples']} {of.tiles} on {devices}, "
        f"at a peak learning rate of Adam, for 256 {of.tiles}, of {stated}; before "
        f"that, trained for {first['epochs']} epochs on {of.first} at "
        f"{first['batch']} per device, after which the AP on {of.again} was the one "
        "called before."
    )
    return " ".join([told, *record.get("said", [])])


def figure(record: Record, path: pathlib.Path) -> pathlib.Path:
    """Draws average precision by batch and by epoch, and boxes in a tile."""
    import PIL.Image

    norms = list(by_norm(record, "ap"))
    with figures.sheet(path, columns=3, rows=2, height=3.6) as (fig, axes):
        fig.set_size_inches(10.2, 7.0)
        for panel, name, title in zip(
            axes[0], ("ap", "ap50"), ("AP", "AP50"), strict=False
        ):
            _by_batch(panel, record, name, title)
        _by_epoch(axes[0][2], record)
        axes[0][0].legend()
        for panel, norm in zip(axes[1], norms, strict=False):
            _tile(panel, record, norm)
        for panel in axes[1][len(norms) :]:
            panel.set_axis_off()
    # 128 colours show three pictures as well as 16 million, in a third of the bytes.
    PIL.Image.open(path).convert("RGB").quantize(128).save(path, optimize=True)
    return path


def _by_batch(panel: Any, record: Record, name: str, title: str) -> None:
    sizes = batches(record)
    for place, (norm, row) in enumerate(by_norm(record, name).items()):
        there = [batch for batch in sizes if batch in row]
        panel.errorbar(
            # Side by side, so that no bar hides another.
            [sizes.index(batch) + 0.03 * (place - 1) for batch in there],
            [row[batch].mean for batch in there],
            yerr=[row[batch].spread or 0.0 for batch in there],
            capsize=4,
            label=TITLES[norm],
            **_STYLES[norm],
        )
    panel.set_xticks(range(len(sizes)), [str(batch) for batch in sizes])
    panel.margins(0.08)
    panel.set_xlabel(f"batch size ({words(record).tiles} per device)")
    panel.set_ylabel(f"{title} on {words(record).tested} (%)")


def _by_epoch(panel: Any, record: Record) -> None:
    """At the smallest batch, the mean over seeds in a band of their spread."""
    batch = batches(record)[0]
    for norm in by_norm(record, "ap"):
        curves = [
            run["curve"]["test_ap"]
            for run in record["runs"]
            if (run["norm"], run["batch"]) == (norm, batch)
        ]
        figures.epochs(
            panel,
            {TITLES[norm]: figures.mean_curve(curves)},
            **{**_STYLES[norm], "marker": None},
        )
        if len(curves) > 1:
            mean, spread = np.mean(curves, axis=0), np.std(curves, axis=0, ddof=1)
            panel.fill_between(
                range(1, len(mean) + 1),
                100 * (mean - spread),
                100 * (mean + spread),
                color=_STYLES[norm]["color"],
                alpha=0.15,
                linewidth=0,
            )
    panel.set_ylabel(f"AP on {words(record).tested}, {batch} per device (%)")


def _tile(panel: Any, record: Record, norm: str) -> None:
    """The tile of the record, its objects, and what the first seed's network found."""
    import PIL.Image
    from matplotlib.patches import Rectangle

    batch, of = batches(record)[0], words(record)
    shown = record["shown"]
    image = PIL.Image.open(io.BytesIO(base64.b64decode(shown["jpeg"])))
    run = next(
        run
        for run in record["runs"]
        if (run["norm"], run["batch"], run["seed"]) == (norm, batch, 0)
    )
    scored = [box for box in run["measured"]["found"] if box[4] >= SHOWN_SCORE]
    panel.imshow(np.asarray(image), extent=(0, image.width, image.height, 0))
    for boxes, style in (
        (shown[of.objects], {"edgecolor": "white", "linestyle": "-", "linewidth": 2.2}),
        (scored, {"edgecolor": "black", "linestyle": "--", "linewidth": 1.2}),
    ):
        for left, top, right, bottom, *_ in boxes:
            rectangle = Rectangle(
                (left, top), right - left, bottom - top, fill=False, **style
            )
            panel.add_patch(rectangle)
    panel.set_title(
        f"{TITLES[norm]}, {batch} per device: {len(scored)} boxes", fontsize=9
    )
    panel.set_xlabel(
        f"{of.objects}: white, found: black, dashed ({of.pixels})", fontsize=8
    )
