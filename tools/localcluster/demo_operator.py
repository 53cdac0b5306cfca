"""The operator beside a local cluster, as the demos start it."""

import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from localcluster.demo_terminal import DemoError
from localcluster.processes import LOOPBACK, Processes, ReservedPort
from localcluster.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 120
"""How long a start may take where the machine has other work; without any it takes two seconds."""


class Operator:
    """The operator as a process of this machine, with the rights of its chart's account.

    Started by a supervisor of its own, so that it ends with this script, however that ends.
    ``module`` is run in place of ``vllm_operator``, with the same command line.
    """

    def __init__(
        self,
        kubeconfig: Path,
        logs: Path,
        module: str = "vllm_operator",
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self._port = ReservedPort()
        folder = Path(tempfile.mkdtemp(prefix="vllm-operator-demo-"))
        self._processes = Processes(folder, logs)
        self._command = [
            "/usr/bin/env",
            f"KUBECONFIG={kubeconfig}",
            f"PYTHONPATH={ROOT / 'operator'}:{ROOT / 'tools'}",
            # The Kubernetes client writes the CA into a file, and a kill leaves it behind.
            f"TMPDIR={folder}",
            *(f"{name}={value}" for name, value in (variables or {}).items()),
            *(sys.executable, "-m", module, "run"),
            f"--listen={LOOPBACK}:{self._port.number}",
            *("--hub=false", "--log-format=text"),
        ]

    @property
    def metrics_url(self) -> str:
        """Where its metrics are served."""
        return f"http://{LOOPBACK}:{self._port.number}/metrics"

    def start(self, *options: str) -> None:
        """Start it, and wait until it acts."""
        self._processes.start("operator", [*self._command, *options])
        wait_until(self._ready, "the operator to be ready", START_SECONDS)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._processes.pids["operator"]

    def forget(self) -> None:
        """Take note that it was killed."""
        self._processes.stop("operator")

    def close(self) -> None:
        """End it and forget it."""
        self._processes.close()
        self._port.close()

    def metric(self, name: str) -> float:
        """Sum of a metric over its labels; 0 where it does not answer."""
        try:
            with urllib.request.urlopen(self.metrics_url, timeout=5) as answer:
                text: str = answer.read().decode()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return 0.0
        lines = [line for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def _ready(self) -> bool:
        code = self._processes.poll("operator")
        if code is not None:
            tail = self._processes.tail("operator")
            raise DemoError("start of the operator", "a process that runs", f"{code}\n{tail}")
        return self.metric("vllm_operator_leader") == 1
