"""Decoding graphs on disk: kept from start to start, never trusted when cut short, done without when need be."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from small_lm import PHONE_TABLE

from asr.errors import ModelError
from asr.files import cache_folder
from asr.graph.compiled import BLOCK, KEPT_DAYS, checksum, compiled
from asr.graph.graph import Graph, StoredGraph
from asr.graph.openfst import ARC, HEADER, STATE, Layout
from asr.graph.topology import CtcTopology
from asr.lm.folder import LanguageModel


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RILL_CACHE", str(tmp_path / "kept"))
    return tmp_path / "kept"


@pytest.fixture
def graph(small_lm_folder: Path) -> StoredGraph:
    return LanguageModel.open(small_lm_folder, PHONE_TABLE).graph


def contents(fst: object, tmp_path: Path) -> bytes:
    """What OpenFst writes of an automaton."""
    fst.write(str(tmp_path / "written"))
    return (tmp_path / "written").read_bytes()


def graph_of(graph: StoredGraph, word_cost: float = 0.5) -> object:
    return compiled(graph, CtcTopology(1.0, word_cost))


class Refusing(CtcTopology):
    def write(self, graph: Graph, file: object) -> None:
        raise AssertionError("it was to be found")


def test_a_graph_is_made_once(graph, folder, tmp_path):
    made = contents(graph_of(graph), tmp_path)
    (path,) = folder.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_bytes()
    again = contents(graph_of(graph), tmp_path)
    assert made == again and path.read_bytes() == before
    graph_of(graph, 0.25)
    assert len(list(folder.iterdir())) == 2


def test_what_is_kept_is_what_is_made_in_memory(graph, folder, tmp_path):
    topology = CtcTopology(1.0, 0.5)
    kept, made = compiled(graph, topology), compiled(graph.unpacked(), topology)
    assert contents(kept, tmp_path) == contents(made, tmp_path)
    compiled(graph, Refusing(1.0, 0.5))
    assert len(list(folder.iterdir())) == 1


def test_a_file_cut_short_is_made_again(graph, folder, tmp_path):
    made = contents(graph_of(graph), tmp_path)
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    for damaged in (b"", whole[:40], whole[:-1], b"\0" * len(whole)):
        path.unlink()
        path.write_bytes(damaged)
        assert contents(graph_of(graph), tmp_path) == made
        assert path.read_bytes() == whole


@pytest.mark.parametrize("place", [0.0, 0.01, 0.5, 0.999, 1.0])
def test_a_file_with_an_altered_byte_is_made_again(graph, folder, tmp_path, place):
    made = contents(graph_of(graph), tmp_path)
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[round(place * (len(whole) - 1))] ^= 0x10
    path.write_bytes(damaged)
    assert contents(graph_of(graph), tmp_path) == made
    assert path.read_bytes() == whole


@pytest.mark.parametrize("size", [1, 4_095, BLOCK - 1, BLOCK, 3 * BLOCK + 8])
def test_every_byte_counts_for_the_checksum(size):
    content = np.random.default_rng(size).bytes(size)
    whole = checksum(io.BytesIO(content), size)
    for place in {0, size // 3, size // 2, size - 1}:
        damaged = bytearray(content)
        damaged[place] ^= 1
        assert checksum(io.BytesIO(damaged), size) != whole
    assert checksum(io.BytesIO(content + b"more"), size) == whole
    assert checksum(io.BytesIO(content + b"\0"), size + 1) != whole
    if size > 2 * BLOCK:  # blocks that changed places, a page of zeros
        assert checksum(io.BytesIO(content[BLOCK:] + content[:BLOCK]), size) != whole
        assert checksum(io.BytesIO(bytes(4_096) + content[4_096:]), size) != whole


def test_a_folder_that_cannot_be_written_is_done_without(graph, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    for name in (str(tmp_path / "file" / "kept"), ""):
        monkeypatch.setenv("RILL_CACHE", name)
        assert graph_of(graph).start >= 0
    assert cache_folder() is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_nothing_is_left_when_writing_fails(graph, folder):
    with pytest.raises(AssertionError, match="found"):
        compiled(graph, Refusing(1.0, 0.5))
    assert list(folder.iterdir()) == []


def test_what_nobody_used_for_long_is_removed(graph, folder):
    graph_of(graph)
    (old,) = folder.iterdir()
    past = time.time() - 86_400 * (KEPT_DAYS + 1)
    os.utime(old, (past, past))
    graph_of(graph)
    assert old.stat().st_mtime > past + 86_400, "using it renews it"
    os.utime(old, (past, past))
    graph_of(graph, 0.25)
    assert not old.exists() and len(list(folder.iterdir())) == 1


def test_a_stored_graph_is_the_graph(graph):
    assert isinstance(graph, StoredGraph)
    plain, again = graph.unpacked(), Graph.unpack(graph.unpacked().packed())
    for column in ("counts", "phones", "words", "weights", "targets", "finals"):
        np.testing.assert_array_equal(getattr(again, column), getattr(plain, column))
    broken = StoredGraph(graph.content[:-9], graph.checksum, "graph.npz")
    with pytest.raises(ModelError, match="graph.npz is no decoding graph"):
        compiled(broken, CtcTopology(1.0, 0.5))


def test_slices_do_not_show(graph, tmp_path, monkeypatch):
    files = []
    for size in (1, 3, 1 << 15):
        monkeypatch.setattr("asr.graph.topology.SLICE", size)
        files.append(tmp_path / str(size))
        with files[-1].open("wb") as file:
            CtcTopology(1.25, 0.5).write(graph.unpacked(), file)
    first, *others = (file.read_bytes() for file in files)
    assert others == [first, first]
    states, arcs = HEADER.unpack_from(first)[-2:]
    layout = Layout.of(states, arcs)
    assert layout.end == len(first)
    table = np.frombuffer(first, STATE, states, layout.states)
    rows = np.frombuffer(first, ARC, arcs, layout.arcs)
    assert table["arcs"].sum() == arcs and rows["target"].max() < states
    np.testing.assert_array_equal(table["first_arc"], np.cumsum(table["arcs"]) - table["arcs"])


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux shows what is mapped")
def test_the_file_is_mapped_and_not_read(small_lm_folder, folder):
    code = (
        "import sys; from pathlib import Path; from asr.lm.folder import LanguageModel; "
        "from asr.graph.compiled import compiled; from asr.graph.topology import CtcTopology; "
        "from asr.words.tokens import PHONES, TokenTable; "
        "model = LanguageModel.open(Path(sys.argv[1]), TokenTable(PHONES)); "
        "fst = compiled(model.graph, CtcTopology(1.0, 0.5)); "
        "print('graph-' in Path('/proc/self/maps').read_text())"
    )
    run = subprocess.run([sys.executable, "-c", code, str(small_lm_folder)], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "True"
