"""Tables of what the compilers make of the layers, from the record.

    python -m experiments.benchmark.compiled_report    # every program
    python -m experiments.benchmark.compiled_report --pages README.md

The second form writes the summary, or one sentence of it, between a page's markers.
"""

import argparse
import pathlib
import statistics
from collections.abc import Callable, Iterable, Sequence

from experiments import markers
from experiments.benchmark import compiled


def table(rows: Iterable[compiled.Row]) -> str:
    """A table in Markdown with a line for each program; bytes are over those of x."""
    head = ["device", "layer", "norm", "dtype", "pass"]
    head += ["kernels", "moved", "largest", "scratch", "relayout"]
    body = []
    for row in rows:
        cells = row.cells or ("refused", "", "", "", "")
        body.append([row.target, row.layer, row.norm, row.dtype, row.name, *cells])
    return _markdown(head, body, text=5)


def summary(rows: Iterable[compiled.Row]) -> str:
    """A table in Markdown with a line for each device, dtype, pass and norm.

    Numbers are the median over the layers and, in brackets, the most; bytes are over
    those of x.
    """
    together: dict[tuple[str, ...], list[compiled.Row]] = {}
    for row in rows:
        key = row.target, row.dtype, row.name, row.norm
        together.setdefault(key, []).append(row)
    head = ["device", "dtype", "pass", "norm", "layers"]
    head += ["kernels", "bytes moved", "largest array between", "scratch memory"]
    head += ["reordered", "refused"]
    body = []
    for key, several in together.items():
        made = [row for row in several if row.error is None]
        cells = [
            _median_and_most([row.kernels for row in made], "{:.0f}".format),
            *(
                _median_and_most(
                    [getattr(row, size) / row.x for row in made], "{:.2f}".format
                )
                for size in ("moved", "largest", "scratch")
            ),
            str(sum(row.relayout for row in made)),
            str(len(several) - len(made)),
        ]
        body.append([*key, str(len(several)), *cells])
    return _markdown(head, body, text=4)


def caption() -> str:
    """Which compilers, when and how."""
    stamps, _ = compiled.load(compiled.RECORD)
    (versions,) = {tuple(sorted(s["versions"].items())) for s in stamps.values()}
    named = dict(versions)
    dates = sorted({stamp["date"][:10] for stamp in stamps.values()})
    return (
        "Median over the layers, with the most in brackets; bytes over those of x. "
        f"libtpu {named['libtpu']}, jax-cuda13-plugin {named['jax-cuda13-plugin']}, "
        f"jax {named['jax']}, flax {named['flax']}; {' to '.join(dates)}; "
        "`python -m experiments.benchmark.compiled`."
    )


def headline(rows: Iterable[compiled.Row]) -> str:
    """The summary of the summary: bytes moved on an H100, beside flax.linen's."""
    moved: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row.target == "h100" and row.dtype == "bfloat16":
            moved.setdefault((row.name, row.norm), []).append(row.moved / row.x)
    layers = len(moved["backward", "xla"])
    medians = {key: f"{statistics.median(values):.1f}" for key, values in moved.items()}
    return (
        f"Compiled for an H100, in the median of {layers} layers in bfloat16, the "
        f"backward pass moves {medians['backward', 'xla']} times the bytes of x, and "
        f"flax.linen's {medians['backward', 'flax.linen']}; forward it is "
        f"{medians['forward', 'xla']} and {medians['forward', 'flax.linen']}."
    )


def write(page: pathlib.Path) -> bool:
    """Writes between a page's markers, compiled or headline; whether it changed."""
    _, rows = compiled.load(compiled.RECORD)
    if "<!-- headline:begin -->" in page.read_text():
        return markers.replace(page, "headline", headline(rows))
    return markers.replace(page, "compiled", f"{summary(rows)}\n\n{caption()}")


def _median_and_most(values: Sequence[float], form: Callable[[float], str]) -> str:
    return f"{form(statistics.median(values))} ({form(max(values))})"


def _markdown(head: Sequence[str], body: Iterable[Sequence[str]], text: int) -> str:
    rule = ["---"] * text + ["---:"] * (len(head) - text)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *body))


def main() -> None:
    """Prints the record, or writes its summary into pages."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pages", nargs="+", type=pathlib.Path, default=[])
    args = parser.parse_args()
    if not args.pages:
        print(table(compiled.load(compiled.RECORD)[1]))
    for page in args.pages:
        print(f"{page}: {'written' if write(page) else 'as it was'}")


if __name__ == "__main__":
    main()
