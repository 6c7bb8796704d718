"""The reference has a page for every public name, and each docstring is complete."""

import importlib
import inspect
import pathlib
import re

import pytest

from flax_gn import models

ROOT = pathlib.Path(__file__).parents[1]
MODULES = ("flax_gn", "flax_gn.linen", "flax_gn.nnx", "flax_gn.convert")
FROM_FLAX = {"flax_gn.linen.BatchNorm", "flax_gn.nnx.BatchNorm"}

# No paper has an equation for these: they turn one network into another.
NO_SOURCE = {
    "flax_gn.convert.Change",
    "flax_gn.convert.Left",
    "flax_gn.convert.Report",
    "flax_gn.convert.linen_norm",
    "flax_gn.convert.linen_variables",
    "flax_gn.convert.nnx_model",
    "flax_gn.convert.nnx_norm",
}


def public_names():
    return sorted(
        f"{module}.{name}"
        for module in MODULES
        for name in importlib.import_module(module).__all__
        if f"{module}.{name}" not in FROM_FLAX
    )


def public(name):
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def page(name):
    return f"api/{name.removeprefix('flax_gn.')}.md"


@pytest.mark.parametrize("name", public_names())
def test_has_a_page_in_the_reference(name):
    assert (ROOT / "docs" / page(name)).read_text() == f"::: {name}\n"
    assert page(name) in (ROOT / "mkdocs.yml").read_text()


@pytest.mark.parametrize("name", public_names())
def test_docstring_has_an_example_and_a_source(name):
    docstring = inspect.getdoc(public(name))
    assert docstring
    # Report's example makes one of each.
    if name not in ("flax_gn.convert.Change", "flax_gn.convert.Left"):
        assert ">>> " in docstring
    assert name in NO_SOURCE or "Source: " in docstring


def callables():
    return [name for name in public_names() if inspect.isfunction(public(name))]


@pytest.mark.parametrize("name", callables())
def test_docstring_describes_every_argument_the_result_and_the_errors(name):
    function = public(name)
    docstring = inspect.getdoc(function)
    assert docstring
    for section in ("Args:", "Returns:", "Raises:"):
        assert f"\n{section}\n" in docstring
    described = set(re.findall(r"^  \**(\w+): ", docstring, flags=re.MULTILINE))
    assert set(inspect.signature(function).parameters) <= described


def test_every_page_of_the_reference_names_something_public():
    pages = {f"api/{path.name}" for path in (ROOT / "docs" / "api").glob("*.md")}
    together = {"api/index.md", "api/models.md"}
    assert pages - together == {page(name) for name in public_names()}


def test_the_networks_have_a_page_together():
    lines = (ROOT / "docs" / "api" / "models.md").read_text().splitlines()
    shown = {
        line.removeprefix("::: flax_gn.models.") for line in lines if ":::" in line
    }
    assert shown == set(models.__all__)
