"""The tables, the figure and the verdicts, from the record."""

import pathlib
from typing import Any

from experiments.lab import Record, Ruling, Verdict, figures
from experiments.training.norms import TITLES

ROUND_OFF = 1e-4  # of a sum of 512 gradients in float32, relative to its norm


def table(record: Record) -> str:
    """Steps, then gradients, as lines of Markdown."""
    head = (
        "| width, batch, norm | forward, ms | backward, ms | step / no norm's | "
        "kept for backward, MB | temporaries, MB |"
    )
    lines = [head, "|---|---|---|---|---|---|"]
    lines += [
        f"| {row['width']}, {row['batch']}, {TITLES[row['norm']]} | "
        f"{row['forward_ms']:.2f} | {row['step_ms'] - row['forward_ms']:.2f} | "
        f"{row['times_none']:.2f} | {row['kept'] / 1e6:.2f} | "
        f"{row['temporaries'] / 1e6:.2f} |"
        for row in record["steps"]
    ]
    batches = sorted({row["batch"] for row in record["noise"]}, reverse=True)
    head = "| gradient, examples in a batch | " + " | ".join(map(str, batches)) + " |"
    noise = [head, "|---" * (len(batches) + 1) + "|"]
    for norm in dict.fromkeys(row["norm"] for row in record["noise"]):
        for part in ("bias", "noise"):
            cells = [_percent(_noise(record, norm, b)[part]) for b in batches]
            noise.append(f"| {TITLES[norm]}, {part} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n\n" + "\n".join(noise)


def caption(record: Record) -> str:
    """What the numbers are."""
    step, noise = record["steps"][0], record["noise"][0]
    return (
        f"Above: the loss and its gradients for ResNet-8 on {record['dataset']}, one "
        f"device, median of {step['rounds']} rounds or more side by side; the width is "
        "the stem's, and what is kept includes the weights. Below: how far the "
        f"gradient over {noise['examples']} fixed examples, cut into batches, is from "
        "that over one batch of all, in percent of its length: on average (bias) and "
        f"from one of {noise['cuts']} random cuts to another (noise); after "
        f"{noise['epochs']} epochs of training."
    )


def verdicts(record: Record) -> list[Verdict]:
    """From the gradients; the paper makes no claim about time or memory."""
    batches = sorted({row["batch"] for row in record["noise"]}, reverse=True)
    bn = [_noise(record, "bn", batch) for batch in batches]
    gn = [_noise(record, "gn", batch) for batch in batches]
    noises, biases = ([row[part] for row in bn] for part in ("noise", "bias"))
    return [
        Verdict(
            "batch norm's statistics are estimated worse the smaller the batch",
            "said, not measured (section 1)",
            f"the gradient is off by {_percent(biases[0])}% at {batches[0]}, by "
            f"{_percent(biases[-1])}% at {batches[-1]}, and noisier by "
            f"{noises[-1] / noises[0]:.0f} times",
            Ruling.of(biases == sorted(biases) and noises == sorted(noises)),
        ),
        Verdict(
            "group norm's computation does not depend on the batch",
            "by definition",
            f"off by {max(max(r['bias'], r['noise']) for r in gn):.0e} at most",
            Ruling.of(max(max(row["bias"], row["noise"]) for row in gn) < ROUND_OFF),
        ),
    ]


def figure(record: Record, path: pathlib.Path) -> None:
    """Draws time and kept memory over no norm's, and the gradient's noise."""
    cases = list(dict.fromkeys((r["width"], r["batch"]) for r in record["steps"]))
    norms = list(dict.fromkeys(row["norm"] for row in record["steps"]))
    with figures.sheet(path, columns=3) as (_, (left, middle, right)):
        for place, norm in enumerate(norms):
            rows = [row for row in record["steps"] if row["norm"] == norm]
            at = [
                index + 0.16 * (place - len(norms) / 2) for index in range(len(cases))
            ]
            shade: Any = {"color": str(0.15 + 0.75 * place / len(norms)), "width": 0.15}
            shade |= {"label": TITLES[norm], "edgecolor": "black", "linewidth": 0.5}
            left.bar(at, [row["times_none"] for row in rows], **shade)
            middle.bar(at, [row["kept"] / 1e6 for row in rows], **shade)
        for ax in (left, middle):
            ax.set_xticks(range(len(cases)), [f"{w}, {b}" for w, b in cases])
            ax.set_xlabel("width, examples in a step")
        left.set_ylabel("time of a step (of one without norm)")
        middle.set_ylabel("kept for the backward pass (MB)")
        left.set_ylim(0, 1.45 * left.get_ylim()[1])
        left.legend(fontsize=7, ncols=2, loc="upper left")
        batches = sorted({row["batch"] for row in record["noise"]}, reverse=True)
        for norm, part in (("bn", "bias"), ("bn", "noise"), ("gn", "noise")):
            style = figures.STYLES[norm]
            if part == "bias":
                style = style | {"linestyle": ":", "marker": "x"}
            right.plot(
                range(len(batches)),
                [100 * _noise(record, norm, batch)[part] for batch in batches],
                label=f"{TITLES[norm]}, {part}",
                **style,
            )
        right.set_yscale("log")
        right.set_xticks(range(len(batches)), map(str, batches))
        right.set_xlabel("examples in a batch")
        right.set_ylabel("deviation of the gradient (%)")
        right.legend(fontsize=7)


def _noise(record: Record, norm: str, batch: int) -> Record:
    (row,) = [r for r in record["noise"] if (r["norm"], r["batch"]) == (norm, batch)]
    return row


def _percent(part: float) -> str:
    """Two digits.

    >>> _percent(0.123), _percent(1.5), _percent(2e-7)
    ('12', '150', '2e-05')
    """
    digits = float(f"{100 * part:.2g}")
    return f"{digits:g}"
