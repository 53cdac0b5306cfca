"""The HTTP interface: health, version, models, metrics, and completions that say little."""

import csv
import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from scriptedengine import plays

_METRICS = (
    Path(__file__).resolve().parents[2] / "operator" / "vllm_operator" / "engine" / "metrics.csv"
)
_WORDS = ["This", "is", "what", "a", "scripted", "engine", "answers", "to", "everything"]
_BLOCK = 16
_ASKED_FOR = {"estimated": "--enable-mfu-metrics", "specDecode": "--speculative-config"}
"""Beginnings of meanings that only a flag brings, and the flag."""
_DISTINGUISHED = {
    "admissionRejections": {"reason": "max_num_queued_reqs"},
    "engineSleepState": {"sleep_state": "awake"},
    "finishedRequests": {"finished_reason": "length"},
    "promptTokensBySource": {"source": "local_compute"},
    "requestsWaitingByReason": {"reason": "capacity"},
}
"""The label that tells a meaning's series apart; one of them is played."""
_OF_THE_PROCESS = ("cacheConfig", "processStart")
"""Meanings that no load changes."""


class Load:
    """A load that is played elsewhere, asked over one connection as long as this engine lives."""

    def __init__(self, url: str, flags: Mapping[str, str]) -> None:
        self._path = f"/?{urlencode(flags)}"
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        self._lock = threading.Lock()
        self.metrics()

    def metrics(self) -> str:
        """What this engine has counted under it."""
        with self._lock:
            self._connection.request("GET", self._path)
            return self._connection.getresponse().read().decode()

    def let_go(self) -> None:
        """Have no part of it any more."""
        self._connection.close()


class Engine:
    """What it counts, and what it was told to do."""

    def __init__(self, command: plays.Command, variables: Mapping[str, str]) -> None:
        self.command = command
        self.version = plays.version(variables)
        self.length = int(command.number("--max-model-len", 32768))
        self.tokens = plays.kv_tokens(variables)
        self.name = command.flags.get("--served-model-name", command.model).split(" ")[0]
        self.key = variables.get("VLLM_API_KEY")
        self.hangs = threading.Event()
        self.deaf = threading.Event()
        self.dead = threading.Event()
        self.started = int(time.time())
        self._lock = threading.Lock()
        self._running = 0
        self._prompt = self._generated = self._finished = self._steps = 0
        url = variables.get("SCRIPTED_LOAD")
        self.load = Load(url, {**command.flags, "--served-model-name": self.name}) if url else None

    def complete(self, prompt: int, wanted: int) -> list[str]:
        """So many words, and the counters that go with them. Never returns while it hangs."""
        with self._lock:
            self._running += 1
        while self.hangs.is_set() and not self.dead.is_set():
            time.sleep(0.05)
        with self._lock:
            self._running -= 1
            self._prompt += prompt
            self._generated += wanted
            self._steps += wanted
            self._finished += 1
        return [_WORDS[number % len(_WORDS)] for number in range(wanted)]

    def act(self, what: str) -> bool:
        """Does what POST /scripted/WHAT asks; whether that is known."""
        if what == "crash":
            self.dead.set()
            # vLLM's watchdog ends the server within 5 s: entrypoints/launchers/launcher.py
            threading.Timer(0.5, os._exit, [1]).start()
            text = (
                "(APIServer pid=1) ERROR [async_llm.py:700] AsyncLLM output_handler failed.\n"
                "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. "
                "See stack trace (above) for the root cause.\n"
            )
            os.write(2, text.encode())
        elif what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif what in ("hang", "deaf"):
            {"hang": self.hangs, "deaf": self.deaf}[what].set()
        else:
            return False
        return True

    def metrics(self) -> str:
        """The metrics of its version that the operator's table names."""
        flags = self.command.flags
        blocks = self.tokens // _BLOCK
        config = {
            "block_size": _BLOCK,
            "cache_dtype": flags.get("--kv-cache-dtype", "auto"),
            "enable_prefix_caching": "--no-enable-prefix-caching" not in flags,
            "gpu_memory_utilization": flags.get("--gpu-memory-utilization", "0.92"),
            "num_gpu_blocks": blocks,
        }
        if plays.numbers(self.version) >= (0, 24):
            config["kv_cache_size_tokens"] = self.tokens
            config["kv_cache_max_concurrency"] = self.tokens / self.length
        known = {
            "requestsRunning": self._running,
            "promptTokens": self._prompt,
            "promptTokensBySource": self._prompt,
            "prefixCacheQueries": self._prompt,
            "generationTokens": self._generated,
            # A draft of one token at each step, none of which is taken.
            "specDecodeDrafts": self._steps,
            "specDecodeDraftTokens": self._steps,
            "stepTokens": self._prompt + self._generated,
            "finishedRequests": self._finished,
        }
        lines = [] if self.load is None else self.load.metrics().splitlines()
        with _METRICS.open(newline="") as file:
            for row in csv.DictReader(file):
                unasked = any(
                    row["meaning"].startswith(beginning) and flag not in flags
                    for beginning, flag in _ASKED_FOR.items()
                )
                elsewhere = self.load is not None and row["meaning"] not in _OF_THE_PROCESS
                if plays.in_span(row, self.version) and not unasked and not elsewhere:
                    labels = {"engine": "0", "model_name": self.name}
                    value = known.get(row["meaning"], 0)
                    if row["meaning"] == "cacheConfig":
                        labels, value = {"engine": "0"} | _texts(config), 1
                    elif row["meaning"] == "processStart":
                        labels, value = {}, self.started
                    labels |= _DISTINGUISHED.get(row["meaning"], {})
                    lines += _exposed(row["metric"], row["type"], labels, value, self._steps)
        return "\n".join(lines) + "\n"


def _texts(config: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in config.items()}


def _exposed(
    name: str, kind: str, labels: Mapping[str, str], value: float, count: int
) -> list[str]:
    """A metric in Prometheus' text format; a histogram has one bucket."""
    inside = ",".join(f'{key}="{text}"' for key, text in labels.items())
    head = [f"# HELP {name} Scripted.", f"# TYPE {name} {kind}"]
    if kind != "histogram":
        return [*head, f"{name}{{{inside}}} {float(value)}"]
    return [
        *head,
        f'{name}_bucket{{{inside},le="+Inf"}} {float(count)}',
        f"{name}_count{{{inside}}} {float(count)}",
        f"{name}_sum{{{inside}}} {float(value)}",
    ]


class Handler(BaseHTTPRequestHandler):
    """One request; `engine` is set on the class that `serve` makes."""

    engine: Engine
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Health, version, models, metrics."""
        self._wait_if_deaf()
        engine = self.engine
        if self.path == "/health":
            self._answer(503 if engine.dead.is_set() else 200, b"")
        elif self.path == "/version":
            self._json({"version": engine.version})
        elif self.path == "/metrics":
            self._answer(200, engine.metrics().encode(), "text/plain; version=0.0.4")
        elif self.path == "/v1/models":
            model = {
                "id": engine.name,
                "object": "model",
                "owned_by": "vllm",
                "root": engine.command.model,
                "max_model_len": engine.length,
            }
            if self._allowed():
                self._json({"object": "list", "data": [model]})
        else:
            self._json({"detail": "Not Found"}, 404)

    def do_POST(self) -> None:
        """Completions, and what tests ask for."""
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self._wait_if_deaf()
        if self.path.startswith("/scripted/"):
            known = self.engine.act(self.path.removeprefix("/scripted/"))
            self._json({}, 200 if known else 404)
        elif self.path not in ("/v1/chat/completions", "/v1/completions"):
            self._json({"detail": "Not Found"}, 404)
        elif self._allowed():
            self._complete(json.loads(body))

    def _complete(self, request: Mapping[str, Any]) -> None:
        said = request.get("prompt") or "".join(
            str(message.get("content", "")) for message in request.get("messages", [])
        )
        prompt = max(1, len(str(said).split()))
        words = self.engine.complete(prompt, int(request.get("max_tokens") or 16))
        text = " ".join(words)
        chat = self.path.endswith("/chat/completions")
        content = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        self._json(
            {
                "id": "cmpl-scripted",
                "object": "chat.completion" if chat else "text_completion",
                "created": int(time.time()),
                "model": self.engine.name,
                "choices": [{"index": 0, "finish_reason": "length", **content}],
                "usage": {
                    "prompt_tokens": prompt,
                    "completion_tokens": len(words),
                    "total_tokens": prompt + len(words),
                },
            }
        )

    def _allowed(self) -> bool:
        """As --api-key guards what is below /v1."""
        key = self.engine.key
        if key is None or self.headers.get("Authorization") == f"Bearer {key}":
            return True
        self._json({"error": "Unauthorized"}, 401)
        return False

    def _wait_if_deaf(self) -> None:
        while self.engine.deaf.is_set():
            time.sleep(1)

    def _json(self, content: object, status: int = 200) -> None:
        self._answer(status, json.dumps(content).encode(), "application/json")

    def _answer(self, status: int, body: bytes, kind: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Requests are not logged, as vLLM's own log would be of probes above all."""


class Server(ThreadingHTTPServer):
    """Threads end with the process."""

    daemon_threads = True
    request_queue_size = 128


def serve(engine: Engine, host: str, port: int) -> Server:
    """A server that listens; to be run."""
    handler = type("BoundHandler", (Handler,), {"engine": engine})
    return Server((host, port), handler)
