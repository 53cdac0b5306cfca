"""The agents of a cluster, each a process of its own: started, paused, lost, and back again."""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from localcluster.agent.images import Image
from localcluster.agent.settings import Settings
from localcluster.errors import LocalClusterError
from localcluster.processes import Processes

_TOOLS = Path(__file__).resolve().parents[1]
ANNOTATION = "localcluster.vllm-operator.io/node"


class Agents:
    """By the names of their nodes."""

    def __init__(
        self,
        processes: Processes,
        directory: Path,
        logs: Path,
        *,
        server: str,
        token: str,
        authority: Path,
        lease_seconds: float,
    ) -> None:
        self._processes = processes
        self._directory = directory
        self._logs = logs
        self._access: dict[str, Any] = {
            "server": server,
            "token": token,
            "authority": str(authority),
            "lease_seconds": lease_seconds,
        }
        self._files: dict[str, Path] = {}

    def add(self, node: dict[str, Any], images: Sequence[Image], speed: float) -> None:
        """Starts the agent of a node that is to be registered."""
        name: str = node["metadata"]["name"]
        node = {**node, "metadata": {**node["metadata"], "annotations": {ANNOTATION: "agent"}}}
        settings = Settings(
            node=node,
            logs=str(self._logs / "pods"),
            volumes=str(self._directory / "volumes"),
            images=tuple(images),
            speed=speed,
            **self._access,
        )
        (self._logs / "pods").mkdir(exist_ok=True)
        self._files[name] = self._directory / f"agent-{name}.json"
        settings.write(self._files[name])
        self.start(name)

    def start(self, name: str) -> None:
        """Starts an agent, also one that was stopped: its pods' containers are started again."""
        command = [sys.executable, "-m", "localcluster.agent", str(self._file(name))]
        self._processes.start(_process(name), ["env", f"PYTHONPATH={_TOOLS}", *command])

    def stop(self, name: str) -> None:
        """The machine is gone: the agent and all its pods' processes are killed.

        Does nothing where it is stopped already.
        """
        self._file(name)
        if _process(name) in self._processes.pids:
            self._processes.stop(_process(name), timeout=0)

    def pause(self, name: str) -> None:
        """The kubelet hangs, or its network is cut: processes run on, nothing is reported."""
        os.kill(self._pid(name), signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """After `pause`."""
        os.kill(self._pid(name), signal.SIGCONT)

    def _pid(self, name: str) -> int:
        self._file(name)
        return self._processes.pids[_process(name)]

    def _file(self, name: str) -> Path:
        if name not in self._files:
            raise LocalClusterError(f"{name} is no node of an agent; those are {[*self._files]}")
        return self._files[name]


def _process(name: str) -> str:
    return f"agent-{name}"
