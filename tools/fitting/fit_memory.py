"""Fit the coefficients of the memory model to logged starts of vLLM.

    PYTHONPATH=operator:tools:benchmarks python -m fitting.fit_memory --write

Starts from ``memory_start.csv`` (figures taken from single logs, each with its source), reads
``benchmarks/data/vllm_startup_logs.csv`` and writes
``operator/vllm_operator/sizing/memory/coefficients.csv``.

``expected``: coordinate descent on the mean error of the KV cache, relative to what was measured,
with a pull towards the start, so that a coefficient that no start tells about keeps its figure.
``high``: the distances from ``expected`` to ``high`` of the start keep their proportions and are
scaled by one factor of at least one, the smallest that leaves at most one start in a hundred with a
sure cache above the measured one, of those that the largest factor covers.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

import click

from vllm_operator.engine.first_engine import first_engine_because
from vllm_operator.engine.versions import Version
from vllm_operator.hardware import catalogue as products
from vllm_operator.models import catalogue as models
from vllm_operator.models.architecture import Architecture, architecture_from_config
from vllm_operator.sizing.layout.v0_setup import described_setup
from vllm_operator.sizing.memory import coefficients
from vllm_operator.sizing.memory.accounting import footprint
from vllm_operator.sizing.memory.device import ANY_DEVICE, Device, device_of
from vllm_operator.sizing.memory.kvcache import CacheSettings, cache_layout
from vllm_operator.sizing.memory.load import Load
from vllm_operator.sizing.split.parallelism import Parallelism, illegal_because

ROOT: Final = Path(__file__).parents[2]
START: Final = Path(__file__).with_name("memory_start.csv")
TARGET: Final = ROOT / "operator" / "vllm_operator" / "sizing" / "memory" / "coefficients.csv"
GIBIBYTE: Final = 1024**3

FACTORS: Final = (0.6, 0.75, 0.88, 0.95, 1.05, 1.13, 1.3, 1.6)
PASSES: Final = 4
OUTLIER: Final = 0.25
"""Relative errors beyond this count no more: such starts have causes of their own."""
PULL: Final = 0.004
"""What it costs in mean error to double a coefficient: they come from code and from logs that print
the parts, and one start more or less shall not move them."""
UNFITTED: Final = frozenset(
    {
        *("context", "device_total", "weights", "weights_fixed", "weights_quantized"),
        *("weights_rocm", "non_torch_rocm", "sparse_rocm", "forward_sparse"),
        *("graphs", "graphs_base", "unified", "shared_experts_graphs"),
        *("sampler", "sampler_flashinfer", "sampler_rocm", "sampler_v2", "sampler_drafting"),
        "unlogged",
    }
)
"""They lie outside the budget, so that the KV cache says nothing of them, or they are known better
than the KV cache can tell: from the code, and from logs that print these very parts. What releases
without a log may take more is what those with logs moved (``benchmarks/memory_accuracy.py``)."""
SCALES: Final = tuple(step / 20 for step in range(20, 31))
"""A start that is not covered at the largest has a cause that the model does not know; covering it
too would cost every other plan more than the promise is worth."""

Row = dict[str, str]


class Start(Protocol):
    """The part of a logged start that is fitted to (``benchmarks/support_starts.py``)."""

    id: str
    version: str
    model: str
    gpu: str
    gpu_memory_gib: float | None
    resource_name: str
    tensor: int
    pipeline: int
    data: int
    utilization: float
    max_model_len: int | None
    max_num_seqs: int
    max_num_batched_tokens: int
    enforce_eager: bool
    quantization: str
    kv_cache_dtype: str
    prefix_caching: bool | None
    speculative: str
    flashinfer: bool
    kv_gib: float | None
    kv_tokens: int | None


@dataclass(frozen=True, slots=True)
class Case:
    """A start whose shapes are known, with the KV cache that was measured in bytes."""

    architecture: Architecture
    version: Version
    parallelism: Parallelism
    load: Load
    total: int
    utilization: float
    enforce_eager: bool
    measured: float
    device: Device = ANY_DEVICE

    def forecast(self) -> tuple[float, float]:
        """KV-cache bytes, expected and low, with the coefficients in force."""
        found = footprint(
            self.architecture,
            self.version,
            self.parallelism,
            self.load,
            enforce_eager=self.enforce_eager,
            device=self.device,
        )
        expected, low = found.kv_cache(self.total, self.utilization)
        return expected, low


def case_of(start: Start) -> Case | None:
    """The case of a start; None where its model, GPU or measure is not known."""
    facts, gpu = models.find(start.model), products.find(start.gpu)
    if facts is None or (gpu is None and start.gpu_memory_gib is None):
        return None
    architecture = architecture_from_config(facts.config)
    parallelism = Parallelism(start.tensor, start.pipeline)
    quantised = architecture.quantization.method is not None
    if start.data > 1 or illegal_because(architecture, parallelism) is not None:
        return None
    if start.quantization in ("fp8", "bitsandbytes") and not quantised:
        return None  # quantised while loading, which the shapes do not tell
    version = Version.parse(start.version)
    device = device_of(start.gpu, gpu.memory_bytes if gpu else 0, start.resource_name)
    setup = described_setup(
        architecture,
        capability=device.capability,
        rocm=device.rocm,
        kv_cache_dtype=start.kv_cache_dtype,
        pipeline=start.pipeline,
    )
    first = first_engine_because(version, setup)
    bits = 8.0 if start.kv_cache_dtype.startswith("fp8") else 16.0
    settings = CacheSettings(
        version=version,
        parallelism=parallelism,
        element_bits=bits,
        block_size=16,
        max_num_batched_tokens=start.max_num_batched_tokens,
        prefix_caching=start.prefix_caching,
        first_engine=first is not None,
    )
    if start.kv_gib is not None:
        measured = start.kv_gib * GIBIBYTE
    elif start.kv_tokens is not None:
        layout = cache_layout(architecture, settings)
        length = start.max_model_len or architecture.context_length
        tokens, _ = layout.printed(1000 * layout.bytes_per_block, length)
        measured = start.kv_tokens / max(1, tokens) * 1000 * layout.bytes_per_block
    else:
        return None
    if measured <= 0:
        return None
    reported = int(start.gpu_memory_gib * GIBIBYTE) if start.gpu_memory_gib else 0
    total = reported or (gpu.memory_bytes if gpu else 0)
    return Case(
        architecture=architecture,
        version=version,
        parallelism=parallelism,
        load=Load(
            start.max_num_seqs,
            start.max_num_batched_tokens,
            element_bytes=2,
            max_model_len=start.max_model_len or architecture.context_length,
            flashinfer=start.flashinfer,
            first_engine=first is not None,
        ),
        total=total,
        utilization=start.utilization,
        enforce_eager=start.enforce_eager,
        measured=measured,
        device=replace(device, memory_bytes=total),
    )


def fit(starts: Iterable[Start]) -> str:
    """The text of ``coefficients.csv``, fitted to these starts."""
    cases = [case for case in map(case_of, starts) if case is not None]
    rows = list(csv.DictReader(START.read_text(encoding="utf-8").splitlines()))
    origin = [float(row["expected"]) for row in rows]
    values = list(origin)
    best = _loss(rows, values, origin, cases)
    for _ in range(PASSES):
        before = best
        for number, row in enumerate(rows):
            if row["name"] in UNFITTED or not origin[number]:
                continue
            kept = values[number]
            for factor in FACTORS:
                values[number] = kept * factor
                loss = _loss(rows, values, origin, cases)
                if loss < best:
                    best, kept_now = loss, values[number]
                    kept = kept_now
            values[number] = kept
        if before - best < 1e-4:
            break
    return _with_bounds(rows, values, origin, cases)


def _loss(
    rows: Sequence[Row], values: Sequence[float], origin: Sequence[float], cases: Sequence[Case]
) -> float:
    total = 0.0
    with coefficients.use(_text(rows, values, values, len(cases))):
        for case in cases:
            expected, _ = case.forecast()
            total += min(OUTLIER, abs(expected - case.measured) / case.measured)
    pull = sum(abs(value / first - 1) for value, first in zip(values, origin, strict=True) if first)
    return total / max(1, len(cases)) + PULL * pull


def _with_bounds(
    rows: Sequence[Row], values: Sequence[float], origin: Sequence[float], cases: Sequence[Case]
) -> str:
    gaps = [float(row["high"]) - first for row, first in zip(rows, origin, strict=True)]
    texts, above = [], []
    for scale in SCALES:
        highs = [
            value + gap * (1 if row["name"] in UNFITTED else scale)
            for row, value, gap in zip(rows, values, gaps, strict=True)
        ]
        texts.append(_text(rows, values, highs, len(cases)))
        with coefficients.use(texts[-1]):
            above.append(sum(case.forecast()[1] > case.measured for case in cases))
    allowed = above[-1] + len(cases) // 100
    return texts[next(number for number, count in enumerate(above) if count <= allowed)]


def _text(rows: Sequence[Row], values: Sequence[float], highs: Sequence[float], starts: int) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row, value, high in zip(rows, values, highs, strict=True):
        fitted = row["name"] not in UNFITTED
        note = f"fitted to {starts} logged starts from: " if fitted else ""
        writer.writerow(
            {
                **row,
                "expected": f"{value:.5g}",
                "high": f"{max(high, value):.5g}",
                "source": note + row["source"],
            }
        )
    return buffer.getvalue()


@click.command()
@click.option("--write", is_flag=True, help="Replace coefficients.csv.")
def main(*, write: bool) -> None:
    """Fit to the committed logs and print or write the coefficients."""
    import support_logs

    text = fit(support_logs.scored(support_logs.read_rows(support_logs.LOGS)))
    if write:
        TARGET.write_text(text, encoding="utf-8")
    else:
        click.echo(text)


if __name__ == "__main__":
    main()
