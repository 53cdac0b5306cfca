"""Liveness on the real engine: its core stopped by a signal is hung, a busy one is not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from localcluster.waiting import wait_until
from realengine.environments import SERVING_VERSION
from realengine.server import Server
from vllm_operator.manifests.probes import liveness_command

pytestmark = pytest.mark.timeout(600)

CORE = "VLLM::EngineCore"
BUDGET = 4


def attempt(serving: Server, state: Path) -> tuple[int, str]:
    """One attempt of the probe, as a kubelet makes it in the container."""
    port = urlsplit(serving.url).port
    assert port is not None
    _, *rest = liveness_command(SERVING_VERSION, port, BUDGET)
    arguments = {**json.loads(rest[-1]), "state": str(state)}
    command = [sys.executable, *rest[:-1], json.dumps(arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    return ended.returncode, ended.stdout


def ancestors(pid: int) -> Iterator[int]:
    while pid > 1:
        yield pid
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def engine_core(serving: Server) -> int:
    """Process id of the server's engine core."""
    port = f"--port\0{urlsplit(serving.url).port}\0"
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            if not (entry / "cmdline").read_text().startswith(CORE):
                continue
            if any(
                port in Path(f"/proc/{a}/cmdline").read_text() for a in ancestors(int(entry.name))
            ):
                return int(entry.name)
    raise AssertionError("no engine core runs")


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture
def busy(serving: Server) -> Iterator[threading.Event]:
    """Requests that never stop coming until the event is set."""
    enough = threading.Event()

    def ask() -> None:
        body: dict[str, Any] = {"model": "tiny", "prompt": [5] * 20, "max_tokens": 1500}
        while not enough.is_set():
            with suppress(urllib.error.URLError, OSError):
                serving.post("/v1/completions", body | {"ignore_eos": True})

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_until(
        lambda: 'num_requests_running{engine="0",model_name="tiny"} 3' in serving.get("/metrics"),
        "three requests to run",
        timeout=30,
    )
    yield enough
    enough.set()
    for thread in threads:
        thread.join(timeout=60)


def watched(serving: Server, state: Path, seconds: float) -> list[str]:
    """What attempts said over so many seconds; empty where all of them were content."""
    said, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        code, why = attempt(serving, state)
        said += [why] if code else []
        time.sleep(0.3)
    return said


def test_an_engine_that_is_busy_for_longer_than_the_budget_is_left_alone(
    serving: Server, busy: threading.Event, tmp_path: Path
) -> None:
    assert watched(serving, tmp_path / "state", 3 * BUDGET) == []


def test_an_engine_whose_core_is_stopped_is_hung_although_its_health_is_good(
    serving: Server, busy: threading.Event, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    assert attempt(serving, state)[0] == 0
    with stopped(engine_core(serving)):
        wait_until(lambda: attempt(serving, state)[0] == 1, "the probe to fail", timeout=30)
        code, why = attempt(serving, state)
        assert (code, why.split(",")[0]) == (1, "engine 0 has 3 requests running")
        assert serving.get("/health") == ""
    wait_until(lambda: attempt(serving, state)[0] == 0, "the probe to be content", timeout=30)


def test_an_idle_engine_is_left_alone(serving: Server, tmp_path: Path) -> None:
    assert watched(serving, tmp_path / "state", 2 * BUDGET) == []
