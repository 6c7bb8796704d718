"""Text between markers in a document, generated from a record and never typed."""

import pathlib
import re


def replace(path: pathlib.Path, name: str, text: str) -> bool:
    """Writes ``text`` between ``<!-- name:begin -->`` and ``<!-- name:end -->``.

    Returns:
      Whether the file changed.

    Raises:
      ValueError: the file lacks the markers.
    """
    old = path.read_text()
    new = _between(name).sub(lambda m: f"{m[1]}\n{text.strip()}\n{m[3]}", old)
    if not _between(name).search(old):
        raise ValueError(
            f"{path.name} must contain <!-- {name}:begin --> and <!-- {name}:end -->, "
            "each on a line of its own; add them where the table is to stand"
        )
    if new != old:
        path.write_text(new)
    return new != old


def read(path: pathlib.Path, name: str) -> str:
    """The text between the markers.

    Raises:
      ValueError: the file lacks the markers.
    """
    match = _between(name).search(path.read_text())
    if match is None:
        raise ValueError(f"{path.name} has no markers named {name}")
    return match[2].strip()


def _between(name: str) -> re.Pattern[str]:
    return re.compile(
        rf"(<!-- {re.escape(name)}:begin -->)(.*?)(<!-- {re.escape(name)}:end -->)",
        re.DOTALL,
    )
