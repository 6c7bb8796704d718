r"""What the real compilers make of the layers of the table, without the devices.

    JAX_PLATFORMS=cpu python -m experiments.benchmark.compiled --target h100 v5e \
        --layers sd15_64_320 r50_b1_gn3 --norms xla flax.linen

prints, for the forward and the backward pass: kernels, bytes moved over the bytes of
x, the largest intermediate array and the scratch memory over the bytes of x, and
whether an array of x's size is moved into another order. ``--passes step`` is both
passes in one program. The bytes that must move are 2|x| forward and 3|x| backward; with
statistics over a group too large to keep on chip, 3|x| and 5|x|.

``--record FILE`` also writes the rows to a JSON record, in place of those of the same
programs that it holds; `compiled_report` makes tables of it.
"""

import argparse
import dataclasses
import functools
import json
import math
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

import flax_gn
from experiments import records
from experiments.benchmark import layers, program, targets

Norm = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def _ours(implementation: str) -> Callable[[layers.Layer], Norm]:
    def norm(layer):
        return lambda x, gamma, beta: flax_gn.group_norm(
            x,
            gamma,
            beta,
            layer.groups,
            activation=layer.named_activation,
            implementation=implementation,
        )

    return norm


def _linen(layer: layers.Layer) -> Norm:
    def norm(x, gamma, beta):
        module = nn.GroupNorm(layer.groups, epsilon=1e-5, dtype=x.dtype)
        y = jnp.asarray(module.apply({"params": {"scale": gamma, "bias": beta}}, x))
        return y if layer.activation is None else layer.activation(y)

    return norm


NORMS = {
    "xla": _ours("xla"),
    "pallas_gpu": _ours("pallas_gpu"),
    "pallas_tpu": _ours("pallas_tpu"),
    "reference": _ours("reference"),
    "flax.linen": _linen,
}
DTYPES = {"bfloat16": jnp.bfloat16, "float32": jnp.float32}
PASSES = ("forward", "backward", "step")
RECORD = pathlib.Path(__file__).parent / "results" / "compiled.json"


def lower(
    norm: Norm, layer: layers.Layer, dtype: Any, device: Any, name: str
) -> jax.stages.Lowered:
    """One pass of a norm, ready to be compiled.

    The backward pass is the vjp function alone: its arguments are dy and whatever the
    forward pass keeps for it. A training step compiles both together, which leaves the
    compiler more freedom, to the good and to the bad.

    Args:
      norm: a function of x, gamma and beta.
      layer: the layer whose shape to compile for; gamma and beta are float32.
      dtype: of x and dy.
      device: a compile-only device, or a real one.
      name: the pass, one of `PASSES`.
    """
    x = jax.ShapeDtypeStruct(layer.shape, dtype)
    gamma = jax.ShapeDtypeStruct(layer.shape[-1:], jnp.float32)
    x, gamma = targets.on(device, (x, gamma))

    def forward(x, gamma, beta):
        return jax.vjp(norm, x, gamma, beta)

    def backward(vjp, dy):
        return vjp(dy)

    def step(x, gamma, beta, dy):
        y, vjp = forward(x, gamma, beta)
        return y, vjp(dy)

    with targets.compiling_for(device):
        if name == "forward":
            return jax.jit(norm).lower(x, gamma, gamma)
        if name == "backward":
            _, vjp = targets.on(device, jax.eval_shape(forward, x, gamma, gamma))
            return jax.jit(backward).lower(vjp, x)
        return jax.jit(step).lower(x, gamma, gamma, x)


@dataclasses.dataclass(frozen=True)
class Row:
    """One program in numbers.

    Attributes:
      target: the device, a name in `targets.TARGETS`.
      layer: its id in the table of layers.
      activation: the name of the activation that follows, or "none".
      norm: a name in `NORMS`.
      dtype: of x.
      name: the pass, one of `PASSES`.
      x: bytes of x as it lies in the device's memory.
      kernels: how many; 0 if the compiler refused the program, like the rest.
      moved: bytes read from and written to main memory.
      largest: bytes of the largest array that is neither argument nor output.
      scratch: bytes of memory beside arguments and outputs.
      relayout: whether at least half of x's elements are moved into another order.
      error: the first line of what the compiler said, if it refused.
    """

    target: str
    layer: str
    activation: str
    norm: str
    dtype: str
    name: str
    x: int
    kernels: int = 0
    moved: int = 0
    largest: int = 0
    scratch: int = 0
    relayout: bool = False
    error: str | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """What tells programs apart."""
        who = self.target, self.layer, self.activation, self.norm
        return (*who, self.dtype, self.name)

    @property
    def cells(self) -> tuple[str, ...] | None:
        """Its numbers as text, bytes over those of x; None if it was refused."""
        if self.error is not None:
            return None
        sizes = self.moved, self.largest, self.scratch
        shares = (f"{size / self.x:.2f}" for size in sizes)
        return str(self.kernels), *shares, "yes" if self.relayout else ""


def measure(target: str, layer: layers.Layer, norm: str, dtype: str, name: str) -> Row:
    """Compiles one pass and reads the program. Arguments as in `Row`.

    Raises:
      jax.errors.JaxRuntimeError: the compiler refused the program.
    """
    device = targets.devices(target)[0]
    lowered = lower(NORMS[norm](layer), layer, DTYPES[dtype], device, name)
    made = program.read(lowered.compile())
    return dataclasses.replace(
        _row(target, layer, norm, dtype, name),
        kernels=len(made.kernels),
        moved=made.moved,
        largest=made.largest_intermediate,
        scratch=made.temporaries,
        relayout=2 * made.relayout >= math.prod(layer.shape),
    )


def _row(target, layer, norm, dtype, name) -> Row:
    size = _bytes(target, layer.shape, dtype)
    return Row(target, layer.id, layer.activation_name, norm, dtype, name, size)


@functools.cache
def _bytes(target: str, shape: tuple[int, ...], dtype: str) -> int:
    """Bytes of an array on a device, with the padding of its layout."""
    x = jax.ShapeDtypeStruct(shape, DTYPES[dtype])
    x = targets.on(targets.devices(target)[0], x)
    return program.read(jax.jit(jnp.copy).lower(x).compile()).outputs


def _measure_or_error(*args: Any) -> Row:
    try:
        return measure(*args)
    except jax.errors.JaxRuntimeError as error:
        return dataclasses.replace(_row(*args), error=str(error).splitlines()[0])


def load(path: pathlib.Path) -> tuple[dict[str, Any], list[Row]]:
    """A record's stamps, one for each target, and its rows; empty if there is none."""
    if not path.exists():
        return {}, []
    record = json.loads(path.read_text())
    return record["stamps"], [Row(*row) for row in record["rows"]]


def save(path: pathlib.Path, new: Sequence[Row]) -> None:
    """Adds rows to a record, in place of those of the same programs."""
    stamps, rows = load(path)
    stamp = records.stamp("libtpu", "jax-cuda13-plugin")
    stamps = {**stamps, **{row.target: stamp for row in new}}
    rows = sorted({row.key: row for row in (*rows, *new)}.values(), key=_place)
    # A line for each row, so that records compare line by line.
    lines = ",\n".join(json.dumps(dataclasses.astuple(row)) for row in rows)
    columns = json.dumps([field.name for field in dataclasses.fields(Row)])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'{{"stamps": {json.dumps(stamps, indent=1)},\n'
        f'"columns": {columns},\n"rows": [\n{lines}\n]}}\n'
    )


def _place(row: Row) -> tuple[Any, ...]:
    """Rows go by target, layer, activation, dtype, pass and norm."""
    return (
        list(targets.TARGETS).index(row.target),
        list(layers.load()).index(row.layer),
        row.activation,
        list(DTYPES).index(row.dtype),
        PASSES.index(row.name),
        list(NORMS).index(row.norm),
    )


_ROW = "{:6} {:17} {:10} {:8} {:8} {:>7} {:>6} {:>7} {:>7} {:>8} {:>7}"
_HEAD = "target layer norm dtype pass kernels moved largest scratch relayout seconds"


def line(row: Row, seconds: float) -> str:
    """A row as text; bytes are over those of x."""
    values = row.cells or (row.error, "", "", "", "")
    start = row.target, row.layer, row.norm, row.dtype, row.name
    return _ROW.format(*start, *values, f"{seconds:.1f}")


def main() -> None:
    """Prints the rows, and writes them to a record if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--target", nargs="+", default=["h100"], choices=targets.TARGETS
    )
    parser.add_argument("--layers", nargs="+", default=list(layers.load()))
    parser.add_argument("--norms", nargs="+", default=["xla"], choices=NORMS)
    parser.add_argument("--dtypes", nargs="+", default=list(DTYPES), choices=DTYPES)
    parser.add_argument("--passes", nargs="+", default=PASSES[:2], choices=PASSES)
    parser.add_argument("--no-activation", action="store_true")
    parser.add_argument("--record", type=pathlib.Path)
    args = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    print(_ROW.format(*_HEAD.split()))
    for target in args.target:
        for layer in (layers.load()[name] for name in args.layers):
            if args.no_activation:
                if layer.activation is None:
                    continue
                layer = dataclasses.replace(layer, activation_name="none")
            rows = []
            for dtype in args.dtypes:
                for name in args.passes:
                    for norm in args.norms:
                        began = time.perf_counter()
                        row = _measure_or_error(target, layer, norm, dtype, name)
                        print(line(row, time.perf_counter() - began), flush=True)
                        rows.append(row)
            if args.record is not None:
                save(args.record, rows)


if __name__ == "__main__":
    main()
