"""Writes trained.npz: what timm and diffusers give for drawn weights, in float64.

It needs torch, timm, torchvision, diffusers and safetensors, in an environment of their
own: `python -m tests.golden.make_trained`.
"""

# pyright: reportMissingImports=false

import functools
import pathlib
import platform
import tempfile
from importlib import metadata

import numpy as np

from tests.golden import trained
from tests.golden.trained import Arrays, Golden

# Modules of ours whose output is kept as well, to name the place that differs first,
# and of the originals.
INNER = {
    "ResNet": {"stage1_block1": "layer1.0", "stage3_block1": "layer3.0"},
    "ResNetV2": {
        "stage1_block1": "stages.0.blocks.0",
        "stage2_block1": "stages.1.blocks.0",
    },
    "AutoencoderKL": {
        "encoder/middle_attention": "encoder.mid_block.attentions.0",
        "decoder/up2_block2": "decoder.up_blocks.1.resnets.1",
    },
}


def corner(values: np.ndarray) -> np.ndarray:
    """A part of an array (N, H, W, C) that is small enough to keep."""
    return values[:1, :4, :4, :8]


@functools.cache
def _timm():
    """timm, and what it needs to stay: imports torchvision for its transformations.

    Torchvision's operators do not load beside torch built for another device. Nothing
    here calls them, but they have to be known by name.
    """
    import torch

    names = "nms", "qnms", "roi_align", "_roi_align_backward", "ps_roi_align"
    names += "_ps_roi_align_backward", "roi_pool", "_roi_pool_backward", "ps_roi_pool"
    names += "_ps_roi_pool_backward", "qroi_align", "deform_conv2d"
    names += ("_deform_conv2d_backward",)
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in names:
        library.define(f"{name}(Tensor x) -> Tensor")
    import timm

    return timm, library


def build(golden: Golden):
    """The original, in float64 and ready to be used."""
    if golden.original == "AutoencoderKL":
        import diffusers

        levels = len(golden.options["block_out_channels"])
        model = diffusers.AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            **golden.options,
        )
    else:
        timm, _ = _timm()
        # The public function fixes the number of blocks; the epsilon is this one's.
        narrow = timm.models.resnetv2._create_resnetv2_bit
        make = narrow if golden.bits else timm.create_model
        model = make(golden.original, **golden.options)
    return model.double().eval()


def bit_shapes(model) -> dict[str, tuple[int, ...]]:
    """The tensors of BiT's own file for a network of timm, which reads it."""
    asked = {}
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}

    def hwio(shape):
        return (shape[2], shape[3], shape[1], shape[0])

    kernel, norm = "standardized_conv2d/kernel", "group_norm"
    asked[f"resnet/root_block/{kernel}"] = hwio(shapes["stem.conv.weight"])
    for leaf, torchs in (("gamma", "weight"), ("beta", "bias")):
        asked[f"resnet/{norm}/{leaf}"] = shapes[f"norm.{torchs}"]
    asked["resnet/head/conv2d/kernel"] = hwio(shapes["head.fc.weight"])
    asked["resnet/head/conv2d/bias"] = shapes["head.fc.bias"]
    for name, shape in shapes.items():
        parts = name.split(".")
        if parts[0] != "stages":
            continue
        unit = f"resnet/block{int(parts[1]) + 1}/unit{int(parts[3]) + 1:02d}"
        if parts[4] == "downsample":
            asked[f"{unit}/a/proj/{kernel}"] = hwio(shape)
            continue
        part = f"{unit}/{'abc'[int(parts[4][-1]) - 1]}"
        if parts[4].startswith("conv"):
            asked[f"{part}/{kernel}"] = hwio(shape)
        else:
            leaf = {"weight": "gamma", "bias": "beta"}[parts[5]]
            asked[f"{part}/{norm}/{leaf}"] = shape
    return asked


def fill(golden: Golden, model) -> dict[str, tuple[int, ...]]:
    """Gives a network its drawn weights, and returns the shapes they are drawn by."""
    import torch

    if golden.bits:
        shapes = bit_shapes(model)
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "bit.npz"
            drawn: dict = trained.weights(golden, shapes)
            np.savez(path, **drawn)
            for parameter in model.parameters():
                torch.nn.init.constant_(parameter, float("nan"))
            model.load_pretrained(str(path))
        assert not any(p.isnan().any() for p in model.parameters())
    else:
        shapes = {n: tuple(value.shape) for n, value in model.state_dict().items()}
        if golden.inputs:
            drawn = trained.weights(golden, shapes)
            model.load_state_dict({n: torch.from_numpy(v) for n, v in drawn.items()})
    return shapes


def run(golden: Golden, model) -> Arrays:
    """Its outputs, channels last, and corners of what is within."""
    import torch

    seen, hooks = {}, []
    for name, path in INNER[type(model).__name__].items():

        def keep(module, given, output, name=name):
            del module, given
            seen[name] = corner(_last(output))

        hooks.append(model.get_submodule(path).register_forward_hook(keep))
    given = {
        name: torch.from_numpy(np.moveaxis(values, -1, 1)).double()
        for name, values in trained.inputs(golden).items()
    }
    with torch.no_grad():
        if golden.original == "AutoencoderKL":
            encoded = model.encode(given["images"]).latent_dist
            results = {
                "mean": _last(encoded.mean),
                "logvar": _last(encoded.logvar),
                "decoded": _last(model.decode(given["latents"]).sample),
            }
        else:
            results = {"logits": model(given["images"]).numpy()}
    return results | seen


def _last(tensor) -> np.ndarray:
    return np.moveaxis(tensor.detach().numpy(), 1, -1)


def main() -> None:
    """Makes the file."""
    shapes, results = {}, {}
    for golden in trained.GOLDENS:
        print(golden.name, flush=True)
        model = build(golden)
        shapes[golden.name] = fill(golden, model)
        if golden.inputs:
            results[golden.name] = run(golden, model)
    packages = ("torch", "timm", "diffusers", "torchvision", "numpy")
    versions = {name: metadata.version(name) for name in packages}
    trained.write({"python": platform.python_version(), **versions}, shapes, results)


if __name__ == "__main__":
    main()
