"""Files that are complete or absent, folders verified by checksums, and where computed files are kept."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from asr.acoustic.folder import ModelPackage
from asr.errors import ModelError
from asr.files import Description, cache_folder, write_description, write_whole
from asr.words.lexicon import Lexicon


def test_a_file_appears_whole(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write(file):
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
        file.seek(0)
        assert file.read() == b"new"

    write_whole(path, write)
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_after_an_error(tmp_path, error):
    def write(file):
        file.write(b"half")
        raise error

    path = tmp_path / "file"
    for old in (None, b"old"):
        if old is not None:
            path.write_bytes(old)
        with pytest.raises(error):
            write_whole(path, write)
        assert [file.read_bytes() for file in tmp_path.iterdir()] == ([] if old is None else [old])


def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path):
    path = tmp_path / ("ä" * (os.pathconf(tmp_path, "PC_NAME_MAX") // 2))
    write_whole(path, lambda file: file.write(b"content"))
    assert path.read_bytes() == b"content"
    with pytest.raises(OSError, match="too long"):
        write_whole(path.with_name(path.name + "ää"), lambda file: file.write(b"content"))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
@pytest.mark.parametrize(("permissions", "umask", "expected"), [(0o666, 0o022, 0o644), (0o600, 0, 0o600)])
def test_permissions_follow_the_umask(tmp_path, permissions, umask, expected):
    before = os.umask(umask)
    try:
        write_whole(tmp_path / "file", lambda file: file.write(b""), permissions=permissions)
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == expected


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="the conventions of Linux")
def test_the_cache_folder_follows_the_conventions(monkeypatch):
    monkeypatch.setenv("RILL_CACHE", "/elsewhere")
    assert cache_folder() == Path("/elsewhere")
    monkeypatch.setenv("RILL_CACHE", "")
    assert cache_folder() is None
    monkeypatch.delenv("RILL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere/rill")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "rill"


def test_the_lexicon_keeps_its_model_in_the_cache_folder_or_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    entries = {word: (tuple("K" if letter == "k" else "AE" for letter in word),) for word in ("ka", "kak", "ak", "aka")}
    for named in ("", str(tmp_path / "cache")):
        monkeypatch.setenv("RILL_CACHE", named)
        assert Lexicon(entries, cache=cache_folder()).pronounce("kaka")
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".npz"]


def described(folder: Path) -> Description:
    return Description.read(folder, "kind of model", (1, 2), "make it again")


def test_a_described_folder_is_verified(tmp_path):
    with pytest.raises(ModelError, match=r"is no kind of model folder: it has no config.json; make it again"):
        described(tmp_path)
    (tmp_path / "weights").write_bytes(b"123")
    write_description(tmp_path, {"format": 2, "size": 3}, ["weights"])
    description = described(tmp_path)
    description.verify("weights")
    assert description.verified("weights") == b"123" and description.value("size") == 3
    with pytest.raises(ModelError, match="it has no 'colour'; make it again"):
        description.value("colour")
    with pytest.raises(ModelError, match="names no checksums of other; make it again"):
        description.checksums("other")
    (tmp_path / "weights").write_bytes(b"124")
    for check in (description.verify, description.verified):
        with pytest.raises(ModelError, match="kind of model .*weights was altered or damaged .*; make it again"):
            check("weights")
    (tmp_path / "weights").unlink()
    for check in (description.verify, description.verified):
        with pytest.raises(ModelError, match="weights is missing; make it again"):
            check("weights")


@pytest.mark.parametrize("content", ["{", "[]", '"text"', "{}", '{"format": "1"}', '{"format": 3}'])
def test_other_descriptions_are_refused(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelError, match="cannot be read|reads 1, 2: update Rill, or make it again"):
        described(tmp_path)


def test_a_network_that_cannot_be_loaded_is_the_models_fault(model_folder, tmp_path):
    package = ModelPackage.open(model_folder)
    with pytest.raises(ModelError, match="no output named 'words'.*export the model again"):
        package.engine("onnx", "words")
    config = json.loads((model_folder / "config.json").read_text())
    assert package.engine("onnx", "phones").rates.frame_samples == config["frame_samples"]
