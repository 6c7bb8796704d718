"""The reference has a page for every public name, and each docstring is complete."""

import functools
import importlib
import importlib.util
import inspect
import pathlib
import re
import types

import jax
import pytest
from jax.experimental import jet

from flax_gn import group_norm, models

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
    "flax_gn.convert.trained_variables",
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


@pytest.mark.parametrize(
    ("page", "link", "moved"),
    [
        ("index.md", "../experiments/README.md#a", "experiments/README.md#a"),
        ("index.md", "numerics.md", "numerics.md"),
        ("api/index.md", "../conversion.md", "../conversion.md"),
        ("api/index.md", "../../experiments/a/b.png", "../experiments/a/b.png"),
        ("experiments/README.md", "../docs/datasets.md", "../datasets.md"),
        ("experiments/README.md", "norms/a.png", "norms/a.png"),
        ("index.md", "https://docs.jax.dev/a", "https://docs.jax.dev/a"),
        ("index.md", "#use", "#use"),
    ],
)
def test_links_of_the_checkout_become_links_of_the_site(page, link, moved):
    hook = importlib.util.spec_from_file_location("c", ROOT / "docs" / "checkout.py")
    assert hook is not None
    assert hook.loader is not None
    checkout = importlib.util.module_from_spec(hook)
    hook.loader.exec_module(checkout)
    file = types.SimpleNamespace(file=types.SimpleNamespace(src_uri=page))
    text = checkout.on_page_markdown(f"a [b]({link}) and ![c]({link})", file)
    assert text == f"a [b]({moved}) and ![c]({moved})"


@pytest.mark.parametrize(
    "function", [jax.nn.relu, functools.partial(group_norm, groups=2)]
)
def test_jet_is_the_transformation_that_the_pages_except(function):
    x = jax.random.normal(jax.random.key(0), (1, 3, 4))
    with pytest.raises(Exception, match=r"tracer|process_"):
        jet.jet(function, (x,), ((x,),))
    for page in ("README.md", "docs/index.md", "flax_gn/functional.py"):
        assert "jax.experimental.jet" in (ROOT / page).read_text()
