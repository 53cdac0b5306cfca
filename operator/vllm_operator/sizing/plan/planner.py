"""From a specification and pinned inputs to a plan: total, pure and deterministic."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

from vllm_operator.api.canonical import canonical_json
from vllm_operator.api.plan import SCHEMA_VERSION, Plan, Problem, RejectedCandidate
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.errors import PlanningError
from vllm_operator.hardware import catalogue as gpu_catalogue
from vllm_operator.hardware import performance as gpu_performance
from vllm_operator.sizing.asked.gpu_candidates import GPUCandidate, gpu_candidates
from vllm_operator.sizing.asked.inputs import PlanningInputs
from vllm_operator.sizing.asked.specification import Asked, read_specification
from vllm_operator.sizing.asked.speculation import draft_fingerprint
from vllm_operator.sizing.asked.storage import ephemeral_limit, planned_storage, spread_problem
from vllm_operator.sizing.layout.choice import choose
from vllm_operator.sizing.layout.search import Layout
from vllm_operator.sizing.memory.coefficients import fingerprint as memory_fingerprint
from vllm_operator.sizing.performance.coefficients import fingerprint as performance_fingerprint

from . import command, ledger
from .node_flags import ranks_problem
from .startup import fingerprint as startup_fingerprint
from .startup import startup

PROBLEM_LIMIT: Final = 16
NOT_PLANNED: Final = ("replicas", "paused", "pod")
"""Parts of a specification that no plan depends on; of the pod only the room on the node's disk."""


def make_plan(server: VLLMServer, inputs: PlanningInputs) -> Plan:
    """The plan of one server.

    Every specification gives a plan: one that cannot be carried out has ``feasible`` false and
    says why in ``problems``.
    """
    asked, problems = read_specification(server, inputs)
    candidates: tuple[GPUCandidate, ...] = ()
    try:
        candidates = gpu_candidates(server.spec.gpu, inputs)
    except PlanningError as problem:
        problems.append(problem)
    if asked is None or problems:
        return infeasible_plan(server, inputs, problems, [])
    gpu = server.spec.gpu
    preferred = inputs.preferred_product if gpu is None or gpu.product is None else None
    choice = choose(asked, candidates, preferred, inputs.max_nodes)
    if choice.layout is None:
        stopped = [choice.problem] if choice.problem else []
        return infeasible_plan(server, inputs, stopped, choice.rejected)
    nodes = choice.layout.division.nodes
    spread = (spread_problem(server.spec, inputs.claim, nodes), ranks_problem(choice.layout))
    if any(spread):
        stopped = [problem for problem in spread if problem is not None]
        return infeasible_plan(server, inputs, stopped, choice.rejected)
    return _feasible(asked, choice.layout, inputs, choice.rejected)


def inputs_hash(server: VLLMServer, inputs: PlanningInputs) -> str:
    """Hash of what the planner is given, by parsed values: the specification but for NOT_PLANNED,
    the inputs, and the figures that are fitted or measured."""
    spec = server.spec.to_json_object()
    for name in NOT_PLANNED:
        spec.pop(name, None)
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
        startup_fingerprint(),
    ]
    draft = draft_fingerprint(server.spec.engine)
    if draft is not None:
        document.append(draft)
    disk = ephemeral_limit(server.spec)
    if disk is not None:
        document.append(["ephemeral-storage", disk])
    return hashlib.sha256(canonical_json(document).encode()).hexdigest()


def _feasible(
    asked: Asked, layout: Layout, inputs: PlanningInputs, rejected: list[RejectedCandidate]
) -> Plan:
    start = startup(asked, layout)
    arguments = command.flags(asked, layout)
    bytes_of_gpu = ledger.memory_ledger(layout)
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
        performance=ledger.expected_performance(asked, layout, bytes_of_gpu),
        storage=planned_storage(asked.spec, inputs.claim),
        startup=start,
        flags=arguments,
        rejected=rejected,
    )


def infeasible_plan(
    server: VLLMServer,
    inputs: PlanningInputs,
    problems: Iterable[PlanningError],
    rejected: list[RejectedCandidate],
) -> Plan:
    """A plan that says why there is none."""
    return Plan(
        schema_version=SCHEMA_VERSION,
        inputs_hash=inputs_hash(server, inputs),
        name=server.metadata.name[:253],
        namespace=server.metadata.namespace[:253],
        feasible=False,
        rejected=rejected,
        problems=[
            Problem(
                field=problem.field[:200],
                reason=problem.reason,
                message=_bounded(problem.message),
            )
            for problem in problems
        ][:PROBLEM_LIMIT],
    )


def _bounded(message: str, limit: int = 1024) -> str:
    return message if len(message) <= limit else f"{message[: limit - 1]}…"
