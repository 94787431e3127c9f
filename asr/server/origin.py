"""Which web pages may use the server: browsers let any page open a WebSocket to it, but send the page's origin."""

from __future__ import annotations

from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from asr.server.failures import ClientError, openai_error
from asr.server.log import log

ANY = "*"


class OriginCheck:
    """ASGI middleware that answers WebSockets and uploads of other sites' pages with 403.

    A page of this server, or of the proxy before it, has the host of the request in its origin; clients other than
    browsers send no origin.
    """

    def __init__(self, app: ASGIApp, allowed: Collection[str]) -> None:
        """Admit pages of the ``allowed`` origins as well; ``*`` stands for all."""
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
