"""The table, the figure and the verdicts, from the record."""

import pathlib
import textwrap

from experiments.finetune.recipe import TITLES, arm
from experiments.lab import Record, Verdict, figures, results

STYLES = figures.STYLES | {"gn+ws": figures.STYLES["none"] | {"linestyle": "-."}}
Cells = dict[str, results.Cell]


def table(record: Record) -> str:
    """Errors in percent, as lines of Markdown."""
    start, end = starts(record), errors(record)
    lines = ["| test error | before | after |", "|---|---|---|"]
    return "\n".join(
        lines + [f"| {TITLES[name]} | {start[name]} | {end[name]} |" for name in end]
    )


def caption(record: Record) -> str:
    """What the numbers are."""
    first = record["runs"][0]
    run = record["runs"][-1]
    trained = results.cells(_part(record, None), lambda _: None)[None]
    rates = {name: row["rate"] for row in record["runs"] if (name := arm(row))}
    stated = results.rates_of(rates, TITLES)
    return (
        f"Test error in percent on {record['dataset']}, {results.spread_of(record)}. "
        f"The batch-norm networks were trained for {first['epochs']} epochs at "
        f"{first['batch']} examples on each of {first['devices']} devices, to {trained}"
        f"%. Before: as they are taken over. After: {run['epochs']} epochs of "
        f"{run['epoch_examples']:,} examples at {run['batch']} per device, the median "
        f"of the last {results.last_epochs(run['epochs'])}; peak learning rate per 256 "
        f"examples {stated}."
    )


def verdicts(record: Record) -> list[Verdict]:
    """By means over seeds, as `results.exceeds` tells them apart."""
    end = errors(record)
    bn, frozen, gn, ws = (end[name] for name in ("bn", "frozen", "gn", "gn+ws"))
    return [
        Verdict(
            "at batch 2, fine-tuning with group norm beats frozen batch norm",
            "COCO box AP 38.8 against 37.7 (C4), 40.3 against 38.6 (FPN)",
            f"error {gn} against {frozen}%",
            results.exceeds(frozen, gn),
        ),
        Verdict(
            "at batch 2, batch norm that is not frozen is worse than frozen",
            "about 6 AP",
            f"error {bn} against {frozen}%",
            results.exceeds(bn, frozen),
        ),
        Verdict(
            "group norm with weight standardisation is better than without "
            "(Qiao et al., arXiv:1903.10520)",
            "better",
            f"error {ws} against {gn}%",
            results.exceeds(gn, ws),
        ),
    ]


def figure(record: Record, path: pathlib.Path) -> None:
    """Draws the error over epochs from where each network is taken over."""
    end = errors(record)
    with figures.sheet(path) as (fig, (left, right)):
        for name in end:
            runs = _part(record, name)["runs"]
            curves = [
                [run["measured"]["start_errors"], *run["curve"]["test_errors"]]
                for run in runs
            ]
            mean = figures.mean_curve(curves)
            left.plot(range(len(mean)), mean, label=TITLES[name], **STYLES[name])
        left.xaxis.get_major_locator().set_params(integer=True)
        left.set_xlabel("epoch of fine-tuning")
        left.set_ylabel("test error (%)")
        left.set_yscale("log")
        left.set_yticks((10, 20, 40, 80), ("10", "20", "40", "80"))
        left.minorticks_off()
        left.legend()
        for place, name in enumerate(end):
            cell = end[name]
            right.errorbar(
                place, cell.mean, cell.spread or 0.0, capsize=4, **STYLES[name]
            )
        right.set_xticks(
            range(len(end)), [textwrap.fill(TITLES[name], 13) for name in end]
        )
        right.tick_params(axis="x", labelsize=7)
        right.margins(0.15)
        right.set_ylabel("test error after fine-tuning (%)")
        fig.suptitle(
            f"{record['dataset']}, from batch norm at 32 to 2 examples per device, "
            f"{results.spread_of(record)}",
            fontsize=9,
        )


def errors(record: Record) -> Cells:
    """After, by arm."""
    cells = results.cells(record, arm)
    return {name: cells[name] for name in TITLES if name in cells}


def starts(record: Record) -> Cells:
    """Before, by arm."""
    found: Cells = {}
    for run in record["runs"]:
        if (name := arm(run)) is not None:
            cell = found.setdefault(name, results.Cell([]))
            cell.values.append(100 * run["measured"]["start_errors"])
    return found


def _part(record: Record, name: str | None) -> Record:
    return record | {"runs": [run for run in record["runs"] if arm(run) == name]}
