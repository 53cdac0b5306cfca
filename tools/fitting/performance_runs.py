"""Published benchmark runs of vLLM, as the performance model can predict them.

Reads ``benchmarks/data/vllm_serving_benchmarks.csv``; a run that does not say enough, or that this
project cannot size, is left out with its reason.
"""

from __future__ import annotations

import csv
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vllm_operator.api.quantity import GIBIBYTE
from vllm_operator.engine.defaults import batch_defaults, gpu_memory_utilization
from vllm_operator.engine.versions import Version
from vllm_operator.errors import PlanningError
from vllm_operator.hardware import catalogue as products
from vllm_operator.hardware import performance as gpus
from vllm_operator.hardware.performance import GPUPerformance
from vllm_operator.models import catalogue as models
from vllm_operator.models.architecture import architecture_from_config
from vllm_operator.models.shapes import Architecture
from vllm_operator.sizing.performance.coefficients import Coefficients
from vllm_operator.sizing.performance.server import PerformanceEstimate, server
from vllm_operator.sizing.performance.work import Work, work_of

ROOT: Final = Path(__file__).parents[2]
DATA: Final = ROOT / "benchmarks" / "data" / "vllm_serving_benchmarks.csv"
UNSTATED_VERSION: Final = Version((0, 12, 0))
"""Taken for runs that do not say their version (all are of the end of 2025)."""
OTHER_MEMORY: Final = 3 * GIBIBYTE
"""Activations, graphs and buffers beside weights and KV cache, of a GPU's budget."""
SEVERAL_TOKENS: Final = 1.3
"""Mean time between chunks over mean time per token, from which on chunks hold several tokens."""


@dataclass(frozen=True, slots=True)
class Run:
    """A published run, ready to be predicted."""

    number: int
    """Line of the file, the first run being 1."""
    model: str
    gpu_name: str
    gpu: GPUPerformance
    work: Work
    version: Version
    tensor: int
    prompt: float
    output: float
    requests: int
    concurrency: float
    rate: float
    """Requests a second; infinite where all come at once or a number is kept in flight."""
    batched_tokens: int
    sequences: int
    kv_concurrency: float
    asynchronous: bool | None
    eager: bool
    varied: bool
    """Whether outputs differ in length (ShareGPT)."""
    tpot: float | None
    """Measured mean seconds between tokens."""
    throughput: float | None
    """Measured output tokens a second."""
    source: str

    @property
    def base(self) -> str:
        """The model without its quantisation: siblings are held out together."""
        return re.sub(r"-(FP8|AWQ|GPTQ|INT4|INT8|NVFP4|AWQ-4bit)(-dynamic)?$", "", self.model)

    @property
    def publisher(self) -> str:
        """Who published the run: the account in the source's address."""
        return "/".join(self.source.split("/")[2:4])

    @property
    def napkin_seconds(self) -> float:
        """Seconds between tokens on a napkin: what a full batch reads, at the peak bandwidth.

        The weights once (of routed experts no more than the batch visits) and every request's KV
        cache; no prompts, no arithmetic, no overhead.
        """
        placed = self._placed
        read = placed * self.work.cache_bytes(self.prompt + self.output / 2)
        for stage, count in self.work.stages:
            for one in stage.multiplications:
                share = min(1.0, placed * one.active / one.experts) if one.experts else 1.0
                read += one.weight_bytes * share * count
            read += stage.head.weight_bytes if stage.head else 0.0
        return read / self.gpu.memory_bandwidth

    @property
    def napkin_throughput(self) -> float:
        """Output tokens a second on a napkin: one of each request of the batch in that time."""
        return min(self._placed / self.napkin_seconds, self.rate * self.output)

    @property
    def _placed(self) -> float:
        return min(self.requests, self.concurrency, self.sequences, self.kv_concurrency)

    def predict(self, found: Coefficients | None = None) -> PerformanceEstimate:
        """What the model says."""
        engine = server(
            self.work,
            self.gpu,
            version=self.version,
            max_num_batched_tokens=self.batched_tokens,
            max_num_seqs=int(min(self.sequences, self.concurrency)),
            kv_concurrency=self.kv_concurrency,
            enforce_eager=self.eager,
            async_scheduling=self.asynchronous,
            found=found,
        )
        burst = engine.burst(self.prompt, self.output, self.requests, varied=self.varied)
        if math.isinf(self.rate) or self.requests / self.rate < 0.5 * (
            self.requests / burst.requests_per_second
        ):
            return burst
        return engine.arriving(self.prompt, self.output, self.rate)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A run that is not judged, and why."""

    number: int
    model: str
    gpu_name: str
    reason: str


class _UnusableError(Exception):
    pass


def read_runs(path: Path = DATA) -> tuple[list[Run], list[LeftOut]]:
    """The runs of a file, and those that cannot be judged."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    copied = _copied(rows)
    runs: list[Run] = []
    left_out: list[LeftOut] = []
    for number, row in enumerate(rows, start=1):
        try:
            if number in copied:
                raise _UnusableError("the source gives the same figures for two kinds of GPU")
            runs.append(_run(number, row))
        except _UnusableError as problem:
            left_out.append(LeftOut(number, row["model_id"], row["gpu_name"], str(problem)))
    return runs, left_out


def _copied(rows: Sequence[Mapping[str, str]]) -> set[int]:
    seen: dict[tuple[str, ...], list[tuple[int, str]]] = defaultdict(list)
    keys = ("model_id", "output_tok_s", "mean_ttft_ms", "mean_tpot_ms", "mean_itl_ms")
    for number, row in enumerate(rows, start=1):
        seen[tuple(row[key] for key in keys)].append((number, row["gpu_name"]))
    return {
        number
        for figures, same in seen.items()
        if any(figures[1:]) and len({name for _, name in same}) > 1
        for number, _ in same
    }


def _run(number: int, row: Mapping[str, str]) -> Run:
    notes = row["notes"]
    tpot, throughput = _figure(row["mean_tpot_ms"]), _figure(row["output_tok_s"])
    if tpot is None and throughput is None:
        raise _UnusableError("neither time per token nor output throughput is given")
    prompt, output = _figure(row["input_len"]), _figure(row["output_len"])
    if prompt is None or output is None:
        raise _UnusableError("lengths of prompts or outputs are not given")
    tensor = _tensor(row)
    between_chunks = _figure(row["mean_itl_ms"])
    if between_chunks and tpot and output > 500 and between_chunks > SEVERAL_TOKENS * tpot:
        raise _UnusableError("chunks hold several tokens: speculative decoding, not told how much")
    gpu, product = gpus.find(row["gpu_name"]), products.find(row["gpu_name"])
    if gpu is None or product is None:
        raise _UnusableError("unknown GPU")
    version = Version.parse(row["vllm_version"]) if row["vllm_version"] else UNSTATED_VERSION
    architecture = _architecture(row["model_id"])
    kv_bytes = 1.0 if "fp8 kv" in notes.casefold() else 2.0
    work = work_of(architecture, tensor=tensor, kv_element_bytes=kv_bytes)
    defaults = batch_defaults(version, product.memory_bytes, gpu.name)
    requests, concurrency, rate = _load(row)
    pool = _stated_pool(notes)
    if pool is None:
        budget = product.memory_bytes * gpu_memory_utilization(version)
        pool = budget - resident_bytes(architecture, work) - OTHER_MEMORY
    if pool < work.cache_bytes(prompt + output):
        raise _UnusableError("the model as described does not fit: an unstated quantisation")
    return Run(
        number=number,
        model=row["model_id"],
        gpu_name=row["gpu_name"],
        gpu=gpu,
        work=work,
        version=version,
        tensor=tensor,
        prompt=prompt,
        output=output,
        requests=requests,
        concurrency=concurrency,
        rate=rate,
        batched_tokens=_flag(notes, "max-num-batched-tokens") or defaults.max_num_batched_tokens,
        sequences=_flag(notes, "max-num-seqs") or defaults.max_num_seqs,
        kv_concurrency=pool / work.cache_bytes(prompt + output / 2),
        asynchronous=True if "--async-scheduling" in notes else None,
        eager="--enforce-eager" in notes,
        varied=not _alike(row),
        tpot=None if tpot is None else tpot / 1000,
        throughput=throughput,
        source=row["source_url"],
    )


def _tensor(row: Mapping[str, str]) -> int:
    if "different nodes" in row["notes"]:
        raise _UnusableError("tensor parallel over a network whose bandwidth is not given")
    if not row["num_gpus"]:
        raise _UnusableError("number of GPUs is not given")
    number = int(row["num_gpus"])
    if not row["tp"] and number > 1:
        raise _UnusableError("how the GPUs were divided (tensor, pipeline, data) is not given")
    return int(row["tp"] or number)


def _architecture(model_id: str) -> Architecture:
    facts = models.find(model_id)
    if facts is None:
        raise _UnusableError("the model is not in the catalogue")
    try:
        return architecture_from_config(facts.config)
    except PlanningError as problem:
        raise _UnusableError(f"the model cannot be sized: {problem}") from problem


def resident_bytes(architecture: Architecture, work: Work) -> float:
    """Bytes of weights on one rank: the matrices, the head and the embedding."""
    stage, _ = work.stages[-1]
    separate = stage.head if architecture.head is not None else None
    return stage.weight_bytes + (separate.weight_bytes if separate else 0.0)


def _load(row: Mapping[str, str]) -> tuple[int, float, float]:
    """Requests, how many are in flight at most, and how many come in a second."""
    text = row["concurrency_or_rate"]
    stated = re.search(r"all (\d+)", text) or re.search(r"(\d+) requests in", row["notes"])
    requests = int(stated[1]) if stated else 0
    at_once = re.search(r"concurrency=(\d+)", text)
    rate = re.search(r"rate=([0-9.]+)", text)
    if at_once:
        concurrency = int(at_once[1])
        return requests or 100 * concurrency, float(concurrency), math.inf
    if not requests:
        raise _UnusableError("number of requests is not given")
    return requests, math.inf, float(rate[1]) if rate else math.inf


def _stated_pool(notes: str) -> float | None:
    found = re.search(r"KV cache memory[^:)]*: ([0-9.]+) GiB", notes)
    return float(found[1]) * GIBIBYTE if found else None


def _alike(row: Mapping[str, str]) -> bool:
    """Whether all requests have one length: the random data set, or lengths in round numbers.

    ShareGPT, which the others use, has outputs of all lengths.
    """
    return "random" in row["notes"] or row["output_len"].partition(".")[2].strip("0") == ""


def _flag(notes: str, name: str) -> int | None:
    found = re.search(rf"--{name}[ =](\d+)", notes)
    return int(found[1]) if found else None


def _figure(cell: str) -> float | None:
    return float(cell) if cell.strip() else None
