"""How the figures look: told apart without colour, error bars, axes with units."""

import contextlib
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

# By marker, line and fill.
STYLES: dict[str, dict[str, Any]] = {
    "bn": {"color": "#b2182b", "marker": "o", "linestyle": "-"},
    "gn": {"color": "#2166ac", "marker": "s", "linestyle": "--"},
    "ln": {"color": "#4d4d4d", "marker": "^", "linestyle": ":"},
    "in": {"color": "#888888", "marker": "v", "linestyle": "-."},
    "sync": {"color": "#e08214", "marker": "D", "linestyle": (0, (5, 1, 1, 1, 1, 1))},
    "ghost": {"color": "#b2182b", "marker": "d", "linestyle": (0, (3, 1, 1, 1))},
    "frozen": {"color": "#35978f", "marker": "P", "linestyle": (0, (8, 2))},
    "none": {"color": "#000000", "marker": "x", "linestyle": (0, (1, 3))},
}


@contextlib.contextmanager
def sheet(
    path: pathlib.Path, columns: int = 2, rows: int = 1, *, height: float = 3.4
) -> Iterator[tuple[Any, Any]]:
    """A figure and its axes, written into ``path`` as PNG at the end."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    settings: Any = {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
    }
    with plt.rc_context(settings):
        fig, axes = plt.subplots(
            rows, columns, figsize=(4.2 * columns, height * rows), layout="constrained"
        )
        try:
            yield fig, axes
            path.parent.mkdir(parents=True, exist_ok=True)
            fig.savefig(path, dpi=150)
        finally:
            plt.close(fig)


def bars(axes: Any, cells: Mapping[Any, Any], **style: Any) -> None:
    """A line through the means of cells, left to right, with their spread."""
    axes.errorbar(
        range(len(cells)),
        [cell.mean for cell in cells.values()],
        yerr=[cell.spread or 0.0 for cell in cells.values()],
        capsize=4,
        **style,
    )
    axes.set_xticks(range(len(cells)), [str(key) for key in cells])
    axes.margins(0.08)


def mean_curve(curves: Sequence[Sequence[float]], scale: float = 100.0) -> list[float]:
    """The mean over seeds at each epoch.

    >>> mean_curve([[0.5, 0.25], [0.25, 0.25]])
    [37.5, 25.0]
    """
    return [scale * sum(at) / len(at) for at in zip(*curves, strict=True)]


def band(axes: Any, curves: Sequence[Sequence[float]], **style: Any) -> None:
    """Shades one standard deviation over seeds around the mean of error curves."""
    import numpy as np

    if len(curves) > 1:
        mean, spread = (f(100 * np.array(curves), axis=0) for f in (np.mean, np.std))
        spread *= np.sqrt(len(curves) / (len(curves) - 1))  # a sample's
        steps = np.arange(1, len(mean) + 1)
        axes.fill_between(
            steps, mean - spread, mean + spread, alpha=0.15, linewidth=0, **style
        )


def epochs(axes: Any, curves: Mapping[str, Sequence[float]], **style: Any) -> None:
    """Curves over epochs, counted from 1, by label."""
    for label, values in curves.items():
        axes.plot(range(1, len(values) + 1), values, label=label, **style)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("epoch")
