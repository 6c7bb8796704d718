"""What trained.npz holds, with numpy alone, as torch has an environment of its own.

The weights are drawn, the same on both sides, so that the file holds what the originals
gave for them and no weights. `tests.golden.make_trained` makes it.
"""

import dataclasses
import json
import pathlib
import re
import zlib
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
PATH = pathlib.Path(__file__).with_name("trained.npz")


@dataclasses.dataclass(frozen=True)
class Golden:
    """One network.

    Attributes:
      name: the test's id.
      original: its name in timm or diffusers.
      options: what it is made with.
      inputs: shapes by name, channels last; none where the names alone are compared.
      bits: whether weights come under BiT's names, through timm's reader of its files.
    """

    name: str
    original: str
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    inputs: dict[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    bits: bool = False


# Odd sides, where paddings differ most.
_IMAGES = {"images": (2, 65, 79, 3)}
_LEVELS = {"block_out_channels": (64, 96, 128), "layers_per_block": 1}
GOLDENS = (
    Golden("resnet50_gn", "resnet50_gn", {}, _IMAGES),
    Golden("resnetv2_50x1_bit", "resnetv2_50x1_bit", {}, _IMAGES),
    Golden(
        "bit_file",
        "resnetv2_50x1_bit",
        {"layers": (2, 1), "channels": (128, 256), "stem_chs": 32, "num_classes": 21},
        _IMAGES,
        bits=True,
    ),
    Golden(
        "autoencoder",
        "AutoencoderKL",
        _LEVELS,
        {"images": (2, 29, 37, 3), "latents": (2, 5, 7, 4)},
    ),
    Golden(
        "autoencoder_without_outer_convs",
        "AutoencoderKL",
        _LEVELS
        | {
            "latent_channels": 16,
            "use_quant_conv": False,
            "use_post_quant_conv": False,
        },
        {"images": (1, 16, 12, 3), "latents": (1, 3, 4, 16)},
    ),
    Golden("resnetv2_50x3_bit", "resnetv2_50x3_bit"),
    Golden("resnetv2_101x1_bit", "resnetv2_101x1_bit"),
    Golden("resnetv2_101x3_bit", "resnetv2_101x3_bit"),
    Golden("resnetv2_152x2_bit", "resnetv2_152x2_bit"),
    Golden("resnetv2_152x4_bit", "resnetv2_152x4_bit"),
    Golden(
        "stable_diffusion",
        "AutoencoderKL",
        {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2},
        {"images": (1, 17, 23, 3), "latents": (1, 2, 3, 4)},
    ),
)


def inputs(golden: Golden) -> Arrays:
    """The network's inputs, float32, channels last."""
    return {
        name: _normal(f"{golden.name}/{name}", shape)
        for name, shape in golden.inputs.items()
    }


def weights(golden: Golden, shapes: dict[str, tuple[int, ...]]) -> Arrays:
    """Tensors of those names and shapes, float32.

    Output channels differ in size, by up to ten, and are small, as trained ones are: so
    an epsilon is felt, also that of weight standardisation, of which a norm would
    divide out what all channels have in common, and that of a norm after standardised
    kernels, which make numbers large unless the norm before gave small ones.
    """
    drawn = {}
    for name, shape in shapes.items():
        values = _normal(f"{golden.name}/{name}", shape)
        if len(shape) == 1:
            scale = name.endswith(("weight", "gamma"))
            # Of a layer, so that a norm's scale and bias keep their proportion.
            layer = re.sub(r"\W\w+$", "", name)
            rng = np.random.default_rng(zlib.crc32(f"{golden.name}/{layer}".encode()))
            size = np.float32(10 ** rng.uniform(-2, 0))
            drawn[name] = values * size * np.float32(1 if scale else 0.1)
            continue
        out = -1 if golden.bits else 0
        fan_in = values.size // shape[out]
        rng = np.random.default_rng(zlib.crc32(f"{golden.name}/{name}/size".encode()))
        sizes = 10 ** rng.uniform(-1.5, -0.5, shape[out]) / np.sqrt(fan_in)
        along = [1] * len(shape)
        along[out] = -1
        drawn[name] = values * sizes.reshape(along).astype(np.float32)
    return drawn


def _normal(name: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return rng.standard_normal(shape, np.float32)


def write(
    versions: dict[str, str],
    shapes: dict[str, dict[str, tuple[int, ...]]],
    results: dict[str, Arrays],
) -> None:
    """Writes the versions, the tensors' shapes, and the results by golden."""
    about = {
        "versions": versions,
        "goldens": [dataclasses.asdict(golden) for golden in GOLDENS],
        "shapes": shapes,
    }
    arrays: dict[str, Any] = {"about": np.frombuffer(json.dumps(about).encode(), "u1")}
    for golden, found in results.items():
        for name, values in found.items():
            arrays[f"{golden}/{name}"] = values.astype(np.float32)
    np.savez_compressed(PATH, **arrays)
    print(f"wrote {PATH}, {PATH.stat().st_size / 1e3:.0f} kB")


@dataclasses.dataclass(frozen=True)
class Stored:
    """What the file holds.

    Attributes:
      about: versions, goldens and shapes, as they were written.
      results: by golden and name.
    """

    about: dict[str, Any]
    results: dict[str, Arrays]

    def shapes(self, golden: Golden) -> dict[str, tuple[int, ...]]:
        """Of the tensors of a golden."""
        found = self.about["shapes"][golden.name]
        return {name: tuple(shape) for name, shape in found.items()}


def read() -> Stored:
    """Reads the file."""
    with np.load(PATH) as stored:
        about = json.loads(stored["about"].tobytes())
        results: dict[str, Arrays] = {}
        for key in stored.files:
            if key != "about":
                golden, name = key.split("/", 1)
                results.setdefault(golden, {})[name] = stored[key]
    return Stored(about, results)
