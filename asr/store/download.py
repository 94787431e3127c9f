"""Files from the web: taken up where an earlier attempt ended, and compared with a checksum."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from asr.errors import ModelError, UsageError
from asr.files import write_whole
from asr.store.archive import checksum

ATTEMPTS = 5
PAUSE_SECONDS = 0.5  # after an attempt; twice as long after each that brought nothing
SILENT_SECONDS = 30.0  # of a server, after which the connection is given up
PIECE = 1 << 18
LOOPBACK = ("localhost", "127.0.0.1", "::1")

Report = Callable[[int, int | None], None]  # bytes that are there, and of how many, if that is known


def split_checksum(url: str, stated: str | None) -> tuple[str, str | None]:
    """A URL without its ``#sha256=...``, and the checksum that it or ``stated`` gives.

    Raises:
        UsageError: that is no SHA-256, the two differ, or the URL is not of http or https; or it is of plain http from
            another machine and there is no checksum, so that nobody could tell whether it was altered on the way.
    """
    address, _, fragment = url.partition("#")
    given = fragment.removeprefix("sha256=") if fragment.startswith("sha256=") else None
    for sum_ in (stated, given):
        if sum_ is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sum_):
            raise UsageError(f"a SHA-256 has 64 hexadecimal digits, got {sum_[:80]!r}")
    if stated and given and stated.lower() != given.lower():
        raise UsageError("--sha256 and the URL's #sha256= differ; which is right?")
    expected = (stated or given or "").lower() or None
    parts = urllib.parse.urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{address} is no address of http or https")
    if parts.scheme == "http" and expected is None and parts.hostname not in LOOPBACK:
        raise UsageError(
            f"{address} is plain http, where anybody on the way can alter it: give --sha256, or an https address"
        )
    return address, expected


def download(url: str, folder: Path, expected: str | None, report: Report = lambda done, total: None) -> Path:
    """Fetch a file, which is complete when this returns; called again after a failure, it goes on where that ended.

    Args:
        url: of http or https.
        folder: for the file, named after the URL, and until then for its beginning.
        expected: its SHA-256 in hexadecimal, or None.
        report: is called as it grows.
    Raises:
        ModelError: the server refuses, breaks off again and again, or the file has another checksum.
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256(url.encode()).hexdigest()[:16]
    partial, mark = folder / f"{key}.partial", folder / f"{key}.json"
    vain = 0  # attempts in a row that brought nothing
    while True:
        before = _size(partial)
        try:
            _fetch(url, partial, mark, secure=url.startswith("https") and expected is None, report=report)
            break
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in (408, 429):
                raise ModelError(f"{url}: the server says {error.code} {error.reason}") from error
            failure: Exception = error
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            failure = error
        vain = 0 if _size(partial) > before else vain + 1
        if vain == ATTEMPTS:
            there = _size(partial)
            kept = f"; {there / 1e6:.1f} MB are kept, and the same command goes on from there" if there else ""
            raise ModelError(f"{url} cannot be fetched ({_reason(failure)}){kept}") from failure
        time.sleep(PAUSE_SECONDS * 2**vain)
    found = checksum(partial)
    mark.unlink(missing_ok=True)
    if expected is not None and found != expected:
        partial.unlink()
        raise ModelError(
            f"{url} has SHA-256 {found}, not {expected}: it was altered, or the checksum is of another file"
        )
    name = Path(urllib.parse.unquote(urllib.parse.urlsplit(url).path)).name or "model"
    complete = folder / f"{key}-{re.sub(r'[^A-Za-z0-9._-]', '_', name)[-100:]}"
    os.replace(partial, complete)
    return complete


def _fetch(url: str, partial: Path, mark: Path, secure: bool, report: Report) -> None:
    """Fetch what is missing of a file. The mark holds what identifies the version that the beginning is of."""
    done = partial.stat().st_size if partial.exists() else 0
    known = ""
    with suppress(OSError, ValueError, AttributeError):
        known = str(json.loads(mark.read_text(encoding="utf-8")).get("version", ""))
    request = urllib.request.Request(url, headers={"User-Agent": "rill-asr", "Accept-Encoding": "identity"})
    if done and known:
        request.add_header("Range", f"bytes={done}-")
        request.add_header("If-Range", known)
    try:
        answer = urllib.request.urlopen(request, timeout=SILENT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the beginning is longer than the file: start anew
            partial.unlink(missing_ok=True)
            raise ConnectionError("the file has changed on the server") from error
        raise
    with answer:
        if secure and not answer.url.startswith("https"):
            raise ModelError(f"{url} leads to {answer.url}, which is not secure; give --sha256 to take it nevertheless")
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
        goes_on = answer.status == 206 and match is not None and int(match[1]) == done
        if answer.status == 206 and not goes_on:
            partial.unlink(missing_ok=True)
            raise ConnectionError("the server sent another part of the file than asked for")
        done = done if goes_on else 0
        stated = answer.headers.get("Content-Length")
        total = done + int(stated) if stated and stated.isdigit() else None
        version = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        if version.startswith("W/"):  # not the same bytes, only the same meaning
            version = ""
        write_whole(mark, lambda file: file.write(json.dumps({"url": url, "version": version}).encode()))
        with partial.open("ab" if goes_on else "wb") as file:
            report(done, total)
            while piece := answer.read1(PIECE):
                file.write(piece)
                done += len(piece)
                report(done, total)
    if total is not None and done < total:
        raise ConnectionError(f"broken off after {done} of {total} bytes")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return " ".join(str(getattr(reason, "strerror", None) or reason).split())
