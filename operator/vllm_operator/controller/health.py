"""/healthz, /readyz and /metrics of the operator itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from .metrics import Metrics

Check = Callable[[], str | None]
"""None where all is well, else what is wrong."""


async def serve(listen: str, metrics: Metrics, alive: Check, ready: Check) -> web.AppRunner:
    """Serve until the returned runner is cleaned up. ``listen`` is host:port."""
    application = web.Application()
    application.router.add_get("/healthz", _checked(alive))
    application.router.add_get("/readyz", _checked(ready))

    async def exposition(_: web.Request) -> web.Response:
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=metrics.exposition(), headers=headers)

    application.router.add_get("/metrics", exposition)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    host, _, port = listen.rpartition(":")
    await web.TCPSite(runner, host.strip("[]") or None, int(port)).start()
    return runner


def _checked(check: Check) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handler(_: web.Request) -> web.Response:
        wrong = check()
        return web.Response(text=(wrong or "ok") + "\n", status=503 if wrong else 200)

    return handler
