"""Runs the application under uvicorn, and stops it without losing the last words of any stream."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from asr.errors import UsageError
from asr.server.log import log, to_stderr
from asr.server.protocols.wyoming import start_wyoming
from asr.server.service import Service


@dataclass(frozen=True)
class Address:
    """Where to listen, and with which certificate."""

    host: str = "127.0.0.1"
    port: int = 8_000  # 0: any free one
    certificate: Path | None = None
    key: Path | None = None
    wyoming_host: str = "127.0.0.1"
    wyoming_port: int | None = None  # None: no Wyoming


class DrainingServer(uvicorn.Server):
    """A uvicorn that ends live streams properly before it closes their connections."""

    def __init__(self, config: uvicorn.Config, service: Service, wyoming: socket.socket | None) -> None:
        super().__init__(config)
        self._service = service
        self._wyoming = wyoming

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._wyoming is not None:
            self._wyoming_server = await start_wyoming(self._service, self._wyoming)
        ports = [listening and listening.getsockname()[1] for listening in (*sockets, self._wyoming)]
        log(
            "ready",
            model=self._service.model,
            port=ports[0],
            wyoming_port=ports[1],
            max_streams=self._service.options.max_streams,
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        log("shutting down")
        draining = asyncio.create_task(self._service.drain())
        while not draining.done() and not self.force_exit:  # which a second signal sets
            await asyncio.wait({draining}, timeout=0.1)
        draining.cancel()
        if self._wyoming is not None:
            self._wyoming_server.close()
        await super().shutdown(sockets)
        self._service.close()


def serve(app: FastAPI, address: Address) -> None:
    """Serve until SIGINT or SIGTERM; a second one cuts connections off.

    Raises:
        UsageError: the address cannot be listened on, or the certificate cannot be used.
    """
    service: Service = app.state.service
    if (address.certificate is None) != (address.key is None):
        raise UsageError("--ssl-certfile and --ssl-keyfile go together; give both or none")
    config = uvicorn.Config(
        app,
        access_log=False,  # its lines would hold API keys from addresses
        log_config=None,
        ws_max_size=4 * service.options.max_message_bytes,  # beyond it the connection is cut without a reason
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=round(service.options.grace_seconds),
        ssl_certfile=address.certificate,
        ssl_keyfile=address.key,
        server_header=False,
    )
    try:
        config.load()
    except OSError as error:  # ssl.SSLError is one
        raise UsageError(f"the certificate or its key cannot be used: {error.strerror or error}") from error
    listening = _bound(address.host, address.port)
    port = listening.getsockname()[1]
    wyoming = None if address.wyoming_port is None else _bound(address.wyoming_host, address.wyoming_port)
    to_stderr()
    scheme = "http" if address.certificate is None else "https"
    host = f"[{address.host}]" if ":" in address.host else address.host
    print(f"asr: serving {service.model} on {scheme}://{host}:{port}; Ctrl-C ends it", file=sys.stderr, flush=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)  # uvicorn raises the signal again when it is done: this was a clean end
    with listening:
        DrainingServer(config, service, wyoming).run([listening])


def _bound(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65_535:  # the system would take it modulo 65,536
        raise UsageError(f"cannot listen on {host}, port {port}: a port is a number from 0 to 65535")
    try:
        family, kind, number, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, number)
        if sys.platform != "win32":  # where it would let another program take the port over
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(where)
        listening.listen()  # clients that read the address may connect at once
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot listen on {host}, port {port}: {reason}") from error
    return listening
