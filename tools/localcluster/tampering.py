"""Hurts the processes of a pod of the node agent: slows its engine down, or ends it."""

import os
import signal
from contextlib import suppress
from pathlib import Path


def _first_of(pod: str) -> tuple[int, dict[str, str]]:
    """Process id and variables of a container's first process, whose HOSTNAME is the pod's name.
    Raises ProcessLookupError."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                lines = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
                variables = dict(line.partition("=")[::2] for line in lines)
                if variables.get("HOSTNAME") == pod:
                    found.append((int(folder.name), variables))
    if not found:
        raise ProcessLookupError(f"no process of {pod}")
    return min(found)


def kill(pod: str) -> None:
    """SIGKILL, as when the kernel runs out of memory."""
    os.kill(_first_of(pod)[0], signal.SIGKILL)


def slow(pod: str) -> None:
    """From now on a step takes twice as long; see `realengine/site/pacedworker.py`."""
    Path(_first_of(pod)[1]["HOME"], "slower").touch()
