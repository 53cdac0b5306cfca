"""Start-up logs of vLLM as they were published: which can be scored, and what each one says.

A row of the file becomes a ``LoggedStart``. What a row does not state is taken from the readings
(``data/vllm_startup_readings.csv``: a value and its evidence) or is vLLM's own default for that
version, device and way of starting; ``LoggedStart.assumed`` says so.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final, Literal

from vllm_operator.engine import defaults
from vllm_operator.engine.versions import OLDEST, Version
from vllm_operator.hardware import catalogue as gpus

DATA: Final = Path(__file__).parent / "data"
LOGS: Final = DATA / "vllm_startup_logs.csv"
READINGS: Final = DATA / "vllm_startup_readings.csv"
GIBIBYTE: Final = 1024**3

Row = Mapping[str, str]
Context = Literal["serve", "LLM"]

PATCHED: Final = re.compile(
    r"patched vLLM|vLLM patched|patched image|custom vLLM build", re.IGNORECASE
)
SHARED: Final = re.compile(
    r"two engines|second (?:engine|instance)|an?other process|same GPU", re.IGNORECASE
)
UTILIZATION_UNSEEN: Final = re.compile(
    r"utilization[^;]*\bnot (?:shown|visible|stated|printed|in)\b", re.IGNORECASE
)
TOTAL: Final = re.compile(r"(\d+\.\d+) GiB total|total (?:capacity of )?(\d+\.\d+) GiB")
KV_DTYPES: Final = ("auto", "fp8", "fp8_e4m3", "fp8_e5m2")
UTILIZATION_ROUNDING: Final = 0.003
"""Older versions print the utilisation with two digits; a larger difference is worth reading."""

FAMILIES: Final = (
    *("H100 NVL", "GH200", "H100", "H200", "H20", "B200", "A100", "L40S", "L40", "L4", "A10G"),
    *("A10", "A40", "RTX A6000", "RTX A5000", "V100", "T4", "RTX PRO 6000", "RTX 5090"),
    *("RTX 5080", "RTX 4090", "RTX 4080", "RTX 3090", "RX 9070 XT", "MI300X", "MI300A", "GB10"),
)
"""Families of GPUs by what stands in their names, the longer ones first."""


class Class(Enum):
    """What becomes of a row."""

    SCORED = "scored"
    APART = "listed apart"
    LEFT_OUT = "left out"


@dataclass(frozen=True, slots=True)
class LoggedStart:
    """One start of vLLM: what it was given, and what it measured of one GPU (the worst rank)."""

    id: str
    source: str
    """Repository, thread or page: starts of one source resemble each other."""
    version: str
    """Release, without what follows it."""
    model: str
    gpu: str
    """Name of the product as the operator's catalogue has it, or as the log has it."""
    gpu_family: str
    gpu_memory_gib: float | None
    """Device memory, where this start or another one on the same machine reports it."""
    tensor: int
    pipeline: int
    data: int
    utilization: float
    max_model_len: int | None
    max_num_seqs: int
    max_num_batched_tokens: int
    enforce_eager: bool
    dtype: str
    quantization: str
    """As the log has it; empty where there is none."""
    kv_cache_dtype: str
    block_size: int | None
    prefix_caching: bool | None
    speculative: str
    """As the log has it; empty where there is none."""
    lora: bool
    language_model_only: bool
    """Whether ``--language-model-only`` was given: no tower is loaded."""
    flashinfer: bool
    """Whether the log says that FlashInfer samples, in versions where what is installed decides."""
    engine: Literal["V0", "V1"]
    context: Context
    """Whether ``vllm serve`` or a program with ``LLM()`` started it: their defaults differ."""
    outcome: str
    weights_gib: float | None
    kv_gib: float | None
    kv_tokens: int | None
    max_concurrency: float | None
    activation_gib: float | None
    non_torch_gib: float | None
    cudagraph_gib: float | None
    """What capturing the graphs took, which not every version counts in the budget."""
    assumed: tuple[str, ...] = ()
    """What the row does not state, and what was taken for it."""

    @property
    def resource_name(self) -> str:
        """Kubernetes' name for this maker's GPUs."""
        amd = self.gpu_family.startswith(("RX", "MI"))
        return gpus.AMD_RESOURCE if amd else gpus.NVIDIA_RESOURCE

    @property
    def started(self) -> bool:
        """Whether the KV cache was found large enough."""
        return self.outcome != "kv_too_small"


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
    memory = _memory_by_machine(rows)
    return [_classified(row, _readings_of(row, known), memory) for row in rows]


def scored(rows: Sequence[Row]) -> list[LoggedStart]:
    """The starts that are scored."""
    return [one.start for one in classify(rows) if one.kind is Class.SCORED and one.start]


def source_of(address: str) -> str:
    """The repository, or the thread of the vLLM project's tracker: a cross-validation group."""
    parts = address.split("/")
    if len(parts) >= 7 and parts[2] == "github.com" and parts[5] in {"issues", "pull"}:
        shared = parts[4] == "recipes"
        return "/".join(parts[:5] if shared else parts[:7])
    if len(parts) >= 5 and parts[2] == "github.com":
        return "/".join(parts[:5])
    return address


def release_of(text: str) -> str | None:
    """The release that a version belongs to; None for none, and for builds that only count.

    A development build is of the release that it leads to: 0.8.5.dev22 is 0.8.5. Versions such as
    0.1.dev18496 count all commits and say no release; the readings date them.
    """
    match = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", text)
    if match is None or re.match(r"v?0\.1\.dev", text):
        return None
    return f"{match[1]}.{match[2]}.{match[3] or 0}"


def family_of(gpu: str) -> str:
    """The family of a GPU by its name; the name itself where it is not known."""
    folded = f"{gpu} ".replace("-", " ").casefold()
    for family in FAMILIES:
        if re.search(rf"\b{re.escape(family.casefold())}\b", folded):
            return family
    return gpu


def _classified(row: Row, found: Mapping[str, Row], memory: Mapping[str, float]) -> Classified:
    def verdict(kind: Class, reason: str, start: LoggedStart | None = None) -> Classified:
        return Classified(row["id"], source_of(row["source_url"]), kind, reason, start)

    if reason := _left_out(row, found):
        return verdict(Class.LEFT_OUT, reason)
    start = _start(row, found, memory)
    if reason := _apart(row, start, found):
        return verdict(Class.APART, reason, start)
    return verdict(Class.SCORED, "", start)


def _left_out(row: Row, found: Mapping[str, Row]) -> str | None:
    version = _version(row, found)
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


def _start(row: Row, found: Mapping[str, Row], memory: Mapping[str, float]) -> LoggedStart:
    assumed = [f"{name} {read['value']}: {read['evidence']}" for name, read in found.items()]
    text = _version(row, found)
    if text is None:
        raise ValueError(f"{row['id']} has no version")
    version = Version.parse(text)
    gpu, reported = _gpu(row["gpu_name"]), _real(row["gpu_memory_gib_reported"])
    if reported is None and (reported := memory.get(_machine(row))) is not None:
        assumed.append(f"memory {reported} GiB, as another start on this machine reports")
    context: Context = "LLM" if _says_llm(row, found) else "serve"
    utilization = _utilization(row, version, reported, assumed)
    length = _whole(row["max_model_len"])
    seqs, tokens = _batch(row, found, version, _memory_bytes(gpu, reported), gpu, context)
    seqs, tokens = _batch_limits(row, found, length, seqs, tokens)
    for name, value in (("max_num_seqs", seqs), ("max_num_batched_tokens", tokens)):
        if not row[name] and name not in found:
            assumed.append(f"{name} {value}: vLLM {version}'s default ({context})")
    return LoggedStart(
        id=row["id"],
        source=source_of(row["source_url"]),
        version=str(version),
        model=row["model_id"].partition(" ")[0],
        gpu=gpu,
        gpu_family=family_of(row["gpu_name"]),
        gpu_memory_gib=reported,
        tensor=int(row["tensor_parallel"]),
        pipeline=_whole(row["pipeline_parallel"]) or 1,
        data=_whole(row["data_parallel"]) or 1,
        utilization=utilization,
        max_model_len=length,
        max_num_seqs=seqs,
        max_num_batched_tokens=tokens,
        enforce_eager=row["enforce_eager"] == "True",
        dtype=row["dtype"] or "auto",
        quantization=_unless_none(row["quantization"]),
        kv_cache_dtype=row["kv_cache_dtype"] or "auto",
        block_size=_whole(row["block_size"]),
        prefix_caching={"True": True, "False": False}.get(row["prefix_caching"]),
        speculative=_unless_none(row["speculative"]),
        lora=row["lora"] == "true",
        language_model_only="--language-model-only" in row["notes"],
        flashinfer="flashinfer" in found,
        engine=_engine(row, version),
        context=context,
        outcome=row["outcome"],
        weights_gib=_real(row["model_loading_gib"]),
        kv_gib=_real(row["available_kv_gib"]),
        kv_tokens=_whole(row["kv_cache_tokens"]),
        max_concurrency=_real(row["max_concurrency"]),
        activation_gib=_real(row["activation_peak_gib"]),
        non_torch_gib=_real(row["non_torch_gib"]),
        cudagraph_gib=_real(row["cudagraph_gib"]),
        assumed=tuple(assumed),
    )


def _version(row: Row, found: Mapping[str, Row]) -> str | None:
    return found["vllm_version"]["value"] if "vllm_version" in found else release_of(
        row["vllm_version"]
    )  # fmt: skip


def _readings_of(row: Row, readings: Iterable[Row]) -> dict[str, Row]:
    """The readings that fill what the row leaves open; a stated release is never replaced."""
    source = source_of(row["source_url"])
    found = {}
    for reading in readings:
        if reading["source"] != source or reading["id"] not in ("*", row["id"]):
            continue
        stated = row.get(reading["field"], "")
        if reading["field"] == "vllm_version":
            stated = release_of(stated) or ""
        if not stated:
            found[reading["field"]] = reading
    return found


def _says_llm(row: Row, found: Mapping[str, Row]) -> bool:
    if "context" in found:
        return found["context"]["value"] == "LLM"
    return "fast_inference" in row["notes"] or "LLM()" in row["notes"]


def _batch(
    row: Row, found: Mapping[str, Row], version: Version, memory: int, gpu: str, context: Context
) -> tuple[int, int]:
    usual = defaults.batch_defaults(version, memory, gpu)
    tokens = usual.max_num_batched_tokens
    if context == "LLM":
        # vllm engine/arg_utils.py get_batch_defaults, usage context LLM_CLASS
        tokens = {2048: 8192, 8192: 16384}.get(tokens, tokens)
    given = {name: _whole(reading["value"]) for name, reading in found.items() if "max_" in name}
    return (
        _whole(row["max_num_seqs"]) or given.get("max_num_seqs") or usual.max_num_seqs,
        _whole(row["max_num_batched_tokens"]) or given.get("max_num_batched_tokens") or tokens,
    )


def _batch_limits(
    row: Row, found: Mapping[str, Row], length: int | None, seqs: int, tokens: int
) -> tuple[int, int]:
    """The defaults as vLLM limits them by each other; what is stated stays as it is."""
    name = "max_num_batched_tokens"
    if not row[name] and name not in found and length is not None:
        tokens = min(tokens, max(seqs * length, 16))
    if not row["max_num_seqs"] and "max_num_seqs" not in found:
        seqs = min(seqs, tokens)
    return seqs, tokens


def _utilization(row: Row, version: Version, memory: float | None, assumed: list[str]) -> float:
    """What is stated, corrected by the sum of the printed parts where all of them are."""
    parts = [
        _real(row[name])
        for name in (
            *("model_loading_gib", "available_kv_gib", "activation_peak_gib", "non_torch_gib"),
        )
    ]
    stated = _real(row["gpu_memory_utilization"])
    known = [part for part in parts if part is not None]
    if len(known) == len(parts) and memory:
        summed = round(sum(known) / memory, 4)
        if stated is None or abs(summed - stated) > UTILIZATION_ROUNDING:
            assumed.append(f"utilization {summed}: the sum of the printed parts, not {stated}")
            return summed
    if stated is None:
        stated = defaults.gpu_memory_utilization(version)
        assumed.append(f"utilization {stated}: vLLM {version}'s default")
    return stated


def _engine(row: Row, version: Version) -> Literal["V0", "V1"]:
    """V0 printed its KV cache in blocks, which V1 does not; it was there up to 0.10."""
    if version.release >= (0, 11, 0):
        return "V1"
    if "V0 engine" in row["notes"] or "blocks x 16" in row["notes"]:
        return "V0"
    return "V1"


def _memory_by_machine(rows: Iterable[Row]) -> dict[str, float]:
    found: dict[str, float] = {}
    for row in rows:
        match = TOTAL.search(row["notes"])
        noted = _real(match[1] or match[2]) if match else None
        reported = _real(row["gpu_memory_gib_reported"]) or noted
        if reported is not None:
            found.setdefault(_machine(row), reported)
    return found


def _machine(row: Row) -> str:
    return f"{source_of(row['source_url'])} {row['gpu_name']}"


def _memory_bytes(gpu: str, reported: float | None) -> int:
    if reported is not None:
        return int(reported * GIBIBYTE)
    product = gpus.find(gpu)
    return product.memory_bytes if product else 0


def _gpu(name: str) -> str:
    """The catalogue's product of a device name, else the name without its maker."""
    product = gpus.find(name) or gpus.find(family_of(name))
    return product.name if product else re.sub(r"^(NVIDIA|AMD) ", "", name)


def _unless_none(cell: str) -> str:
    return "" if cell == "none" else cell


def _real(cell: str) -> float | None:
    return float(cell) if cell else None


def _whole(cell: str) -> int | None:
    return int(cell) if cell else None
