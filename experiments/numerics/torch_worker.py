"""Runs torch's group norm on given arrays in a process of its own, for `peers`.

It imports torch and numpy alone, so that torch may live in another environment than
jax. It reads one JSON request a line from standard input, with the path of a .npy file
whose values it replaces by the result, and answers each with one JSON line. float32
stands for itself and for the half precisions, whose values it holds exactly.
"""

import json
import sys

import numpy as np
import torch  # pyright: ignore[reportMissingImports]


def normalise(request):
    """Group norm of the array (N, *spatial, C) in the file, in a memory layout."""
    dtype = getattr(torch, request["dtype"])
    x = torch.from_numpy(np.load(request["path"])).to(dtype).movedim(-1, 1)
    if request["layout"] == "contiguous":
        x = x.contiguous()
    scale, shift = torch.ones(x.shape[1]), torch.zeros(x.shape[1])
    y = torch.nn.functional.group_norm(
        x, request["groups"], scale.to(dtype), shift.to(dtype), request["eps"]
    )
    np.save(request["path"], y.movedim(1, -1).float().contiguous().numpy())


def main():
    """Answers requests until standard input closes."""
    print(json.dumps({"version": torch.__version__}), flush=True)
    for line in sys.stdin:
        try:
            normalise(json.loads(line))
            answer = {}
        except Exception as error:  # noqa: BLE001  Any failure is the peer's result.
            answer = {"error": f"{type(error).__name__}: {error}"[:400]}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
