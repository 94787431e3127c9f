"""What runs on one operating system only is forbidden, but for the places that ask which system they are on."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest
from conftest import ROOT

# Modules and names that Windows, or every system but Linux, lacks.
MODULES = {"fcntl", "termios", "tty", "pty", "pwd", "grp", "resource", "posix", "msvcrt", "winreg", "winsound", "nis"}
OS_NAMES = {
    "chown", "fork", "forkpty", "getegid", "geteuid", "getgid", "getuid", "kill", "killpg", "lchown", "major",
    "memfd_create", "minor", "mkfifo", "mknod", "nice", "pipe2", "posix_spawn", "pread", "pwrite", "rename",
    "sched_getaffinity", "sched_setaffinity", "sendfile", "setsid", "setuid", "statvfs", "sync", "uname", "wait",
    "waitpid", "O_DIRECT", "O_NOFOLLOW", "O_NONBLOCK", "O_SYNC", "register_at_fork",
}  # fmt: skip
SIGNALS = {"SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGTSTP", "SIGUSR1", "SIGUSR2", "SIGWINCH"}
METHODS = {"add_signal_handler", "rename", "setitimer", "pthread_kill", "sigwait"}
PATHS = re.compile(r"/(proc|dev|tmp|etc|bin|usr|sys)(/|\Z)")
# (module, what): why it is right there.
ALLOWED = {
    ("asr/cli/doctor.py", "path /proc/cpuinfo"): "where it is there",
    ("asr/files.py", "module msvcrt"): "on Windows alone",
    ("asr/files.py", "module fcntl"): "elsewhere alone",
    ("asr/cli/exits.py", "os.kill"): "elsewhere than on Windows alone",
    ("streaming/batcher.py", "os.sched_getaffinity"): "where os has it",
}
MODULES_OF_OURS = sorted(path for folder in ("asr", "models", "streaming") for path in (ROOT / folder).rglob("*.py"))


def findings(code: str) -> Iterator[str]:
    """What in a module does not run, or means something else, on some system."""
    tree = ast.parse(code)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (f"module {one.name}" for one in node.names if one.name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
            yield f"module {node.module}"
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == "os" and node.attr in OS_NAMES:
                yield f"os.{node.attr}"
            elif node.value.id == "signal" and node.attr in SIGNALS:
                yield f"signal.{node.attr}"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            if PATHS.match(node.value):
                yield f"path {node.value}"
        if isinstance(node, ast.Call):
            yield from calls(node)


def calls(node: ast.Call) -> Iterator[str]:
    """What is wrong with a call: text in an encoding that depends on the system, a shell, or a fork."""
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    given = {keyword.arg: keyword.value for keyword in node.keywords}
    if name in METHODS:
        yield f"method {name}"
    if name in ("read_text", "write_text") and "encoding" not in given:
        yield f"{name} without encoding"
    if isinstance(node.func, ast.Name) and name == "open" or name in ("fdopen", "NamedTemporaryFile"):
        mode = given.get("mode") or (node.args[1] if len(node.args) > 1 else None)
        binary = isinstance(mode, ast.Constant) and "b" in str(mode.value)
        if not binary and "encoding" not in given and name != "NamedTemporaryFile":
            yield f"{name} as text without encoding"
    if isinstance(given.get("shell"), ast.Constant) and given["shell"].value:
        yield "a shell"
    if name in ("get_context", "set_start_method") and not any(
        isinstance(one, ast.Constant) and one.value == "spawn" for one in node.args
    ):
        yield "processes started otherwise than by spawn"


def test_the_rules_find_what_they_forbid():
    wrong = """
import fcntl
os.kill(1, 2); signal.SIGHUP; open("x"); Path("x").read_text(); open("/dev/stdin", "rb"); a.rename(b)
subprocess.run("x", shell=True); multiprocessing.get_context("fork"); loop.add_signal_handler(2, f)
"""
    assert len(list(findings(wrong))) == 10
    assert not list(findings('"""/proc/x"""\nopen("x", "rb"); open("x", encoding="utf-8"); get_context("spawn")'))


def test_nothing_is_for_one_system_only():
    found = {
        (path.relative_to(ROOT).as_posix(), what)
        for path in MODULES_OF_OURS
        for what in findings(path.read_text(encoding="utf-8"))
    }
    assert found - ALLOWED.keys() == set()
    assert ALLOWED.keys() - found == set(), "allowed, but not there any more"


@pytest.mark.parametrize("folder", ["asr", "models", "streaming", "samples", "docs"])
def test_names_of_files_are_allowed_everywhere(folder):
    reserved = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|\Z)", re.IGNORECASE)
    names = [path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if "__pycache__" not in path.parts]
    assert not [name for name in names if re.search(r'[<>:"|?*\\]', name.as_posix()) or reserved.match(name.name)]
    assert len({str(name).lower() for name in names}) == len(names)
