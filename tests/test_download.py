"""Downloads against a server on this machine: resumed, checked, laid out, and refused in one line."""

import gzip
import hashlib
import http.server
import io
import tarfile
import threading
from dataclasses import replace

import numpy as np
import pytest

from segdet.errors import SegdetError
from segdet.io import download as module
from segdet.io.download import DATASETS, download


def make_archive(labels=("a.nii.gz", "b.nii.gz")):
    """A small tar of the Decathlon's layout, with the macOS litter that theirs has."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        names = [f"Task04/imagesTr/{n}" for n in ("a.nii.gz", "b.nii.gz", "._a.nii.gz")]
        names += [f"Task04/labelsTr/{n}" for n in labels] + [
            "Task04/imagesTs/c.nii.gz",
            "../../outside/imagesTr/a.nii.gz",
        ]
        for name in names:
            content = name.encode() * 1000
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


class Server(http.server.BaseHTTPRequestHandler):
    """Serves one archive, with ranges unless told not to, and drops the line after `limit` bytes once.

    Told to, it compresses for those who take that, and a range is one of the compressed bytes.
    """

    archive, limit, ranges, compresses, asked = b"", None, True, False, []

    def do_GET(self):
        cls = type(self)
        cls.asked.append(self.headers.get("Range"))
        start = int(self.headers["Range"][6:-1]) if self.headers.get("Range") and cls.ranges else 0
        packed = cls.compresses and "gzip" in self.headers.get("Accept-Encoding", "")
        content = gzip.compress(cls.archive) if packed else cls.archive
        if start >= len(content):
            self.send_response(416)
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", len(content) - start)
        if packed:
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        stop, cls.limit = cls.limit, None
        self.wfile.write(content[start:stop])
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    cls = type("Once", (Server,), {"archive": make_archive(), "asked": []})
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), cls)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    serve(monkeypatch, f"http://127.0.0.1:{httpd.server_port}/hip.tar", cls.archive)
    yield cls
    httpd.shutdown()
    httpd.server_close()


def serve(monkeypatch, url, archive):
    dataset = replace(DATASETS["hippocampus"], files={url: f"md5:{hashlib.md5(archive).hexdigest()}"})
    monkeypatch.setattr(module, "DATASETS", {"hippocampus": dataset})


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


PAIRS = ["images/a.nii.gz", "images/b.nii.gz", "labels/a.nii.gz", "labels/b.nii.gz"]


def test_layout(server, tmp_path):
    assert download("hippocampus", tmp_path / "data/h") == 2
    assert files(tmp_path) == [f"data/h/{name}" for name in PAIRS]
    assert (tmp_path / "data/h/labels/b.nii.gz").read_bytes() == b"Task04/labelsTr/b.nii.gz" * 1000
    with pytest.raises(SegdetError, match="is there already"):
        download("hippocampus", tmp_path / "data/h")


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_goes_on(server, tmp_path, ranges):
    server.limit, server.ranges = 20_000, ranges
    with pytest.raises(SegdetError, match=r"cannot be downloaded .* run this again to go on, or put the file at"):
        download("hippocampus", tmp_path / "h")
    assert files(tmp_path) == [".segdet-hip.tar.part"]
    have = (tmp_path / ".segdet-hip.tar.part").stat().st_size
    assert have > 10_000
    assert download("hippocampus", tmp_path / "h") == 2
    assert server.asked == [None, f"bytes={have}-"]
    assert files(tmp_path / "h") == PAIRS


def test_a_server_that_would_compress_is_asked_for_the_bytes_themselves(server, tmp_path, monkeypatch):
    (url,) = module.DATASETS["hippocampus"].files
    server.archive, server.limit, server.compresses = np.random.default_rng(0).bytes(60_000), 20_000, True
    files = {url: f"sha256:{hashlib.sha256(server.archive).hexdigest()}"}
    monkeypatch.setattr(module, "DATASETS", {"hips": replace(DATASETS["hips"], files=files)})
    with pytest.raises(SegdetError, match="run this again to go on"):
        download("hips", tmp_path / "h")
    have = (tmp_path / ".segdet-hip.tar.part").stat().st_size
    download("hips", tmp_path / "h")
    assert (tmp_path / "h/hip.tar").read_bytes() == server.archive
    assert server.asked == [None, f"bytes={have}-"]
    assert have > 10_000


def test_a_download_that_stopped_at_its_last_byte(server, tmp_path):
    (tmp_path / ".segdet-hip.tar.part").write_bytes(server.archive)
    assert download("hippocampus", tmp_path / "h") == 2


def test_an_archive_fetched_by_hand(server, tmp_path):
    (tmp_path / "hip.tar").write_bytes(server.archive)
    assert download("hippocampus", tmp_path / "h") == 2
    assert server.asked == []
    assert (tmp_path / "hip.tar").read_bytes() == server.archive
    assert files(tmp_path / "h") == PAIRS
    (tmp_path / "hip.tar").write_bytes(b"half")
    with pytest.raises(SegdetError, match=r"hip\.tar: its checksum is not md5:.*; delete it and try again"):
        download("hippocampus", tmp_path / "other")
    assert (tmp_path / "hip.tar").read_bytes() == b"half"
    assert server.asked == []


def test_a_part_of_somebody_else_is_left_alone(server, tmp_path):
    (tmp_path / "hip.tar.part").write_bytes(b"of a browser")
    assert download("hippocampus", tmp_path / "h") == 2
    assert (tmp_path / "hip.tar.part").read_bytes() == b"of a browser"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["h", "hip.tar.part"]


def test_a_wrong_checksum(server, tmp_path):
    server.archive = server.archive + b"x"
    with pytest.raises(SegdetError, match=r"hip\.tar: its checksum is not md5:"):
        download("hippocampus", tmp_path / "h")
    assert files(tmp_path) == []


def test_another_layout(server, tmp_path, monkeypatch):
    for archive, message in (
        (make_archive(["a.nii.gz"]), "2 images and 1 labels, not pairs"),
        (b"x", "no tar archive"),
    ):
        (tmp_path / "hip.tar").write_bytes(archive)
        serve(monkeypatch, "http://127.0.0.1:9/hip.tar", archive)
        with pytest.raises(SegdetError, match=message):
            download("hippocampus", tmp_path / "h")
        assert files(tmp_path) == ["hip.tar"]


def test_offline_and_unknown(tmp_path, monkeypatch):
    serve(monkeypatch, "http://127.0.0.1:9/hip.tar", b"")
    with pytest.raises(SegdetError, match=r"Connection refused.*put the file at .*hip\.tar by hand") as caught:
        download("hippocampus", tmp_path / "h")
    assert "\n" not in str(caught.value)
    with pytest.raises(SegdetError, match="there is no data set 'liver'; choose from hippocampus"):
        download("liver", tmp_path / "h")


@pytest.fixture
def hips(monkeypatch):
    """Two infants on a server that drops the line in the middle of the third file, once; what was asked of it."""
    content = {
        f"/{case}{suffix}": f"{case}{suffix}".encode() * 5000 for case in (1, 2) for suffix in (".dcm", ".nii.gz")
    }

    class Files(Server):
        asked, limit = [], None

        def do_GET(self):
            Files.archive, Files.limit = content[self.path], 20_000 if len(Files.asked) == 2 else None
            super().do_GET()

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{httpd.server_port}"
    checksums = {f"{address}{path}": f"sha256:{hashlib.sha256(held).hexdigest()}" for path, held in content.items()}
    monkeypatch.setattr(module, "DATASETS", {"hips": replace(DATASETS["hips"], files=checksums)})
    yield Files.asked
    httpd.shutdown()
    httpd.server_close()


def test_pictures_beside_their_labels(hips, tmp_path):
    (tmp_path / "1.dcm").write_bytes(b"1.dcm" * 5000)  # fetched by hand
    with pytest.raises(SegdetError, match=r"2\.nii\.gz: cannot be downloaded .* run this again to go on"):
        download("hips", tmp_path / "h")
    have = (tmp_path / ".segdet-2.nii.gz.part").stat().st_size
    assert download("hips", tmp_path / "h") == 2
    assert hips == [None, None, None, f"bytes={have}-"]  # what was complete is not fetched again
    assert files(tmp_path) == ["1.dcm", "h/1.dcm", "h/1.nii.gz", "h/2.dcm", "h/2.nii.gz"]
    assert (tmp_path / "h/2.nii.gz").read_bytes() == b"2.nii.gz" * 5000


def test_the_public_hips_are_those_of_the_tests(real_data):
    folder = real_data / "infant_hip_2d"
    if not folder.is_dir():
        pytest.skip("needs infant_hip_2d")
    for url, checksum in DATASETS["hips"].files.items():
        content = (folder / url.rsplit("/", 1)[-1]).read_bytes()
        assert checksum == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert len(DATASETS["hips"].files) == 2 * len(list(folder.glob("*.dcm"))) == 16


def test_the_command_names_the_authors(hips, tmp_path, capsys):
    from segdet.cli import app

    hips += [None] * 3  # no interruption
    app(["download", "hips", "--out", str(tmp_path / "h")], standalone_mode=False)
    said = capsys.readouterr().out
    assert "2 infants" in said
    assert "CC BY-NC-SA 3.0" in said
    assert all(name in said for name in ("Ashesh Ishwarlal Ranchod", "Ryan Thibodeau", "Yusra Sheikh"))
    assert f"next: segdet info {tmp_path / 'h'}/171551.dcm" in said
