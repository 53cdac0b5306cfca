"""The script that waits for requests before an old version is told to stop."""

from __future__ import annotations

import http.server
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

from vllm_operator.manifests.stopping import pre_stop

RECORDED = Path(__file__).parent / "metrics"


def ended_after(texts: list[str], seconds: int) -> float:
    """Seconds that the hook took against a server that gives these texts in turn."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            text = texts.pop(0) if len(texts) > 1 else texts[0]
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        ended = waited(server.server_address[1], seconds)
        server.shutdown()
    return ended


def waited(port: int, seconds: int) -> float:
    _, *rest = pre_stop("0.17.0", port, seconds)["exec"]["command"]
    given = {**json.loads(rest[-1]), "pause": 0}
    begun = time.monotonic()
    command = [sys.executable, *rest[:-1], json.dumps(given)]
    subprocess.run(command, check=True, timeout=60, capture_output=True)
    return time.monotonic() - begun


def recorded(name: str) -> str:
    return (RECORDED / f"vllm-0.32-{name}.txt").read_text()


def test_a_pod_with_nothing_to_do_stops_at_once() -> None:
    texts = [recorded("idle")]
    assert ended_after(texts, 60) < 20


def test_a_pod_stops_when_its_last_request_has_ended() -> None:
    texts = [recorded("busy-1"), recorded("busy-2"), recorded("idle")]
    ended_after(texts, 60)
    assert texts == [recorded("idle")]


def test_a_pod_waits_no_longer_than_it_is_given() -> None:
    assert 2 <= ended_after([recorded("busy-1")], 2) < 20


def test_a_pod_that_does_not_answer_is_not_waited_for() -> None:
    assert waited(1, 60) < 20
