"""What a published start of vLLM says: a row of logged starts as a ``LoggedStart``.

What a row does not state is taken from the readings (``data/vllm_startup_readings.csv``: a value
and its evidence) or is vLLM's own default for that version, device and way of starting;
``LoggedStart.assumed`` says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from vllm_operator.engine import defaults
from vllm_operator.engine.versions import Version
from vllm_operator.hardware import catalogue as gpus

Row = Mapping[str, str]
Context = Literal["serve", "LLM"]
TOTAL: Final = re.compile(r"(\d+\.\d+) GiB total|total (?:capacity of )?(\d+\.\d+) GiB")
GIBIBYTE: Final = 1024**3
MOE_BACKEND: Final = re.compile(r"moe-backend (\w+)")
UTILIZATION_ROUNDING: Final = 0.003
"""Older versions print the utilisation with two digits; a larger difference is worth reading."""
FAMILIES: Final = (
    *("H100 NVL", "GH200", "H100", "H200", "H20", "B200", "A100", "L40S", "L40", "L4", "A10G"),
    *("A10", "A40", "RTX A6000", "RTX A5000", "V100", "T4", "RTX PRO 6000", "RTX 5090"),
    *(
        "RTX 5080",
        "RTX 4090",
        "RTX 4080",
        "RTX 3090",
        "RX 9070 XT",
        "MI300X",
        "MI325X",
        "MI355X",
        "MI300A",
        "GB10",
    ),
)
"""Families of GPUs by what stands in their names, the longer ones first."""
AMD: Final = ("RX", "MI")
V0_SEQUENCES: Final = 256
"""``--max-num-seqs`` of the engine before V1 (vllm 0.9.1 engine/arg_utils.py)."""


@dataclass(frozen=True, slots=True)
class LoggedStart:
    """One start of vLLM: what it was given, and what it measured of one GPU (the worst rank)."""

    id: str
    source: str
    """Repository, thread or page: starts of one source resemble each other."""
    version: str
    """Release, without what follows it; ``.dev0`` stays of a development build that chose V0."""
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
    moe_backend: str
    """What ``--moe-backend`` was given; empty where nothing is known of it."""
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
        return gpus.AMD_RESOURCE if self.gpu_family.startswith(AMD) else gpus.NVIDIA_RESOURCE

    @property
    def started(self) -> bool:
        """Whether the KV cache was found large enough."""
        return self.outcome != "kv_too_small"


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


def version_of(row: Row, found: Mapping[str, Row]) -> str | None:
    """The release of a row, from the readings where it states none; None for neither."""
    return found["vllm_version"]["value"] if "vllm_version" in found else release_of(
        row["vllm_version"]
    )  # fmt: skip


def family_of(gpu: str) -> str:
    """The family of a GPU by its name; the name itself where it is not known."""
    folded = f"{gpu} ".replace("-", " ").casefold()
    for family in FAMILIES:
        if re.search(rf"\b{re.escape(family.casefold())}\b", folded):
            return family
    return gpu


def readings_of(row: Row, readings: Iterable[Row]) -> dict[str, Row]:
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


def start_of(row: Row, found: Mapping[str, Row], memory: Mapping[str, float]) -> LoggedStart:
    """The start of a row: what it states, else what is ``found`` in the readings, else defaults.

    ``memory``: GiB by machine. Raises ``ValueError`` for a row without a version.
    """
    assumed = [f"{name} {read['value']}: {read['evidence']}" for name, read in found.items()]
    text = version_of(row, found)
    if text is None:
        raise ValueError(f"{row['id']} has no version")
    version = Version.parse(text)
    gpu, reported = _gpu(row["gpu_name"]), _real(row["gpu_memory_gib_reported"])
    if reported is None and (reported := memory.get(_machine(row))) is not None:
        assumed.append(f"memory {reported} GiB, as another start on this machine reports")
    context: Context = "LLM" if _says_llm(row, found) else "serve"
    utilization = _utilization(row, version, reported, assumed)
    length = _whole(row["max_model_len"])
    engine = _engine(row, version)
    seqs, tokens = _batch(row, found, version, _memory_bytes(gpu, reported), gpu, context)
    if engine == "V0" and length is not None and family_of(row["gpu_name"]).startswith(AMD):
        # vllm 0.8.0 to 0.10.2 engine/arg_utils.py: prompts are parted on CUDA alone
        seqs = _whole(row["max_num_seqs"]) or V0_SEQUENCES
        tokens = _whole(row["max_num_batched_tokens"]) or length
    seqs, tokens = _batch_limits(row, found, length, seqs, tokens)
    for name, value in (("max_num_seqs", seqs), ("max_num_batched_tokens", tokens)):
        if not row[name] and name not in found:
            assumed.append(f"{name} {value}: vLLM {version}'s default ({context})")
    return LoggedStart(
        id=row["id"],
        source=source_of(row["source_url"]),
        version=f"{version}.dev0" if engine == "V0" and ".dev" in row["vllm_version"] else text,
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
        moe_backend=backend[1] if (backend := MOE_BACKEND.search(row["notes"])) else "",
        lora=row["lora"] == "true",
        language_model_only="--language-model-only" in row["notes"],
        flashinfer="flashinfer" in found,
        engine=engine,
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


def memory_by_machine(rows: Iterable[Row]) -> dict[str, float]:
    """GiB of the devices that some row reports, by source and name of the GPU."""
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
