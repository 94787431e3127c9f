"""Decoding graphs on disk: kept from start to start, never trusted when cut short, done without when need be."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from small_lm import PHONE_TABLE

from asr.graph import compiled
from asr.graph.compiled import cache_folder, fst_in_memory, kept_fst
from asr.graph.ctc_topology import ARC, HEADER, STATE, Layout, write_with_ctc
from asr.graph.graph import Graph, StoredGraph
from asr.lm.folder import LanguageModel


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RILL_CACHE", str(tmp_path / "kept"))
    return tmp_path / "kept"


@pytest.fixture
def graph(small_lm_folder: Path) -> Graph:
    return LanguageModel.open(small_lm_folder, PHONE_TABLE).graph


def contents(fst: object, tmp_path: Path) -> bytes:
    """What OpenFst writes of an automaton."""
    fst.write(str(tmp_path / "written"))
    return (tmp_path / "written").read_bytes()


def refuse(file: object) -> None:
    raise AssertionError("it was to be found")


def test_a_graph_is_made_once(graph, folder, tmp_path):
    made = contents(graph.with_ctc(1.0, 0.5), tmp_path)
    (path,) = folder.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_bytes()
    again = contents(graph.with_ctc(1.0, 0.5), tmp_path)
    assert made == again and path.read_bytes() == before
    graph.with_ctc(1.0, 0.25)
    assert len(list(folder.iterdir())) == 2


def test_what_is_kept_is_what_is_made_in_memory(graph, folder, tmp_path):
    def write(file):
        write_with_ctc(graph, 1.0, 0.5, file)

    assert contents(kept_fst("it", write), tmp_path) == contents(fst_in_memory(write), tmp_path)
    kept_fst("it", refuse)


def test_a_file_cut_short_is_made_again(graph, folder, tmp_path):
    made = contents(graph.with_ctc(1.0, 0.5), tmp_path)
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    for damaged in (b"", whole[:40], whole[:-1], b"\0" * len(whole)):
        path.unlink()
        path.write_bytes(damaged)
        assert contents(graph.with_ctc(1.0, 0.5), tmp_path) == made
        assert path.read_bytes() == whole


def test_a_folder_that_cannot_be_written_is_done_without(graph, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    for name in (str(tmp_path / "file" / "kept"), ""):
        monkeypatch.setenv("RILL_CACHE", name)
        assert graph.with_ctc(1.0, 0.5).start >= 0
    assert cache_folder() is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_nothing_is_left_when_writing_fails(folder):
    with pytest.raises(AssertionError, match="found"):
        kept_fst("it", refuse)
    assert list(folder.iterdir()) == []


def test_what_nobody_used_for_long_is_removed(graph, folder):
    graph.with_ctc(1.0, 0.5)
    (old,) = folder.iterdir()
    past = time.time() - 86_400 * (compiled.KEPT_DAYS + 1)
    os.utime(old, (past, past))
    graph.with_ctc(1.0, 0.5)
    assert old.stat().st_mtime > past + 86_400, "using it renews it"
    os.utime(old, (past, past))
    graph.with_ctc(1.0, 0.25)
    assert not old.exists() and len(list(folder.iterdir())) == 1


def test_the_folder_follows_the_conventions(monkeypatch):
    monkeypatch.delenv("RILL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere/rill")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "rill"


def test_a_stored_graph_is_the_graph(graph):
    assert isinstance(graph, StoredGraph)
    plain = Graph.unpack(graph.packed())
    for column in ("counts", "phones", "words", "weights", "targets", "finals"):
        np.testing.assert_array_equal(getattr(graph, column), getattr(plain, column))
    with pytest.raises(AttributeError, match="rows"):
        getattr(graph, "rows")  # noqa: B009


def test_slices_do_not_show(graph, tmp_path, monkeypatch):
    files = []
    for size in (1, 3, 1 << 15):
        monkeypatch.setattr("asr.graph.ctc_topology.SLICE", size)
        files.append(tmp_path / str(size))
        with files[-1].open("wb") as file:
            write_with_ctc(graph, 1.25, 0.5, file)
    first, *others = (file.read_bytes() for file in files)
    assert others == [first, first]
    states, arcs = HEADER.unpack_from(first)[-2:]
    layout = Layout.of(states, arcs)
    table = np.frombuffer(first, STATE, states, layout.states)
    rows = np.frombuffer(first, ARC, arcs, layout.arcs)
    assert table["arcs"].sum() == arcs and rows["target"].max() < states
    np.testing.assert_array_equal(table["first_arc"], np.cumsum(table["arcs"]) - table["arcs"])


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux shows what is mapped")
def test_the_file_is_mapped_and_not_read(small_lm_folder, folder):
    code = (
        "import sys; from pathlib import Path; from asr.lm.folder import LanguageModel; "
        "from asr.words.tokens import PHONES, TokenTable; "
        "fst = LanguageModel.open(Path(sys.argv[1]), TokenTable(PHONES)).graph.with_ctc(1.0, 0.5); "
        "print('graph-' in Path('/proc/self/maps').read_text())"
    )
    run = subprocess.run([sys.executable, "-c", code, str(small_lm_folder)], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "True"
