"""Processes under measurement: what they used, as Linux counts it, and how the naive one starts."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from localcluster.waiting import wait_until

NAIVE: Final = Path(__file__).with_name("naive_operator.py")
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory in bytes: now, and the most there ever was."""

    resident: int
    peak: int


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used, in user and in kernel mode."""
    # The name, in parentheses, may hold spaces; what follows it does not.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def memory(pid: int) -> Memory:
    """Resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    kib = {line.split()[0]: int(line.split()[1]) for line in lines if line.startswith("Vm")}
    return Memory(resident=kib["VmRSS:"] * 1024, peak=kib["VmHWM:"] * 1024)


def wait_calm(pids: Iterable[int], cores: float = 0.25, timeout: float = 120) -> None:
    """Wait until these processes together use less than so many cores for two seconds.

    One measurement must not pay for the garbage collection of the one before it. Gives up waiting,
    without an error, after ``timeout``: some machines are never calm.
    """
    watched = list(pids)
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        before = sum(cpu_seconds(pid) for pid in watched)
        time.sleep(2)
        if sum(cpu_seconds(pid) for pid in watched) - before < 2 * cores:
            return


class NaiveProcess:
    """``naive_operator.py`` as a process of its own."""

    def __init__(self, kubeconfig: Path, log: Path) -> None:
        self._kubeconfig = kubeconfig
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        environment = {**os.environ, "KUBECONFIG": str(self._kubeconfig)}
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, str(NAIVE)], stdout=output, stderr=output, env=environment
            )
        wait_until(self._acts, "the naive operator to act")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            error.add_note(f"the naive operator's log:\n{self._log.read_text()[-4000:]}")
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)

    @property
    def pid(self) -> int:
        """Process id."""
        assert self._process is not None
        return self._process.pid

    def _acts(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"the naive operator ended:\n{self._log.read_text()[-4000:]}")
        return "watching" in self._log.read_text()
