"""Files of a dataset: where they may lie, how to fetch them, whether they are right."""

import dataclasses
import gzip
import hashlib
import http.client
import os
import pathlib
import shlex
import urllib.error
import urllib.request
import zlib
from collections.abc import Sequence

import tqdm

_CHUNK = 1 << 16
_SECONDS_WITHOUT_DATA = 30


@dataclasses.dataclass(frozen=True)
class File:
    """A published file, known by the checksum of what is in it.

    Attributes:
      url: where its authors publish it; its last part is the file's name.
      sha256: of the file, in hexadecimal; with ``gzipped``, of the bytes inside.
      gzipped: whether it is compressed only to save space. It may then also lie there
        uncompressed, or compressed by someone else.
    """

    url: str
    sha256: str
    gzipped: bool = False

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[-1]

    def find(self, folder: pathlib.Path) -> pathlib.Path | None:
        """The path of the file in ``folder``; None if it is not there."""
        names = [self.name]
        if self.gzipped:
            names.append(self.name.removesuffix(".gz"))
        paths = (folder / name for name in names)
        return next((path for path in paths if path.is_file()), None)

    def read(self, path: pathlib.Path) -> bytes:
        """The bytes of the file at ``path``, out of gzip if ``gzipped``, once checked.

        Raises:
          ValueError: it is damaged, cut off or another file.
        """
        content = path.read_bytes()
        if self.gzipped:
            content = _uncompressed(content, path)
        digest = hashlib.sha256(content).hexdigest()
        if digest != self.sha256:
            raise ValueError(
                f"{path}: expected SHA-256 {self.sha256}, got {digest}; it is cut off, "
                f"damaged or another file, so delete it and fetch it from {self.url}"
            )
        return content

    def fetch(self, folder: pathlib.Path) -> pathlib.Path:
        """Downloads the file into ``folder``, whole and checked or not at all.

        Raises:
          ConnectionError: it cannot be had, or the connection broke.
          ValueError: what came is not the file.
        """
        path = folder / self.name
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{path.name}.{os.getpid()}.unfinished")
        try:
            _download(self.url, unfinished, path)
            self._check_download(unfinished)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
        return path

    def _check_download(self, path: pathlib.Path) -> None:
        try:
            self.read(path)
        except ValueError as error:
            raise ValueError(
                f"{self.url}: expected the file of SHA-256 {self.sha256}, got another; "
                "nothing was kept. Try again, and where that does not help, look for "
                f"the file elsewhere ({error})"
            ) from error


def locate(
    dataset: str,
    files: Sequence[File],
    folder: str | os.PathLike | None = None,
    *,
    elsewhere: Sequence[pathlib.Path] = (),
    download: bool = False,
) -> list[pathlib.Path]:
    """Where the files of a dataset lie, all in one folder.

    Args:
      dataset: its name, for the cache and for errors.
      files: all the files that it needs.
      folder: where to look, and nowhere else. By default the user's cache and then
        ``elsewhere``.
      elsewhere: folders in which others install it.
      download: whether to fetch what is missing, into ``folder`` or else the cache.

    Returns:
      A path for each of ``files``. They are not checked yet: `File.read` does that.

    Raises:
      FileNotFoundError: a file is missing, and ``download`` is false.
      ValueError: ``folder`` is a file.
      ConnectionError: a download failed.
    """
    if folder is None:
        folders = [cache_folder(dataset), *elsewhere]
    else:
        folders = [pathlib.Path(folder).expanduser()]
    if folders[0].exists() and not folders[0].is_dir():
        raise ValueError(
            f"{dataset}: expected a folder, got the file {folders[0]}; name the folder "
            "that holds it"
        )
    for candidate in folders:
        paths = [path for file in files if (path := file.find(candidate))]
        if len(paths) == len(files):
            return paths
    target = folders[0]
    if download:
        return [file.find(target) or file.fetch(target) for file in files]
    missing = [file.name for file in files if not file.find(target)]
    state = f"lacks {', '.join(missing)}" if target.is_dir() else "does not exist"
    option = "" if folder is None else f" --folder {shlex.quote(str(target))}"
    raise FileNotFoundError(
        f"{dataset}: expected {', '.join(file.name for file in files)} in "
        f"{' or '.join(map(str, folders))}; {target} {state}. Put "
        "the files there, or fetch them from their home with: "
        f"python -m experiments.data {dataset}{option}"
    )


def cache_folder(dataset: str) -> pathlib.Path:
    """The user's cache of a dataset, by the XDG base directory specification."""
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not cache.is_absolute():  # unset, empty or, says the specification, ignored
        cache = pathlib.Path.home() / ".cache"
    return cache / "flax_gn" / dataset


def _uncompressed(content: bytes, path: pathlib.Path) -> bytes:
    """The bytes out of gzip, if they are in gzip: the name may say otherwise."""
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(
            f"{path}: expected a whole gzip file, got one that is cut off or damaged "
            f"({error}); delete it and fetch it again"
        ) from error


def _download(url: str, to: pathlib.Path, final: pathlib.Path) -> None:
    by_hand = f"check the network, or put the file at {final} by hand"
    try:
        with (
            urllib.request.urlopen(url, timeout=_SECONDS_WITHOUT_DATA) as response,
            to.open("wb") as file,
        ):
            length = response.headers.get("Content-Length")
            expected = None if length is None else int(length)
            with tqdm.tqdm(
                total=expected,
                desc=final.name,
                unit="B",
                unit_scale=True,
                disable=None,  # where stderr is no terminal
            ) as bar:
                while chunk := response.read(_CHUNK):
                    file.write(chunk)
                    bar.update(len(chunk))
            received = file.tell()
    except (
        urllib.error.URLError,
        http.client.HTTPException,
        ConnectionError,
        TimeoutError,
    ) as error:
        raise ConnectionError(f"{url}: cannot be had ({error}); {by_hand}") from error
    if expected is not None and received != expected:
        raise ConnectionError(
            f"{url}: expected {expected} bytes, got {received} before the connection "
            f"broke; {by_hand}"
        )
