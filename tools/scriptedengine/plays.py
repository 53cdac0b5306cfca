"""Which part is played, and the log that goes with it. Pure but for reading this package's data."""

import csv
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_DATA = Path(__file__).with_name("data")
_TABLES = Path(__file__).resolve().parents[2] / "operator" / "vllm_operator" / "engine"
_TOTAL_GIB = 79.18  # of an H100 as vLLM sees it
_TOKEN_BYTES = 131072  # of Llama 3.1 8B: 32 layers, 8 heads of 128, keys and values, 2 bytes
_GIB = 2**30
_DEFAULT_VERSION = "0.32.0"


@dataclass(frozen=True)
class Play:
    """A section of plays.toml."""

    name: str
    source: str
    frame: str = ""
    error: str = ""
    exit: int = 1
    end: str = "exit"
    starts: bool = True  # whether it gets as far as the lines on the model's architecture
    loads: bool = True  # whether weights are loaded first


def plays() -> dict[str, Play]:
    """All of them by name."""
    found = tomllib.loads((_DATA / "plays.toml").read_text())
    return {name: Play(name=name, **content) for name, content in found.items()}


@dataclass(frozen=True)
class Command:
    """`vllm serve MODEL --flag value …` as it is given."""

    model: str
    flags: Mapping[str, str]

    def number(self, flag: str, default: float) -> float:
        """A flag's number."""
        return float(self.flags.get(flag, default))

    def unknown(self, version: str) -> list[str]:
        """The flags that a version does not have, with their values, as argparse lists them."""
        with (_TABLES / "flags.csv").open(newline="") as file:
            known = {row["flag"] for row in csv.DictReader(file) if in_span(row, version)}
        negated = {f"--no-{flag.removeprefix('--')}" for flag in known}
        said: list[str] = []
        for flag, value in self.flags.items():
            if flag.startswith("--") and flag.partition(".")[0] not in known | negated:
                said += [flag, *([value] if value else [])]
        return said


def parse(arguments: Sequence[str]) -> Command:
    """The arguments after `serve`; a flag's values are joined by spaces."""
    model, flags, last = "", dict[str, str](), ""
    for argument in arguments:
        # A negative number is a value.
        if argument.startswith("-") and not argument[1:2].isdigit():
            last, equals, value = argument.partition("=")
            flags[last] = value if equals else ""
        elif last:
            flags[last] = f"{flags[last]} {argument}".strip()
        else:
            model = argument
    return Command(flags.get("--model", model), flags)


def numbers(version: str) -> tuple[int, ...]:
    """A version to compare: 0.30.1 is (0, 30, 1)."""
    return tuple(int(part) for part in version.split("+")[0].split(".")[:3] if part.isdigit())


def in_span(row: Mapping[str, str], version: str) -> bool:
    """Whether a row of the operator's tables is of a version; `until` 0.17 is every 0.17.x."""
    asked, last = numbers(version), numbers(row["until"])
    return numbers(row["since"]) <= asked and (not last or asked[: len(last)] <= last)


def version(variables: Mapping[str, str]) -> str:
    """What it is told to be, else what its image's tag says."""
    tag = variables.get("LOCALCLUSTER_IMAGE", "").rpartition(":")[2].removeprefix("v")
    named = tag.partition("-")[0]
    return variables.get("SCRIPTED_VERSION") or (named if numbers(named) else _DEFAULT_VERSION)


def kv_tokens(variables: Mapping[str, str]) -> int:
    """Tokens that its KV cache holds."""
    return int(variables.get("SCRIPTED_KV_TOKENS", "200000"))


def chosen(command: Command, variables: Mapping[str, str]) -> Play | None:
    """The play of this start; None means that it serves. Raises KeyError for an unknown name."""
    known = plays()
    name = variables.get("SCRIPTED_PLAY") or (
        command.model.partition("/")[2] if command.model.startswith("scripted/") else ""
    )
    if name:
        return known[name]
    if command.unknown(version(variables)):
        return known["unrecognized-argument"]
    free = float(variables.get("SCRIPTED_FREE_GIB", _TOTAL_GIB))
    if _TOTAL_GIB * command.number("--gpu-memory-utilization", 0.92) > free:
        return known["free-memory"]
    most = float(variables.get("SCRIPTED_MAX_SEQS", math.inf))
    if command.number("--max-num-seqs", 1) > most:
        return known["oom-sampler"]
    if command.number("--max-model-len", 1) > kv_tokens(variables):
        return known["kv-cache-too-small"]
    return None


def values(command: Command, variables: Mapping[str, str], now: str) -> dict[str, str]:
    """What stands for the @names@ of the logs."""
    length = int(command.number("--max-model-len", 32768))
    utilization = command.number("--gpu-memory-utilization", 0.92)
    tokens = kv_tokens(variables)
    given: dict[str, Any] = {
        "now": now,
        "version": version(variables),
        "model": command.model,
        "architecture": "Qwen2ForCausalLM",
        "arguments": {flag.lstrip("-").replace("-", "_"): v for flag, v in command.flags.items()},
        "max_model_len": length,
        "max_num_seqs": int(command.number("--max-num-seqs", 1024)),
        "tensor": int(command.number("--tensor-parallel-size", 1)),
        "weights_gib": 14.25,
        "kv_needed_gib": round(length * _TOKEN_BYTES / _GIB, 2),
        "kv_available_gib": round(tokens * _TOKEN_BYTES / _GIB, 2),
        "kv_tokens": tokens,
        "free_gib": variables.get("SCRIPTED_FREE_GIB", "61.3"),
        "total_gib": _TOTAL_GIB,
        "utilization": utilization,
        "desired_gib": round(_TOTAL_GIB * utilization, 2),
        "unknown": " ".join(command.unknown(version(variables))) or "--swap-space 4",
        "host": command.flags.get("--host", "0.0.0.0"),  # as vLLM listens without it
        "port": command.flags.get("--port", "8000"),
        "boot_seconds": variables.get("SCRIPTED_BOOT_SECONDS", "0.2"),
    }
    return {name: str(value) for name, value in given.items()}


def text(name: str, given: Mapping[str, str]) -> str:
    """A log of the data folder, filled in."""
    return fill((_DATA / f"{name}.txt").read_text(), given)


def fill(template: str, given: Mapping[str, str]) -> str:
    """A text with its @names@ replaced."""
    for name, value in given.items():
        template = template.replace(f"@{name}@", value)
    return template


def before(play: Play | None, given: Mapping[str, str]) -> str:
    """What is printed while it starts."""
    if play is None or not play.frame:
        return text("start", given) + text("load", given)
    if play.frame == "parser":
        return (
            "usage: vllm [-h] [-v]\n"
            "            {chat,complete,serve,launch,bench,collect-env,run-batch}\n"
            "            ...\n"
        )
    lines = text("start", given).splitlines(keepends=True)
    printed = "".join(lines if play.starts else lines[:-2])
    return printed + (text("load", given) if play.frame == "core" and play.loads else "")


def failure(play: Play, given: Mapping[str, str]) -> str:
    """What is printed when it fails."""
    error = fill(play.error.strip("\n"), given)
    return f"{error}\n" if play.frame == "parser" else text(play.frame, {**given, "error": error})


def ready(command: Command, variables: Mapping[str, str], given: Mapping[str, str]) -> str:
    """What is printed when it serves."""
    tokens, length = kv_tokens(variables), int(given["max_model_len"])
    mark = "(EngineCore pid=137) INFO @now@ [kv_cache_utils.py:2327] "
    size = f"GPU KV cache size: {tokens:,} tokens"
    most = f"Maximum concurrency for {length:,} tokens per request: {tokens / length:.2f}x"
    # Two lines up to 0.27: vllm v1/core/kv_cache_utils.py
    joint = ", " if numbers(given["version"]) >= (0, 28) else f"\n{mark}"
    # What only a GPU's engine says: vllm 0.8.5, 0.12.0 and 0.32.0 platforms/cuda.py
    new = numbers(given["version"]) >= (0, 12)
    backends = (
        "FLASH_ATTN attention backend out of potential backends: ['FLASH_ATTN', 'FLASHINFER']"
    )
    backend = backends if new else "Flash Attention backend on V1 engine"
    available = (
        f"(Worker pid=201) INFO @now@ [cuda.py:507] Using {backend}.\n"
        f"(Worker pid=201) INFO @now@ [gpu_worker.py:760] Available KV cache memory: "
        f"{given['kv_available_gib']} GiB\n"
    )
    return fill(f"{available}{mark}{size}{joint}{most}\n", given) + text("serving", given)
