"""How fast a layout answers: the search prefers by it, and the plan tells it."""

from __future__ import annotations

from vllm_operator.engine.tables import does
from vllm_operator.hardware import performance as gpu_performance
from vllm_operator.hardware.measured import MeasuredGPU, of_product
from vllm_operator.hardware.performance import GPUPerformance
from vllm_operator.sizing.asked.extra_arguments import ASYNC
from vllm_operator.sizing.asked.specification import Asked
from vllm_operator.sizing.asked.speculation import goes_asynchronously
from vllm_operator.sizing.performance.batch import PerformanceEstimate
from vllm_operator.sizing.performance.drafting import Drafted, draft_work
from vllm_operator.sizing.performance.estimate import server_of
from vllm_operator.sizing.performance.measured import as_measured
from vllm_operator.sizing.performance.server import Server

from .prefixes import cached_tokens, prefixes_of
from .search import Layout


def estimated(
    asked: Asked,
    layout: Layout,
    gpu: GPUPerformance,
    prompt: int,
    output: int,
    concurrency: int,
) -> PerformanceEstimate:
    """What a layout does with so many requests of so many tokens at once.

    With the prefix that is expected to be shared, and with drafts where ``spec.workload`` says how
    many of them are accepted.
    """
    found = served(asked, layout, gpu, asked.load.draft_acceptance)
    return found.steady(prompt, output, concurrency, cached_of(asked, layout, prompt))


def cached_of(asked: Asked, layout: Layout, prompt: int) -> int:
    """Tokens of an expected prompt of ``prompt`` tokens that are found in the prefix cache."""
    prefixes = prefixes_of(asked, first_engine=layout.cache.settings.first_engine)
    return cached_tokens(prefixes, layout.cache, min(asked.load.shared_tokens, prompt - 1))


def served(
    asked: Asked,
    layout: Layout,
    gpu: GPUPerformance,
    acceptance: float | None,
) -> Server:
    """A layout, ready to be asked for times; without drafts where ``acceptance`` is None, else
    with that share of them accepted."""
    drafts = None if acceptance is None else _drafted(asked, layout, acceptance)
    ahead = _schedules_ahead(asked, layout)
    if drafts is not None and ahead is None and not _drafts_ahead(asked):
        ahead = False
    return server_of(
        asked.architecture,
        gpu,
        layout.parallelism,
        nodes=layout.division.nodes,
        element_bytes=layout.element_bytes,
        kv_element_bytes=layout.kv_element_bits / 8,
        version=asked.version,
        max_num_batched_tokens=layout.max_num_batched_tokens.value,
        max_num_seqs=layout.admitted,
        enforce_eager=not asked.captures_graphs,
        async_scheduling=ahead,
        drafted=drafts,
        stated_graph=asked.features.extra_arguments.largest_graph,
    )


def _drafted(asked: Asked, layout: Layout, acceptance: float) -> Drafted | None:
    speculation = asked.features.speculation
    if speculation is None:
        return None
    work = draft_work(
        asked.architecture,
        layout.parallelism,
        one_by_one=speculation.loads == "own",
        element_bytes=layout.element_bytes,
        kv_element_bytes=layout.kv_element_bits / 8,
    )
    return Drafted(speculation.tokens, acceptance * speculation.tokens, work)


def _drafts_ahead(asked: Asked) -> bool:
    speculation = asked.features.speculation
    return speculation is None or goes_asynchronously(speculation.method, asked.version)


def measured_gpu(asked: Asked, layout: Layout) -> MeasuredGPU | None:
    """What was measured of the layout's GPU, where its speed is known at all."""
    return of_product(asked.measured_gpus, layout.gpu.offer.product)


def performance_of(asked: Asked, layout: Layout) -> GPUPerformance | None:
    """What the layout's GPU can do: as it was measured, else by its datasheet; None if unknown."""
    gpu = gpu_performance.find(layout.gpu.offer.product)
    if gpu is None:
        return None
    return as_measured(gpu, measured_gpu(asked, layout), asked.version)


def asks_to_schedule_ahead(asked: Asked, layout: Layout) -> bool:
    """Whether ``--async-scheduling`` is asked for where vLLM would not do it by itself."""
    features = asked.features
    return (
        features.profile.fast
        and does("schedules-ahead-when-asked", asked.version)
        and features.speculation is None
        and layout.parallelism.pipeline == 1
        and not asked.architecture.pooling
        and ASYNC not in features.extra_arguments.names
    )


def _schedules_ahead(asked: Asked, layout: Layout) -> bool | None:
    """Whether the next step is scheduled while one runs; None where that is the version's own."""
    if ASYNC in asked.features.extra_arguments.names:
        return asked.features.extra_arguments.asynchronous
    return True if asks_to_schedule_ahead(asked, layout) else None


def seconds_of_answer(asked: Asked, layout: Layout) -> float | None:
    """Seconds of one expected answer under the expected load, or alone where none is stated.

    None where nothing is known of the GPU.
    """
    gpu = performance_of(asked, layout)
    if gpu is None or asked.architecture.pooling:
        return None
    load = asked.load
    concurrency = (load.concurrency or 1) * asked.pins.ranks
    found = estimated(asked, layout, gpu, load.prompt_tokens, load.output_tokens, concurrency)
    return found.time_to_first_token + load.output_tokens * found.inter_token_latency
