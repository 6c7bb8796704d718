"""Lets the site show what lies beside docs/ in the checkout.

Pages are written to be read in the checkout too, so their links lead up and over,
../experiments/README.md. Here that page, and every file that a page links to, becomes a
part of the site, and the links lose the folders that the site does not have.
"""

import pathlib
import posixpath
import re
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = pathlib.Path(__file__).parents[1]
PAGES = ("experiments/README.md",)

_LINK = re.compile(r"(?<=\]\()(?![a-z]+:)[^)#\s]+")


def linked(page: str) -> list[str]:
    """Paths in the checkout that a page of the checkout links to."""
    folder = posixpath.dirname(page)
    return [
        posixpath.normpath(posixpath.join(folder, link))
        for link in _LINK.findall((ROOT / page).read_text())
    ]


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages, and what is linked to, from outside docs/."""
    pages = [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    wanted = {*PAGES, *(path for page in [*PAGES, *pages] for path in linked(page))}
    for path in sorted(wanted):
        if not path.startswith("docs/") and (ROOT / path).is_file():
            files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turns links in the checkout into links in the site, where docs/ is the root."""
    uri = page.file.src_uri
    folder = posixpath.dirname(uri if uri in PAGES else f"docs/{uri}")

    def moved(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, match[0]))
        return posixpath.relpath(
            path.removeprefix("docs/"), posixpath.dirname(uri) or "."
        )

    return _LINK.sub(moved, markdown)
