"""The two tables, the figure and the verdicts, from the record."""

import itertools
import pathlib
from collections.abc import Sequence

from experiments.lab import Record, Verdict, figures, results

KINDS = {"groups": "groups", "channels": "channels per group"}
Cells = dict[int, results.Cell]


def table(record: Record) -> str:
    """Final errors in percent, as two tables of Markdown."""
    parts = []
    for kind, title in KINDS.items():
        cells = _cells(record, kind)
        heads = [_head(kind, count) for count in cells]
        parts.append(
            f"| {title} | "
            + " | ".join(heads)
            + " |\n"
            + "|---" * (len(cells) + 1)
            + "|\n"
            + "| error | "
            + " | ".join(map(str, cells.values()))
            + " |"
        )
    return "\n\n".join(parts)


def caption(record: Record) -> str:
    """What the numbers are."""
    run = record["runs"][0]
    return (
        f"Test error in percent on {record['dataset']}, {results.spread_of(record)}, "
        f"each the median of the last {results.last_epochs(run['epochs'])} of "
        f"{run['epochs']} epochs of {run['epoch_examples']:,} examples; "
        f"{results.step_of(run)}; peak learning rate per 256 "
        f"examples {run['rate']:g} for all."
    )


def verdicts(record: Record) -> list[Verdict]:
    """By means over seeds, as `results.exceeds` tells them apart."""
    groups, channels = (_cells(record, kind) for kind in KINDS)
    layer, instance = groups[1], channels[1]
    several = [cell for count, cell in groups.items() if count > 1]
    wide = [cell for count, cell in channels.items() if count > 1]
    few = (8, 4, 2, 1)
    found = [
        Verdict(
            "every number of groups beats layer norm, which is one group",
            "24.1 to 24.7 against 25.3%",
            f"{_range(several)} against {layer}%",
            results.all_of(results.exceeds(layer, cell) for cell in several),
        ),
        Verdict(
            "every number of channels beats instance norm, which is one channel",
            "24.2 to 25.6 against 28.4%",
            f"{_range(wide)} against {instance}%",
            results.all_of(results.exceeds(instance, cell) for cell in wide),
        ),
    ]
    if channels.keys() >= set(few):  # a quick run has the ends alone
        shrinking = [channels[count] for count in few]
        grows = results.all_of(
            results.exceeds(later, earlier)
            for earlier, later in itertools.pairwise(shrinking)
        )
        found.append(
            Verdict(
                "the error grows as groups shrink from 8 channels to 1",
                "24.3, 24.8, 25.6, 28.4%",
                ", ".join(f"{cell.mean:.1f}" for cell in shrinking) + "%",
                grows,
            )
        )
    return found


def figure(record: Record, path: pathlib.Path) -> None:
    """Draws both tables, with the ends as lines across."""
    ends = _cells(record, "groups").get(1), _cells(record, "channels").get(1)
    with figures.sheet(path) as (fig, axes):
        for ax, (kind, title) in zip(axes, KINDS.items(), strict=True):
            figures.bars(ax, _cells(record, kind), **figures.STYLES["gn"])
            for cell, norm, label in zip(
                ends, ("ln", "in"), ("layer norm", "instance norm"), strict=True
            ):
                if cell is not None:
                    style = figures.STYLES[norm]
                    ax.axhline(
                        cell.mean,
                        label=label,
                        color=style["color"],
                        linestyle=style["linestyle"],
                    )
            ax.set_xlabel(title)
            ax.set_ylabel("test error (%)")
        low = min(ax.get_ylim()[0] for ax in axes)
        high = max(ax.get_ylim()[1] for ax in axes)
        for ax in axes:
            ax.set_ylim(low, high)
        if any(ends):
            axes[0].legend()
        fig.suptitle(f"{record['dataset']}, {results.spread_of(record)}", fontsize=9)


def _cells(record: Record, kind: str) -> Cells:
    """By the number of groups, or of channels in each."""
    found = results.cells(record, lambda run: run["norm"])
    return {
        int(norm.removeprefix(kind)): cell
        for norm, cell in found.items()
        if norm.startswith(kind)
    }


def _head(kind: str, count: int) -> str:
    return (
        f"{count} = {'LN' if kind == 'groups' else 'IN'}" if count == 1 else str(count)
    )


def _range(cells: Sequence[results.Cell]) -> str:
    means = [cell.mean for cell in cells]
    return f"{min(means):.1f} to {max(means):.1f}"
