"""The kubelet's HTTPS port, as far as logs go: the API server's `pods/log` asks here."""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from localcluster import certificates
from localcluster.agent.pods import PodLife
from localcluster.processes import LOOPBACK

_CHUNK = 2**16


class LogServer:
    """On a free port of 127.0.0.1. Whoever is on this machine may read there, unauthenticated."""

    def __init__(
        self, find: Callable[[str, str], PodLife | None], logs: Path, scratch: Path
    ) -> None:
        self._find = find
        self._logs = logs
        files = certificates.create(scratch / "certificates", ["localhost"], [LOOPBACK])
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(files.server_certificate, files.server_key)
        self._runner: web.AppRunner | None = None

    async def start(self) -> int:
        """Serves; the port."""
        application = web.Application()
        application.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._log)
        application.router.add_route("*", "/{rest:.*}", _unknown)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0)
        await self._runner.setup()
        await web.TCPSite(self._runner, LOOPBACK, 0, ssl_context=self._context).start()
        port: int = self._runner.addresses[0][1]
        return port

    async def stop(self) -> None:
        """Serves no longer."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _log(self, request: web.Request) -> web.StreamResponse:
        where = request.match_info
        previous = request.query.get("previous") == "true"
        pod = self._find(where["namespace"], where["pod"])
        if pod is None:
            return web.Response(status=404, text=f"pod {where['pod']!r} does not exist")
        name = pod.log_path(where["container"], previous)
        path = None if name is None else self._logs / f"{name}.log"
        if path is None or not path.exists():
            said = f'container "{where["container"]}" in pod "{where["pod"]}"'
            text = (
                f"previous terminated {said} not found"
                if previous
                else f"{said} is waiting to start: ContainerCreating"
            )
            return web.Response(status=400, text=text)
        answer = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await answer.prepare(request)
        content = path.read_bytes()
        await answer.write(_selected(content, request.query))
        if request.query.get("follow") == "true":
            await self._follow(answer, path, len(content), pod, where["container"], name)
        await answer.write_eof()
        return answer

    async def _follow(
        self,
        answer: web.StreamResponse,
        path: Path,
        offset: int,
        pod: PodLife,
        container: str,
        name: Any,
    ) -> None:
        """Until the container's next start has a log of its own."""
        while True:
            with path.open("rb") as file:
                file.seek(offset)
                more = file.read(_CHUNK)
            if more:
                offset += len(more)
                await answer.write(more)
            elif pod.log_path(container, False) != name or not pod.runs(container):
                return
            else:
                await asyncio.sleep(0.1)


def _selected(content: bytes, query: Mapping[str, str]) -> bytes:
    """What `tailLines` and `limitBytes` leave; times of lines are not kept, so others are passed
    over."""
    if "tailLines" in query:
        count = int(query["tailLines"])
        content = b"".join(content.splitlines(keepends=True)[-count:] if count else [])
    return content[: int(query["limitBytes"])] if "limitBytes" in query else content


async def _unknown(request: web.Request) -> web.Response:
    return web.Response(
        status=501, text=f"the local cluster's agent does not know {request.path.split('/')[1]}\n"
    )
