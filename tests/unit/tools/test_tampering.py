"""Pods of the node agent that are slowed down or killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcluster.tampering import kill, slow

# The real engine, which alone is slowed and killed in this way, is built for Linux alone.
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    name = f"pod-{uuid.uuid4().hex}"
    with subprocess.Popen(["sleep", "60"], env={"HOSTNAME": name, "HOME": str(tmp_path)}) as found:
        yield name, found
        found.kill()


def test_a_pod_is_killed_by_its_first_process(pod: tuple[str, subprocess.Popen[bytes]]) -> None:
    name, process = pod
    kill(name)
    assert process.wait(10) == -signal.SIGKILL


def test_a_pod_is_slower_from_when_its_home_says_so(
    pod: tuple[str, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    slow(pod[0])
    assert (tmp_path / "slower").exists()


def test_a_pod_that_is_not_there_is_not_hurt() -> None:
    with pytest.raises(ProcessLookupError, match="no process of pod-that-is-gone"):
        kill("pod-that-is-gone")
