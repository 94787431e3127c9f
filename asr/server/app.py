"""The web application: every protocol over HTTP and WebSocket, the page, health and metrics."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request, WebSocket
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from asr.errors import AudioError
from asr.server.failures import ClientError, Gone, bearer, check_key, openai_error
from asr.server.metrics import Metrics
from asr.server.options import ServerOptions
from asr.server.origin import OriginCheck
from asr.server.page_files import page_routes
from asr.server.protocols import deepgram, openai_files, openai_realtime, stream, vosk
from asr.server.service import Service
from asr.server.tally import Tally
from asr.server.websocket import serve_websocket

if TYPE_CHECKING:
    from asr.recognizer import Recognizer


def create_app(
    recognizer: Recognizer,
    options: ServerOptions | None = None,
    model: str = "rill",
    metrics: Metrics | None = None,
    tally: Tally | None = None,
) -> FastAPI:
    """An ASGI application; ``app.state.service`` is what its clients share.

    Args:
        recognizer: used from many threads at once.
        options: limits and the API key.
        model: its name, as clients are told.
        metrics: where to count; new ones by default.
        tally: what the workers of a server tell each other, if this is one of several.
    """
    service = Service(recognizer, options or ServerOptions(), model, metrics, tally)
    app = FastAPI(
        title="Rill",
        description="Speech recognition over HTTP. Live streams use WebSockets, which OpenAPI cannot describe.",
        docs_url=None,  # a page that would load scripts from elsewhere
        redoc_url=None,
    )
    app.state.service = service
    _add_failures(app, service)
    _add_health(app, service)
    _add_sockets(app, service)
    _add_origins(app, service.options.allow_origins)
    app.include_router(openai_files.router(service))
    app.router.routes.extend(page_routes())
    return app


def _add_failures(app: FastAPI, service: Service) -> None:
    """Answers to requests that fail."""

    @app.exception_handler(ClientError)
    async def refuse(request: Request, error: ClientError) -> JSONResponse:
        service.metrics.errors.labels("http", error.code).inc()
        headers = {"Retry-After": "5"} if error.status == 503 else {}
        return JSONResponse(openai_error(error), error.status, headers)

    @app.exception_handler(AudioError)
    async def refuse_audio(request: Request, error: AudioError) -> JSONResponse:
        return await refuse(request, ClientError("bad_audio", str(error)))

    @app.exception_handler(Gone)
    async def drop(request: Request, error: Gone) -> Response:
        service.metrics.drops.labels("http").inc()
        return Response(status_code=499)  # it is not sent to anybody

    @app.exception_handler(Exception)
    async def fail(request: Request, error: Exception) -> JSONResponse:  # uvicorn logs it
        return await refuse(request, ClientError("internal", "the server failed; its log has the reason"))


def _add_health(app: FastAPI, service: Service) -> None:
    """Routes for service managers and Prometheus."""

    @app.get("/healthz")
    async def healthz() -> PlainTextResponse:
        return PlainTextResponse("alive\n")

    @app.get("/readyz")
    async def readyz() -> PlainTextResponse:
        return PlainTextResponse("shutting down\n", 503) if service.draining else PlainTextResponse("ready\n")

    @app.get("/metrics")
    async def metrics(request: Request) -> Response:
        check_key(bearer(request.headers.get("authorization")), service.options.api_key)
        service.metrics.tasks.set(len(asyncio.all_tasks()))
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")


def _add_sockets(app: FastAPI, service: Service) -> None:
    """Protocols of live streams."""

    @app.websocket("/v1/stream")
    async def v1_stream(websocket: WebSocket) -> None:
        await serve_websocket(
            service,
            websocket,
            stream.NAME,
            lambda send: stream.StreamSpeaker(service, send, websocket.query_params),
            stream.complain,
        )

    @app.websocket("/v1/realtime")
    async def v1_realtime(websocket: WebSocket) -> None:
        await serve_websocket(
            service,
            websocket,
            openai_realtime.NAME,
            lambda send: openai_realtime.RealtimeSpeaker(service, send),
            openai_realtime.complain,
        )

    @app.websocket("/v1/listen")
    async def v1_listen(websocket: WebSocket) -> None:
        await serve_websocket(
            service,
            websocket,
            deepgram.NAME,
            lambda send: deepgram.DeepgramSpeaker(service, send, websocket.query_params),
            deepgram.complain,
        )

    @app.websocket("/vosk")
    async def vosk_socket(websocket: WebSocket) -> None:
        await serve_websocket(
            service, websocket, vosk.NAME, lambda send: vosk.VoskSpeaker(service, send), vosk.complain
        )


def _add_origins(app: FastAPI, allowed: tuple[str, ...]) -> None:
    """Refuse pages of other sites, but for the allowed ones."""
    app.add_middleware(OriginCheck, allowed=allowed)
    if allowed:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=allowed,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["X-Rill-Warning", "Retry-After"],
        )
