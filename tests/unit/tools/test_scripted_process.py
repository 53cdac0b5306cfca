"""The scripted engine as a process of its own, as the image of a real container holds it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from localcluster.waiting import wait_until

ROOT = Path(__file__).parents[3]
ENGINE = [sys.executable, "-S", "-m", "scriptedengine"]
FIRST_PROCESS = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an image holds of this checkout, and no more."""
    root = tmp_path_factory.mktemp("image")
    package, tables = Path("tools/scriptedengine"), Path("operator/vllm_operator/engine")
    shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("images.py"))
    (root / tables).mkdir(parents=True)
    for table in (ROOT / tables).glob("*.csv"):
        shutil.copy(table, root / tables)
    return root


@contextmanager
def played(
    image: Path, *arguments: str, through: Sequence[str] = (), **variables: str
) -> Iterator[subprocess.Popen[str]]:
    """The engine with nothing in its environment but what an image sets."""
    process = subprocess.Popen(
        [*through, *ENGINE, *arguments],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(image / "tools"), **variables},
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.communicate(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", 0))
        return int(probe.getsockname()[1])


def answers(address: str, port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_it_listens_on_every_address_as_vllm_does_without_a_host(image: Path) -> None:
    port = free_port()
    with played(image, "serve", "org/model", "--port", str(port)) as process:
        # What a service or a kubelet asks is not the address of the engine's own probes.
        wait_until(lambda: answers("127.0.0.2", port), "an answer")
        process.terminate()
        output, _ = process.communicate(timeout=10)
    assert f"Starting vLLM server on http://0.0.0.0:{port}" in output
    assert "shutdown triggered" in output
    assert process.returncode == 0


@pytest.mark.parametrize("through", [(), FIRST_PROCESS], ids=["any process", "process 1"])
def test_an_engine_that_is_killed_ends_so_also_as_the_first_process(
    image: Path, through: Sequence[str]
) -> None:
    refused = through and subprocess.run([*through, "true"], capture_output=True, check=False)
    if refused and refused.returncode:
        # Only what `unshare` makes is a first process; some containers forbid that to everybody.
        pytest.skip(f"this machine gives no namespaces: {refused.stderr.decode().strip()}")
    with played(image, "serve", "org/model", through=through, SCRIPTED_PLAY="killed") as process:
        process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGKILL


def test_an_engine_that_hangs_while_it_starts_ends_at_sigterm_as_a_process_does(
    image: Path,
) -> None:
    with played(image, "serve", "org/model", SCRIPTED_PLAY="hang") as process:
        assert process.stdout is not None
        wait_until(lambda: "Loading" in process.stdout.readline(), "the engine to load")
        process.terminate()
        process.communicate(timeout=10)
    assert process.returncode == 128 + signal.SIGTERM
