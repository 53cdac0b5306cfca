"""A real `vllm serve` on this machine, started, asked and stopped."""

import json
import re
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from localcluster.processes import LOOPBACK, Processes, ReservedPort
from localcluster.waiting import wait_until
from realengine.environments import Environment
from realengine.errors import ServerFailed

NAME = "vllm"
_MARK = re.compile(r"\(\w+ pid=\d+\) ")


class Server:
    """`command` (`vllm serve MODEL …`) with an environment's vLLM, on a port of its own.

    As a context manager: entering returns when `/health` answers, leaving stops it. It ends with
    its owner, however that ends. Its `--host` and `--port` are this class's to give, `variables`
    are of its processes beside those of the environment.
    """

    def __init__(
        self,
        environment: Environment,
        command: Sequence[str],
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self._environment = environment
        self._command = list(command)
        self._variables = dict(variables or {})
        self._directory = Path(tempfile.mkdtemp(prefix="vllm-"))
        self._logs = Path(tempfile.mkdtemp(prefix="vllm-log-"))
        self._port = ReservedPort()
        self._processes: Processes | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{LOOPBACK}:{self._port.number}"

    @property
    def log(self) -> str:
        """What it has printed, without the marks of its processes."""
        path = self._logs / f"{NAME}.log"
        return _MARK.sub("", path.read_text(errors="replace")) if path.exists() else ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def start(self, timeout: float = 240) -> None:
        """Starts it and waits for `/health`. Raises ServerFailed, with the log's end."""
        processes = Processes(self._directory, self._logs)
        self._processes = processes
        given = {**self._environment.variables(), **self._variables}
        variables = [f"{name}={value}" for name, value in given.items()]
        program, *arguments = self._command
        if program != "vllm":
            raise ValueError(f"a command of vllm, not of {program}")
        where = ["--host", LOOPBACK, "--port", str(self._port.number)]
        vllm = str(self._environment.vllm)
        processes.start(NAME, ["env", "-i", *variables, vllm, *arguments, *where])
        try:
            wait_until(self._healthy, "vLLM's /health", timeout=timeout, interval=0.25)
        except (TimeoutError, ServerFailed) as problem:
            end = processes.tail(NAME, 40)
            self.close()
            raise ServerFailed(f"{problem}\n{end}") from problem

    def stop(self, timeout: float = 60) -> None:
        """SIGTERM, and SIGKILL where it has not ended after `timeout` seconds."""
        if self._processes is not None:
            self._processes.stop(NAME, timeout)

    def close(self) -> None:
        """Ends it and removes what it left."""
        if self._processes is not None:
            self._processes.close()
        self._port.close()
        shutil.rmtree(self._logs, ignore_errors=True)

    def get(self, path: str) -> str:
        """The answer's body; urllib.error.HTTPError where the status is 400 or above."""
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            body: bytes = answer.read()
        return body.decode()

    def post(self, path: str, body: object, timeout: float = 60) -> Any:
        """The JSON that answers a JSON body; TimeoutError where nothing comes for so long."""
        request = urllib.request.Request(
            self.url + path,
            data=json.dumps(body).encode(),
            headers={"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return json.load(answer)

    def _healthy(self) -> bool:
        assert self._processes is not None
        code = self._processes.poll(NAME)
        if code is not None:
            raise ServerFailed(f"vLLM ended with status {code}")
        try:
            self.get("/health")
        except (urllib.error.URLError, OSError):
            return False
        return True
