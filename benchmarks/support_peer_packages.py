"""Other planners as their own packages: installed apart, and asked for the same starts.

A package is told what the start was given, its GPU and the model's config.json. Each lies in an
environment of its own in the user's cache, under a name that holds a hash of its lock. A package
that cannot be had or asked costs its rows of the table, never the benchmark.

Of the planners in ``support_peers``, aiconfigurator and llm-d's are on the common package index.
``llm-optimizer`` (0.2.0 to 0.4.3) is another project there, a wrapper around clients of language
models that computes nothing of GPUs; so is ``vllm-optimizer`` (0.1.0a21), which finds arguments by
starting vLLM. KAITO is written in Go.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from support_peers import nominal_gib
from support_starts import LoggedStart

from realengine.environments import cache_directory
from vllm_operator.models.facts import ModelFacts

GIBIBYTE: Final = 1024**3
HERE: Final = Path(__file__).parent
TIMEOUT_SECONDS: Final = 300.0


class PackageUnavailable(Exception):
    """A package could not be installed or asked; the message says why."""


@dataclass(frozen=True, slots=True)
class Package:
    """A planner's distribution, locked in ``requirements-<name>.txt``."""

    name: str
    script: Path
    """Run by the environment's interpreter; questions in, answers out, both JSON."""
    installed_gib: float
    """What its environment takes on disk, measured."""

    @property
    def lock(self) -> Path:
        """The hashed requirements file."""
        return HERE / f"requirements-{self.name}.txt"


PACKAGES: Final = (
    Package("aiconfigurator", HERE / "ask_aiconfigurator.py", 0.6),
    Package("llm-d-planner", HERE / "ask_llm_d_planner.py", 0.2),
)

SYSTEMS: Final[Mapping[str, str]] = {
    "H100": "h100_sxm",
    "H200": "h200_sxm",
    "A100": "a100_sxm",
    "B200": "b200_sxm",
    "L40S": "l40s",
    "L4": "l4",
    "RTX PRO 6000": "rtx_pro_6000_server",
}
"""aiconfigurator's own names of GPUs (0.12.0, aiconfigurator_core/systems), by family."""

KINDS: Final[Mapping[str, str]] = {"native": "package", "fallback": "package, naive fallback"}
"""What a script answers with, and what the table says of it."""

REASONS: Final = (
    ("no queryable versions defined", "no measurements of vLLM on the GPU"),
    ("architecture", "unknown architecture"),
    ("Unsupported quant algorithm", "unknown quantisation"),
    ("no KV budget", "sees no room for a KV cache"),
    ("insufficient model metadata", "does not find the KV cache's shape in config.json"),
    ("quantised as it is loaded", "cannot quantise a checkpoint as it is loaded"),
    ("rope_parameters", "reads more of config.json than the catalogue keeps"),
)
"""What stands in a refusal (aiconfigurator 0.12.0, llm-d-planner 0.3.3), and what that means."""


@dataclass(frozen=True, slots=True)
class Planner:
    """What a package answered. Sizes are GiB of one GPU, by the start's id."""

    name: str
    kv_gib: Mapping[str, float]
    weights_gib: Mapping[str, float]
    """The package's own figure, where it states one."""
    refusals: Mapping[str, str]
    """The reason, for each start without an answer."""

    def reasons(self) -> dict[str, int]:
        """How many starts have no answer, by reason, the most frequent first."""
        return dict(Counter(self.refusals.values()).most_common())


def planners(
    package: Package,
    asked: Sequence[tuple[LoggedStart, ModelFacts]],
    cache: Path | None = None,
) -> list[Planner]:
    """What a package answers for these starts; it is installed where it is missing.

    Raises PackageUnavailable.
    """
    python = installed(package, cache or cache_directory())
    found = answers(package, python, [question(start, facts) for start, facts in asked])
    return read(package, [start.id for start, _ in asked], found)


def question(start: LoggedStart, facts: ModelFacts) -> dict[str, Any]:
    """What a package is told of a start. Memory and weights are bytes, memory as on the box."""
    nominal = nominal_gib(start)
    small = start.gpu_family == "A100" and nominal < 80  # aiconfigurator knows that of 80 GB only
    return {
        "config": dict(facts.config),
        "weightBytes": facts.weight_bytes,
        # What the engine quantises a checkpoint to as it loads it: config.json does not say that.
        "quantization": "" if facts.config.get("quantization_config") else start.quantization,
        "system": start.gpu if small else SYSTEMS.get(start.gpu_family, start.gpu),
        "memoryBytes": round(nominal * GIBIBYTE),
        "gpuMemoryUtilization": start.utilization,
        "maxNumBatchedTokens": start.max_num_batched_tokens,
        "maxNumSeqs": start.max_num_seqs,
        "tensor": start.tensor,
        "pipeline": start.pipeline,
        "data": start.data,
    }


def read(package: Package, ids: Sequence[str], found: Mapping[str, Any]) -> list[Planner]:
    """A planner for each kind of answer in what the script printed for the starts of these ids."""
    pairs = list(zip(ids, found["answers"], strict=True))
    made = []
    for kind, title in KINDS.items():
        given = [(start, answer[kind]) for start, answer in pairs if kind in answer]
        answered = [(start, one) for start, one in given if "refusal" not in one]
        if not given:
            continue
        made.append(
            Planner(
                name=f"{package.name} {found['version']} ({title})",
                kv_gib={start: one["kvBytes"] / GIBIBYTE for start, one in answered},
                weights_gib={
                    start: one["weightBytes"] / GIBIBYTE
                    for start, one in answered
                    if one["weightBytes"]
                },
                refusals={
                    start: reason(one["refusal"]) for start, one in given if "refusal" in one
                },
            )
        )
    return made


def reason(refusal: str) -> str:
    """A refusal in a few words; as it is, up to 80 characters, where it is an unknown one."""
    return next((short for sign, short in REASONS if sign in refusal), refusal[:80])


def answers(package: Package, python: Path, questions: Sequence[Mapping[str, Any]]) -> Any:
    """What the package's script prints for these starts, run by that interpreter.

    Raises PackageUnavailable.
    """
    script = package.script.name
    # Nothing of the caller's Python reaches it, and a download would be a mistake.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    try:
        answer = subprocess.run(
            [str(python), str(package.script)],
            input=json.dumps(list(questions)),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            env={**kept, "HF_HUB_OFFLINE": "1"},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise PackageUnavailable(f"{script} could not be run: {problem}") from problem
    if answer.returncode != 0:
        last = (answer.stderr.strip().splitlines() or ["nothing was printed"])[-1]
        raise PackageUnavailable(f"{script} ended with status {answer.returncode}: {last}")
    try:
        return json.loads(answer.stdout.splitlines()[-1])
    except (IndexError, ValueError) as problem:
        raise PackageUnavailable(f"{script} printed no JSON: {answer.stdout[-200:]!r}") from problem


def installed(package: Package, cache: Path) -> Path:
    """The interpreter of the package's environment, which is made where it is missing.

    Raises PackageUnavailable.
    """
    interpreter = f"{sys.version_info.major}.{sys.version_info.minor} {platform.machine()} "
    key = hashlib.sha256(interpreter.encode() + package.lock.read_bytes()).hexdigest()[:16]
    directory = cache / f"peers-{key}"
    if not directory.exists():
        try:
            cache.mkdir(parents=True, exist_ok=True)
            # Made beside its place and then renamed: it is there whole or not at all.
            with tempfile.TemporaryDirectory(dir=cache, prefix="peers-partial-") as staging:
                made = Path(staging) / "environment"
                _install(package, made)
                made.rename(directory)
        except OSError as problem:
            if not directory.exists():  # else another process was faster
                raise PackageUnavailable(
                    f"{package.name} was not installed: {problem}"
                ) from problem
    return directory / "bin" / "python"


def _install(package: Package, directory: Path) -> None:
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        raise PackageUnavailable("uv is missing: install requirements-dev.txt, which holds it")
    print(f"installing {package.name}, {package.installed_gib:g} GiB, once", file=sys.stderr)
    into = ["--python", str(directory / "bin" / "python"), "--require-hashes", str(package.lock)]
    for command in (
        [uv, "venv", "--quiet", "--no-config", "--python", sys.executable, str(directory)],
        [uv, "pip", "sync", "--quiet", *into],
    ):
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode != 0:
            said = " ".join(answer.stderr.split())[:300]
            raise PackageUnavailable(f"{package.name} was not installed: {said}")
