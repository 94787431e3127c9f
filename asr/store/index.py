"""An index of models: JSON that gives the address and the checksum of archives by name."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from asr.errors import ModelError, UsageError
from asr.store.download import SILENT_SECONDS, split_checksum

MOST_BYTES = 10 << 20


def look_up(index: str, name: str) -> tuple[str, str]:
    """Address and SHA-256 of a model in an index, a file or an address of http or https.

    Raises:
        UsageError: there is no such name in it, or its address is not allowed.
        ModelError: the index cannot be read.
    """
    try:
        if "://" in index:
            address, _ = split_checksum(index, None)
            with urllib.request.urlopen(address, timeout=SILENT_SECONDS) as answer:
                content = json.loads(answer.read(MOST_BYTES))
        else:
            content = json.loads(Path(index).expanduser().read_text(encoding="utf-8"))
        models = {str(key): (str(one["url"]), str(one["sha256"])) for key, one in content["models"].items()}
    except (OSError, urllib.error.URLError) as error:
        raise ModelError(f"the index {index} cannot be read: {getattr(error, 'reason', None) or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f'{index} is no index of models: {{"models": {{"NAME": {{"url": "https://...", "sha256": "..."}}}}}}'
        ) from error
    if name not in models:
        raise UsageError(f"no model {name!r} in {index}; there are: {', '.join(models) or 'none'}")
    url, checksum = models[name]
    return (urllib.parse.urljoin(index, url) if "://" in index else url), checksum
