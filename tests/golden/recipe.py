"""What the golden files hold, with numpy alone, as torch has an environment of its own.

Each file is made by the script of its name, `python -m tests.golden.make_torch` and so
on, in an environment with that library: the inputs, and the output and gradients that
the library gives for them, all channels last. Values of half precision are stored as
float32, which holds them exactly. Means are small, so that the library itself is right.
"""

import dataclasses
import json
import pathlib
import platform
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]

INPUTS = ("x", "gamma", "beta", "dy")
RESULTS = ("y", "dx", "dgamma", "dbeta")


@dataclasses.dataclass(frozen=True)
class Golden:
    """One call.

    Attributes:
      name: the test's id.
      shape: (N, *spatial, C).
      groups: G.
      dtype: of x, gamma and beta.
      eps: added to the variance.
      mean: of x, whose deviation is 1.
      gamma: "channel", shape (C,); "sample", (N, C); "none", no gamma and no beta.
      layout: torch's memory layout.
    """

    name: str
    shape: tuple[int, ...]
    groups: int
    dtype: str = "float32"
    eps: float = 1e-5
    mean: float = 0.0
    gamma: str = "channel"
    layout: str = "contiguous"


COMMON = (
    Golden("2d", (3, 12), 4),
    Golden("3d", (2, 7, 12), 3),
    Golden("4d", (2, 4, 3, 12), 4),
    Golden("5d", (1, 3, 2, 2, 8), 2),
    Golden("6d", (2, 2, 1, 2, 3, 6), 3),
    Golden("layer_norm", (2, 5, 8), 1),
    Golden("instance_norm", (2, 5, 3, 6), 6),
    Golden("mean_3", (2, 6, 5, 8), 2, mean=3.0),
    Golden("eps_1e-3", (2, 6, 5, 8), 4, eps=1e-3),
    Golden("no_affine", (2, 4, 3, 8), 2, gamma="none"),
)


def inputs(golden: Golden) -> Arrays:
    """x, gamma, beta and dy before they are rounded to the dtype; float64."""
    rng = np.random.default_rng(zlib.crc32(golden.name.encode()))
    channels = golden.shape[-1]
    arrays = {"x": rng.standard_normal(golden.shape) + golden.mean}
    if golden.gamma != "none":
        samples = golden.shape[:1] if golden.gamma == "sample" else ()
        arrays["gamma"] = 1 + 0.5 * rng.standard_normal((*samples, channels))
        arrays["beta"] = rng.standard_normal((*samples, channels))
    arrays["dy"] = rng.standard_normal(golden.shape)
    return arrays


def path(peer: str) -> pathlib.Path:
    """The file of a peer."""
    return pathlib.Path(__file__).with_name(f"{peer}.npz")


def write(
    peer: str,
    versions: Mapping[str, str],
    cases: Sequence[Golden],
    make: Callable[[Golden], Arrays],
) -> None:
    """Makes and writes a peer's file."""
    about = {
        "versions": {"python": platform.python_version(), **versions},
        "cases": [dataclasses.asdict(golden) for golden in cases],
    }
    arrays: dict[str, Any] = {"about": json.dumps(about)}
    for golden in cases:
        for name, values in make(golden).items():
            arrays[f"{golden.name}/{name}"] = values
    np.savez_compressed(path(peer), **arrays)
    print(f"wrote {path(peer)}, {path(peer).stat().st_size / 1e3:.0f} kB")


def read(peer: str) -> tuple[dict[str, str], dict[Golden, Arrays]]:
    """The versions that made a file, and its arrays by case."""
    with np.load(path(peer)) as stored:
        about = json.loads(str(stored["about"]))
        cases = [
            Golden(**case | {"shape": tuple(case["shape"])}) for case in about["cases"]
        ]
        return about["versions"], {
            golden: {
                name: stored[f"{golden.name}/{name}"]
                for name in INPUTS + RESULTS
                if f"{golden.name}/{name}" in stored
            }
            for golden in cases
        }
