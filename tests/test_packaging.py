"""The metadata, the pinned environments, the wheel and the source archive."""

import collections
import email
import pathlib
import re
import shutil
import sys
import tarfile
import tomllib
import zipfile

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import flax_gn
from tests.test_architecture import MODULES, imported

ROOT = pathlib.Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
GROUPS = PYPROJECT["dependency-groups"]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
OLDEST = ROOT / "requirements" / "oldest.txt"

# Where a package is imported under another name than it is installed by.
DISTRIBUTION = {
    "PIL": "pillow",
    "google": "protobuf",
    "haiku": "dm-haiku",
    "orbax": "orbax-checkpoint",
}


def pins(lock: pathlib.Path) -> list[str]:
    """The requirements of a lock, each on a line of its own with its hashes."""
    text = re.sub(r"\\\n\s*", "", lock.read_text())
    return [line for line in text.splitlines() if not re.match(r"\s*(#|$)", line)]


def requirement(pin: str) -> Requirement:
    return Requirement(pin.partition("--hash=")[0].strip())


def group(name: str) -> list[Requirement]:
    """The requirements of a dependency group, with those of the groups in it."""
    found = []
    for given in GROUPS[name]:
        if isinstance(given, dict):
            found += group(given["include-group"])
        else:
            found.append(Requirement(given))
    return found


def test_brings_only_jax_and_flax():
    names = {Requirement(text).name for text in PROJECT["dependencies"]}
    assert names == {"jax", "flax"}


def test_python_is_the_one_that_is_pinned():
    pinned = (ROOT / ".python-version").read_text().strip()
    assert Version(pinned) in SpecifierSet(PROJECT["requires-python"])
    assert f"Programming Language :: Python :: {pinned}" in PROJECT["classifiers"]


def test_oldest_versions_are_those_that_are_locked_and_named():
    (bound,) = SpecifierSet(PROJECT["requires-python"])
    assert bound.operator == ">="
    assert PYPROJECT["tool"]["pyright"]["pythonVersion"] == bound.version
    assert (
        f"Programming Language :: Python :: {bound.version}" in PROJECT["classifiers"]
    )
    assert f"venv --clear --python {bound.version}" in (ROOT / "Makefile").read_text()
    locked = {
        found.name: str(found.specifier)
        for found in map(requirement, pins(OLDEST))
        if found.name in ("jax", "flax")
    }
    asked = [Requirement(text) for text in PROJECT["dependencies"]]
    assert locked == {a.name: str(a.specifier).replace(">=", "==") for a in asked}
    for page in ("README.md", "docs/index.md"):
        text = " ".join((ROOT / page).read_text().split())
        oldest = f"Python {bound.version}, jax {locked['jax'][2:]} and flax"
        assert f"{oldest} {locked['flax'][2:]}" in text, page


def test_changelog_tells_of_this_version():
    Version(PROJECT["version"])
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert f"\n## [{PROJECT['version']}]" in changelog


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
class TestLock:
    def test_pins_a_version_and_its_hashes(self, lock):
        assert pins(lock)
        for pin in pins(lock):
            (specifier,) = requirement(pin).specifier
            assert specifier.operator == "==", pin
            hashes = pin.split("--hash=")[1:]
            assert hashes, pin
            for value in hashes:
                assert re.fullmatch(r"sha256:[0-9a-f]{64}", value.strip()), pin

    def test_names_no_host_and_no_folder(self, lock):
        for line in lock.read_text().splitlines():
            assert not re.search(r"://|file:|--(extra-)?index|--find-links", line), line
            # The only folder is the one of the locks, in the notes of what asked.
            assert "/" not in line.replace("requirements/", ""), line


def test_locks_agree_on_every_version():
    versions = collections.defaultdict(set)
    for lock in set(LOCKS) - {OLDEST}:
        for pin in pins(lock):
            wanted = requirement(pin)
            key = canonicalize_name(wanted.name), str(wanted.marker or "")
            versions[key].add(str(wanted.specifier))
    assert {key: found for key, found in versions.items() if len(found) > 1} == {}


@pytest.mark.parametrize(
    ("lock", "groups"),
    [
        ("dev", ["dev"]),
        ("demo", ["build", "experiments"]),
        ("compiled", ["compiled"]),
        ("oldest", ["oldest"]),
    ],
)
def test_lock_has_what_the_project_asks_for(lock, groups):
    locked = {}
    for pin in pins(ROOT / "requirements" / f"{lock}.txt"):
        found = requirement(pin)
        if found.marker is None or found.marker.evaluate():
            (specifier,) = found.specifier
            locked[canonicalize_name(found.name)] = Version(specifier.version)
    wanted = [Requirement(text) for text in PROJECT["dependencies"]]
    for name in groups:
        wanted += group(name)
    for asked in wanted:
        if asked.marker is None or asked.marker.evaluate():
            version = locked[canonicalize_name(asked.name)]
            assert asked.specifier.contains(version), asked


@pytest.mark.parametrize(
    "module", [name for name in MODULES if name.startswith("experiments")]
)
def test_experiments_import_what_their_group_brings(module):
    """At the top of a module, that is; peers are imported where they are timed."""
    needs = "imagenet" if module.startswith("experiments.imagenet") else "experiments"
    brought = {canonicalize_name(given.name) for given in group(needs)}
    brought |= {"jax", "flax", "flax-gn", "experiments"}
    if module.endswith(".torch_worker"):
        brought.add("torch")  # it runs under another Python, which the user names
    names = imported(module, MODULES[module].read_text(), at_top=True)
    tops = {name.split(".")[0] for name in names} - sys.stdlib_module_names
    assert {canonicalize_name(DISTRIBUTION.get(top, top)) for top in tops} <= brought


def texts():
    """What is read of the project: its pages and its programs, this one aside."""
    pages = [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]
    return [*pages, ROOT / "experiments" / "README.md", *MODULES.values()]


def test_what_is_said_of_groups_is_true():
    said = set()
    for path in texts():
        text = path.read_text()
        said |= set(re.findall(r"--group[ =]([\w-]+)", text))
        extras = re.findall(r"flax_gn\[(\w+)\]", text)
        assert set(extras) <= set(PROJECT["optional-dependencies"]), path
        assert not re.search(r"\.\[\w+\]'|--extra", text), path
    assert {"imagenet", "parquet", "video"} <= said <= set(GROUPS)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of what git would take, for building must not leave anything here."""
    copy = tmp_path_factory.mktemp("checkout")
    ignored = shutil.ignore_patterns(
        ".git", *(ROOT / ".gitignore").read_text().replace("/", "").split()
    )
    shutil.copytree(ROOT, copy, ignore=ignored, dirs_exist_ok=True)
    return copy


@pytest.fixture(scope="module")
def wheel(checkout):
    """The wheel, as it is built of the checkout."""
    (built,) = WheelBuilder(str(checkout)).build(directory=str(checkout / "dist"))
    return pathlib.Path(built)


def test_wheel_has_the_package_its_types_and_the_licence_alone(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    info = f"flax_gn-{PROJECT['version']}.dist-info"
    assert names == {
        *(str(MODULES[name].relative_to(ROOT)) for name in MODULES if _ours(name)),
        "flax_gn/py.typed",
        *(f"{info}/{name}" for name in ("METADATA", "RECORD", "WHEEL")),
        f"{info}/licenses/LICENSE",
    }
    assert pathlib.Path(flax_gn.__file__).with_name("py.typed").exists()


def _ours(module: str) -> bool:
    return module.split(".")[0] == "flax_gn"


def test_wheel_is_small_and_asks_for_jax_and_flax_alone(wheel):
    assert wheel.stat().st_size <= 300_000
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith("/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    asked = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
    always = {given.name for given in asked if given.marker is None}
    assert always == {"jax", "flax"}
    assert metadata.get_all("Provides-Extra") == ["weights"]
    assert {given.name for given in asked} - always == {"safetensors"}
    assert metadata["Requires-Python"] == PROJECT["requires-python"]


def test_source_archive_is_a_checkout(checkout):
    """`make demo` and `make test` run in it; only its metadata is new."""
    (built,) = SdistBuilder(str(checkout)).build(directory=str(checkout / "dist"))
    top = f"flax_gn-{PROJECT['version']}/"
    with tarfile.open(built) as archive:
        names = {member.name for member in archive if member.isfile()}
    files = {
        str(path.relative_to(checkout))
        for path in checkout.rglob("*")
        if path.is_file() and checkout / "dist" not in path.parents
    }
    assert {name.removeprefix(top) for name in names} == {*files, "PKG-INFO"}
