"""`vllm serve MODEL …`, played."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

from scriptedengine import plays, serving

_MIB = 2**20


def _say(text: str) -> None:
    os.write(1, text.encode())


def _bad_start(variables: Mapping[str, str]) -> bool:
    """Whether this start is one of those that play; counts starts in the file that is named."""
    path, _, most = variables.get("SCRIPTED_BAD_STARTS", "").rpartition(":")
    if not path:
        return True
    file = Path(path)
    count = int(file.read_text()) + 1 if file.exists() else 1
    file.write_text(str(count))
    return count <= int(most)


def _end(play: plays.Play) -> int:
    """How it ends after its last words."""
    if play.end == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif play.end == "memory":
        # Faster than the agent looks, slower than a machine runs out: at most 8 GiB.
        held = []
        for _ in range(256):
            held.append(bytearray(32 * _MIB))
            time.sleep(0.05)
        _say("nobody has killed this process: give its container a memory limit below 8Gi\n")
    elif play.end == "hang":
        threading.Event().wait()
    return play.exit


def main(arguments: list[str]) -> int:
    """Plays; the exit status."""

    def terminated(_signal: int, _frame: FrameType | None) -> None:
        _say("(APIServer pid=1) INFO [launcher.py:254] [shutdown] API server: shutdown triggered\n")
        os._exit(0)

    variables = os.environ
    if arguments[:1] != ["serve"]:
        _say(f"vllm: error: the scripted engine knows `vllm serve`, not {arguments[:1]}\n")
        return 2
    command = plays.parse(arguments[1:])
    play = plays.chosen(command, variables) if _bad_start(variables) else None
    given = plays.values(command, variables, time.strftime("%m-%d %H:%M:%S"))
    _say(plays.before(play, given))
    if play is None or play.frame != "parser":
        time.sleep(float(given["boot_seconds"]))
    if play is not None:
        if play.frame:
            _say(plays.failure(play, given))
        return _end(play)
    signal.signal(signal.SIGTERM, terminated)
    engine = serving.Engine(command, variables)
    server = serving.serve(engine, given["host"], int(given["port"]))
    _say(plays.ready(command, variables, given))
    server.serve_forever()
    return 0


def first(arguments: list[str]) -> int:
    """Plays in a process below this one, passes signals on to it, and ends as it ends.

    The first process of a container cannot be killed from inside, not even by itself, and SIGTERM
    does nothing to it unless it asks for it. What plays is an ordinary process therefore, and one
    that a signal has ended becomes an exit status, as a shell counts: 137 for SIGKILL. A kubelet
    shows that status with the reason Error, as it does where somebody kills the container.
    """
    player = os.fork()
    if player == 0:
        return main(arguments)

    def pass_on(number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(player, number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    code = os.waitstatus_to_exitcode(os.waitpid(player, 0)[1])
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(first(sys.argv[1:]))
