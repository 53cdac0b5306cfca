"""Rows of published benchmark runs, read as runs that the performance model can predict.

``benchmarks/data/vllm_serving_benchmarks.csv`` has them; a run that does not say enough, or that
this project cannot size, is left out with its reason.
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
from vllm_operator.engine.architectures import TABLE
from vllm_operator.engine.defaults import batch_defaults, gpu_memory_utilization
from vllm_operator.engine.tables import rows
from vllm_operator.engine.versions import Version
from vllm_operator.errors import PlanningError
from vllm_operator.hardware import catalogue as products
from vllm_operator.hardware import performance as gpus
from vllm_operator.hardware.performance import GPUPerformance
from vllm_operator.models import catalogue as models
from vllm_operator.models.architecture import architecture_from_config
from vllm_operator.models.caches import StateCache
from vllm_operator.models.shapes import Architecture
from vllm_operator.sizing.performance.intervals import kind_of
from vllm_operator.sizing.performance.work import Work, work_of
from vllm_operator.sizing.split.parallelism import Parallelism

from .performance_runs import Run

ROOT: Final = Path(__file__).parents[2]
DATA: Final = ROOT / "benchmarks" / "data" / "vllm_serving_benchmarks.csv"
UNSEEN: Final = DATA.with_name("vllm_serving_benchmarks_unseen.csv")
"""Ten newer sources that neither the model's structure nor its coefficients have seen."""
UNSTATED_VERSION: Final = Version((0, 12, 0))
"""Taken for runs that do not say their version (of the end of 2025 and later), where it serves the
model; else the first that does."""
OTHER_MEMORY: Final = 3 * GIBIBYTE
"""Activations, graphs and buffers beside weights and KV cache, of a GPU's budget."""
NOMINAL: Final = 0.05
"""Share by which outputs may end before what was asked for and still count as of one length."""
MANY_EXPERTS: Final = 64
"""Routed experts of a layer from which on they are many and small."""
MANY: Final = 200
"""Requests at once from which on the API server's and the client's beginning is told apart."""
FEW_HITS: Final = 10.0
"""Percent of prompts in the prefix cache from which on the time to the first token is that of other
prompts than were sent: it is not read then. A benchmark repeated with its seed sends them again."""
AT_ONCE: Final = 5.0
"""Waiting before the first of all first tokens over the time in which they came, from which on they
came at once."""
ROUND: Final = 0.01
"""Share by which a prompt's length may be off a round number: special tokens, retokenising."""
SEVERAL_TOKENS: Final = 1.3
"""Mean time between chunks over mean time per token, from which on chunks hold several tokens."""


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
        read = list(csv.DictReader(file))
    copied = _copied(read)
    runs: list[Run] = []
    left_out: list[LeftOut] = []
    for number, row in enumerate(read, start=1):
        try:
            if number in copied:
                raise _UnusableError("the source gives the same figures for two kinds of GPU")
            runs.append(_run(number, row))
        except _UnusableError as problem:
            left_out.append(LeftOut(number, row["model_id"], row["gpu_name"], str(problem)))
    return runs, left_out


def _copied(read: Sequence[Mapping[str, str]]) -> set[int]:
    seen: dict[tuple[str, ...], list[tuple[int, str]]] = defaultdict(list)
    keys = ("model_id", "output_tok_s", "mean_ttft_ms", "mean_tpot_ms", "mean_itl_ms")
    for number, row in enumerate(read, start=1):
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
    prompt, output = _lengths(row)
    split = _split(row)
    for flag, why in UNTOLD.items():
        if flag in notes:
            raise _UnusableError(why)
    between_chunks = _figure(row["mean_itl_ms"])
    if between_chunks and tpot and output > 500 and between_chunks > SEVERAL_TOKENS * tpot:
        raise _UnusableError("chunks hold several tokens: speculative decoding, not told how much")
    gpu, product = gpus.find(row["gpu_name"]), products.find(row["gpu_name"])
    if gpu is None or product is None:
        raise _UnusableError("unknown GPU")
    architecture = _architecture(row["model_id"])
    version = _version(row, architecture)
    kv_bytes = 1.0 if "fp8 kv" in notes.casefold() else 2.0
    work = work_of(architecture, split, kv_element_bytes=kv_bytes)
    defaults = batch_defaults(version, product.memory_bytes, gpu.name)
    requests, concurrency, rate = _load(row)
    pool = _stated_pool(notes)
    if pool is None:
        budget = product.memory_bytes * gpu_memory_utilization(version)
        pool = budget - resident_bytes(architecture, work) - OTHER_MEMORY
    if pool < work.cache_bytes(prompt + output):
        raise _UnusableError("the model as described does not fit: an unstated quantisation")
    sequences = _flag(notes, "max-num-seqs") or defaults.max_num_seqs
    held = pool / work.cache_bytes(prompt + output / 2)
    idle, served = _idle(row, requests, split.data * min(sequences, held)), 1.0
    if idle and throughput:
        served = 1.0 - idle * throughput / (requests * output)
    first = _figure(row["mean_ttft_ms"])
    if first is not None:
        first = first / 1000 - idle
        least = _least_first_seconds(work, gpu, prompt, min(float(requests), concurrency))
        first = first if first >= least and _hits(notes) <= FEW_HITS else None
    return Run(
        number=number,
        model=row["model_id"],
        gpu_name=row["gpu_name"],
        gpu=gpu,
        kind=kind_of(architecture),
        families=_families(architecture, split, row["quantization"]),
        work=work,
        version=version,
        split=split,
        prompt=prompt,
        output=output,
        requests=requests,
        concurrency=concurrency,
        rate=rate,
        batched_tokens=_flag(notes, "max-num-batched-tokens") or defaults.max_num_batched_tokens,
        sequences=sequences,
        kv_concurrency=held,
        asynchronous=True if "--async-scheduling" in notes and split.pipeline == 1 else None,
        eager="--enforce-eager" in notes,
        varied=not _alike(row, output),
        tpot=None if tpot is None else tpot / 1000,
        throughput=throughput / served if throughput else None,
        first=first,
        idle=idle,
        source=row["source_url"],
    )


UNTOLD: Final = {
    "--speculative-config": "speculative decoding, not told how many drafts were taken",
    "decode-context-parallel": "context parallelism, which the model does not describe",
}


def _lengths(row: Mapping[str, str]) -> tuple[float, float]:
    """Mean tokens of prompts and outputs: those that were served, where the figures tell them."""
    prompt, output = _figure(row["input_len"]), _figure(row["output_len"])
    if prompt is None or output is None:
        raise _UnusableError("lengths of prompts or outputs are not given")
    told = re.search(r"(\d+) requests in ([0-9.]+) s", row["notes"])
    made, all_tokens = _figure(row["output_tok_s"]), _figure(row["total_tok_s"])
    if told and made:
        each = float(told[2]) / int(told[1])
        if abs(made * each / output - 1) > NOMINAL:
            output = made * each
        if all_tokens and abs((all_tokens - made) * each / prompt - 1) > NOMINAL:
            prompt = (all_tokens - made) * each
    return prompt, output


def _version(row: Mapping[str, str], architecture: Architecture) -> Version:
    if row["vllm_version"]:
        return Version.parse(row["vllm_version"])
    spans = [one for one in rows(TABLE) if one["architecture"] == architecture.name]
    first = [Version.parse(one["since"]) for one in spans]
    return max([UNSTATED_VERSION, *first[:1]], key=lambda version: version.release)


def _split(row: Mapping[str, str]) -> Parallelism:
    """How the GPUs were divided, by the row and by the flags of its command."""
    notes = row["notes"]
    if "different nodes" in notes:
        raise _UnusableError("tensor parallel over a network whose bandwidth is not given")
    if not row["num_gpus"]:
        raise _UnusableError("number of GPUs is not given")
    number = int(row["num_gpus"])
    data = _flag(notes, "data-parallel-size") or _flag(notes, "dp", dashes="-") or 1
    pipeline = _flag(notes, "pipeline-parallel-size") or _flag(notes, "pp", dashes="-") or 1
    if not row["tp"] and number > 1 and data == pipeline == 1:
        raise _UnusableError("how the GPUs were divided (tensor, pipeline, data) is not given")
    tensor = int(row["tp"] or max(1, number // (data * pipeline)))
    return Parallelism(tensor, pipeline, data, "--enable-expert-parallel" in notes)


def _families(architecture: Architecture, split: Parallelism, stored: str) -> tuple[str, ...]:
    found = ["dense"]
    if architecture.has_experts:
        many = architecture.routed_experts >= MANY_EXPERTS
        found = ["many small experts" if many else "few experts"]
    if architecture.sparse or architecture.compressed:
        found.append("sparse attention")
    elif architecture.latent:
        found.append("latent attention")
    if any(isinstance(one, StateCache) for kind in architecture.kinds for one in kind.kept):
        found.append("recurrent layers")
    if split.expert:
        found.append("expert parallel")
    if split.pipeline > 1:
        found.append("pipeline parallel")
    quantization = stored.split()[0] if stored else "none"
    return (*found, f"weights: {'16 bits' if quantization == 'none' else quantization}")


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


def _alike(row: Mapping[str, str], output: float) -> bool:
    """Whether all requests have one length: the random data set, or prompts of a round number of
    tokens, and outputs as long as was asked for.

    ShareGPT, which the others use, has prompts and outputs of all lengths.
    """
    if abs(output / float(row["output_len"]) - 1) > NOMINAL:
        return False
    prompt = float(row["input_len"])
    near = min(abs(prompt / (round(prompt / step) * step or step) - 1) for step in (1000, 1024))
    return "random" in row["notes"] or near < ROUND or abs(prompt / 128 - 1) < ROUND


def _flag(notes: str, name: str, dashes: str = "--") -> int | None:
    found = re.search(rf"(?<!-){dashes}{name}[ =](\d+)", notes)
    return int(found[1]) if found else None


def _hits(notes: str) -> float:
    """Percent of prompts that the prefix cache had by the log printed beside a run."""
    found = re.search(r"prefix cache hit rate ([\d.]+) %", notes)
    return float(found[1]) if found else 0.0


def _idle(row: Mapping[str, str], requests: int, places: float) -> float:
    """Seconds until the first of many requests that were sent at once was served.

    First tokens that come evenly from t to u have their median midway, so t = 2 x median - u, with
    the 99th percentile for u. Nothing is told where requests wait for places, nor where all first
    tokens come at once: the server then computed while requests were taken in.
    """
    median, last = _figure(row["median_ttft_ms"]), _figure(row["p99_ttft_ms"])
    at_once = "rate=inf" in row["concurrency_or_rate"]
    if not MANY <= requests <= places or not at_once or median is None or last is None:
        return 0.0
    idle = 2 * median - last
    return idle / 1000 if 0 < idle < AT_ONCE * (last - idle) else 0.0


def _least_first_seconds(work: Work, gpu: GPUPerformance, prompt: float, together: float) -> float:
    """Mean seconds to the first token of so many requests at once, at the GPU's peak arithmetic and
    without attention: what is faster had its prompts in the prefix cache."""
    seconds = sum(
        one.flops / gpu.flops(one.compute) * count
        for stage, count in work.stages
        for one in stage.multiplications
    )
    return prompt * seconds * (together + 1) / 2


def _figure(cell: str) -> float | None:
    return float(cell) if cell.strip() else None
