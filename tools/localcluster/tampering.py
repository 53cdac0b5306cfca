"""Hurts the processes of a pod of the node agent: slows them down, or ends them."""

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

TURN_SECONDS = 0.01


def processes_of(pod: str) -> list[int]:
    """Process ids of a pod's containers, whose HOSTNAME is its name, and of their descendants,
    which may have overwritten what says so."""
    wanted = f"HOSTNAME={pod}".encode()
    parents, found = dict[int, int](), set[int]()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                number = int(folder.name)
                parents[number] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    found.add(number)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found)


def kill(pod: str) -> None:
    """SIGKILL to all of them."""
    for pid in processes_of(pod):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def engines_of(pod: str) -> list[int]:
    """Of these, what schedules and computes, and not what answers HTTP."""
    found = []
    for pid in processes_of(pod):
        with suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"VLLM::"):
                found.append(pid)
    return found


class Halved:
    """While entered, processes run half of the time only: stopped and continued by turns."""

    def __init__(self, pids: list[int]) -> None:
        self._pids, self._ended = pids, threading.Event()
        self._thread = threading.Thread(target=self._halve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _halve(self) -> None:
        try:
            while not self._ended.is_set():
                for sent in (signal.SIGSTOP, signal.SIGCONT):
                    self._send(sent)
                    time.sleep(TURN_SECONDS)
        finally:
            self._send(signal.SIGCONT)

    def _send(self, sent: signal.Signals) -> None:
        for pid in self._pids:
            with suppress(ProcessLookupError):
                os.kill(pid, sent)
