"""What a conversion changed, and what it left."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Change:
    """One batch norm that became a group norm.

    Attributes:
      path: where it is, joined by dots.
      channels: number of channels, C.
      groups: number of groups, G.
      epsilon: added to the variance, carried over from the batch norm.
      folded: whether the running statistics went into scale and bias.
    """

    path: str
    channels: int
    groups: int
    epsilon: float
    folded: bool


@dataclasses.dataclass(frozen=True)
class Left:
    """One batch norm, or keeper of batch statistics, that is still as it was.

    Attributes:
      path: where it is, joined by dots.
      reason: why it was left, and what can be done.
    """

    path: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Report:
    """Every change of a conversion, in order, and all it left; prints as a table.

    >>> from flax_gn.convert import Change, Left, Report
    >>> change = Change("stem.norm", 48, 24, 1e-5, folded=False)
    >>> print(Report((change,), (Left("head.norm", "it is another library's."),)))
    path       channels  groups  epsilon  folded
    stem.norm        48      24    1e-05   False
    1 batch norm became group norm.
    1 was left:
      head.norm: it is another library's.

    Attributes:
      changes: one `Change` per batch norm that became group norm.
      left: one `Left` for everything that still keeps batch statistics, or could.
    """

    changes: tuple[Change, ...]
    left: tuple[Left, ...] = ()

    def __str__(self) -> str:
        names = [field.name for field in dataclasses.fields(Change)]
        rows = [names] + [
            [str(getattr(change, name)) for name in names] for change in self.changes
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join([path.ljust(widths[0]), *map(str.rjust, rest, widths[1:])])
            for path, *rest in rows
        ]
        number = len(self.changes)
        lines.append(f"{number} batch norm{'s' * (number != 1)} became group norm.")
        if self.left:
            lines.append(
                f"{len(self.left)} {'was' if len(self.left) == 1 else 'were'} left:"
            )
        lines += [f"  {left.path or '(root)'}: {left.reason}" for left in self.left]
        return "\n".join(lines)
