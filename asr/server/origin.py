"""Which web pages may use the server: a browser lets any page open a WebSocket to anywhere, but tells whose it is."""

from __future__ import annotations

from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from asr.server.failures import ClientError
from asr.server.log import log
from asr.server.protocols.openai_files import openai_error

ANY = "*"


class OriginCheck:
    """ASGI middleware that answers WebSockets and uploads of other sites' pages with 403.

    A page of this server, or of the proxy before it, has the host of the request in its origin; whatever is no browser
    names no origin.
    """

    def __init__(self, app: ASGIApp, allowed: Collection[str]) -> None:
        """Let pages of the ``allowed`` origins in as well; ``*`` stands for all."""
        self._app = app
        self._allowed = frozenset(map(str.lower, allowed))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" or scope.get("method") == "POST":
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            if origin is not None and not self._may_come(origin.lower(), headers.get("host", "").lower()):
                log("a page of another site was refused", origin=origin[:200], path=scope["path"])
                if scope["type"] == "websocket":
                    await WebSocket(scope, receive, send).close()  # before it is accepted: HTTP status 403
                    return
                refusal = ClientError("forbidden", f"pages of {origin[:200]} may not use this server (--allow-origin)")
                await JSONResponse(openai_error(refusal), refusal.status)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _may_come(self, origin: str, host: str) -> bool:
        return ANY in self._allowed or origin in self._allowed or origin.partition("://")[2] == host != ""
