"""Errors that clients are sent, and the checks that lead to them."""

from __future__ import annotations

import hmac
from typing import Any

from asr.errors import RillError

# code: HTTP status, WebSocket close code
CODES = {
    "unauthorized": (401, 1008),
    "bad_request": (400, 1007),
    "bad_audio": (400, 1007),
    "too_large": (413, 1009),
    "too_long": (413, 1008),
    "forbidden": (403, 1008),
    "not_found": (404, 1008),
    "idle": (408, 1008),
    "busy": (503, 1013),
    "shutting_down": (503, 1012),
    "internal": (500, 1011),
}


class ClientError(RillError):
    """A refusal: a short code for programs, a message for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status, self.close_code = CODES[code]


class Gone(Exception):
    """The client has disconnected, or no longer reads what it is sent."""

    def __init__(self, politely: bool = False) -> None:
        super().__init__()
        self.politely = politely  # it closed as its protocol has it


def check_key(given: str | None, key: str | None) -> None:
    """Compare a client's key with the server's in constant time.

    Raises:
        ClientError: the server has a key and this is not it.
    """
    if key is None:
        return
    if given is None:
        raise ClientError("unauthorized", "this server wants an API key: send the header 'Authorization: Bearer KEY'")
    if not hmac.compare_digest(given.encode(), key.encode()):
        raise ClientError("unauthorized", "wrong API key")


def bearer(authorization: str | None) -> str | None:
    """The key in an Authorization header, which Deepgram's clients call a token."""
    scheme, _, key = (authorization or "").partition(" ")
    return key.strip() if scheme.lower() in ("bearer", "token") else None


def language_is_known(language: str) -> bool:
    """Whether a client may ask for a language: any form of English, or for its detection, or for none."""
    name = language.strip().lower().replace("_", "-")
    return name in ("", "auto", "english") or name.partition("-")[0] in ("en", "eng")


def openai_error(failure: ClientError) -> dict[str, Any]:
    """An error as OpenAI's clients read it."""
    kind = "invalid_request_error" if failure.status < 500 else "server_error"
    return {"error": {"message": str(failure), "type": kind, "param": None, "code": failure.code}}
