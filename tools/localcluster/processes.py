"""The owner's side of the supervisor: starts, polls and stops a cluster's processes by name."""

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from localcluster.errors import LocalClusterError

_SUPERVISOR = Path(__file__).with_name("supervisor.py")
LOOPBACK = "127.0.0.1"


class Processes:
    """Processes that end, with the directory, when this object's owner does.

    May be used from several threads. The pipe to the supervisor is not inherited by programs that
    the owner executes; a child that is only forked from it (multiprocessing's `fork`) does hold it
    and keeps the cluster alive as long as it lives.
    """

    def __init__(
        self,
        directory: Path,
        log_directory: Path,
        within: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`within` is a command that runs the supervisor elsewhere, `unshare` with namespaces."""
        self._directory = directory
        self._log_directory = log_directory
        self._lock = threading.Lock()
        self._supervisor = subprocess.Popen(
            [*within, sys.executable, "-I", "-S", str(_SUPERVISOR), str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=environment,
        )
        self.pids: dict[str, int] = {}

    @property
    def supervisor_pid(self) -> int:
        """The process that all others are below."""
        return self._supervisor.pid

    def log(self, name: str) -> Path:
        """Where a component's standard output and error go."""
        return self._log_directory / f"{name}.log"

    def start(self, name: str, command: list[str]) -> None:
        """Starts a component under this name; raises LocalClusterError if it cannot be run."""
        answer = self._ask({"start": name, "command": command, "log": str(self.log(name))})
        self.pids[name] = answer["pid"]

    def run(self, command: Sequence[str], timeout: float = 60) -> tuple[int, str]:
        """Runs a command to its end beside the components; its exit status and output."""
        answer = self._ask({"run": list(command), "timeout": timeout})
        return answer["code"], answer["output"]

    def check(self, command: Sequence[str], timeout: float = 60) -> str:
        """The same for a command that has to succeed; its output. Raises LocalClusterError."""
        code, output = self.run(command, timeout)
        if code != 0:
            raise LocalClusterError(f"{' '.join(command)} ended with {code}: {output.strip()}")
        return output

    def poll(self, name: str) -> int | None:
        """The exit status (negative: the signal) or None while it runs."""
        code: int | None = self._ask({"poll": name})["code"]
        return code

    def stop(self, name: str, timeout: float = 5) -> None:
        """SIGTERM, after `timeout` seconds SIGKILL; returns when the process is gone."""
        self._ask({"stop": name, "timeout": timeout})
        self.pids.pop(name, None)

    def dead(self) -> dict[str, int]:
        """Exit status of each component that has ended without being stopped."""
        codes = {name: self.poll(name) for name in list(self.pids)}
        return {name: code for name, code in codes.items() if code is not None}

    def tail(self, name: str, lines: int = 20) -> str:
        """The last lines of a component's log."""
        try:
            text = self.log(name).read_text(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def close(self) -> None:
        """Kills everything, removes the directory, and waits until both are done."""
        with self._lock:
            if self._supervisor.stdin is not None and not self._supervisor.stdin.closed:
                with contextlib.suppress(BrokenPipeError):
                    self._supervisor.stdin.close()
            self._supervisor.wait()
            if self._supervisor.stdout is not None:
                self._supervisor.stdout.close()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            stdin, stdout = self._supervisor.stdin, self._supervisor.stdout
            assert stdin is not None
            assert stdout is not None
            try:
                stdin.write(json.dumps(request) + "\n")
                stdin.flush()
                line = stdout.readline()
            except (BrokenPipeError, ValueError):
                line = ""
        if not line:
            raise LocalClusterError("the cluster is stopped: its supervisor is gone")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise LocalClusterError(answer["error"])
        return answer


class ReservedPort:
    """A TCP port of this machine that is kept for one component for the cluster's lifetime.

    On Linux a bound socket that does not listen, with SO_REUSEADDR, keeps the port from binds to
    port 0 and from outgoing connections of every process, while a server that sets SO_REUSEADDR, as
    Go's do, may listen on it, also after a restart. Elsewhere the port is only found here and let
    go, so a start may lose a race and has to be tried again.
    """

    def __init__(self, address: str = LOOPBACK) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((address, 0))
        self.number: int = self._socket.getsockname()[1]
        if sys.platform != "linux":
            self._socket.close()

    def close(self) -> None:
        """Lets the port go."""
        self._socket.close()
