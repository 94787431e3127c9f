"""Which Rill this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def installed_version() -> str:
    """The version of the installed package, or that there is none."""
    try:
        return version("rill-asr")
    except PackageNotFoundError:
        return "(run from its source, not installed)"
