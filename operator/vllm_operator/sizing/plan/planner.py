"""From a specification and pinned inputs to a plan: total, pure and deterministic."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from vllm_operator.api.canonical import canonical_json
from vllm_operator.api.plan import (
    PROBLEM_LIMIT,
    SCHEMA_VERSION,
    Plan,
    Problem,
    RejectedCandidate,
    Unplanned,
)
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.errors import PlanningError
from vllm_operator.hardware import catalogue as gpu_catalogue
from vllm_operator.hardware import performance as gpu_performance
from vllm_operator.hardware.nodes import GPUOffer
from vllm_operator.sizing.asked.gpu_candidates import GPUCandidate, gpu_candidates
from vllm_operator.sizing.asked.inputs import PlanningInputs
from vllm_operator.sizing.asked.specification import Asked, read_specification
from vllm_operator.sizing.asked.speculation import draft_fingerprint
from vllm_operator.sizing.asked.storage import ephemeral_limit, planned_storage, spread_problem
from vllm_operator.sizing.layout.choice import choose
from vllm_operator.sizing.layout.search import Layout
from vllm_operator.sizing.memory.coefficients import fingerprint as memory_fingerprint
from vllm_operator.sizing.performance.coefficients import fingerprint as performance_fingerprint
from vllm_operator.sizing.performance.intervals import fingerprint as intervals_fingerprint
from vllm_operator.sizing.performance.measured import fingerprint as measured_fingerprint

from . import command, ledger
from .advice import advice_on
from .expected import expected_cost, expected_performance
from .node_flags import ranks_problem
from .startup import fingerprint as startup_fingerprint
from .startup import startup

NOT_PLANNED: Final = ("replicas", "paused", "pod", "autotune")
"""Parts of a specification that no plan depends on, beside the objective of its workload; of the
pod only the room on the node's disk."""


@dataclass(frozen=True, slots=True)
class Sized:
    """A plan, and the GPUs that it was made for."""

    plan: Plan
    gpu: GPUOffer
    """What pods ask for, and the labels of the nodes that have it."""


def make_plan(server: VLLMServer, inputs: PlanningInputs) -> Plan | Unplanned:
    """The plan of one server, or why there is none: every specification gives one or the other."""
    found = size(server, inputs)
    return found.plan if isinstance(found, Sized) else found


def size(server: VLLMServer, inputs: PlanningInputs) -> Sized | Unplanned:
    """``make_plan``, with the GPUs that were chosen."""
    asked, problems = read_specification(server, inputs)
    candidates: tuple[GPUCandidate, ...] = ()
    try:
        candidates = gpu_candidates(server.spec.gpu, inputs)
    except PlanningError as problem:
        problems.append(problem)
    if asked is None or problems:
        return unplanned(server, inputs, problems)
    gpu = server.spec.gpu
    preferred = inputs.preferred_product if gpu is None or gpu.product is None else None
    choice = choose(asked, candidates, preferred, inputs.max_nodes)
    layout = choice.taken
    if isinstance(layout, PlanningError):
        return unplanned(server, inputs, [layout], choice.rejected)
    spread = spread_problem(server.spec, inputs.claim, layout.division.nodes)
    stopped = [
        problem
        for problem in (
            spread,
            ranks_problem(layout),
            command.active_problem(layout),
            command.threshold_problem(asked, layout),
        )
        if problem is not None
    ]
    if stopped:
        return unplanned(server, inputs, stopped, choice.rejected)
    return Sized(_plan(asked, layout, inputs, choice.rejected), layout.gpu.offer)


def inputs_hash(server: VLLMServer, inputs: PlanningInputs) -> str:
    """Hash of what the planner is given, by parsed values: the specification but for NOT_PLANNED,
    the inputs, and the figures that are fitted or measured."""
    spec = server.spec.to_json_object()
    for name in NOT_PLANNED:
        spec.pop(name, None)
    workload = spec.get("workload", {})
    if workload.pop("slo", None) and not workload:
        spec.pop("workload")
    document = [
        SCHEMA_VERSION,
        server.metadata.namespace,
        server.metadata.name,
        spec,
        inputs.to_json_object(),
        gpu_catalogue.fingerprint(),
        memory_fingerprint(),
        gpu_performance.fingerprint(),
        performance_fingerprint(),
        intervals_fingerprint(),
        startup_fingerprint(),
    ]
    if inputs.measured_gpus:
        document.append(measured_fingerprint())
    draft = draft_fingerprint(server.spec.engine)
    if draft is not None:
        document.append(draft)
    disk = ephemeral_limit(server.spec)
    if disk is not None:
        document.append(["ephemeral-storage", disk])
    return hashlib.sha256(canonical_json(document).encode()).hexdigest()


def _plan(
    asked: Asked, layout: Layout, inputs: PlanningInputs, rejected: list[RejectedCandidate]
) -> Plan:
    start = startup(asked, layout)
    arguments = command.flags(asked, layout)
    bytes_of_gpu = ledger.memory_ledger(layout)
    performance = expected_performance(asked, layout, bytes_of_gpu)
    return Plan(
        schema_version=SCHEMA_VERSION,
        inputs_hash=inputs_hash(asked.server, inputs),
        name=asked.server.metadata.name[:253],
        namespace=asked.server.metadata.namespace[:253],
        feasible=True,
        model=ledger.planned_model(asked),
        engine=command.planned_engine(asked, arguments, start),
        placement=ledger.placement(layout),
        memory=bytes_of_gpu,
        capacity=ledger.capacity(asked, layout, bytes_of_gpu),
        performance=performance,
        cost=expected_cost(asked, layout, performance),
        prefix_caching=ledger.prefix_caching(asked, layout),
        storage=planned_storage(
            asked.spec, inputs.claim, asked.download_bytes, command.buffer_bytes(asked, layout)
        ),
        startup=start,
        flags=arguments,
        advice=advice_on(asked, layout, inputs, performance),
        rejected=rejected,
    )


def unplanned(
    server: VLLMServer,
    inputs: PlanningInputs,
    problems: Iterable[PlanningError],
    rejected: Sequence[RejectedCandidate] = (),
) -> Unplanned:
    """Why a server has no plan."""
    return Unplanned(
        schema_version=SCHEMA_VERSION,
        inputs_hash=inputs_hash(server, inputs),
        name=server.metadata.name[:253],
        namespace=server.metadata.namespace[:253],
        feasible=False,
        rejected=list(rejected),
        problems=[Problem.of(problem) for problem in problems][:PROBLEM_LIMIT],
    )
