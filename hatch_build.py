"""Compiles the beam search while a wheel is built, so that the wheel is for one platform and for any Python 3."""

from __future__ import annotations

import importlib.util
import os
import platform as machine
import sys
import sysconfig
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NATIVE = "asr/native"
VARIABLE = "RILL_PLATFORM"  # a platform tag that the wheel is to have, instead of this machine's


class NativeBuildHook(BuildHookInterface):
    """Where no compiler is found, or the wheel is for another platform, the one in PyPI's ``ziglang`` is fetched."""

    def dependencies(self) -> list[str]:
        return [] if self._compiler().compiler() and not self._platform() else ["ziglang>=0.13"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        compiler, platform = self._compiler(), self._platform()
        name = compiler.NAME if platform is None else "_beam.dll" if platform.startswith("win") else "_beam.so"
        if version == "editable":
            compiler.compile_library(Path(self.root) / NATIVE / name)
        else:  # the clone stays as it is
            self._folder = tempfile.TemporaryDirectory()
            built = Path(self._folder.name) / name
            compiler.compile_library(built, platform)
            build_data["force_include"][str(built)] = f"{NATIVE}/{name}"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform or self._own_platform()}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if version != "editable":
            self._folder.cleanup()

    def _own_platform(self) -> str:
        if sys.platform == "darwin":  # whose Pythons may be for two processors, where the library is for one
            return f"macosx_11_0_{machine.machine()}"
        return sysconfig.get_platform().replace("-", "_").replace(".", "_")

    def _platform(self) -> str | None:
        platform = os.environ.get(VARIABLE)
        if platform and platform not in self._compiler().TARGETS:
            raise ValueError(f"{VARIABLE} is {platform!r}; it may be {', '.join(self._compiler().TARGETS)}")
        return platform or None

    def _compiler(self) -> ModuleType:
        path = Path(self.root) / NATIVE / "compiler.py"
        spec = importlib.util.spec_from_file_location("rill_compiler", path)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
