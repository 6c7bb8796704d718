"""What an experiment is: a claim of the paper, a run that tests it, and the answer."""

import dataclasses
import enum
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

Record = dict[str, Any]


class Ruling(enum.Enum):
    """Whether a claim held: what the numbers can tell, and that they cannot.

    >>> Ruling.of(True) & Ruling.UNDECIDED, Ruling.of(False) & Ruling.UNDECIDED
    (<Ruling.UNDECIDED: 'undecided'>, <Ruling.FAILED: 'did not hold'>)
    """

    HELD = "held"
    FAILED = "did not hold"
    UNDECIDED = "undecided"

    @classmethod
    def of(cls, true: bool) -> "Ruling":
        """Of what needs no seeds to be decided."""
        return cls.HELD if true else cls.FAILED

    def __and__(self, other: "Ruling") -> "Ruling":
        """Of both: false where one is, and else undecided where one is."""
        for ruling in (Ruling.FAILED, Ruling.UNDECIDED):
            if ruling in (self, other):
                return ruling
        return Ruling.HELD

    def __bool__(self) -> bool:
        raise TypeError("a ruling has three values: compare it with one of them")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a record says about one claim of the paper.

    Attributes:
      claim: in one sentence.
      paper: the paper's numbers for it, in a few words.
      ours: the record's numbers for it, in a few words.
      ruling: by a rule that the experiment computes from the record's numbers.
    """

    claim: str
    paper: str
    ours: str
    ruling: Ruling


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A lab record: what is claimed, how to test it, what it costs, what came out.

    Attributes:
      name: of the experiment, its folder and its command.
      title: one line.
      source: the paper's table or figure.
      paper: the paper's numbers, as lines of Markdown.
      folder: of the experiment; what is committed stands in its ``results``.
      size: names the committed record, ``results/SIZE.json``, and its figure.
      options: what to give the command for that size, such as "--full".
      minutes: expected on two quiet CPU cores, for that size.
      memory_gb: expected at the most, likewise.
      run: runs the experiment with a command line and gives the exit status.
      table: our numbers, from a record, as lines of Markdown.
      caption: from a record: what the numbers are and what they were measured on.
      verdicts: from a record: the claims, and whether they held.
      figure: draws a record into a PNG file.
      notes: what a reader has to know beside: what is smaller than the paper's, and,
        where a claim did not hold, what was tried.
    """

    name: str
    title: str
    source: str
    paper: str
    folder: pathlib.Path
    run: Callable[[Sequence[str]], int]
    table: Callable[[Record], str]
    caption: Callable[[Record], str]
    verdicts: Callable[[Record], list[Verdict]]
    figure: Callable[[Record, pathlib.Path], Any]
    minutes: float
    memory_gb: float
    size: str = "default"
    options: str = ""
    notes: str = ""

    @property
    def command(self) -> str:
        """The command line that makes the committed record."""
        return f"python -m experiments {self.name} {self.options}".strip()

    @property
    def path(self) -> pathlib.Path:
        """The committed record."""
        return self.folder / "results" / f"{self.size}.json"

    @property
    def picture(self) -> pathlib.Path:
        """The figure of the committed record."""
        return self.path.with_suffix(".png")

    def record(self, size: str | None = None) -> Record | None:
        """The committed record, or that of another size; None before the first run."""
        path = self.path.with_stem(size) if size else self.path
        return json.loads(path.read_text()) if path.is_file() else None
