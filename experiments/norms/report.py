"""The table, the curves and the verdicts, from the record."""

import pathlib

from experiments.lab import Record, Verdict, figures, results
from experiments.training.norms import TITLES

PARTS = {"train_errors": "training error (%)", "test_errors": "validation error (%)"}


def table(record: Record) -> str:
    """Final errors in percent, as lines of Markdown."""
    test, train = (_errors(record, name) for name in ("test_errors", "train_errors"))
    lines = ["| | " + " | ".join(TITLES[norm] for norm in test) + " |"]
    lines.append("|---" * (len(test) + 1) + "|")
    for title, cells in (("validation error", test), ("training error", train)):
        lines.append(f"| {title} | " + " | ".join(map(str, cells.values())) + " |")
    least = min(test.values(), key=lambda cell: cell.mean).mean
    gaps = [f"{cell.mean - least:.1f}" for cell in test.values()]
    return "\n".join([*lines, "| behind the best | " + " | ".join(gaps) + " |"])


def caption(record: Record) -> str:
    """What the numbers are."""
    run = record["runs"][0]
    rates = {row["norm"]: row["rate"] for row in record["runs"]}
    stated = results.rates_of(rates, TITLES)
    return (
        f"Errors in percent on {record['dataset']}, {results.spread_of(record)}, each "
        f"the median of the last {results.last_epochs(run['epochs'])} of "
        f"{run['epochs']} epochs of {run['epoch_examples']:,} examples; "
        f"{results.step_of(run)}. The training error is that of "
        "the augmented images as they were trained on. Peak learning rate per 256 "
        f"examples {stated}."
    )


def verdicts(record: Record) -> list[Verdict]:
    """By means over seeds, as `results.exceeds` tells them apart."""
    test, train = (_errors(record, name) for name in ("test_errors", "train_errors"))
    best, gn = test["bn"], test["gn"]
    behind = {norm: cell.mean - best.mean for norm, cell in test.items()}
    return [
        Verdict(
            "batch norm has the lowest validation error at 32 per device",
            "23.6%",
            f"{best}%, the others {_range(behind)}",
            results.all_of(
                results.exceeds(test[norm], best) for norm in ("ln", "in", "gn")
            ),
        ),
        Verdict(
            "group norm comes closest to it, layer and instance norm fall behind",
            "GN 24.1, LN 25.3, IN 28.4%",
            f"GN {gn}, LN {test['ln']}, IN {test['in']}%",
            results.all_of(results.exceeds(test[norm], gn) for norm in ("ln", "in")),
        ),
        Verdict(
            "group norm's training error is below batch norm's",
            "figure 4",
            f"{train['gn']} against {train['bn']}%",
            results.exceeds(train["bn"], train["gn"]),
        ),
    ]


def figure(record: Record, path: pathlib.Path) -> None:
    """Draws training and validation error over epochs, as the paper's figure 4."""
    with figures.sheet(path) as (fig, axes):
        for ax, (name, label) in zip(axes, PARTS.items(), strict=True):
            lowest = 100.0
            for norm in _errors(record, name):
                curves = [
                    run["curve"][name] for run in record["runs"] if run["norm"] == norm
                ]
                mean = figures.mean_curve(curves)
                lowest = min(lowest, *mean)
                style = figures.STYLES[norm] | {"markevery": max(1, len(mean) // 8)}
                figures.epochs(ax, {TITLES[norm]: mean}, markersize=4, **style)
                figures.band(ax, curves, color=figures.STYLES[norm]["color"])
            # The first epochs are far off and would flatten the rest.
            ax.set_ylim(0.9 * lowest, 3.0 * lowest)
            ax.set_ylabel(label)
        axes[0].legend()
        fig.suptitle(f"{record['dataset']}, {results.spread_of(record)}", fontsize=9)


def _errors(record: Record, name: str) -> dict[str, results.Cell]:
    return results.cells(record, lambda run: run["norm"], name)


def _range(behind: dict[str, float]) -> str:
    others = [behind[norm] for norm in ("gn", "ln", "in")]
    return f"{min(others):+.1f} to {max(others):+.1f}"
