"""The operator as a process of its own, under its chart's rights, on a local cluster."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from localcluster.cluster import Cluster
from localcluster.waiting import wait_until

from .forked import Forked

SOURCE_ROOT = Path(__file__).parents[2] / "operator"
SERVERS = "/apis/vllm-operator.io/v1alpha1"


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class OperatorProcess:
    """``vllm-operator run``; ``options`` are its flags without the dashes.

    ``through``: a command that becomes it, such as ``env -u HOME``. ``python``: the interpreter's
    own options. ``module`` is run in place of ``vllm_operator``, with the same command line.
    ``forked``: where neither is given, it starts from a process that has imported it already.
    """

    def __init__(
        self,
        cluster: Cluster,
        kubeconfig: Path,
        log: Path,
        environment: dict[str, str] | None = None,
        through: Sequence[str] = (),
        python: Sequence[str] = (),
        module: str = "vllm_operator",
        forked: bool = False,
        **options: Any,
    ) -> None:
        self.cluster = cluster
        self.kubeconfig = kubeconfig
        self.log = log
        self.port = free_port()
        defaults = {
            "hub": False,
            "listen": f"127.0.0.1:{self.port}",
            "log_format": "text",
            "log_level": "debug",
        }
        self._options = {**defaults, **options}
        self._environment = environment or {}
        self._through = through
        self._python = python
        self._module = module
        self._forked = forked and not through and not python
        self._process: subprocess.Popen[bytes] | Forked | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            error.add_note(f"operator's log:\n{self.log.read_text()[-4000:]}")
        self.kill()

    def become(self, module: str, environment: dict[str, str]) -> None:
        """Run another module with these variables from its next start on."""
        self._module, self._environment = module, environment

    def start(self, *, wait: bool = True) -> None:
        """Start it, and wait until it acts (or, of several, until it listens)."""
        flags = [
            f"--{name.replace('_', '-')}={str(value).lower() if isinstance(value, bool) else value}"
            for name, value in self._options.items()
        ]
        environment = {
            **os.environ,
            "PYTHONPATH": str(SOURCE_ROOT),
            "KUBECONFIG": str(self.kubeconfig),
            **self._environment,
        }
        environment.pop("KUBERNETES_SERVICE_HOST", None)
        # What was imported is this tree.
        here = environment["PYTHONPATH"].split(os.pathsep)[0] == str(SOURCE_ROOT)
        if self._forked and here:
            self._process = Forked(self._module, ["run", *flags], environment, self.log)
        else:
            with self.log.open("ab") as output:
                self._process = subprocess.Popen(
                    [
                        *(*self._through, sys.executable, *self._python),
                        *("-m", self._module, "run", *flags),
                    ],
                    stdout=output,
                    stderr=output,
                    env=environment,
                )
        if wait:
            wait_until(self.ready, "the operator to be ready", timeout=60)

    @property
    def pid(self) -> int:
        """Process id of the running operator."""
        assert self._process is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit status, None while it runs."""
        assert self._process is not None
        return self._process.poll()

    def ready(self) -> bool:
        """Whether /readyz says ok. Raises where the process has ended."""
        if self._process is not None and self._process.poll() is not None:
            raise AssertionError(f"the operator ended:\n{self.log.read_text()[-4000:]}")
        return self.get("/readyz") == "ok\n"

    def get(self, path: str) -> str | None:
        """What its own HTTP server answers; None where it does not."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return str(answer.read().decode())
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return None

    def metric(self, name: str) -> float:
        """Sum of a metric over its labels."""
        text = self.get("/metrics") or ""
        lines = [line for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def terminate(self, timeout: float = 30) -> int:
        """SIGTERM; its exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout)

    def kill(self) -> None:
        """SIGKILL, where it still runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(10)
