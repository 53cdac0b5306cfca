"""Start-up logs of vLLM as they were published: which can be scored, and why the others cannot."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from support_starts import (
    LoggedStart,
    Row,
    memory_by_machine,
    readings_of,
    source_of,
    start_of,
    version_of,
)

from vllm_operator.engine.versions import OLDEST, Version
from vllm_operator.hardware import catalogue as gpus

DATA: Final = Path(__file__).parent / "data"
LOGS: Final = DATA / "vllm_startup_logs.csv"
READINGS: Final = DATA / "vllm_startup_readings.csv"
PATCHED: Final = re.compile(
    r"patched vLLM|vLLM patched|patched image|custom vLLM build", re.IGNORECASE
)
VENDOR: Final = re.compile(r"\.nv\d")
"""NVIDIA's containers."""
SHARED: Final = re.compile(
    r"two engines|second (?:engine|instance)|an?other process|same GPU", re.IGNORECASE
)
UTILIZATION_UNSEEN: Final = re.compile(
    r"utilization[^;]*\bnot (?:shown|visible|stated|printed|in)\b", re.IGNORECASE
)
KV_DTYPES: Final = ("auto", "fp8", "fp8_e4m3", "fp8_e5m2")


class Class(Enum):
    """What becomes of a row."""

    SCORED = "scored"
    APART = "listed apart"
    LEFT_OUT = "left out"


@dataclass(frozen=True, slots=True)
class Classified:
    """A row's class, with the reason where it is not scored."""

    id: str
    source: str
    kind: Class
    reason: str
    start: LoggedStart | None
    """None where the row does not say enough."""


def read_rows(path: Path = LOGS) -> list[Row]:
    """The rows of a file of logged starts."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def classify(rows: Sequence[Row], readings: Sequence[Row] | None = None) -> list[Classified]:
    """Every row with its class, in the file's order."""
    known = read_rows(READINGS) if readings is None else readings
    memory = memory_by_machine(rows)
    return [_classified(row, readings_of(row, known), memory) for row in rows]


def scored(rows: Sequence[Row]) -> list[LoggedStart]:
    """The starts that are scored."""
    return [one.start for one in classify(rows) if one.kind is Class.SCORED and one.start]


def _classified(row: Row, found: Mapping[str, Row], memory: Mapping[str, float]) -> Classified:
    def verdict(kind: Class, reason: str, start: LoggedStart | None = None) -> Classified:
        return Classified(row["id"], source_of(row["source_url"]), kind, reason, start)

    if reason := _left_out(row, found):
        return verdict(Class.LEFT_OUT, reason)
    start = start_of(row, found, memory)
    if reason := _apart(row, start, found):
        return verdict(Class.APART, reason, start)
    return verdict(Class.SCORED, "", start)


def _left_out(row: Row, found: Mapping[str, Row]) -> str | None:
    version = version_of(row, found)
    if version is None:
        return "the version is not known"
    if Version.parse(version).release < OLDEST.release:
        return f"vLLM before {OLDEST}, which is not planned"
    if not any(row[name] for name in ("available_kv_gib", "kv_cache_tokens", "max_concurrency")):
        return "no figure of the KV cache was printed"
    if not row["tensor_parallel"]:
        return "the tensor-parallel size is not stated"
    return None


def _apart(row: Row, start: LoggedStart, found: Mapping[str, Row]) -> str | None:
    notes = row["notes"]
    local = row["vllm_version"].partition("+")[2]
    if "PR diff" in row["vllm_version"] or "rebase" in local or PATCHED.search(notes):
        return "a patched engine"
    if "patched" in found:
        return "a patched engine"
    if VENDOR.search(local):
        return "a vendor's own build"
    if start.kv_gib is not None and start.kv_gib <= 0:
        return "nothing was left for the KV cache"
    if (start.non_torch_gib or 0.0) < 0 or SHARED.search(notes):
        return "another process used the GPU"
    if notes.startswith("APPROXIMATE"):
        return "figures rounded by hand"
    if "decode-context-parallel" in notes:
        return "decode context parallelism, which is not planned"
    if start.speculative:
        return "speculative decoding, which is not planned"
    if start.kv_cache_dtype not in KV_DTYPES:
        return f"KV cache of {start.kv_cache_dtype}, which is not planned"
    if start.gpu_memory_gib is None and gpus.find(start.gpu) is None:
        return "the GPU's memory is not known"
    if not row["gpu_memory_utilization"] and UTILIZATION_UNSEEN.search(notes):
        return "the utilisation was set, or may have been, and is not shown"
    return None
