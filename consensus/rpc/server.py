"""Server: JSON-RPC over HTTP, on the loopback interface unless told otherwise.

Source: JSON-RPC 2.0 over HTTP POST, as Ethereum clients speak it.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

from aiohttp import web

from consensus.rpc.jsonrpc import INVALID, TOO_MUCH, Endpoint, failure, spelled
from fedalign.core.errors import ConfigError

LOOPBACK = "127.0.0.1"
MOST_BYTES = 1 << 20
MOST_WAITING = 64


class Server:
    """Answers `endpoint` over HTTP. host: loopback by default; port: 0 takes a free one.

    Calls run in one worker thread, so a slow one delays other callers and nothing else; more than
    64 waiting requests are refused, and so are bodies above 1 MiB.
    """

    def __init__(self, endpoint: Endpoint, host: str = LOOPBACK, port: int = 0):
        self._endpoint, self._host, self._port = endpoint, host, port
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rpc")
        self._waiting = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where it answers, once started."""
        return f"http://{self._host}:{self._port}"

    async def start(self) -> None:
        """Raises ConfigError where the address cannot be had."""
        app = web.Application(client_max_size=MOST_BYTES)
        app.router.add_post("/", self._post)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise ConfigError(
                f"RPC cannot listen on {self._host}:{self._port}: {error.strerror}. Another port, "
                "or 0 for a free one, would work."
            ) from error
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        self._worker.shutdown(wait=False)

    async def _post(self, request: web.Request) -> web.Response:
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return _json(_refused(INVALID, f"A request has at most {MOST_BYTES} bytes."), 413)
        if self._waiting >= MOST_WAITING:
            return _json(_refused(TOO_MUCH, f"{MOST_WAITING} requests wait already."), 429)
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            answer = await loop.run_in_executor(self._worker, self._endpoint.answer, body)
        finally:
            self._waiting -= 1
        return _json(answer) if answer else web.Response(status=204)


class ThreadedServer:
    """A `Server` in a thread of its own, for programs without an event loop; a context manager."""

    def __init__(self, endpoint: Endpoint, host: str = LOOPBACK, port: int = 0):
        self._server = Server(endpoint, host, port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def url(self) -> str:
        return self._server.url

    def __enter__(self) -> ThreadedServer:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._server.start(), self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._server.stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _refused(code: int, message: str) -> bytes:
    return spelled(failure(None, code, message))


def _json(body: bytes, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json")
