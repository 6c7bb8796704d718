"""Runs torch's group norm in a process of its own, for `torch_contenders`.

It imports torch and numpy alone, so that torch may live in another environment than
jax, even under another Python. It reads one JSON request a line from standard input
and answers each with one JSON line.
"""

import json
import sys
import time

import torch  # pyright: ignore[reportMissingImports]  # not a dependency

_ACTIVATIONS = {
    "none": lambda y: y,
    "relu": torch.nn.functional.relu,
    "silu": torch.nn.functional.silu,
    "gelu": lambda y: torch.nn.functional.gelu(y, approximate="tanh"),
    "mish": torch.nn.functional.mish,
}


def _layout(x, layout):
    """The array (N, *spatial, C) as torch's (N, C, *spatial), in a memory layout."""
    x = x.movedim(-1, 1)
    return x if layout == "channels last" else x.contiguous()


class _Case:
    """One layer, dtype and mode, ready to run."""

    def __init__(self, request):
        device = "cuda" if torch.cuda.is_available() else "cpu"
        torch.manual_seed(0)
        dtype = getattr(torch, request["dtype"])
        shape, self.backward = request["shape"], request["mode"] == "step"
        x = torch.randn(shape, device=device).to(dtype)
        dy = torch.randn(shape, device=device).to(dtype)
        self.x = _layout(x, request["layout"]).requires_grad_(self.backward)
        self.dy = _layout(dy, request["layout"])
        parameters = torch.ones(2, shape[-1], device=device).to(dtype)
        self.gamma, self.beta = (
            p.clone().requires_grad_(self.backward) for p in parameters
        )
        activation = _ACTIVATIONS[request["activation"]]

        def norm(x, gamma, beta):
            y = torch.nn.functional.group_norm(
                x, request["groups"], gamma, beta, request["epsilon"]
            )
            return activation(y)

        self.norm = torch.compile(norm) if request["compile"] else norm

    def run(self):
        with torch.set_grad_enabled(self.backward):
            y = self.norm(self.x, self.gamma, self.beta)
        if self.backward:
            torch.autograd.grad(y, (self.x, self.gamma, self.beta), self.dy)

    def seconds(self):
        if not torch.cuda.is_available():
            began = time.perf_counter()
            self.run()
            return time.perf_counter() - began
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        self.run()
        stop.record()
        torch.cuda.synchronize()
        return start.elapsed_time(stop) / 1e3


def main():
    """Answers requests until standard input closes."""
    if len(sys.argv) > 1:
        torch.set_num_threads(int(sys.argv[1]))
    cases = {}
    for line in sys.stdin:
        request = json.loads(line)
        if request["ask"] == "version":
            answer = {"version": torch.__version__, "threads": torch.get_num_threads()}
        elif request["ask"] == "prepare":
            began = time.perf_counter()
            try:
                cases[request["name"]] = case = _Case(request)
                case.run()
                answer = {"seconds": time.perf_counter() - began}
            except Exception as error:  # noqa: BLE001  Any failure is the contender's result.
                answer = {"error": f"{type(error).__name__}: {error}"[:400]}
        elif request["ask"] == "run":
            answer = {"seconds": cases[request["name"]].seconds()}
        else:
            cases.clear()
            answer = {}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
