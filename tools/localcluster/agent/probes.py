"""Probes: one attempt, and the loop that counts attempts.

Words of failures: Kubernetes 1.36, pkg/probe and Go's net/http.
"""

import asyncio
import shlex
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp

from localcluster.agent.runtime import Runtime
from localcluster.agent.substitution import Substitution

Object = dict[str, Any]
_SHOWN = 10 * 1024  # bytes of a probe's output, pkg/probe/exec/exec.go


class Surroundings:
    """What an attempt needs to know of the container: where it is, and how to run a command."""

    def __init__(
        self,
        container: Object,
        address: str,
        substitute: Substitution,
        runtime: Runtime,
        environment: Mapping[str, str],
        directory: Path,
        resolve: Callable[[list[str]], list[str]],
    ) -> None:
        self.container = container
        self.address = address
        self._substitute = substitute
        self._runtime = runtime
        self._environment = environment
        self._directory = directory
        self._resolve = resolve

    async def _execute(self, command: list[str]) -> tuple[int, str]:
        """Runs a command as in the container. Raises FileNotFoundError."""
        argv = self._resolve([self._substitute(part) for part in command])
        return await self._runtime.run(argv, self._environment, self._directory)

    def port(self, given: int | str) -> int:
        """A port by its number or name."""
        if isinstance(given, int):
            return given
        ports = self.container.get("ports") or []
        found = [port["containerPort"] for port in ports if port.get("name") == given]
        return int(found[0] if found else given)

    async def act(self, handler: Object, seconds: float) -> str | None:
        """One attempt of a probe or hook: None where it went well, else a kubelet's words."""
        if "httpGet" in handler:
            return await self._get(handler["httpGet"], seconds)
        if "exec" in handler:
            return await self._run(handler["exec"]["command"], seconds)
        if "tcpSocket" in handler:
            return await self._connect(handler["tcpSocket"], seconds)
        return "gRPC probes are not known to the local cluster's agent"

    async def _get(self, action: Object, seconds: float) -> str | None:
        host, port = action.get("host") or self.address, self.port(action["port"])
        scheme = action.get("scheme", "HTTP").lower()
        path = action.get("path") or "/"
        url = f"{scheme}://{host}:{port}{path if path.startswith('/') else '/' + path}"
        headers = {"User-Agent": "kube-probe/1.36"}
        headers |= {one["name"]: one["value"] for one in action.get("httpHeaders") or []}
        try:
            # A connection for each attempt, as a kubelet makes them.
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=seconds)) as session,
                session.get(url, headers=headers, ssl=False) as answer,
            ):
                if 200 <= answer.status < 400:
                    return None
                return f"HTTP probe failed with statuscode: {answer.status}"
        except TimeoutError:
            return (
                f'Get "{url}": context deadline exceeded '
                "(Client.Timeout exceeded while awaiting headers)"
            )
        except aiohttp.ClientConnectorError:
            return f'Get "{url}": dial tcp {host}:{port}: connect: connection refused'
        except aiohttp.ClientError as error:
            return f'Get "{url}": {error or "EOF"}'

    async def _run(self, command: list[str], seconds: float) -> str | None:
        try:
            async with asyncio.timeout(seconds):
                code, output = await self._execute(command)
        except TimeoutError:
            return f'command timed out: "{shlex.join(command)}" timed out after {seconds:g}s'
        except FileNotFoundError as error:
            return f'exec: "{error}": executable file not found in $PATH: unknown'
        return None if code == 0 else output[:_SHOWN]

    async def _connect(self, action: Object, seconds: float) -> str | None:
        host, port = action.get("host") or self.address, self.port(action["port"])
        try:
            async with asyncio.timeout(seconds):
                _, writer = await asyncio.open_connection(host, port)
            writer.close()
        except TimeoutError:
            return f"dial tcp {host}:{port}: i/o timeout"
        except OSError:
            return f"dial tcp {host}:{port}: connect: connection refused"
        return None


async def results(
    probe: Object,
    surroundings: Surroundings,
    speed: float,
    failed: Callable[[str], None],
) -> AsyncIterator[bool]:
    """True each time that a probe has succeeded often enough in a row, False when it has failed so.

    `failed` hears of every failure. The defaults are the API's.
    """
    await asyncio.sleep(probe.get("initialDelaySeconds", 0) / speed)
    run, last = 0, None
    while True:
        message = await surroundings.act(probe, probe.get("timeoutSeconds", 1))
        success = message is None
        run = run + 1 if success is last else 1
        last = success
        if message is not None:
            failed(message)
        threshold = (
            probe.get("successThreshold", 1) if success else probe.get("failureThreshold", 3)
        )
        if run >= threshold:
            yield success
        await asyncio.sleep(probe.get("periodSeconds", 10) / speed)
