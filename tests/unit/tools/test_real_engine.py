"""How the real engine's environments are installed: once, whole, and by one process at a time."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from filelock import FileLock

from localcluster.waiting import wait_until
from realengine import environments
from realengine.environments import SERVING, Lock, ensure, installed
from realengine.errors import InstallError

SMALL = Lock("serve", SERVING.version, gibibytes=0, python_below=(4, 0))

# Makes the folder as `uv venv` does, and notes every call.
UV = """\
#!/bin/sh
echo "$*" >> "{calls}"
{failure}
if [ "$1" = venv ]; then for last; do :; done; mkdir -p "$last/bin"; touch "$last/fresh"; fi
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return pretended(tmp_path, monkeypatch)


def pretended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: str = "") -> Path:
    """A ``uv`` that only writes down what it was asked for."""
    notes, uv = tmp_path / "calls", tmp_path / "uv"
    notes.touch()
    uv.write_text(UV.format(calls=notes, failure=failure))
    uv.chmod(0o755)
    monkeypatch.setattr(environments, "_uv", lambda: str(uv))
    return notes


def test_an_environment_is_installed_once(tmp_path: Path, calls: Path) -> None:
    first = ensure(SMALL, tmp_path)
    made = calls.read_text()
    assert ensure(SMALL, tmp_path) == first
    assert calls.read_text() == made


def test_only_what_the_lock_has_hashes_for_is_installed(tmp_path: Path, calls: Path) -> None:
    ensure(SMALL, tmp_path)
    (synced,) = [line for line in calls.read_text().splitlines() if line.startswith("pip sync")]
    assert "--require-hashes" in synced
    assert synced.endswith(str(SMALL.path))


def test_an_interrupted_installation_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretended(tmp_path, monkeypatch, failure='[ "$2" = sync ] && exit 9')
    with pytest.raises(InstallError, match="ended with status 9"):
        ensure(SMALL, tmp_path)
    assert installed(SMALL, tmp_path) is None
    pretended(tmp_path, monkeypatch)
    assert ensure(SMALL, tmp_path) == installed(SMALL, tmp_path)


def test_what_an_interrupted_installation_left_is_removed(tmp_path: Path, calls: Path) -> None:
    directory = ensure(SMALL, tmp_path).directory
    (directory / environments._WHOLE).unlink()
    (directory / "half").touch()
    ensure(SMALL, tmp_path)
    assert not (directory / "half").exists()


def test_a_second_process_waits_for_the_first(
    tmp_path: Path, calls: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    directory = ensure(SMALL, tmp_path).directory
    (directory / environments._WHOLE).unlink()
    with FileLock(tmp_path / f"{directory.name}.lock"):
        second = threading.Thread(target=ensure, args=(SMALL, tmp_path))
        second.start()
        wait_until(lambda: "waiting for it" in capfd.readouterr().err, "the second to say so")
        (directory / environments._WHOLE).touch()  # the first is done
        asked = calls.read_text()
    second.join()
    assert calls.read_text() == asked


def test_a_full_disk_is_said_before_anything_is_fetched(
    tmp_path: Path, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=3 * environments.GIBIBYTE)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    with pytest.raises(InstallError, match=r"takes 5\.8 GiB .* where 3\.0 GiB are free"):
        ensure(SERVING, tmp_path)
    assert calls.read_text() == ""


def test_another_python_has_another_environment() -> None:
    assert SERVING.key("3.11.9 (main)") == SERVING.key("3.11.2 (main)")
    assert SERVING.key("3.11.9 (main)") != SERVING.key("3.12.1 (main)")


def test_another_machine_has_another_environment() -> None:
    assert SERVING.key(machine="x86_64") != SERVING.key(machine="aarch64")


def test_no_lock_names_an_index() -> None:
    for path in environments.LOCKS.iterdir():
        assert "://" not in path.read_text(), path


def test_what_the_shell_says_of_vllm_does_not_reach_it(
    tmp_path: Path, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "40")
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    variables = ensure(SMALL, tmp_path).variables()
    assert "VLLM_CPU_KVCACHE_SPACE" not in variables
    assert variables["PYTHONPATH"] == str(environments.SITE)
    assert variables["PATH"] == os.environ["PATH"]


def test_an_engine_that_waits_sleeps() -> None:
    script = "import os, time; start = time.monotonic(); os.sched_yield()"
    script += "; print(time.monotonic() - start)"
    waited = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(environments.SITE)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(waited.stdout) >= 0.0001
