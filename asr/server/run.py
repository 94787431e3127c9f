"""Runs the application under uvicorn, and stops it without losing the last words of any stream."""

from __future__ import annotations

import asyncio
import signal
import socket

import uvicorn
from fastapi import FastAPI

from asr.errors import UsageError
from asr.server.address import Address, Listening
from asr.server.log import log, to_stderr
from asr.server.protocols.wyoming import wyoming_protocol
from asr.server.service import Service


class DrainingServer(uvicorn.Server):
    """A uvicorn that ends live streams properly before it closes their connections."""

    def __init__(self, app: FastAPI, address: Address) -> None:
        """For an application of `create_app`.

        Raises:
            UsageError: the certificate cannot be used.
        """
        self.service: Service = app.state.service
        config = uvicorn.Config(
            app,
            access_log=False,  # its lines would hold API keys from addresses
            log_config=None,
            ws_max_size=4 * self.service.options.max_message_bytes,  # beyond it the connection is cut without a reason
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=round(self.service.options.grace_seconds),
            ssl_certfile=address.certificate,
            ssl_keyfile=address.key,
            server_header=False,
        )
        try:
            config.load()
        except OSError as error:  # ssl.SSLError is one
            raise UsageError(f"the certificate or its key cannot be used: {error.strerror or error}") from error
        super().__init__(config)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        log("shutting down")
        draining = asyncio.create_task(self.service.drain())
        while not draining.done() and not self.force_exit:  # which a second signal sets
            await asyncio.wait({draining}, timeout=0.1)
        draining.cancel()
        self.stop_listening()
        await super().shutdown(sockets)
        self.service.close()

    def stop_listening(self) -> None:
        """Take no more connections, but for those of uvicorn's own sockets."""

    def run_until_signal(self, sockets: list[socket.socket]) -> None:
        """Serve until SIGINT or SIGTERM; a second one cuts connections off."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)  # uvicorn raises it again when it is done: this was a clean end
        self.run(sockets)


class ListeningServer(DrainingServer):
    """The only process of a server: it listens by itself."""

    def __init__(self, app: FastAPI, listening: Listening) -> None:
        super().__init__(app, listening.address)
        self._listening = listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._listening.wyoming is not None:
            self._wyoming = await asyncio.get_running_loop().create_server(
                lambda: wyoming_protocol(self.service), sock=self._listening.wyoming
            )
        self._listening.log_ready(self.service.model, self.service.options.max_streams)

    def stop_listening(self) -> None:
        if self._listening.wyoming is not None:
            self._wyoming.close()


def serve(app: FastAPI, address: Address) -> None:
    """Serve until SIGINT or SIGTERM; a second one cuts connections off.

    Raises:
        UsageError: the address cannot be listened on, or the certificate cannot be used.
    """
    listening = address.bind()
    try:
        server = ListeningServer(app, listening)
        listening.listen()  # clients that read the address may connect at once
        to_stderr()
        listening.announce(server.service.model)
        server.run_until_signal([listening.web])
    finally:
        listening.close()
