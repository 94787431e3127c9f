"""The web application: every protocol over HTTP and WebSocket, the page, health and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from asr.server.failures import ClientError, bearer, check_key
from asr.server.options import ServerOptions
from asr.server.page_files import page_routes
from asr.server.protocols import stream
from asr.server.service import Service
from asr.server.websocket import serve_websocket

if TYPE_CHECKING:
    from asr.recognizer import Recognizer


def create_app(recognizer: Recognizer, options: ServerOptions | None = None, model: str = "rill") -> FastAPI:
    """An ASGI application; ``app.state.service`` is what its clients share.

    Args:
        recognizer: used from many threads at once.
        options: limits and the API key.
        model: its name, as clients are told.
    """
    service = Service(recognizer, options or ServerOptions(), model)
    app = FastAPI(title="Rill", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.service = service

    def check(request: Request) -> None:
        check_key(bearer(request.headers.get("authorization")), service.options.api_key)

    @app.exception_handler(ClientError)
    async def refuse(request: Request, error: ClientError) -> JSONResponse:
        service.metrics.errors.labels("http", error.code).inc()
        return JSONResponse({"error": {"code": error.code, "message": str(error)}}, error.status)

    @app.get("/healthz")
    async def healthz() -> PlainTextResponse:
        return PlainTextResponse("alive\n")

    @app.get("/readyz")
    async def readyz() -> PlainTextResponse:
        return PlainTextResponse("shutting down\n", 503) if service.draining else PlainTextResponse("ready\n")

    @app.get("/metrics")
    async def metrics(request: Request) -> Response:
        check(request)
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")

    @app.websocket("/v1/stream")
    async def v1_stream(websocket: WebSocket) -> None:
        await serve_websocket(
            service,
            websocket,
            stream.NAME,
            lambda send: stream.StreamSpeaker(service, send, websocket.query_params),
            stream.complain,
        )

    app.router.routes.extend(page_routes())
    return app
