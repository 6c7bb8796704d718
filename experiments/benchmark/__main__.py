r"""How fast is group norm, against everything a user would pick instead?

    python -m experiments.benchmark --quick
    python -m experiments.benchmark --layers sd15_64_320 --contenders all
    python -m experiments.benchmark --layers --networks all
    python -m experiments.benchmark --activation with --jobs 12 --memory 10
    python -m experiments.benchmark --figure docs/benchmark.png \
        --tables README.md docs/performance.md

Contenders run interleaved in one process and ratios are taken round by round; see
`timing`. On a CPU, freed memory is kept instead of returned to the system (glibc's
MALLOC_* variables, set for all contenders alike), since otherwise the page faults of
each fresh output, which a training loop does not pay, outweigh the norm itself.
"""

import argparse
import dataclasses
import os
import pathlib
import shlex
import sys

from experiments import records

_MALLOC = {
    # A heap of another thread ends at 64 MB, and what is larger is mapped anew.
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_TOP_PAD_": str(1 << 20),
}

# Batches of 1, 2 and 64, one to three spatial axes, few and many channels per group.
QUICK_LAYERS = (
    "r50_b3_gn2",
    "r50_b4_gn2",
    "r50_b1_gn3_small",
    "sd15_64_320",
    "sd15_8_2560",
    "sdxl_vae_128_512",
    "segresnet_l2",
    "fpn_p5",
    "diffusion_policy",
)
QUICK_CONTENDERS = ("flax_gn xla", "flax.linen", "copy", "two passes")


def main(argv: list[str] | None = None) -> None:
    """Runs the benchmark, or redraws a figure from a record."""
    args = _parse(argv)
    if args.figure is not None:
        from experiments.benchmark import report

        print(f"wrote {report.figure(report.RESULTS / args.record, args.figure)}")
    if args.tables:
        from experiments.benchmark import tables

        for page in args.tables:
            tables.write(page)
    if args.figure is not None or args.tables:
        return
    _keep_freed_memory(argv)
    _run(args)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.benchmark",
        description=(__doc__ or "").splitlines()[0],
    )
    parser.add_argument(
        "--quick", action="store_true", help="a subset: 3 minutes on two CPU cores"
    )
    parser.add_argument(
        "--layers",
        nargs="*",
        help="ids from layer_shapes.csv; all of them unless --quick is given",
    )
    parser.add_argument(
        "--networks",
        nargs="*",
        default=[],
        help='networks whose whole training step to time too, or "all"',
    )
    parser.add_argument(
        "--contenders", nargs="+", help='names as in the records, or "all"'
    )
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--modes", nargs="+", default=["forward", "step"])
    parser.add_argument(
        "--activation",
        choices=("both", "with", "without"),
        default="both",
        help="run layers with the activation that follows them, without it, or both",
    )
    parser.add_argument(
        "--seconds", type=float, help="to spend on each case (0.5 if quick, else 2)"
    )
    parser.add_argument(
        "--memory", type=float, default=4.0, help="skip layers that need more GB"
    )
    parser.add_argument(
        "--torch-python", help="a Python that can import torch, to compare with torch"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        help="processes that compile for an accelerator, which each has in turn",
    )
    parser.add_argument("--out", type=pathlib.Path, default="runs/benchmark.json")
    parser.add_argument(
        "--figure",
        type=pathlib.Path,
        metavar="PNG",
        help="draw a committed record of layers",
    )
    parser.add_argument(
        "--record",
        default="cpu.json",
        help="its name, for --figure (default: cpu.json)",
    )
    parser.add_argument(
        "--tables",
        type=pathlib.Path,
        nargs="+",
        default=[],
        metavar="PAGE",
        help="rewrite a page's tables from the committed records",
    )
    return parser.parse_args(argv)


def _keep_freed_memory(argv: list[str] | None) -> None:
    """Starts over with the allocator's variables set, which it reads only once."""
    if not sys.platform.startswith("linux") or "MALLOC_MMAP_MAX_" in os.environ:
        return
    command = [sys.executable, "-m", "experiments.benchmark"]
    os.execve(
        sys.executable,
        command + (sys.argv[1:] if argv is None else argv),
        os.environ | _MALLOC,
    )


def _run(args: argparse.Namespace) -> None:
    import jax

    from experiments.benchmark import (
        contenders,
        layers,
        measure,
        report,
        steps,
        workers,
    )

    if args.jobs > 1:
        workers.share_memory()
    table = layers.load()
    layer_ids = args.layers
    if layer_ids is None:
        layer_ids = QUICK_LAYERS if args.quick else list(table)
    networks = list(steps.NETWORKS) if args.networks == ["all"] else args.networks
    _check("--layers", layer_ids, table)
    _check("--networks", networks, steps.NETWORKS)
    _check("--dtypes", args.dtypes, measure.DTYPES)
    _check("--modes", args.modes, measure.MODES)
    names = args.contenders or (QUICK_CONTENDERS if args.quick else ["all"])
    if list(names) == ["all"]:
        names = list(contenders.ALL)
    _check("--contenders", names, contenders.ALL)
    usable = {contender.name for contender in contenders.named(names)}
    for name in sorted(set(names) - usable):
        print(f"{name}: not installed, or not for this device; left out")
    if args.jobs > 1 and jax.default_backend() == "cpu":
        raise SystemExit(
            "--jobs: expected 1 on a CPU, whose cores are what is timed; got "
            f"{args.jobs}"
        )
    cases = [
        workers.Case(layer, dtype, mode)
        for layer_id in layer_ids
        for layer in _variants(table[layer_id], args.activation)
        for dtype in args.dtypes
        for mode in args.modes
    ]
    seconds = args.seconds or (0.5 if args.quick else 2.0)
    of_worker = names, seconds, args.torch_python
    worker = workers.Worker(*of_worker)
    record = records.stamp("dm-haiku", "equinox", "keras") | {
        "command": _command(),
        "allocator": {name: os.environ.get(name) for name in _MALLOC},
        "torch": worker.torch_version,
        "skipped": [],
        "results": [],
        "steps": [],
    }
    small = []
    for case in cases:
        gigabytes = measure.needed_bytes(case.layer, case.mode) / 1e9
        if gigabytes <= args.memory:
            small.append(case)
        else:
            print(f"{case.title}: skipped, {gigabytes:.1f} GB")
            record["skipped"].append(f"{case.title}: {gigabytes:.1f} GB")
    if args.jobs > 1:
        worker.close()
        measured = workers.in_processes(args.jobs, small, *of_worker)
    else:
        measured = ((case, worker.measure(case)) for case in small)
    found = {}
    for number, (case, results) in enumerate(measured, 1):
        found[case] = [dataclasses.asdict(result) for result in results]
        print(f"[{number}/{len(small)}] {case.title}\n{report.case_lines(results)}")
        record["results"] = [row for each in small for row in found.get(each, [])]
        records.write(args.out, record)
    if args.jobs == 1:
        worker.close()
    for network in networks:
        for dtype in args.dtypes:
            # A step takes a hundred times as long as a layer.
            timed = steps.case(network, dtype, names, seconds=10 * seconds)
            record["steps"] += [dataclasses.asdict(result) for result in timed]
            print(f"{network} {dtype}\n{report.step_lines(timed)}")
            records.write(args.out, record)
    records.write(args.out, record)
    if record["results"]:
        print(report.summary(record))
    print(f"wrote {args.out}")


def _command() -> str:
    """The command that makes the record anew, without this machine's paths."""
    given = list(sys.argv[1:])
    for option, path in (("--torch-python", "PYTHON"), ("--out", None)):
        if option in given:
            place = given.index(option)
            given[place : place + 2] = [option, path] if path else []
    return shlex.join(["python", "-m", "experiments.benchmark", *given])


def _check(option: str, given, known) -> None:
    unknown = [name for name in given if name not in known]
    if unknown:
        raise SystemExit(
            f"{option}: expected some of {', '.join(known)}; got {', '.join(unknown)}"
        )


def _variants(layer, activation: str):
    """The layer with its activation, without it, or both where they differ."""
    bare = dataclasses.replace(layer, activation_name="none")
    if activation == "without" or layer == bare:
        return [bare]
    return [layer] if activation == "with" else [layer, bare]


if __name__ == "__main__":
    main()
