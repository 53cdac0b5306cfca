"""What is made into the user's cache: by one process at a time, with a word on the terminal."""

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from localcluster.errors import BuildError


def say(text: str) -> None:
    """A line for people, on standard error, so that `$(python -m localcluster path …)` works."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def alone(lock_file: Path, doing: str) -> Iterator[None]:
    """Holds the lock, and says `doing` of the other process where it has to wait for it."""
    lock = FileLock(lock_file)
    try:
        lock.acquire(timeout=0.1)
    except Timeout:
        say(f"another process is {doing}: waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def run_with_progress(
    command: list[str], directory: Path, environment: Mapping[str, str], log: Path, label: str
) -> None:
    """Runs it with its output in the log; BuildError with the log's tail where it fails."""
    started = time.monotonic()
    interactive = sys.stderr.isatty()
    said = started
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=directory, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            while True:
                try:
                    code = process.wait(timeout=1)
                    break
                except subprocess.TimeoutExpired:
                    now = time.monotonic()
                    if interactive:
                        print(f"\r{label}: {now - started:.0f} s", end="", file=sys.stderr)
                    elif now - said >= 30:
                        said = now
                        say(f"{label}: {now - started:.0f} s")
        except BaseException:
            process.kill()
            process.wait()
            raise
    if interactive:
        print(file=sys.stderr)
    if code != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
        raise BuildError(f"{label} failed with status {code}; the log is {log}:\n{tail}")
    say(f"{label}: done in {time.monotonic() - started:.0f} s")
