"""How much time the GPU kernels took in a record, by the way in which they take x."""

from experiments.benchmark import layers, report
from flax_gn._pallas import gpu


def table(record: report.Row) -> str:
    """XLA's time over that of the kernels for a GPU, by how these take x."""
    known, found = layers.load(), report.groups(record)
    columns = [
        (mode, dtype)
        for mode in ("forward", "step")
        for dtype in ("float32", "bfloat16")
    ]
    ratios: dict[str, dict[tuple[str, str], list[float]]] = {
        name: {column: [] for column in columns}
        for name in ("kept by a block", "kept by a cluster of blocks", "in chunks")
    }
    for mode, dtype in columns:
        # Read and written: x and y; backward, which takes as long again, x, dy and dx.
        sizes = (2 if dtype == "bfloat16" else 4,) * (2 if mode == "forward" else 3)
        for row in found["flax_gn pallas_gpu", mode, dtype]:
            layer = known[row["layer"]]
            tiles = gpu.choose(layer.shape, layer.groups, sizes, True)
            if not tiles.kept:
                name = "in chunks"
            elif tiles.shares == 1:
                name = "kept by a block"
            else:
                name = "kept by a cluster of blocks"
            ratios[name][mode, dtype].append(1 / row["times_xla"])
    titles = [f"{report.TITLES[mode]}, {dtype}" for mode, dtype in columns]
    lines = report.head("x is", titles)
    for name, found_ratios in ratios.items():
        cells = [
            f"{report.geometric_mean(r):.2f} ({min(r):.2f} to {max(r):.2f}; {len(r)})"
            for r in found_ratios.values()
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    source = "Geometric mean, the least, the most, and how many layers there are. "
    return "\n".join([*lines, "", source + report.machine(record) + "."])
