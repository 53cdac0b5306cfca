"""The parent of one cluster's processes; run as a script, never imported by the library.

It takes one JSON command a line on standard input and answers with one JSON line. Its owner holds
the only writing end of that pipe, so end of file means that the owner is gone, however it ended
(SIGKILL runs no clean-up code): then it kills what it started, removes the cluster's directory and
exits. Should the supervisor itself be killed, the kernel kills its children (PR_SET_PDEATHSIG;
Linux only), which is reliable here because this process has a single thread: the signal is tied to
the thread that forked. Standard library only, so that it starts in 30 ms under `python -I -S`.

Where it is started in namespaces of its own (`unshare`), it is their first process: they end with
it, and processes that lose their parent in them are its to reap.

Commands: {"start": name, "command": [...], "log": path} -> {"pid": n}, as it counts
          {"run": [...], "timeout": seconds}              -> {"code": n, "output": text}
          {"poll": name}                                  -> {"code": n or null}
          {"stop": name, "timeout": seconds}              -> {"code": n}
An answer {"error": text} says that the command failed.
"""

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from types import FrameType

_PR_SET_PDEATHSIG = 1


def _die_with_parent(parent: int, prctl: "ctypes._NamedFuncPointer | None") -> None:
    """Runs in the child between fork and exec."""
    os.setsid()
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call took effect
            os._exit(1)


class Supervisor:
    """Its processes by name, each the leader of its own session."""

    def __init__(self) -> None:
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def start(self, name: str, command: list[str], log: str) -> dict[str, object]:
        """Starts a process; its output is appended to the log."""
        parent = os.getpid()
        with open(log, "ab") as output:
            self.processes[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Safe: this process has one thread.
                preexec_fn=lambda: _die_with_parent(parent, self.prctl),
            )
        return {"pid": self.processes[name].pid}

    def run(self, command: list[str], timeout: float) -> dict[str, object]:
        """Runs a command to its end."""
        owner = select.poll()
        owner.register(0, select.POLLHUP)
        deadline = time.monotonic() + timeout
        with (
            open(os.memfd_create("output"), "w+", errors="replace") as output,
            subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            ) as process,
        ):
            while process.poll() is None:
                if owner.poll(10):  # ms
                    process.kill()
                    raise SystemExit(0)
                if time.monotonic() > deadline:
                    process.kill()
                    raise subprocess.TimeoutExpired(command, timeout)
            output.seek(0)
            return {"code": process.returncode, "output": output.read()}

    def reap(self) -> None:
        """Buries the dead that are nobody's, as the first process of a namespace has to."""
        while True:
            for process in self.processes.values():
                process.poll()
            try:
                dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if dead is None or any(one.pid == dead.si_pid for one in self.processes.values()):
                return  # one of its own, which has just ended: the next command's to find
            os.waitpid(dead.si_pid, 0)

    def poll(self, name: str) -> dict[str, object]:
        """Whether a process has ended, and how."""
        return {"code": self.processes[name].poll()}

    def stop(self, name: str, timeout: float) -> dict[str, object]:
        """SIGTERM, then SIGKILL to the whole session; a timeout of 0 is SIGKILL at once."""
        process = self.processes.pop(name)
        if timeout > 0:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout)
        _kill(process)
        return {"code": process.wait()}

    def handle(self, line: str) -> dict[str, object]:
        """Carries out one command."""
        request = json.loads(line)
        if os.getpid() == 1:
            self.reap()
        try:
            if "run" in request:
                return self.run(request["run"], request["timeout"])
            if "start" in request:
                return self.start(request["start"], request["command"], request["log"])
            if "poll" in request:
                return self.poll(request["poll"])
            return self.stop(request["stop"], request["timeout"])
        except (OSError, KeyError, subprocess.TimeoutExpired) as error:
            return {"error": f"{type(error).__name__}: {error}"}

    def end(self) -> None:
        """Kills all processes and waits until they are gone."""
        for process in self.processes.values():
            _kill(process)
        for process in self.processes.values():
            process.wait()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kills the process's whole session, so that what it started goes with it."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


def main(directory: str) -> None:
    """Serves commands until standard input ends, then leaves nothing behind."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the owner's Ctrl-C is the owner's to handle
    signal.signal(signal.SIGTERM, _interrupt)
    supervisor = Supervisor()
    try:
        for line in sys.stdin:
            print(json.dumps(supervisor.handle(line)), flush=True)
    except BrokenPipeError:
        pass
    finally:
        supervisor.end()
        for _ in range(40):
            shutil.rmtree(directory, ignore_errors=True)
            if not os.path.exists(directory):
                break
            time.sleep(0.1)  # a node that has just died may have written something meanwhile
        sys.stdout = None  # flushing a broken pipe at exit would complain


if __name__ == "__main__":
    main(sys.argv[1])
