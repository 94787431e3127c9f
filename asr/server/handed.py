"""The server of a worker process: it listens nowhere, and serves the connections that the supervisor hands it."""

from __future__ import annotations

import asyncio
import shutil
import socket
from typing import Any

from fastapi import FastAPI

from asr.recognizer import Recognizer
from asr.server.address import Address
from asr.server.app import create_app
from asr.server.log import to_stderr
from asr.server.metrics import Metrics
from asr.server.post import Job, Post
from asr.server.protocols.wyoming import wyoming_protocol
from asr.server.run import DrainingServer
from asr.server.tally import Column, Tally

TELL_SECONDS = 0.1  # from one time to the next that the others are told how things stand


class HandedServer(DrainingServer):
    """Serves connections that come through a socket."""

    def __init__(self, app: FastAPI, address: Address, post: Post, tally: Tally) -> None:
        super().__init__(app, address)
        self._post = post
        self._tally = tally
        self.orphan = False  # whether the supervisor is no more
        self._received = 0
        self._beginning: set[asyncio.Task[None]] = set()  # connections whose TLS is being agreed on, say
        self._open: set[asyncio.BaseTransport] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([])
        self._post.connections.setblocking(False)
        asyncio.get_running_loop().add_reader(self._post.connections, self._receive)
        self._telling = asyncio.create_task(self._tell_always())
        self._post.reports.send(None)
        self._post.reports.close()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._tally.write(Column.DRAINING, 1)
        await super().shutdown([])
        self._telling.cancel()

    def stop_listening(self) -> None:
        asyncio.get_running_loop().remove_reader(self._post.connections)
        self._post.connections.close()

    def _receive(self) -> None:
        """Take one connection."""
        try:
            kind, files, _, _ = socket.recv_fds(self._post.connections, 1, 1)
        except BlockingIOError:
            return
        except OSError:
            kind = b""
        if not kind:
            asyncio.get_running_loop().remove_reader(self._post.connections)
            self.orphan = self.should_exit = True
            return
        self._received += 1
        task = asyncio.create_task(self._begin(socket.socket(fileno=files[0]), is_wyoming=kind != b"\0"))
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)

    async def _begin(self, connection: socket.socket, is_wyoming: bool) -> None:
        loop = asyncio.get_running_loop()
        try:
            if is_wyoming:
                transport, _ = await loop.connect_accepted_socket(lambda: wyoming_protocol(self.service), connection)
            else:
                transport, _ = await loop.connect_accepted_socket(self._web_protocol, connection, ssl=self.config.ssl)
        except OSError:  # no TLS, or gone already
            connection.close()
        else:
            self._open.add(transport)

    def _web_protocol(self) -> asyncio.Protocol:
        """As uvicorn makes it for a socket on which it listens itself."""
        make: Any = self.config.http_protocol_class
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    async def _tell_always(self) -> None:
        while True:
            self._open = {transport for transport in self._open if not transport.is_closing()}
            self._tally.write(Column.CLOSED, self._received - len(self._open) - len(self._beginning))
            self.service.share()
            await asyncio.sleep(TELL_SECONDS)


def serve_handed(job: Job, post: Post) -> None:
    """Load the model and serve what comes.

    Raises:
        RillError: the model or the certificate cannot be used.
    """
    to_stderr(post.number)
    metrics = Metrics(post.folder)
    tally = Tally(post.folder, post.number)
    options = job.options.batched(job.recognizer, metrics.batch_size.observe, job.workers)
    with Recognizer.open(options) as recognizer:
        app = create_app(recognizer, job.options, job.model, metrics, tally)
        server = HandedServer(app, job.address, post, tally)
        server.run_until_signal([])
    if server.orphan:
        shutil.rmtree(post.folder, ignore_errors=True)
