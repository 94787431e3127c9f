"""Decoding graphs and other arrays on disk: kept from start to start, never trusted when cut short."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_lm import PHONE_TABLE

from asr.errors import ModelError
from asr.files import cache_folder
from asr.graph.compiled import CompiledGraph, compiled
from asr.graph.graph import Graph, StoredGraph
from asr.graph.kept_arrays import BLOCK, KEPT_DAYS, checksum, kept_arrays
from asr.lm.folder import LanguageModel
from asr.native import library


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    library()  # where it was not built with the package, it is kept elsewhere
    monkeypatch.setenv("RILL_CACHE", str(tmp_path / "kept"))
    return tmp_path / "kept"


@pytest.fixture
def graph(small_lm_folder: Path) -> StoredGraph:
    return LanguageModel.open(small_lm_folder, PHONE_TABLE).graph


def contents(graph: CompiledGraph) -> list[bytes]:
    parts = (graph.first, graph.arcs, graph.finals, graph.word_starts)
    return [str(graph.start).encode(), *(part.tobytes() for part in parts)]


def refuse() -> dict[str, np.ndarray]:
    raise AssertionError("it was to be found")


def test_a_graph_is_made_once(graph, folder):
    made = contents(compiled(graph))
    (path,) = folder.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_bytes()
    again = contents(compiled(graph))
    assert made == again and path.read_bytes() == before
    kept_arrays("another", lambda: {"numbers": np.arange(3)})
    assert len(list(folder.iterdir())) == 2


def test_what_is_kept_is_what_is_made_in_memory(graph, folder):
    kept, made = compiled(graph), compiled(graph.unpacked())
    assert contents(kept) == contents(made)
    (path,) = folder.iterdir()
    kept_arrays(path.stem, refuse)
    with pytest.raises(ValueError, match="read-only"):
        kept.finals[0] = 0


def test_arrays_of_any_kind_come_back(folder):
    pairs = np.array([(1, 0.5), (2, np.inf)], [("number", "<u4"), ("cost", "<f4")])
    given = {"bytes": np.arange(5, dtype=np.uint8), "none": np.zeros(0, np.float32), "pairs": pairs}
    kept_arrays("some", lambda: given)
    found = kept_arrays("some", refuse)
    assert list(found) == list(given)
    for name, array in given.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_arcs_lie_as_the_search_wants_them(graph):
    made, plain = compiled(graph), graph.unpacked()
    assert np.array_equal(np.diff(made.first), plain.counts)
    targets, labels, weights = (made.arcs[name] for name in ("target", "label", "weight"))
    for state in range(len(plain.counts)):
        of = slice(*made.first[state : state + 2])
        order = list(zip(labels[of] & 63, labels[of] > 63, weights[of], strict=True))
        assert order == sorted(order)
    silent = np.array([any(labels[a] & 63 == 0 for a in range(*made.first[s : s + 2])) for s in targets & 0x7FFFFFFF])
    assert np.array_equal(targets >> 31, silent) and silent.any() and not silent.all()
    sources = np.repeat(np.arange(len(plain.counts)), plain.counts)
    was = zip(sources, plain.targets, plain.words, plain.phones, plain.weights, strict=True)
    now = zip(sources, targets & 0x7FFFFFFF, labels >> 6, labels & 63, weights, strict=True)
    assert sorted(was) == sorted(now)


def test_a_file_cut_short_is_made_again(graph, folder):
    made = contents(compiled(graph))
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    for damaged in (b"", whole[:40], whole[:-1], b"\0" * len(whole)):
        path.unlink()
        path.write_bytes(damaged)
        assert contents(compiled(graph)) == made
        assert path.read_bytes() == whole


@pytest.mark.parametrize("place", [0.0, 0.01, 0.5, 0.999, 1.0])
def test_a_file_with_an_altered_byte_is_made_again(graph, folder, place):
    made = contents(compiled(graph))
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[round(place * (len(whole) - 1))] ^= 0x10
    path.write_bytes(damaged)
    assert contents(compiled(graph)) == made
    assert path.read_bytes() == whole


@pytest.mark.parametrize("size", [1, 4_095, BLOCK - 1, BLOCK, 3 * BLOCK + 8])
def test_every_byte_counts_for_the_checksum(size):
    content = np.random.default_rng(size).bytes(size)
    whole = checksum(content)
    for place in {0, size // 3, size // 2, size - 1}:
        damaged = bytearray(content)
        damaged[place] ^= 1
        assert checksum(damaged) != whole
    assert checksum(content + b"more", size) == whole
    assert checksum(content + b"\0") != whole
    if size > 2 * BLOCK:  # blocks that changed places, a page of zeros
        assert checksum(content[BLOCK:] + content[:BLOCK]) != whole
        assert checksum(bytes(4_096) + content[4_096:]) != whole


def test_a_folder_that_cannot_be_written_is_done_without(graph, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    for name in (str(tmp_path / "file" / "kept"), ""):
        monkeypatch.setenv("RILL_CACHE", name)
        assert compiled(graph).start >= 0
    assert cache_folder() is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_too_many_phones_are_refused(graph):
    plain = graph.unpacked()
    with pytest.raises(ModelError, match="63 phones, not 64"):
        compiled(replace(plain, phones=np.where(plain.phones == plain.phones.max(), 64, plain.phones)))


def test_nothing_is_left_when_writing_fails(folder):
    with pytest.raises(AssertionError, match="found"):
        kept_arrays("some", refuse)
    assert not folder.exists() or list(folder.iterdir()) == []


def test_what_nobody_used_for_long_is_removed(graph, folder):
    compiled(graph)
    (old,) = folder.iterdir()
    past = time.time() - 86_400 * (KEPT_DAYS + 1)
    os.utime(old, (past, past))
    compiled(graph)
    assert old.stat().st_mtime > past + 86_400, "using it renews it"
    os.utime(old, (past, past))
    kept_arrays("another", lambda: {"numbers": np.arange(3)})
    assert not old.exists() and len(list(folder.iterdir())) == 1


def test_a_stored_graph_is_the_graph(graph):
    assert isinstance(graph, StoredGraph)
    plain, again = graph.unpacked(), Graph.unpack(graph.unpacked().packed())
    for column in ("counts", "phones", "words", "weights", "targets", "finals"):
        np.testing.assert_array_equal(getattr(again, column), getattr(plain, column))
    broken = StoredGraph(lambda: graph.read()[:-9], "of the broken one", "graph.packed")
    with pytest.raises(ModelError, match="graph.packed is no decoding graph"):
        compiled(broken)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux shows what is mapped")
def test_the_file_is_mapped_and_not_read(small_lm_folder, folder):
    code = (
        "import sys; from pathlib import Path; from asr.lm.folder import LanguageModel; "
        "from asr.graph.compiled import compiled; "
        "from asr.words.tokens import PHONES, TokenTable; "
        "model = LanguageModel.open(Path(sys.argv[1]), TokenTable(PHONES)); "
        "graph = compiled(model.graph); "
        "print('graph-' in Path('/proc/self/maps').read_text())"
    )
    run = subprocess.run([sys.executable, "-c", code, str(small_lm_folder)], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "True"
