"""Chooses among layouts, and says why not the others."""

from __future__ import annotations

from dataclasses import dataclass

from vllm_operator.api.plan import RejectedCandidate
from vllm_operator.errors import IllegalPin, Infeasible, PlanningError

from .divisions import Division, Divisions, divisions
from .gpus import GPUCandidate
from .layout import Layout, Rejection, find_layout
from .remedies import problem_of
from .request import Request

REJECTED_LIMIT = 32


@dataclass(frozen=True, slots=True)
class Choice:
    """The layout that is taken, or the problem that stops them all."""

    layout: Layout | None
    problem: PlanningError | None
    rejected: list[RejectedCandidate]


def choose(
    request: Request,
    candidates: tuple[GPUCandidate, ...],
    preferred: str | None,
    max_nodes: int,
) -> Choice:
    """The layout with the fewest GPUs that holds a whole request, else the longest requests.

    What asks for no more than one node goes before what needs several. Ties go to the product with
    more GPUs in the cluster, then by name. The ``preferred`` product is kept as long as anything
    fits on it.
    """
    fitting: list[Layout] = []
    rejections: list[Rejection] = []
    for candidate in candidates:
        layout = _best_on(request, candidate, max_nodes, rejections)
        if layout is not None:
            fitting.append(layout)
    if not fitting:
        problem = problem_of(request, candidates, rejections, max_nodes)
        return Choice(None, problem, _listed(rejections, REJECTED_LIMIT))
    kept = [layout for layout in fitting if layout.gpu.offer.product == preferred]
    best = min(kept or fitting, key=_rank)
    others = [
        _candidate(layout.gpu, layout.division, _not_taken(layout, best, kept=bool(kept)))
        for layout in fitting
        if layout is not best
    ]
    return Choice(best, None, others + _listed(rejections, REJECTED_LIMIT - len(others)))


def _best_on(
    request: Request, candidate: GPUCandidate, max_nodes: int, rejections: list[Rejection]
) -> Layout | None:
    """The first layout on a product with the whole context, else the one with the longest.

    Several nodes are looked at only where one holds nothing: a model that one node serves with a
    shorter context is no reason to take two that nobody asked for.
    """
    nodes = 1 if candidate.offer.is_partition else max_nodes
    world, pins = candidate.largest_world, request.pins
    found = divisions(request.architecture, pins, world, nodes, request.whole_experts)
    rejected: list[Rejection] = []
    best = _first_whole(request, candidate, found, rejected)
    for division, why in found.illegal:
        # Why not six is of interest where eight are taken, and not where two are.
        if best is None or division.gpus < best.division.gpus:
            problem = IllegalPin("spec.parallelism.tensor", why)
            rejected.append(Rejection(candidate, division, problem, illegal=True))
    rejections.extend(rejected)
    return best


def _first_whole(
    request: Request, candidate: GPUCandidate, found: Divisions, rejections: list[Rejection]
) -> Layout | None:
    for tried in (found.one_node, found.several_nodes):
        partial: list[Layout] = []
        for division in tried:
            layout = find_layout(request, candidate, division)
            if isinstance(layout, Rejection):
                rejections.append(layout)
            elif layout.whole_context:
                rejections.extend(_shorter(shorter) for shorter in partial)
                return layout
            else:
                partial.append(layout)
        if partial:
            best = min(partial, key=lambda one: (-one.max_model_len.value, one.division.gpus))
            rejections.extend(_shorter(layout) for layout in partial if layout is not best)
            return best
    return None


def _rank(layout: Layout) -> tuple[bool, int, int, int, str]:
    offer = layout.gpu.offer
    length = 0 if layout.whole_context else -layout.max_model_len.value
    whole = 0 if layout.whole_context else 1
    return (
        layout.division.nodes > 1,
        whole,
        length,
        layout.division.gpus,
        f"{10**9 - offer.nodes * offer.per_node:012}{offer.product}",
    )


def _not_taken(layout: Layout, best: Layout, *, kept: bool) -> str:
    needed, enough = layout.division, best.division
    if kept:
        return f"fits, and the server already runs on {best.gpu.offer.product}"
    if needed.nodes > 1 and enough.nodes == 1:
        return f"fits on {needed.nodes} nodes, and one of {best.gpu.offer.product} is enough"
    if best.whole_context and not layout.whole_context:
        return f"requests of at most {layout.max_model_len.value} tokens fit"
    if layout.max_model_len.value < best.max_model_len.value:
        return f"fits requests of {layout.max_model_len.value} tokens, less than the one taken"
    if needed.gpus > enough.gpus:
        return f"fits, and needs {needed.gpus} GPUs where {enough.gpus} are enough"
    return "fits as well; the cluster has more of the one taken, or its name comes first"


def _shorter(layout: Layout) -> Rejection:
    problem = Infeasible(
        "spec.engine.maxModelLen",
        f"holds requests of at most {layout.max_model_len.value} tokens",
    )
    return Rejection(layout.gpu, layout.division, problem, layout.max_model_len.value)


def _listed(rejections: list[Rejection], limit: int) -> list[RejectedCandidate]:
    """What does not fit, before what is illegal anyway where there is no room for all."""
    kept = sorted(rejections, key=lambda r: r.illegal)[: max(0, limit)]
    kept.sort(
        key=lambda r: (
            r.gpu.offer.product,
            r.division.nodes,
            r.division.gpus,
            r.division.parallelism.tensor,
        )
    )
    return [_candidate(r.gpu, r.division, r.problem.message) for r in kept]


def _candidate(gpu: GPUCandidate, division: Division, reason: str) -> RejectedCandidate:
    return RejectedCandidate(
        gpu=gpu.offer.product[:63],
        tensor=division.parallelism.tensor,
        pipeline=division.parallelism.pipeline,
        nodes=division.nodes,
        reason=reason[:512],
    )
