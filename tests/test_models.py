"""Installing models: from folders, archives and a web server; what is damaged or dangerous is refused in one line."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import SAMPLES

from asr import Recognizer
from asr.store import download as downloads


@pytest.fixture(autouse=True)
def own_data(monkeypatch, tmp_path):
    monkeypatch.setenv("RILL_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("RILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RILL_MODEL_INDEX", raising=False)
    monkeypatch.setattr(downloads, "PAUSE_SECONDS", 0.0)


@pytest.fixture(scope="module")
def archive(tmp_path_factory, model_folder) -> Path:
    """The random model, packed."""
    from asr.store.archive import pack

    path = tmp_path_factory.mktemp("packed") / "random.tar.gz"
    pack(model_folder, "random", path)
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves one file, breaking off after ``most`` bytes as often as ``breaks`` says; keeps the ranges asked for."""

    content = b""
    etag: str | None = '"one"'
    ranges = True
    most = 1 << 40
    breaks = 0
    asked: list[str | None]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        if not self.path.startswith("/model"):
            self.send_error(404)
            return
        wanted = self.headers.get("Range")
        server.asked.append(wanted)
        first = 0
        if wanted and server.ranges and self.headers.get("If-Range") == server.etag:
            first = int(wanted.removeprefix("bytes=").rstrip("-"))
        body = server.content[first:]
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(server.content) - 1}/{len(server.content)}")
        if server.etag:
            self.send_header("ETag", server.etag)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.breaks:
            server.breaks -= 1
            body = body[: server.most]
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(archive) -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        server.content, server.asked = archive.read_bytes(), []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def address(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_port}/model%20one.tar.gz"


def test_a_packed_model_is_installed_listed_used_and_removed(asr, model_folder, small_lm_folder, tmp_path):
    model = shutil.copytree(model_folder, tmp_path / "mine")
    shutil.copytree(small_lm_folder, model / "lm")
    (model / "MODEL_CARD.md").write_text("# A card\n")
    archive = tmp_path / "mine.tar.gz"
    packed = asr("models", "pack", model, "--output", archive)
    assert packed.returncode == 0 and packed.stdout == f"{digest(archive)}  {archive}\n"
    assert asr("models", "pack", model, "--output", tmp_path / "again.tgz").stdout.split()[0] == digest(archive)

    done = asr("models", "get", archive, "--sha256", digest(archive))
    assert (done.returncode, done.stderr) == (0, "")
    folder = tmp_path / "data" / "models" / "random"
    assert done.stdout == f"random\t{folder}\n"
    assert sorted(path.relative_to(folder) for path in folder.rglob("*")) == sorted(
        path.relative_to(model) for path in model.rglob("*")
    )
    assert [line.split("\t")[0] for line in asr("models").stdout.splitlines()][-1] == "random"
    assert asr("models", "list").stdout == asr("models").stdout
    audio = SAMPLES / "greeting.wav"
    assert asr("transcribe", "--model", "random", audio).stdout == asr("transcribe", "--model", model, audio).stdout
    assert Recognizer.load("random").decoder == "lm"

    taken = asr("models", "get", model)
    assert taken.returncode == 1 and "installed already" in taken.stderr
    assert asr("models", "get", model, "--replace").returncode == 0
    assert asr("models", "get", model, "--name", "other").returncode == 0
    for name in ("random", "other"):
        assert asr("models", "remove", name).returncode == 0
    assert list((tmp_path / "data" / "models").iterdir()) == []
    assert asr("models", "remove", "random").returncode == 2


def test_a_download_goes_on_where_it_broke_off(asr, server, tmp_path):
    server.breaks, server.most = 3, len(server.content) // 4 + 1
    done = asr("models", "get", f"{address(server)}#sha256={hashlib.sha256(server.content).hexdigest()}")
    assert done.returncode == 0, done.stderr
    assert server.asked == [None, *(f"bytes={number * server.most}-" for number in (1, 2, 3))]
    assert (tmp_path / "data/models/random/config.json").is_file()
    assert list((tmp_path / "cache" / "downloads").iterdir()) == []


def test_a_later_command_goes_on_too(asr, server, monkeypatch):
    monkeypatch.setattr(downloads, "ATTEMPTS", 1)
    server.breaks, server.most = 2, 1_000
    server.content, whole = server.content, server.content
    first = asr("models", "get", address(server))
    assert first.returncode == 0  # every attempt brought something
    assert server.asked == [None, "bytes=1000-", "bytes=2000-"]
    server.asked.clear()
    server.breaks, server.most = 2, 0
    broken = asr("models", "get", address(server), "--replace")
    assert broken.returncode == 1 and "cannot be fetched" in broken.stderr and len(broken.stderr.splitlines()) == 1
    assert server.content == whole


def test_a_file_that_changed_meanwhile_is_fetched_anew(asr, server):
    server.breaks, server.most = 1, 1_000
    changing = server.content

    class Changed(Handler):
        def do_GET(self) -> None:
            super().do_GET()
            self.server.etag = '"two"'

    server.RequestHandlerClass = Changed
    assert asr("models", "get", address(server)).returncode == 0
    assert server.asked == [None, "bytes=1000-"] and server.content == changing


@pytest.mark.parametrize("without", ["ranges", "etag"])
def test_servers_that_cannot_go_on_begin_again(asr, server, without):
    setattr(server, without, False if without == "ranges" else None)
    server.breaks, server.most = 1, 1_000
    assert asr("models", "get", address(server)).returncode == 0
    assert len(server.asked) == 2


def test_names_are_looked_up_in_an_index(asr, server, tmp_path, monkeypatch):
    index = tmp_path / "index.json"
    entry = {"url": address(server), "sha256": hashlib.sha256(server.content).hexdigest()}
    index.write_text(json.dumps({"models": {"small": entry}}))
    assert asr("models", "get", "small", "--index", index).returncode == 0
    monkeypatch.setenv("RILL_MODEL_INDEX", str(index))
    unknown = asr("models", "get", "large")
    assert unknown.returncode == 2 and "there are: small" in unknown.stderr
    index.write_text("[]")
    assert "is no index of models" in asr("models", "get", "small").stderr
    monkeypatch.delenv("RILL_MODEL_INDEX")
    assert "--index" in asr("models", "get", "small").stderr


@pytest.mark.parametrize(
    ("source", "options", "told"),
    [
        ("http://example.org/model.tar.gz", [], "plain http"),
        ("ftp://example.org/model.tar.gz", [], "no address of http"),
        ("https://example.org/model.tar.gz", ["--sha256", "12"], "64 hexadecimal digits"),
        ("no/such/file.tar.gz", [], "no such file"),
        ("nothere.zip", [], "no such file"),
    ],
)
def test_wrong_sources_are_refused_before_anything_happens(asr, source, options, told):
    refused = asr("models", "get", source, *options)
    assert refused.returncode == 2 and told in refused.stderr and len(refused.stderr.splitlines()) == 1


def test_what_the_server_refuses_or_alters_is_one_line(asr, server, tmp_path):
    missing = asr("models", "get", address(server).replace("model", "other"))
    assert missing.returncode == 1 and "404" in missing.stderr
    other = asr("models", "get", address(server), "--sha256", "0" * 64)
    assert other.returncode == 1 and "altered" in other.stderr and len(other.stderr.splitlines()) == 1
    assert not list((tmp_path / "data").rglob("config.json"))


def tar_with(path: Path, *entries: tuple[tarfile.TarInfo, bytes], of: Path | None = None) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        if of:
            tar.add(of, "model")
        for entry, content in entries:
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry, b""


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ((tarfile.TarInfo("../evil.txt"), b"x"), "not allowed"),
        ((tarfile.TarInfo("model/../../evil.txt"), b"x"), "not allowed"),
        ((tarfile.TarInfo("/etc/evil.txt"), b"x"), "not allowed"),
        ((tarfile.TarInfo("..\\evil.txt"), b"x"), "not allowed"),
        ((tarfile.TarInfo("C:\\evil.txt"), b"x"), "not allowed"),
        (link("model/extra.txt", "/etc/passwd"), "link or a device"),
        (link("model/extra.txt", "model/config.json", tarfile.LNKTYPE), "link or a device"),
        (link("model/extra.txt", "", tarfile.FIFOTYPE), "link or a device"),
        ((tarfile.TarInfo("model/weights.pt"), b"x"), "pickle"),
        ((tarfile.TarInfo("model/weights.PKL"), b"x"), "pickle"),
        ((tarfile.TarInfo("model/run.py"), b"x"), "no file of a model"),
        ((tarfile.TarInfo("model/config.json"), b"x"), "twice"),
    ],
)
def test_dangerous_archives_are_refused(asr, model_folder, tmp_path, entry, told):
    archive = tar_with(tmp_path / "bad.tar.gz", entry, of=model_folder)
    refused = asr("models", "get", archive)
    assert refused.returncode == 1 and told in refused.stderr and len(refused.stderr.splitlines()) == 1
    assert list((tmp_path / "data" / "models").iterdir()) == []
    assert not list(tmp_path.rglob("evil*")) and not Path("/etc/evil.txt").exists()


def test_zip_archives_are_read_and_held_to_the_same(asr, model_folder, tmp_path):
    good, bad = tmp_path / "good.zip", tmp_path / "bad.zip"
    for path in (good, bad):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            for file in model_folder.iterdir():
                packed.write(file, f"model/{file.name}")
            if path == bad:
                packed.writestr("../../evil.txt", "x")
    assert asr("models", "get", good).returncode == 0
    refused = asr("models", "get", bad, "--name", "bad")
    assert refused.returncode == 1 and "not allowed" in refused.stderr


def test_bombs_are_stopped_while_they_unpack(asr, tmp_path):
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("model/big.txt", bytes(30_000_000))
    assert bomb.stat().st_size < 100_000
    refused = asr("models", "get", bomb, "--most-mb", "10")
    assert refused.returncode == 1 and "more than 10 MB" in refused.stderr
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("model/config.json", bytes(30_000_000))
    refused = asr("models", "get", bomb)
    assert refused.returncode == 1 and "holds model/config.json of more than 1 MB" in refused.stderr
    crowd = tar_with(tmp_path / "crowd.tar.gz", *((tarfile.TarInfo(f"m/{n}.txt"), b"") for n in range(1_001)))
    assert "more than 1000 files" in asr("models", "get", crowd).stderr
    assert list((tmp_path / "data" / "models").iterdir()) == []


def test_a_damaged_description_is_named_by_its_archive(asr, tmp_path):
    path = tar_with(tmp_path / "odd.tar.gz", (tarfile.TarInfo("m/config.json"), b"{"))
    refused = asr("models", "get", path)
    assert refused.returncode == 1 and f"{path}/m/config.json cannot be read" in refused.stderr


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "empty", "without a model", "altered member"])
def test_damaged_archives_are_refused(asr, archive, model_folder, tmp_path, damage):
    path = tmp_path / "model.tar.gz"
    content = bytearray(archive.read_bytes())
    if damage == "cut":
        del content[len(content) // 2 :]
    elif damage == "flipped":
        content[len(content) // 2] ^= 0xFF
    elif damage == "text":
        content = bytearray(b"this is no archive")
    elif damage == "empty":
        content.clear()
    path.write_bytes(content)
    if damage == "without a model":
        tar_with(path, (tarfile.TarInfo("notes.txt"), b"hello"))
    elif damage == "altered member":
        model = shutil.copytree(model_folder, tmp_path / "altered")
        (model / "phones.txt").write_bytes((model / "phones.txt").read_bytes() + b"\n")
        tar_with(path, of=model)
    refused = asr("models", "get", path)
    assert refused.returncode == 1 and len(refused.stderr.splitlines()) == 1
    assert list((tmp_path / "data" / "models").iterdir()) == []


def test_packing_refuses_what_would_not_be_installed(asr, model_folder, tmp_path):
    model = shutil.copytree(model_folder, tmp_path / "mine")
    (model / "checkpoint.pt").write_bytes(b"x")
    refused = asr("models", "pack", model, "--output", tmp_path / "mine.tar.gz")
    assert refused.returncode == 1 and "pickle" in refused.stderr and not (tmp_path / "mine.tar.gz").exists()
    assert asr("models", "pack", model_folder, "--output", tmp_path / "mine.rar").returncode == 2
    shipped = asr("models", "get", model_folder, "--name", "rill-en-small")
    assert shipped.returncode == 2 and "came with Rill" in shipped.stderr
    assert asr("models", "get", model_folder, "--name", "../up").returncode == 2
