"""How fast a server would be with other limits of a batch: what tuning forecasts with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.engine.graphs import Graphs, graphs
from vllm_operator.sizing.asked.gpu_candidates import gpu_candidates
from vllm_operator.sizing.asked.inputs import PlanningInputs
from vllm_operator.sizing.asked.specification import read_specification
from vllm_operator.sizing.layout.choice import choose
from vllm_operator.sizing.layout.search import Layout
from vllm_operator.sizing.layout.speed import performance_of
from vllm_operator.sizing.performance.server import Server, server
from vllm_operator.sizing.performance.work import work_of


@dataclass(frozen=True, slots=True)
class Described:
    """A server whose steps are described by the performance model."""

    at: Callable[[int, int], Server]
    """With so many sequences at once and so many tokens in a step, of one engine."""
    graphs: Graphs
    safe_utilization: float
    """The largest that leaves room for what the profiling run does not count."""


def described(spec: VLLMServer, inputs: PlanningInputs) -> Described | None:
    """What is known of a planned server's speed; None where the model does not describe it.

    It describes one engine on one node that generates one token a step for each request: no
    stages, no data-parallel ranks, no drafts, no pictures, no pooling.
    """
    asked, problems = read_specification(spec, inputs)
    if asked is None or problems:
        return None
    preferred = inputs.preferred_product
    layout = choose(asked, gpu_candidates(spec.spec.gpu, inputs), preferred, inputs.max_nodes).taken
    if not isinstance(layout, Layout):
        return None
    gpu = performance_of(asked, layout)
    split = layout.parallelism
    engine = spec.spec.engine
    plain = split.pipeline == split.data == 1 and layout.division.nodes == 1
    drafts = engine is not None and engine.speculative is not None
    sees = asked.architecture.pooling or asked.architecture.multimodal
    if gpu is None or not plain or drafts or sees:
        return None
    work = work_of(
        asked.architecture,
        split,
        element_bytes=layout.element_bytes,
        kv_element_bytes=layout.kv_element_bits / 8,
    )

    stated = asked.features.extra_arguments.largest_graph

    def at(seqs: int, tokens: int) -> Server:
        return server(
            work,
            gpu,
            version=asked.version,
            max_num_batched_tokens=tokens,
            max_num_seqs=seqs,
            enforce_eager=not asked.captures_graphs,
            stated_graph=stated,
        )

    own = graphs(asked.version, gpu.compute_capability, stated)
    return Described(at, own, layout.safe_utilization)
