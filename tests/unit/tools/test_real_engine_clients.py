"""Clients of the real engine: how many ask which pod."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from localcluster.waiting import wait_until
from realengine.clients import Clients


class Pod:
    """Answers nothing until it is told, so that each client is seen once."""

    def __init__(self) -> None:
        self.asked, self.answers = 0, threading.Event()
        pod = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                pod.asked += 1
                pod.answers.wait(10)
                self.send_response(200)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def pods() -> Iterator[dict[str, Pod]]:
    found = {name: Pod() for name in ("old", "young")}
    yield found
    for pod in found.values():
        pod.answers.set()
        pod.server.shutdown()
        pod.server.server_close()


@pytest.mark.parametrize(("share", "old", "young"), [(None, 5, 5), (0.3, 7, 3)])
def test_the_youngest_pod_gets_its_share_of_the_clients(
    pods: dict[str, Pod], share: float | None, old: int, young: int
) -> None:
    clients = Clients(10, lambda: {name: pod.url for name, pod in pods.items()}, output=1)
    clients.share = share
    with clients:
        asked = wait_until(
            lambda: (
                [pod.asked for pod in pods.values()]
                if sum(pod.asked for pod in pods.values()) >= 10
                else None
            ),
            "all clients to ask",
        )
        for pod in pods.values():
            pod.answers.set()
    assert asked == [old, young]


def test_a_client_whose_pod_goes_asks_another_one(pods: dict[str, Pod]) -> None:
    pods["young"].answers.set()
    there = {"old": "http://127.0.0.1:9"}
    with Clients(1, lambda: dict(there)) as clients:
        wait_until(lambda: clients.failures > 0, "a request to fail")
        there["young"] = pods["young"].url
        del there["old"]
        wait_until(lambda: clients.answers > 0, "it to be answered")
