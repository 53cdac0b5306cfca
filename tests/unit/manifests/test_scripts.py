"""The scripts that run in the engine's container, step by step and without waiting."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vllm_operator.manifests import probes


def loaded(name: str) -> Any:
    path = Path(probes.__file__).parent / "scripts" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


drain, group, liveness = loaded("drain"), loaded("group"), loaded("liveness")


class Replaced(Exception):
    """The process has become another command."""


class Node:
    """Where a group's script runs: notes what it does, and counts nodes of Ray as they come."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.did: list[Any] = []
        self.joined = [[True], [True, False], [True, True]]
        self.refused = 0
        ray = SimpleNamespace(
            init=lambda **given: self.did.append(("init", given["address"])),
            nodes=lambda: [{"Alive": alive} for alive in self.joined.pop(0)],
            shutdown=lambda: self.did.append("shutdown"),
        )
        monkeypatch.setattr(importlib, "import_module", lambda _name: ray)
        monkeypatch.setattr(group.subprocess, "run", self.run)
        monkeypatch.setattr(group.os, "execvp", self.become)
        monkeypatch.setattr(group.time, "sleep", lambda seconds: self.did.append(seconds))
        monkeypatch.setattr(group.socket, "create_connection", self.connect)

    def run(self, command: list[str], *, check: bool = False) -> None:
        self.did.append(command)
        if check and "fails" in command[-1]:
            raise subprocess.CalledProcessError(1, command)

    def become(self, file: str, command: list[str]) -> None:
        assert file == command[0]
        self.did.append(command)
        raise Replaced

    def connect(self, address: tuple[str, int], timeout: float) -> Any:
        self.did.append((address, timeout))
        if self.refused:
            self.refused -= 1
            raise ConnectionRefusedError
        return SimpleNamespace(close=lambda: self.did.append("close"))


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Node:
    return Node(monkeypatch)


def test_a_leader_waits_for_all_nodes_that_live_and_becomes_the_engine(node: Node) -> None:
    with pytest.raises(Replaced):
        group.main({"role": "leader", "nodes": 2, "port": 6379}, ["vllm", "serve"])
    head = ["ray", "start", "--head", "--port=6379"]
    assert node.did == [head, ("init", "auto"), 2, 2, "shutdown", ["vllm", "serve"]]


def test_a_leader_whose_ray_does_not_start_ends(node: Node) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        group.main({"role": "leader", "nodes": 2, "port": "fails"}, ["vllm"])
    assert len(node.did) == 1


def test_a_worker_waits_for_the_leader_s_port_and_joins(node: Node) -> None:
    node.refused = 1
    with pytest.raises(Replaced):
        group.main({"role": "worker", "address": "lead", "port": 6379}, [])
    asked = (("lead", 6379), 5)
    joins = ["ray", "start", "--address=lead:6379", "--block"]
    assert node.did == [asked, 2, asked, "close", joins]


NAMES = ["vllm:num_requests_running", "vllm:num_requests_waiting"]


@pytest.mark.parametrize(
    ("text", "busy"),
    [
        ('vllm:num_requests_running{engine="0"} 1.0', True),
        ("vllm:num_requests_waiting 2", True),
        ('vllm:num_requests_running{engine="0"} 0.0\nvllm:num_requests_waiting 0.0', False),
        ('vllm:num_requests_running{engine="0"} 0\nvllm:num_requests_running{engine="1"} 3', True),
        ("vllm:num_requests_running_total 5", False),
        ("# HELP vllm:num_requests_running 5", False),
        ("", False),
    ],
)
def test_an_engine_is_busy_while_a_request_runs_or_waits(text: str, busy: bool) -> None:
    assert drain.is_busy(text, NAMES) is busy


class Hook:
    """The time in which a pod drains, and what its engine answers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *texts: str | Exception) -> None:
        self.now, self.slept, self.asked = 100.0, list[float](), list[Any]()
        self.texts = list(texts)
        monkeypatch.setattr(drain.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(drain.time, "sleep", self.sleep)
        monkeypatch.setattr(drain.http.client, "HTTPConnection", self.connection)
        drain.main({"pause": 5, "seconds": 2.5, "port": 8000, "names": NAMES})

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def connection(self, host: str, port: int, timeout: float) -> Any:
        text = self.texts.pop(0) if len(self.texts) > 1 else self.texts[0]
        self.asked.append((host, port, timeout))
        if isinstance(text, Exception):
            raise text
        answer = SimpleNamespace(read=text.encode)
        return SimpleNamespace(
            request=lambda method, path: self.asked.append((method, path)),
            getresponse=lambda: answer,
            close=lambda: None,
        )


BUSY, IDLE = "vllm:num_requests_running 1", "vllm:num_requests_running 0"


def test_a_pod_pauses_first_so_that_load_balancers_learn_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hook = Hook(monkeypatch, IDLE)
    assert hook.slept == [5]
    assert hook.asked == [("127.0.0.1", 8000, 5), ("GET", "/metrics")]


def test_a_busy_pod_is_asked_every_second_until_it_is_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Hook(monkeypatch, BUSY, IDLE).slept == [5, 1.0]


def test_a_pod_drains_no_longer_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Hook(monkeypatch, BUSY).slept == [5, 1.0, 1.0, 0.5]


def test_an_engine_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Hook(monkeypatch, ConnectionRefusedError()).slept == [5]


def test_an_engine_that_answers_too_slowly_has_not_answered(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    alarms: list[int] = []
    handlers: dict[int, Any] = {}
    monkeypatch.setattr(liveness.signal, "alarm", alarms.append)
    monkeypatch.setattr(liveness.signal, "signal", handlers.__setitem__)

    def hang(*_: Any, **_options: Any) -> None:
        handlers[liveness.signal.SIGALRM]()

    monkeypatch.setattr(liveness.http.client, "HTTPConnection", hang)
    given = {"port": 1, "running": "r", "moving": [], "patience": 7, "gap": 60, "budget": 300}
    assert liveness.main({**given, "state": str(tmp_path / "state")}) == 0
    assert alarms == [7, 0]
    assert (tmp_path / "state").exists()
