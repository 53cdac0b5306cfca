"""What stands between an operator and the API server, and ends the operator after its n-th write.

The request has been carried out when the operator is killed, and the answer never reaches it: it
knows nothing of what it did. That is the worst moment, and a repeatable one; an audit log or a
metric of the operator's own tells of a write only when the next one may be under way.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web

from localcluster.cluster import Cluster

CHANGING = {"POST", "PUT", "PATCH", "DELETE"}
CLOSING_ROUNDS = 5  # of the event loop: a connection that is aborted is closed in a later one
BETWEEN_HOPS = {"connection", "content-length", "host", "keep-alive", "transfer-encoding"}


class Gate:
    """A proxy; ``after_write`` is called after each write and says whether to answer it.

    A write is a changed resourceVersion. Renewals of Leases are none.
    """

    def __init__(self, cluster: Cluster, after_write: Callable[[str], bool]) -> None:
        self._cluster = cluster
        self._after_write = after_write
        self._versions: dict[str, str] = {}
        self._streams: set[asyncio.Transport] = set()
        self._loop = asyncio.new_event_loop()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._stop = asyncio.Event()
        self.port = 0

    def __enter__(self) -> Gate:
        self._thread.start()
        assert self._listening.wait(10), "the gate does not listen"
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def kubeconfig(self, original: Path) -> Path:
        """A kubeconfig that leads through the gate, beside the one of the same user."""
        content = yaml.safe_load(original.read_text())
        for entry in content["clusters"]:
            entry["cluster"] = {"server": f"http://127.0.0.1:{self.port}"}
        path = original.with_suffix(f".{self.port}")
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(content))
        return path

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:

        trusted = ssl.create_default_context(cafile=str(self._cluster.certificate_authority))
        connector = aiohttp.TCPConnector(ssl=trusted, limit=0)
        patient = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(
            connector=connector, timeout=patient, auto_decompress=False
        ) as self._session:
            server = web.Server(self._handle)
            listener = await self._loop.create_server(server, "127.0.0.1", 0)
            self.port = listener.sockets[0].getsockname()[1]
            self._listening.set()
            await self._stop.wait()
            listener.close()
            await server.shutdown(1)
            # Watches go on for as long as somebody listens.
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            for stream in self._streams:
                stream.abort()
            await connector.close(abort_ssl=True)
        for _ in range(CLOSING_ROUNDS):
            await asyncio.sleep(0)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        headers = _passed(request.headers)
        body = await request.read()
        try:
            async with self._session.request(
                request.method,
                f"{self._cluster.server}{request.raw_path}",
                data=body or None,
                headers=headers,
                skip_auto_headers=("Accept-Encoding", "Content-Type", "User-Agent"),
            ) as answer:
                if request.method in CHANGING:
                    return await self._change(request, answer)
                if answer.connection is not None and answer.connection.transport is not None:
                    self._streams.add(answer.connection.transport)
                response = web.StreamResponse(status=answer.status, headers=_passed(answer.headers))
                await response.prepare(request)
                async for part in answer.content.iter_any():
                    await response.write(part)
                return response
        except (aiohttp.ClientError, ConnectionError) as error:
            # As the API server itself is gone: no answer, not an answer that says so.
            raise _hung_up(request) from error

    async def _change(
        self, request: web.BaseRequest, answer: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        data = await answer.read()
        written = answer.status < 300 and self._is_write(request, answer, data)
        what = f"{request.method} {request.path}"
        if written and not await asyncio.to_thread(self._after_write, what):
            raise _hung_up(request)
        return web.Response(status=answer.status, headers=_passed(answer.headers), body=data)

    def _is_write(
        self, request: web.BaseRequest, answer: aiohttp.ClientResponse, data: bytes
    ) -> bool:
        if "/leases" in request.path or "dryRun" in request.query:
            return False
        if request.method == "DELETE":
            return True
        assert answer.headers.get("Content-Encoding") is None, "an answer that is compressed"
        metadata: dict[str, Any] = json.loads(data).get("metadata") or {}
        uid, version = metadata.get("uid"), metadata.get("resourceVersion")
        if not uid or not version:
            return False  # a review, which nobody stores
        before, self._versions[uid] = self._versions.get(uid), version
        return before != version


def _passed(headers: Any) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers.items() if name.lower() not in BETWEEN_HOPS]


def _hung_up(request: web.BaseRequest) -> Exception:
    if request.transport is not None:
        request.transport.abort()
    return web.HTTPServiceUnavailable()
