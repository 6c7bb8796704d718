"""Runs torch's group norm in a process of its own, for `torch_contenders`.

It imports torch and numpy alone, so that torch may live in another environment than
jax, even under another Python. It reads one JSON request a line from standard input
and answers each with one JSON line.
"""

import functools
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
        """As `timing.on_host` and `timing.on_device` time a run; several at once."""
        if torch.cuda.is_available():
            return _busy_seconds(self.run, runs=8)
        self.run()
        began = time.perf_counter()
        self.run()
        return [time.perf_counter() - began]


@functools.cache
def _cache_filler():
    return torch.ones(64 * 2**20, device="cuda"), torch.ones(1).pin_memory()


def _busy_seconds(run, runs):
    """The profiler takes long to start; copies from the host tell the runs apart."""
    filler, mark = _cache_filler()
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        for _ in range(runs):
            filler.sum()
            torch.cuda.synchronize()
            for step in (lambda: None, run):
                step()
                torch.cuda.synchronize()
                mark.to("cuda", non_blocking=True)
                torch.cuda.synchronize()
    spans = sorted(
        (event.time_range.start, event.time_range.end, "HtoD" in event.name)
        for event in profile.events()
        if event.device_type == torch.autograd.DeviceType.CUDA
        and not event.is_user_annotation
    )
    busy, end = [0.0], 0.0
    for start, stop, is_mark in spans:
        if is_mark:
            busy.append(0.0)
        else:
            busy[-1] += max(0.0, stop - max(start, end))
        end = max(end, stop)
    if len(busy) != 2 * runs + 1:
        raise RuntimeError(f"expected {2 * runs} copies in the trace; got {len(busy)}")
    return [microseconds / 1e6 for microseconds in busy[1::2]]


def _prepare(cases, request):
    began = time.perf_counter()
    cases[request["name"]] = case = _Case(request)
    case.run()
    return time.perf_counter() - began


def _answer(seconds):
    """What it returns; any failure is the contender's result."""
    try:
        return {"seconds": seconds()}
    except Exception as error:  # noqa: BLE001
        return {"error": f"{type(error).__name__}: {error}"[:400]}


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
            answer = _answer(functools.partial(_prepare, cases, request))
        elif request["ask"] == "run":
            answer = _answer(cases[request["name"]].seconds)
        else:
            cases.clear()
            # Else it would compile a second case for sizes of any kind, since the code
            # is the same, where a user's network has the sizes it has.
            torch.compiler.reset()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            answer = {}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
