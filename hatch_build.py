"""Compiles the beam search while a wheel is built, so that the wheel is for one platform and for any Python 3."""

from __future__ import annotations

import importlib.util
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NATIVE = Path("asr") / "decoding" / "native"


class NativeBuildHook(BuildHookInterface):
    """Where no compiler is found, the one in the package ``ziglang`` is fetched for the build."""

    def dependencies(self) -> list[str]:
        return [] if self._compiler().compiler() else ["ziglang>=0.13"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        compiler = self._compiler()
        compiler.compile_library(Path(self.root) / NATIVE / compiler.NAME)
        build_data["artifacts"].append((NATIVE / compiler.NAME).as_posix())
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"

    def _compiler(self):
        path = Path(self.root) / NATIVE / "compiler.py"
        spec = importlib.util.spec_from_file_location("rill_compiler", path)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
