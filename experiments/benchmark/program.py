"""A compiled XLA program in numbers: kernels, bytes, temporaries, collectives.

What is counted is the optimised HLO that the compiler hands to the device, as
`compiled.as_text()` prints it:

- A kernel is an instruction that makes the device do work: a fusion, a copy, a custom
  call, a reduce that was left alone. Names for parts of memory (bitcast, tuple,
  get-tuple-element) are none. Loop and branch bodies count once.
- A kernel reads each operand once and writes each result once. An operand of which a
  fusion only takes slices counts as those slices. Arrays are counted as they lie in
  memory, with a TPU's padding to whole tiles.
- Only main memory counts. What a TPU keeps on chip, marked S(1) in the HLO, is free,
  and so is reading it again.
"""

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

_NO_WORK = {
    "add-dependency",
    "after-all",
    "bitcast",
    "constant",
    "get-tuple-element",
    "opt-barrier",
    "parameter",
    "partition-id",
    "replica-id",
    "tuple",
}
_CONTROL = {"call", "conditional", "while"}
_COLLECTIVES = (
    "all-gather",
    "all-reduce",
    "all-to-all",
    "collective-broadcast",
    "collective-permute",
    "ragged-all-to-all",
    "reduce-scatter",
)
_SLICES = {"dynamic-slice", "gather", "slice"}
_RELAYOUTS = {"copy", "reshape", "transpose"}

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
_ARRAY = re.compile(r"(\w+)\[([\d,<=]*)\](?:\{([^}]*)\})?")
_CALLED = re.compile(
    r"(?:calls|to_apply|body|condition|true_computation|false_computation)="
    r"%?([\w.\-]+)|(?:branch_computations|called_computations)=\{([^}]*)\}"
)
_OPERAND = re.compile(r"%([\w.\-]+)")
_COMMENT = re.compile(r"/\*.*?\*/")


@dataclasses.dataclass(frozen=True)
class Array:
    """An array as it lies in the device's memory.

    Attributes:
      dtype: as HLO names it, such as "bf16".
      shape: its dimensions.
      layout: dimensions from the fastest running to the slowest, and the tiles.
      space: the memory it is in; 0 is main memory, 1 a TPU's on-chip memory.
      bytes: its size with padding.
    """

    dtype: str
    shape: tuple[int, ...]
    layout: str
    space: int
    bytes: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One piece of work for the device.

    Attributes:
      name: the instruction's name in the HLO.
      opcode: "fusion", "copy", "custom-call", ...
      read: bytes it reads from main memory.
      written: bytes it writes to main memory.
      results: the arrays it makes, in whichever memory.
      relayout: elements of the largest array it moves into another order.
    """

    name: str
    opcode: str
    read: int
    written: int
    results: tuple[Array, ...]
    relayout: int


@dataclasses.dataclass(frozen=True)
class Collective:
    """One exchange between devices.

    Attributes:
      kind: "all-reduce", "all-gather", ...
      bytes: what each device receives, with padding.
      elements: the same without padding, in numbers.
    """

    kind: str
    bytes: int
    elements: int


@dataclasses.dataclass(frozen=True)
class Program:
    """What the compiler made.

    Attributes:
      kernels: in the order in which they run.
      collectives: likewise.
      intermediates: arrays written to main memory that are no output, largest first.
      temporaries: bytes of scratch memory the program asks for. An intermediate can
        hide from it, in an output's memory before the output is written.
      arguments: bytes of the arguments.
      outputs: bytes of the outputs.
      instructions: how many, those in the bodies of fusions included.
    """

    kernels: tuple[Kernel, ...]
    collectives: tuple[Collective, ...]
    intermediates: tuple[Array, ...]
    temporaries: int
    arguments: int
    outputs: int
    instructions: int

    @property
    def moved(self) -> int:
        """Bytes read from and written to main memory."""
        return sum(kernel.read + kernel.written for kernel in self.kernels)

    @property
    def largest_intermediate(self) -> int:
        return max((array.bytes for array in self.intermediates), default=0)

    @property
    def relayout(self) -> int:
        """Elements of the largest array that is moved into another order."""
        return max((kernel.relayout for kernel in self.kernels), default=0)

    def collective_counts(self) -> dict[str, int]:
        """How many collectives of each kind."""
        return dict(Counter(collective.kind for collective in self.collectives))

    def collective_bytes(self) -> int:
        return sum(collective.bytes for collective in self.collectives)


def read(compiled: Any) -> Program:
    """Reads a `jax.stages.Compiled`.

    >>> import jax, jax.numpy as jnp
    >>> x = jax.ShapeDtypeStruct((256,), jnp.float32)
    >>> program = read(jax.jit(lambda x: 2 * x + 1).lower(x).compile())
    >>> len(program.kernels), program.moved, program.temporaries
    (1, 2048, 0)
    """
    memory = compiled.memory_analysis()
    return read_text(
        compiled.as_text(),
        temporaries=memory.temp_size_in_bytes,
        arguments=memory.argument_size_in_bytes,
        outputs=memory.output_size_in_bytes,
    )


def read_text(
    text: str, *, temporaries: int = 0, arguments: int = 0, outputs: int = 0
) -> Program:
    """As `read`, from the text of the HLO; it does not tell the sizes given apart."""
    computations, entry = _parse(text)
    launched = list(_launched(computations, entry))
    makes_output = _outputs(computations[entry])
    kernels, intermediates = [], []
    for instruction in launched:
        if instruction.opcode in _NO_WORK or instruction.opcode.endswith("-done"):
            continue
        kernels.append(_kernel(computations, instruction))
        intermediates += (
            array
            for index, array in enumerate(instruction.written)
            if array.space == 0 and (instruction, index) not in makes_output
        )
    return Program(
        kernels=tuple(kernels),
        collectives=tuple(_collectives(computations)),
        intermediates=tuple(sorted(intermediates, key=lambda a: -a.bytes)),
        temporaries=temporaries,
        arguments=arguments,
        outputs=outputs,
        instructions=sum(map(len, computations.values())),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Instruction:
    name: str
    opcode: str
    type: Any  # an Array, or a tuple of types
    operands: tuple[str, ...]
    attributes: str
    within: dict[str, "_Instruction"]  # its computation
    root: bool

    @property
    def written(self) -> tuple[Array, ...]:
        """The arrays it makes; a start of a copy also names its source in its type."""
        if self.opcode == "copy-start":
            return tuple(_leaves(self.type[0]))
        if self.opcode.endswith("-start") and self.opcode != "all-reduce-start":
            return tuple(_leaves(self.type[1]))
        return tuple(_leaves(self.type))

    @property
    def called(self) -> list[str]:
        names = []
        for one, several in _CALLED.findall(self.attributes):
            names += [one] if one else re.split(r",\s*", several.replace("%", ""))
        return names


_Computations = dict[str, dict[str, _Instruction]]


def _parse(text: str) -> tuple[_Computations, str]:
    computations, entry, current = {}, "", {}
    for line in text.splitlines():
        if header := _COMPUTATION.match(line):
            current = computations[header[2]] = {}
            if header[1]:
                entry = header[2]
        elif match := _INSTRUCTION.match(line):
            root, name, rest = match.groups()
            current[name] = _instruction(name, _COMMENT.sub("", rest), current, root)
    return computations, entry


def _instruction(name, rest, within, root) -> _Instruction:
    end = _closing(rest, 0) if rest.startswith("(") else rest.index(" ")
    opcode, paren, _ = rest[end:].lstrip().partition("(")
    start = rest.index(opcode + paren, end) + len(opcode)
    stop = _closing(rest, start)
    return _Instruction(
        name=name,
        opcode=opcode,
        type=_type(rest[:end]),
        operands=tuple(_OPERAND.findall(rest[start:stop])),
        attributes=rest[stop:],
        within=within,
        root=bool(root),
    )


def _closing(text: str, start: int) -> int:
    """The place after the parenthesis that closes the one at ``start``."""
    depth = 0
    for place in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0:
            return place + 1
    raise ValueError(f"no closing parenthesis in {text!r}")


def _type(text: str) -> Any:
    if not text.startswith("("):
        return _array(text)
    parts, depth, part = [], 0, ""
    for letter in text[1:-1] + ",":
        depth += letter in "([{"
        depth -= letter in ")]}"
        if letter == "," and depth == 0:
            parts.append(part.strip())
            part = ""
        else:
            part += letter
    return tuple(_type(part) for part in parts if part)


def _array(text: str) -> Array:
    match = _ARRAY.match(text)
    if match is None:  # token[] and the like carry no data
        return Array(text, (0,), "", 0, 0)
    dtype, dims, layout = match[1], match[2], match[3] or ""
    shape = tuple(int(dim.lstrip("<=")) for dim in dims.split(",") if dim)
    space = re.search(r"S\((\d+)\)", layout)
    order = re.sub(r"S\(\d+\)|[#*]\(.*?\)", "", layout)
    size = math.ceil(_padded(shape, order) * _bits(dtype) / 8)
    return Array(dtype, shape, order, int(space[1]) if space else 0, size)


def _bits(dtype: str) -> int:
    if dtype == "pred":
        return 8
    width = re.match(r"[a-z]+(\d+)", dtype)
    return int(width[1]) if width else 0


def _padded(shape: tuple[int, ...], layout: str) -> int:
    """Elements with padding to whole tiles of the fastest running dimensions."""
    order, _, tiles = layout.partition(":")
    tile = re.match(r"T\(([\d,]+)\)", tiles)
    if tile is None or not shape:
        return math.prod(shape)
    sizes = [shape[int(axis)] for axis in order.split(",")]  # fastest first
    for place, size in enumerate(reversed(tile[1].split(","))):
        if place < len(sizes):
            sizes[place] = -(-sizes[place] // int(size)) * int(size)
    return math.prod(sizes)


def _leaves(type_: Any) -> Iterator[Array]:
    if isinstance(type_, Array):
        yield type_
        return
    for part in type_:
        yield from _leaves(part)


def _launched(computations: _Computations, name: str) -> Iterator[_Instruction]:
    """The instructions the device runs one by one, loop and branch bodies included."""
    for instruction in computations[name].values():
        if instruction.opcode in _CONTROL:
            for called in instruction.called:
                yield from _launched(computations, called)
        else:
            yield instruction


def _kernel(computations: _Computations, instruction: _Instruction) -> Kernel:
    body = {}
    if instruction.opcode == "fusion" or instruction.opcode.startswith("async"):
        body = computations[instruction.called[0]]
    return Kernel(
        name=instruction.name,
        opcode=instruction.opcode,
        read=_read(instruction, body),
        written=sum(a.bytes for a in instruction.written if a.space == 0),
        results=instruction.written,
        relayout=max(map(_relayout, (instruction, *body.values()))),
    )


def _read(instruction: _Instruction, body: dict[str, _Instruction]) -> int:
    operands = [instruction.within[name] for name in instruction.operands]
    if not body:
        if instruction.opcode in _SLICES or instruction.opcode == "slice-start":
            operands = operands[:1]
            return sum(
                _share(a, instruction.written[0].elements)
                for operand in operands
                for a in _leaves(operand.type)
            )
        return sum(_main(operand.type) for operand in operands)
    total = 0
    for parameter in body.values():
        if parameter.opcode == "parameter":
            taken = _elements_taken(parameter, body)
            total += sum(_share(array, taken) for array in _leaves(parameter.type))
    return total


def _main(type_: Any) -> int:
    return sum(array.bytes for array in _leaves(type_) if array.space == 0)


def _share(array: Array, elements: int) -> int:
    if array.space or not array.elements:
        return 0
    return math.ceil(array.bytes * min(1, elements / array.elements))


def _elements_taken(source: _Instruction, body: dict[str, _Instruction]) -> int:
    """How many elements of ``source`` a fusion takes: all, or those it slices out."""
    taken = 0
    for user in body.values():
        if source.name not in user.operands:
            continue
        if user.opcode in _SLICES and user.operands[0] == source.name:
            taken += next(_leaves(user.type)).elements
        elif user.opcode in {"bitcast", "convert"} and not user.root:
            taken += _elements_taken(user, body)
        else:
            return sum(array.elements for array in _leaves(source.type))
    return taken


def _relayout(instruction: _Instruction) -> int:
    """Elements that a copy, transpose or reshape moves into another order.

    A copy to another memory in the same order is none.
    """
    if instruction.opcode not in _RELAYOUTS or not isinstance(instruction.type, Array):
        return 0
    (source,) = (instruction.within[name] for name in instruction.operands)
    if instruction.opcode == "copy" and source.type.layout == instruction.type.layout:
        return 0
    return instruction.type.elements


def _outputs(entry: dict[str, _Instruction]) -> set[tuple[_Instruction, int]]:
    """Which results of which instructions are the program's outputs."""
    found, pending = set(), []
    for instruction in entry.values():
        if instruction.root:
            pending += ((instruction, i) for i in range(len(instruction.written)))
    while pending:
        instruction, index = pending.pop()
        sources = [entry[name] for name in instruction.operands]
        if instruction.opcode == "tuple":
            pending += ((source, 0) for source in sources)
        elif instruction.opcode == "get-tuple-element":
            place = re.search(r"index=(\d+)", instruction.attributes)
            pending.append((sources[0], int(place[1]) if place else 0))
        elif instruction.opcode == "bitcast" or instruction.opcode.endswith("-done"):
            pending.append((sources[0], index))
        else:
            found.add((instruction, index))
    return found


def _collectives(computations: _Computations) -> Iterator[Collective]:
    for body in computations.values():
        for instruction in body.values():
            kind = instruction.opcode.removesuffix("-start")
            if kind in _COLLECTIVES:
                received = sum(array.bytes for array in instruction.written)
                elements = sum(array.elements for array in instruction.written)
                yield Collective(kind, received, elements)
