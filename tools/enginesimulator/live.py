"""A load on engines that are processes of their own, in real time.

An engine that serves holds a connection and asks over it what it would have counted: `GET
/?--max-num-seqs=64&…` with its flags. As long as the connection is open, a simulated engine of
these limits stands behind it and has its share of the load; what the simulation is not told, such
as whether a probe found it ready, makes no difference.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import parse_qsl, urlsplit

from vllm_operator.tuning.knobs import Knobs

from .metrics import exposition
from .planned import Server
from .seconds import NEVER
from .service import Pod, Service

HOST: Final = "127.0.0.2"
"""Of this machine, and not 127.0.0.1: on a node of the agent that is the pod's own address."""


class Live:
    """A workload that begins with the first engine. A context that serves ``url``."""

    def __init__(
        self, workload: Mapping[str, Any], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._service = Service(Server(workload["server"]), workload, every=NEVER)
        assert self._service.server.hardware  # computed once, and not while an engine waits for it
        self._lock = threading.Lock()
        self._began: float | None = None
        handler = type("BoundHandler", (_Handler,), {"live": self})
        self._listener = _Listener((HOST, 0), handler)
        self._thread = threading.Thread(target=self._listener.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._listener.shutdown()
        self._listener.server_close()

    @property
    def url(self) -> str:
        """Where engines ask."""
        return f"http://{HOST}:{self._listener.server_port}"

    def begin(self, flags: Mapping[str, str]) -> Pod:
        """An engine with these flags serves from now on. Raises ValueError where no plan has
        them."""
        with self._lock:
            self._advance()
            free = self._free()
            return self._service.add(_knobs(flags), free[0] if free else None)

    def end(self, pod: Pod) -> None:
        """It serves no more, and one that stands beside the replicas takes its place."""
        with self._lock:
            self._advance()
            self._service.remove(pod)
            beside = [one for one in self._service.pods if one.place is None and not one.draining]
            for one, place in zip(beside, self._free(), strict=False):
                self._service.take_place(one, place)

    def metrics(self, pod: Pod, model: str) -> str:
        """What it has counted by now, in Prometheus' text format."""
        with self._lock:
            self._advance()
            return exposition(pod.engine.counted(), self._service.buckets, {"model_name": model})

    def _advance(self) -> None:
        now = self._clock()
        if self._began is None:
            self._began = now
        self._service.advance(now - self._began)

    def _free(self) -> list[int]:
        """Places of replicas that nobody has."""
        taken = {one.place for one in self._service.pods if not one.draining}
        return [place for place in range(len(self._service.balance)) if place not in taken]


def _knobs(flags: Mapping[str, str]) -> Knobs:
    active = flags.get("--max-num-active-seqs")
    return Knobs(
        int(flags["--max-num-seqs"]),
        int(flags["--max-num-batched-tokens"]),
        float(flags["--gpu-memory-utilization"]),
        int(active) if active else None,
    )


class _Handler(BaseHTTPRequestHandler):
    """One connection, which is one engine."""

    live: Live
    protocol_version = "HTTP/1.1"
    pod: Pod | None = None

    def do_GET(self) -> None:
        flags = dict(parse_qsl(urlsplit(self.path).query))
        if self.pod is None:
            self.pod = self.live.begin(flags)
        text = self.live.metrics(self.pod, flags.get("--served-model-name", "")).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # an engine that is killed
            super().handle()
        if self.pod is not None:
            self.live.end(self.pod)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Nothing: each scrape is a request."""


class _Listener(ThreadingHTTPServer):
    """Threads end with the process."""

    daemon_threads = True
