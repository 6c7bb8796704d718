"""Writes torch.npz: `torch.nn.functional.group_norm` and its autograd on a CPU."""

import dataclasses

import numpy as np

from tests.golden import recipe
from tests.golden.recipe import COMMON, Arrays, Golden

CASES = (
    *COMMON,
    Golden("channels_last", (2, 4, 3, 8), 2, layout="channels last"),
    Golden("float64", (2, 5, 8), 2, "float64"),
    *(
        dataclasses.replace(golden, name=f"{golden.name}_{dtype}", dtype=dtype)
        for dtype in ("bfloat16", "float16")
        for golden in (
            Golden("half_3d", (2, 7, 12), 3),
            Golden("half_4d", (2, 4, 5, 8), 2),
            Golden("half_layer_norm", (2, 5, 8), 1, mean=1.0),
            Golden("half_channels_last", (2, 4, 3, 8), 2, layout="channels last"),
            Golden("half_no_affine", (2, 4, 3, 8), 2, gamma="none"),
        )
    ),
)


def make(golden: Golden) -> Arrays:
    """The inputs rounded to the dtype, and torch's results for them."""
    import torch  # pyright: ignore[reportMissingImports]

    dtype = getattr(torch, golden.dtype)
    given = {
        name: torch.from_numpy(values).to(dtype)
        for name, values in recipe.inputs(golden).items()
    }

    def first(tensor):
        """(N, C, *spatial), in the layout."""
        tensor = tensor.movedim(-1, 1)
        return tensor if golden.layout == "channels last" else tensor.contiguous()

    x = first(given["x"]).detach().requires_grad_()
    wanted = {"dx": x}
    if golden.gamma != "none":
        wanted["dgamma"] = given["gamma"].detach().requires_grad_()
        wanted["dbeta"] = given["beta"].detach().requires_grad_()
    y = torch.nn.functional.group_norm(
        x, golden.groups, wanted.get("dgamma"), wanted.get("dbeta"), golden.eps
    )
    gradients = torch.autograd.grad(y, list(wanted.values()), first(given["dy"]))
    results = {"y": y, **dict(zip(wanted, gradients, strict=True))}
    for name in ("y", "dx"):
        results[name] = results[name].movedim(1, -1)
    stored = np.float64 if golden.dtype == "float64" else np.float32
    return {
        name: np.ascontiguousarray(tensor.detach().double().numpy().astype(stored))
        for name, tensor in {**given, **results}.items()
    }


if __name__ == "__main__":
    import torch  # pyright: ignore[reportMissingImports]

    recipe.write("torch", {"torch": torch.__version__}, CASES, make)
