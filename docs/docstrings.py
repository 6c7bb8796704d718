"""Lets the site read docstrings as they are written.

The docstrings hold bare doctests and, before an equation, the two colons of
reStructuredText; Markdown would take the first for quotations and print the second.
"""

import re

import griffe

_DOCTEST = re.compile(r"(?:^>>> .*\n(?:^(?!$).*\n?)*\n?)+", re.MULTILINE)


def for_markdown(docstring: str) -> str:
    """The docstring with its doctests in an Examples section."""

    def section(match: re.Match[str]) -> str:
        lines = match[0].rstrip().splitlines()
        indented = (f"    {line}".rstrip() for line in lines)
        return "\n".join(["Examples:", *indented, "", ""])

    docstring = re.sub(r"::$", ":", docstring, flags=re.MULTILINE)
    return _DOCTEST.sub(section, docstring)


class Docstrings(griffe.Extension):
    """Rewrites every docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **kwargs: object) -> None:
        """Called by griffe for each module, class, function and attribute."""
        del kwargs
        if obj.docstring is not None:
            obj.docstring.value = for_markdown(obj.docstring.value)
