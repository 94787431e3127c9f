"""WebSockets as a transport."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from asr.server.conversation import Begin, Complain, converse
from asr.server.failures import ClientError, Gone, bearer, check_key
from asr.server.options import ServerOptions
from asr.server.service import Service

REASON_BYTES = 120  # a close frame holds no more


class WebSocketTransport:
    """JSON objects out as text; text and binary messages in."""

    def __init__(self, websocket: WebSocket, options: ServerOptions) -> None:
        self._websocket = websocket
        self._send_seconds = options.send_seconds
        self._most_bytes = options.max_message_bytes
        self.client = websocket.client.host if websocket.client else "unknown"

    async def receive(self) -> tuple[str | bytes, int]:
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise Gone(politely=message.get("code") in (1000, 1001))
        data = message.get("bytes")
        data = message["text"] if data is None else data
        if len(data) > self._most_bytes:
            raise ClientError("too_large", f"a message of {len(data)} bytes; the most is {self._most_bytes}")
        return data, len(data)

    async def send(self, message: Any) -> None:
        await self._deadline(self._websocket.send_text(json.dumps(message, ensure_ascii=False)))

    async def close(self, code: int, reason: str) -> None:
        short = reason.encode()[:REASON_BYTES].decode(errors="ignore")
        await self._deadline(self._websocket.close(code, short))

    async def _deadline(self, sending: Any) -> None:
        try:
            async with asyncio.timeout(self._send_seconds):
                await sending
        except (TimeoutError, WebSocketDisconnect, RuntimeError, OSError) as error:
            raise Gone from error


async def serve_websocket(service: Service, websocket: WebSocket, name: str, begin: Begin, complain: Complain) -> None:
    """Accept, check the key, converse. Refusals use the protocol's messages, since browsers see no HTTP status."""
    # Browsers cannot set headers, so Deepgram's clients there offer the subprotocols "token" and the key.
    offered = websocket.scope.get("subprotocols") or []
    token = offered[1] if len(offered) == 2 and offered[0] in ("token", "bearer") else None
    await websocket.accept(subprotocol=offered[0] if token else None)

    def begin_with_key(send: Any) -> Any:
        check_key(
            bearer(websocket.headers.get("authorization")) or websocket.query_params.get("api_key") or token,
            service.options.api_key,
        )
        return begin(send)

    await converse(service, WebSocketTransport(websocket, service.options), name, begin_with_key, complain)


def json_object(message: str | bytes, what: str = "a text message") -> dict[str, Any]:
    """A message as the JSON object it must be; raises ClientError, which names ``what`` it is, if not."""
    try:
        content = json.loads(message)
    except (ValueError, RecursionError) as error:
        raise ClientError("bad_request", f"{what} must be a JSON object; this is not JSON") from error
    if not isinstance(content, dict):
        raise ClientError("bad_request", f"{what} must be a JSON object, not {type(content).__name__}")
    return content
