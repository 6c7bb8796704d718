"""In whose words an error speaks: those of the function or of the layer called.

Every check is made in one place, for `group_norm` and for all that call it. A user of
`InstanceNorm(epsilon=...)` has never heard of ``eps`` or of ``group_norm``.
"""

import contextlib
import contextvars
import dataclasses
import re
from collections.abc import Iterator, Mapping


@dataclasses.dataclass(frozen=True)
class _Words:
    """Who was called, and the names of arguments on the way in, innermost first."""

    caller: str
    names: tuple[Mapping[str, str], ...]


_spoken: contextvars.ContextVar[_Words | None] = contextvars.ContextVar(
    "_spoken", default=None
)


@contextlib.contextmanager
def spoken_by(caller: str, **names: str) -> Iterator[None]:
    """Lets errors within speak the words of a caller; the outermost is the user's.

    It decorates a function, too.

    Args:
      caller: the name that a message starts with.
      **names: what the caller calls an argument of what it calls.
    """
    outer = _spoken.get()
    if outer is None:
        words = _Words(caller, (names,))
    else:
        words = _Words(outer.caller, (names, *outer.names))
    token = _spoken.set(words)
    try:
        yield
    finally:
        _spoken.reset(token)


def said(text: str) -> str:
    """A message from the caller, with the names in backquotes replaced by its own."""
    words = _spoken.get() or _Words("group_norm", ())

    def own(match: re.Match[str]) -> str:
        name = match[1]
        for names in words.names:
            name = names.get(name, name)
        return name

    return f"{words.caller}: " + re.sub(r"`(\w+)`", own, text)
