"""What a client is told when it cannot be served."""

from __future__ import annotations

import hmac

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
    """A refusal: a short code for programs, a line for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status, self.close_code = CODES[code]


class Gone(Exception):
    """The client is no longer there, or takes nothing any more."""

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
    """The key in an Authorization header."""
    scheme, _, key = (authorization or "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None
