"""Processes: started through a supervisor of the agent's own, so that none outlives it."""

import asyncio
import contextlib
import os
import signal
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from localcluster.processes import Processes


class Running:
    """A process that was started; `returncode` as a shell counts: 128 and the signal's number."""

    def __init__(self, processes: Processes, name: str) -> None:
        self._processes = processes
        self._name = name
        self.pid = processes.pids[name]
        self.log = processes.log(name)
        self.ended = asyncio.Event()
        self.returncode: int | None = None
        # Readable when the process has ended, which nobody has to ask for again and again.
        self._descriptor = os.pidfd_open(self.pid)
        asyncio.get_running_loop().add_reader(self._descriptor, self._end)

    def _end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        # What it started ends with it, as with the first process of a container. Before it is
        # waited for: until then nobody else can have its number.
        self.kill()
        code = self._processes.poll(self._name)
        assert code is not None
        self._processes.stop(self._name, 0)
        self.returncode = code if code >= 0 else 128 - code
        self.ended.set()

    def terminate(self) -> None:
        """SIGTERM to the first process, as a kubelet sends it."""
        if not self.ended.is_set():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to all of it."""
        if not self.ended.is_set():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def memory_bytes(self) -> int:
        """Resident memory that no file backs, of the process and all below it."""
        page = os.sysconf("SC_PAGE_SIZE")
        total, pids = 0, [self.pid]
        while pids:
            pid = pids.pop()
            with contextlib.suppress(OSError, ValueError):
                resident, shared = Path(f"/proc/{pid}/statm").read_text().split()[1:3]
                total += (int(resident) - int(shared)) * page
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
                pids += [int(child) for child in children.split()]
        return total


class Runtime:
    """Starts processes, with files in `scratch`, which goes when the agent does."""

    def __init__(self, logs: Path) -> None:
        # A short path: what is below it holds sockets, whose paths have at most 107 bytes.
        self.scratch = Path(tempfile.mkdtemp(prefix="lc-"))
        self._processes = Processes(self.scratch, logs)
        self._count = 0

    def close(self) -> None:
        """Kills everything and removes `scratch`."""
        self._processes.close()

    def start(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], directory: Path
    ) -> Running:
        """Starts a command; its output goes to the log of that name, a path without suffix."""
        self._processes.log(name).parent.mkdir(parents=True, exist_ok=True)
        variables = [f"{key}={value}" for key, value in environment.items()]
        self._processes.start(name, ["env", "-i", "-C", str(directory), *variables, *command])
        return Running(self._processes, name)

    async def run(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        directory: Path,
    ) -> tuple[int, str]:
        """Exit code and output of a command (probes, hooks); it is killed if this is cancelled."""
        self._count += 1
        running = self.start(f"exec-{self._count}", command, environment, directory)
        try:
            await running.ended.wait()
        finally:
            running.kill()
            output = running.log.read_text(errors="replace")
            running.log.unlink(missing_ok=True)
        assert running.returncode is not None
        return running.returncode, output
