"""What a user installs with and reports with: instructions, `asr doctor`, the files for containers and services."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import ROOT

from asr import native
from asr.errors import RillError
from asr.native.compiler import NAME, TARGETS, compile_library, sources_digest

yaml = pytest.importorskip("yaml", reason="PyYAML comes with the docs extra: pip install '.[docs]'")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TEXTS = [
    path
    for pattern in ("*.md", "docs/**/*.md", "asr/**/*.py", "docs/**/*.py", "Dockerfile", ".github/**/*.yml")
    for path in ROOT.glob(pattern)
]


def test_no_instruction_needs_an_index_that_has_rill():
    assert len(TEXTS) > 150
    wrong = re.compile(r"pip install\S* +(-\S+ +)*['\"]?(rill-asr|rill)\b")
    assert [path.name for path in TEXTS if wrong.search(path.read_text(encoding="utf-8"))] == []


def test_every_extra_that_is_named_exists():
    named = {
        extra
        for path in TEXTS
        for found in re.findall(
            r"(?:'\.|\"\.|whl|Rill: pip install '\.)\[([a-z,]+)\]", path.read_text(encoding="utf-8")
        )
        for extra in found.split(",")
    }
    assert {"serve", "client", "dev"} <= named <= PROJECT["optional-dependencies"].keys()


def test_messages_say_how_to_install(asr, monkeypatch):
    monkeypatch.setitem(sys.modules, "num2words", None)
    missing = asr("import", "kaldi", ".", "x.tsv")
    assert missing.returncode == 2 and "needs num2words; in a clone of Rill: pip install '.[import]'" in missing.stderr


@pytest.mark.usefixtures("shipped_recognizer")
def test_the_doctor_says_nothing_private(asr, monkeypatch, tmp_path):
    home = tmp_path / "home-of-annabel"
    (home / "secret").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("RILL_CACHE", str(home / "cache"))
    monkeypatch.setenv("RILL_API_KEY", "not-for-others")
    told = asr("doctor")
    assert told.returncode == 0, told.stdout
    lines = {line.split()[0]: line for line in told.stdout.splitlines()}
    assert {"rill-asr", "Python", "system", "processor", "libraries", "microphones", "model", "speed"} <= set(lines)
    assert "~/cache" in lines["cache"] and "RILL_API_KEY" in lines["settings"]
    assert float(re.search(r"(\d+) times real time", lines["speed"])[1]) > 0
    assert len(told.stdout.splitlines()) <= 25
    for private in ("annabel", "not-for-others", os.uname().nodename):
        assert private not in told.stdout + told.stderr


@pytest.mark.usefixtures("shipped_recognizer")
def test_the_doctor_finds_an_altered_model(asr, monkeypatch, model_folder, tmp_path):
    monkeypatch.setenv("RILL_DATA", str(tmp_path))
    installed = shutil.copytree(model_folder, tmp_path / "models" / "mine")
    assert "mine, " in asr("doctor", "--quick").stdout
    (installed / "phones.txt").write_text("altered\n")
    told = asr("doctor", "--quick")
    assert told.returncode == 1 and "!! mine: " in told.stdout and "speed" not in told.stdout


def test_shells_can_complete(asr):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "_ASR_COMPLETE": "complete_bash", "COMP_CWORD": "1"}
    code = "import sys; sys.argv = ['asr']; from asr.cli.main import main; sys.exit(main())"
    for typed, offered in (("asr mod", ["models"]), ("asr tra", ["transcribe", "train", "train-punctuation"])):
        run = subprocess.run(
            [sys.executable, "-c", code], env={**environment, "COMP_WORDS": typed}, capture_output=True, text=True
        )
        assert run.stdout.split() == offered, run.stderr


def test_the_matrix_has_every_python():
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8"))
    matrix = workflow["jobs"]["install"]["strategy"]["matrix"]
    classified = [name.rsplit(" ", 1)[1] for name in PROJECT["classifiers"] if ":: 3." in name]
    assert matrix["python"] == classified
    assert [system["wheel"] for system in matrix["system"]] == list(TARGETS)
    for text in (str(workflow["jobs"]["build"]), (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")):
        assert re.search(r"for platform in (.*?); do", text)[1].split() == list(TARGETS)


def test_a_library_of_other_sources_is_not_used(tmp_path):
    digest = sources_digest()
    assert native._loaded(tmp_path / "missing.so", digest) is None
    (tmp_path / "foreign.so").write_bytes(b"a library of another system")
    assert native._loaded(tmp_path / "foreign.so", digest) is None
    compile_library(tmp_path / NAME)
    loaded = native._loaded(tmp_path / NAME, digest)
    assert loaded is not None and loaded.rill_record_size() == native.RECORD.itemsize
    assert native._loaded(tmp_path / NAME, digest[::-1]) is None


def test_without_a_compiler_it_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CC", "nothing")
    monkeypatch.setitem(sys.modules, "ziglang", None)
    monkeypatch.setenv("RILL_CACHE", str(tmp_path / "cache"))
    with pytest.raises(RillError, match="cannot be: no C compiler was found .*the package ziglang"):
        native._compiled(sources_digest())


def test_issue_forms_are_forms():
    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        if path.name != "config.yml":
            assert content["name"] and content["description"] and content["body"]
            assert len({one["id"] for one in content["body"] if "id" in one}) == sum(
                "id" in one for one in content["body"]
            )


def test_the_container_runs_what_there_is():
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert re.search(r"^USER \d+$", lines, re.MULTILINE) and "HEALTHCHECK" in lines and "readyz" in lines
    compose = yaml.safe_load((ROOT / "docs/deploy/compose.yml").read_text(encoding="utf-8"))
    assert compose["services"]["rill"]["read_only"] and compose["services"]["rill"]["cap_drop"] == ["ALL"]
    assert set(compose["volumes"]) == {"cache", "models", "certificates"}
    assert (ROOT / "docs/deploy" / compose["services"]["rill"]["build"]["context"] / "Dockerfile").resolve().is_file()


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not here: apt install systemd")
def test_the_unit_is_one(tmp_path):
    unit = (ROOT / "docs/deploy/rill.service").read_text(encoding="utf-8")
    path = tmp_path / "rill.service"
    path.write_text(unit.replace("/opt/rill/bin/asr", sys.executable), encoding="utf-8")
    verified = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True)
    assert (verified.returncode, verified.stderr) == (0, "")
    rated = subprocess.run(["systemd-analyze", "security", "--offline=true", path], capture_output=True, text=True)
    assert float(re.search(r"exposure level for rill.service: ([\d.]+)", rated.stdout)[1]) < 2.0
    command = re.search(r"^ExecStart=/opt/rill/bin/asr (.*)$", unit, re.MULTILINE)[1]
    help_ = subprocess.run([sys.executable, "-m", "asr", *command.split(), "--help"], cwd=ROOT, capture_output=True)
    assert help_.returncode == 0


def test_what_the_unit_and_the_image_copy_is_there():
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    for needed in ("asr", "models", "streaming", "pyproject.toml", "README.md", "LICENSE"):
        assert needed not in ignored and Path(ROOT / needed).exists()
