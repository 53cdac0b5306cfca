"""Fit the coefficients of the performance model to published benchmark runs.

    PYTHONPATH=operator:tools python -m fitting.fit_performance --write

Reads ``benchmarks/data/vllm_serving_benchmarks.csv`` and writes
``operator/vllm_operator/sizing/performance_coefficients.csv``. Coordinate descent on the mean
absolute logarithm of predicted over measured, every model with the same weight, with a pull
towards what is commonly measured, so that a coefficient that no run tells about keeps that value.
"""

from __future__ import annotations

import csv
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from vllm_operator.engine.defaults import batch_defaults, gpu_memory_utilization
from vllm_operator.engine.versions import Version
from vllm_operator.errors import PlanningError
from vllm_operator.hardware import catalogue as products
from vllm_operator.hardware import performance as gpus
from vllm_operator.hardware.catalogue import GIBIBYTE
from vllm_operator.hardware.performance import GPUPerformance
from vllm_operator.models import catalogue as models
from vllm_operator.models.architecture import architecture_from_config
from vllm_operator.models.shapes import Architecture
from vllm_operator.sizing import performance
from vllm_operator.sizing.performance import Coefficients, PerformanceEstimate, Work

ROOT: Final = Path(__file__).parents[2]
DATA: Final = ROOT / "benchmarks" / "data" / "vllm_serving_benchmarks.csv"
TARGET: Final = ROOT / "operator" / "vllm_operator" / "sizing" / "performance_coefficients.csv"
UNSTATED_VERSION: Final = Version((0, 12, 0))
"""Taken for runs that do not say their version (all are of the end of 2025)."""
OTHER_MEMORY: Final = 3 * GIBIBYTE
"""Activations, graphs and buffers beside weights and KV cache, of a GPU's budget."""
SEVERAL_TOKENS: Final = 1.3
"""Mean time between chunks over mean time per token, from which on chunks hold several tokens."""


OUTLIER: Final = 0.5
"""Errors (in logarithms) beyond this one count no more: such runs have causes of their own."""
PULL: Final = 0.03
"""How much a coefficient that is off its start by its spread adds to the mean error."""


@dataclass(frozen=True, slots=True)
class Prior:
    """What a coefficient is taken for before any run is looked at, and how firmly."""

    value: float
    spread: float
    """Factor that it may well be off by."""
    unit: str
    source: str
    generation: str = ""
    link: str = ""


NEW: Final = "hopper|blackwell|cdna"
FAST: Final = "nvlink|xgmi"
PRIORS: Final[Mapping[tuple[str, str, str], Prior]] = {
    (name, generation, link): Prior(value, spread, unit, source, generation, link)
    for name, generation, link, value, spread, unit, source in (
        ("compute", "", "", 0.65, 1.3, "share of the peak", ""),
        ("compute", NEW, "", 0.5, 1.3, "share of the peak", ""),
        ("narrow", "", "", 128, 1.6, "elements", ""),
        ("expert_compute", "", "", 0.8, 1.4, "factor on compute", ""),
        ("expert_padding", "", "", 32, 1.5, "rows", ""),
        ("dequantized_compute", "", "", 0.8, 1.3, "factor on compute", ""),
        ("bandwidth", "", "", 0.8, 1.2, "share of the peak", ""),
        ("attention_compute", "", "", 0.4, 1.5, "share of the peak", ""),
        ("cache_bandwidth", "", "", 0.6, 1.4, "share of the peak", ""),
        ("elementwise_passes", "", "", 12, 1.6, "passes over the hidden state", ""),
        ("step_seconds", "", "", 0.0015, 1.6, "s", ""),
        ("ranks_seconds", "", "", 0.0015, 1.6, "s", ""),
        ("layer_seconds", "", "", 0.00003, 1.6, "s", ""),
        ("expert_layer_seconds", "", "", 0.00008, 1.6, "s", ""),
        ("sequence_seconds", "", "", 0.00004, 1.6, "s", ""),
        ("all_reduce_seconds", "", FAST, 0.00002, 1.5, "s", ""),
        ("all_reduce_seconds", "", "", 0.00006, 1.6, "s", ""),
        ("link_efficiency", "", FAST, 0.6, 1.4, "share of the peak", ""),
        ("link_efficiency", "", "", 0.4, 1.4, "share of the peak", ""),
        ("recompute", "", "", 0.5, 2.0, "tokens an output token", ""),
        ("preempted", "", "", 0.2, 1.6, "share", ""),
        ("request_seconds", "", "", 0.003, 1.5, "s", ""),
    )
}
FIXED: Final[Mapping[tuple[str, str, str], Prior]] = {
    ("eager_layer_seconds", "", ""): Prior(
        0.00015, 1.0, "s", "about 20 launches of 8 us a layer; no run in the data is eager"
    ),
}
Values = dict[tuple[str, str, str], float]


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

    def predict(self, found: Coefficients | None = None) -> PerformanceEstimate:
        """What the model says."""
        server = performance.server(
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
        burst = server.burst(self.prompt, self.output, self.requests, varied=self.varied)
        if math.isinf(self.rate) or self.requests / self.rate < 0.5 * (
            self.requests / burst.requests_per_second
        ):
            return burst
        return server.arriving(self.prompt, self.output, self.rate)


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
    work = performance.work_of(architecture, tensor=tensor, kv_element_bytes=kv_bytes)
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
    total = sum(one.weight_bytes for one in work.multiplications) + work.head.weight_bytes
    if architecture.head is not None:
        total += work.head.weight_bytes
    return total / work.pipeline


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


def coefficients(values: Values, gpu: GPUPerformance) -> Coefficients:
    """The coefficients that hold on ``gpu``."""
    rows = ((*key, value) for key, value in values.items())
    return performance.choose(rows, gpu.generation, gpu.link)


def errors(run: Run, found: Coefficients) -> list[float]:
    """Logarithms of predicted over measured: time per token, then throughput."""
    predicted = run.predict(found)
    logs = []
    if run.tpot:
        logs.append(math.log(predicted.inter_token_latency / run.tpot))
    if run.throughput:
        logs.append(math.log(predicted.output_tokens_per_second / run.throughput))
    return logs


def start() -> Values:
    """Every coefficient at its prior."""
    return {key: prior.value for key, prior in (*PRIORS.items(), *FIXED.items())}


def fit(runs: Sequence[Run], *, rounds: int = 8, pull: float = PULL) -> Values:
    """Coordinate descent in the logarithms of the coefficients."""
    values = start()
    numbers = Counter(run.model for run in runs)
    weights = [1 / math.sqrt(numbers[run.model]) for run in runs]
    total = sum(weights)

    def loss(candidate: Values) -> float:
        cache: dict[int, Coefficients] = {}
        summed = 0.0
        for run, weight in zip(runs, weights, strict=True):
            found = cache.get(id(run.gpu))
            if found is None:
                found = cache[id(run.gpu)] = coefficients(candidate, run.gpu)
            logs = errors(run, found)
            summed += weight * sum(min(abs(log), OUTLIER) for log in logs) / len(logs)
        pulled = sum(
            (math.log(candidate[key] / prior.value) / math.log(prior.spread)) ** 2
            for key, prior in PRIORS.items()
        )
        return summed / total + pull * pulled / len(PRIORS)

    return _descend(values, loss, rounds)


def _descend(values: Values, loss: Callable[[Values], float], rounds: int) -> Values:
    best = loss(values)
    steps = {key: math.log(prior.spread) / 2 for key, prior in PRIORS.items()}
    for _ in range(rounds):
        for key in PRIORS:
            moved = False
            for sign in (1, -1):
                candidate = {**values, key: values[key] * math.exp(sign * steps[key])}
                found = loss(candidate)
                if found < best:
                    values, best, moved = candidate, found, True
                    break
            steps[key] *= 1.3 if moved else 0.5
    return values


HELD_OUT: Final[Mapping[str, Callable[[Run], str]]] = {
    "model": lambda run: run.base,
    "gpu": lambda run: run.gpu.name,
    "publisher": lambda run: run.publisher,
}
"""What runs are held out by."""


def held_out(
    runs: Sequence[Run], *, by: str = "model", rounds: int = 8, others: Sequence[Run] = ()
) -> list[tuple[Run, PerformanceEstimate]]:
    """Every run predicted with coefficients fitted on all other models (GPUs, publishers).

    ``others`` are fitted on where they are given, ``runs`` themselves otherwise.
    """
    key = HELD_OUT[by]
    predicted = []
    for group in sorted({key(run) for run in runs}):
        values = fit([run for run in others or runs if key(run) != group], rounds=rounds)
        predicted += [
            (run, run.predict(coefficients(values, run.gpu))) for run in runs if key(run) == group
        ]
    return predicted


def write(values: Values, runs: Iterable[Run], path: Path = TARGET) -> None:
    """Write the data file."""
    number = len(list(runs))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("name", "generation", "link", "since", "until", "value", "unit", "source"))
        for key, value in values.items():
            prior = PRIORS.get(key) or FIXED[key]
            source = prior.source or (
                f"tools/fitting/fit_performance.py on {number} runs of benchmarks/data/{DATA.name}"
                f", from {prior.value:g}"
            )
            writer.writerow((*key, "0.8.0", "", f"{value:.4g}", prior.unit, source))


@click.command()
@click.option("--rows", type=click.Path(path_type=Path, exists=True), default=DATA)
@click.option("--rounds", default=8, help="Rounds of the descent.")
@click.option("--write/--no-write", "written", default=False, help="Write the data file.")
def main(rows: Path, rounds: int, written: bool) -> None:
    """Fit on all runs and print the coefficients."""
    runs, left_out = read_runs(rows)
    values = fit(runs, rounds=rounds)
    for key, value in values.items():
        click.echo(f"{' '.join(filter(None, key)):<44}{value:.4g}")
    click.echo(f"{len(runs)} runs, {len(left_out)} left out")
    if written:
        write(values, runs)


if __name__ == "__main__":
    main()
