import functools
import http.server
import pathlib
import re
import threading

import pytest
import tqdm

from experiments.data import files
from tests.experiments.data import formats

CONTENT = bytes(range(256)) * 999


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; of short/NAME it sends half and hangs up."""

    def do_GET(self):
        if not self.path.startswith("/short/"):
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: len(CONTENT) // 2])

    def log_message(self, format, *args):  # noqa: A002
        pass


@pytest.fixture
def server(tmp_path):
    """The address of a server on this machine, and the folder that it serves."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(_Handler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{httpd.server_port}", folder
        finally:
            httpd.shutdown()
            thread.join()


def _file(url, content=CONTENT):
    return files.File(url, formats.sha256(content))


def test_a_missing_file_is_downloaded_once(server, tmp_path):
    address, served = server
    (served / "set.bin").write_bytes(CONTENT)
    file = _file(f"{address}/set.bin")
    folder = tmp_path / "new" / "folder"
    [path] = files.locate("x", [file], folder, download=True)
    assert path == folder / "set.bin"
    assert file.read(path) == CONTENT
    assert [p.name for p in folder.iterdir()] == ["set.bin"]

    (served / "set.bin").unlink()  # so that a second download would fail
    assert files.locate("x", [file], folder, download=True) == [path]


def test_only_what_is_missing_is_downloaded(server, tmp_path):
    address, served = server
    (served / "b").write_bytes(CONTENT)
    (tmp_path / "a").write_bytes(b"here")
    both = [_file(f"{address}/a", b"here"), _file(f"{address}/b")]
    paths = files.locate("x", both, tmp_path, download=True)
    assert [path.read_bytes() for path in paths] == [b"here", CONTENT]


def test_a_download_goes_into_the_cache(server, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    address, served = server
    (served / "set.bin").write_bytes(CONTENT)
    paths = files.locate("x", [_file(f"{address}/set.bin")], download=True)
    assert paths == [tmp_path / "cache" / "flax_gn" / "x" / "set.bin"]


def test_a_download_with_a_wrong_checksum_leaves_nothing(server, tmp_path):
    address, served = server
    (served / "set.bin").write_bytes(CONTENT[:-1] + b"!")
    file = _file(f"{address}/set.bin")
    folder = tmp_path / "data"
    message = f"{file.url}: expected the file of SHA-256 {file.sha256}, got another"
    with pytest.raises(ValueError, match=re.escape(message)):
        files.locate("x", [file], folder, download=True)
    assert list(folder.iterdir()) == []


def test_a_download_that_breaks_off_leaves_nothing(server, tmp_path):
    address, _ = server
    file = _file(f"{address}/short/set.bin")
    folder = tmp_path / "data"
    half = len(CONTENT) // 2
    message = f"expected {len(CONTENT)} bytes, got {half} before the connection broke"
    with pytest.raises(ConnectionError, match=message):
        files.locate("x", [file], folder, download=True)
    assert list(folder.iterdir()) == []


def test_a_file_that_is_not_on_the_server_leaves_nothing(server, tmp_path):
    address, _ = server
    file = _file(f"{address}/absent")
    message = rf"absent: cannot be had .*404.* put the file at {tmp_path / 'absent'} "
    with pytest.raises(ConnectionError, match=message):
        file.fetch(tmp_path)
    assert not (tmp_path / "absent").exists()


def test_a_server_that_is_not_there_is_reported(tmp_path):
    file = _file("http://127.0.0.1:1/set.bin")
    with pytest.raises(ConnectionError, match=r"cannot be had .*refused"):
        file.fetch(tmp_path)


def test_ctrl_c_leaves_nothing(server, tmp_path, monkeypatch):
    address, served = server
    (served / "set.bin").write_bytes(CONTENT)

    folder = tmp_path / "data"

    def interrupt(*_):
        assert len(list(folder.iterdir())) == 1
        raise KeyboardInterrupt

    monkeypatch.setattr(tqdm.tqdm, "update", interrupt)
    with pytest.raises(KeyboardInterrupt):
        _file(f"{address}/set.bin").fetch(folder)
    assert list(folder.iterdir()) == []


def test_missing_files_are_named_with_the_place_and_the_command(tmp_path):
    folder = tmp_path / "my data"
    folder.mkdir()
    (folder / "a.gz").write_bytes(b"")
    two = [files.File(f"http://home/{name}.gz", "", gzipped=True) for name in "ab"]
    with pytest.raises(FileNotFoundError) as caught:
        files.locate("x", two, folder)
    assert f"x: expected a.gz, b.gz in {folder}; {folder} lacks b.gz." in str(
        caught.value
    )
    command = f"python -m experiments.data x --folder '{folder}'"
    assert str(caught.value).endswith(command)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}/nowhere does not exist"):
        files.locate("x", [_file("http://home/a")], tmp_path / "nowhere")


@pytest.mark.parametrize("download", [True, False])
def test_a_file_in_place_of_the_folder_is_refused(tmp_path, download):
    path = tmp_path / "a"
    path.write_bytes(CONTENT)
    with pytest.raises(ValueError, match=f"expected a folder, got the file {path}"):
        files.locate("x", [_file("http://home/a")], path, download=download)


def test_the_cache_goes_before_other_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache, other = tmp_path / "flax_gn" / "x", tmp_path / "other"
    file = _file("http://home/a")
    other.mkdir()
    (other / "a").write_bytes(CONTENT)
    assert files.locate("x", [file], elsewhere=[other]) == [other / "a"]
    cache.mkdir(parents=True)
    (cache / "a").write_bytes(CONTENT)
    assert files.locate("x", [file], elsewhere=[other]) == [cache / "a"]


def test_a_named_folder_is_the_only_one(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache = tmp_path / "flax_gn" / "x"
    cache.mkdir(parents=True)
    (cache / "a").write_bytes(CONTENT)
    with pytest.raises(FileNotFoundError):
        files.locate("x", [_file("http://home/a")], tmp_path, elsewhere=[cache])


@pytest.mark.parametrize("value", ["", "relative/folder"])
def test_a_cache_variable_that_is_no_absolute_path_is_ignored(value, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    expected = pathlib.Path.home() / ".cache" / "flax_gn" / "x"
    assert files.cache_folder("x") == expected


def test_only_a_gzipped_file_may_lie_there_plain(tmp_path):
    (tmp_path / "a").write_bytes(CONTENT)
    gzipped = files.File("http://home/a.gz", formats.sha256(CONTENT), gzipped=True)
    assert gzipped.find(tmp_path) == tmp_path / "a"
    assert gzipped.read(tmp_path / "a") == CONTENT
    assert files.File("http://home/a.gz", "").find(tmp_path) is None
