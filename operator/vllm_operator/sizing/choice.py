"""Chooses among layouts, and says why not the others."""

from __future__ import annotations

from dataclasses import dataclass

from vllm_operator.api.plan import RejectedCandidate
from vllm_operator.errors import IllegalPin, Infeasible, PlanningError

from .gpus import GPUCandidate
from .layout import Layout, Rejection, find_layout, gib
from .parallelism import legal_sizes
from .request import Request

REJECTED_LIMIT = 32
FINAL_FIELDS = frozenset({"spec.gpu.product", "spec.engine.gpuMemoryUtilization"})
"""Problems whose message says already what works; the smallest layout's is the one to show."""
LARGEST_NODE = 16
"""GPUs of the largest node that a message suggests."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The layout that is taken, or the problem that stops them all."""

    layout: Layout | None
    problem: PlanningError | None
    rejected: list[RejectedCandidate]


def choose(request: Request, candidates: tuple[GPUCandidate, ...], preferred: str | None) -> Choice:
    """The layout with the fewest GPUs that holds a whole request, else the longest requests.

    Ties go to the product with more GPUs in the cluster, then by name. The ``preferred`` product
    is kept as long as anything fits on it.
    """
    fitting: list[Layout] = []
    rejections: list[Rejection] = []
    for candidate in candidates:
        layout = _best_on(request, candidate, rejections)
        if layout is not None:
            fitting.append(layout)
    if not fitting:
        problem = _problem(request, candidates, rejections)
        return Choice(None, problem, _listed(rejections)[:REJECTED_LIMIT])
    kept = [layout for layout in fitting if layout.gpu.offer.product == preferred]
    best = min(kept or fitting, key=_rank)
    others = [
        RejectedCandidate(
            gpu=layout.gpu.offer.product,
            tensor=layout.tensor,
            pipeline=1,
            nodes=1,
            reason=_not_taken(layout, best, kept=bool(kept)),
        )
        for layout in fitting
        if layout is not best
    ]
    return Choice(best, None, (others + _listed(rejections))[:REJECTED_LIMIT])


def _best_on(
    request: Request, candidate: GPUCandidate, rejections: list[Rejection]
) -> Layout | None:
    """The smallest layout on a product with the whole context, else the one with the longest."""
    partial: list[Layout] = []
    largest = candidate.largest_world
    if request.tensor is not None and request.tensor > largest:
        rejections.append(Rejection(candidate, request.tensor, _too_many(request, candidate)))
        return None
    sizes = [request.tensor] if request.tensor is not None else range(1, largest + 1)
    for tensor in sizes:
        found = find_layout(request, candidate, tensor)
        if isinstance(found, Rejection):
            rejections.append(found)
        elif found.whole_context:
            rejections.extend(_shorter(layout) for layout in partial)
            return found
        else:
            partial.append(found)
    if not partial:
        return None
    best = min(partial, key=lambda layout: (-layout.max_model_len.value, layout.tensor))
    rejections.extend(_shorter(layout) for layout in partial if layout is not best)
    return best


def _rank(layout: Layout) -> tuple[int, int, int, str]:
    offer = layout.gpu.offer
    length = 0 if layout.whole_context else -layout.max_model_len.value
    whole = 0 if layout.whole_context else 1
    return (
        whole,
        length,
        layout.tensor,
        f"{10**9 - offer.nodes * offer.per_node:012}{offer.product}",
    )


def _not_taken(layout: Layout, best: Layout, *, kept: bool) -> str:
    if kept:
        return f"fits, and the server already runs on {best.gpu.offer.product}"
    if best.whole_context and not layout.whole_context:
        return f"requests of at most {layout.max_model_len.value} tokens fit"
    if layout.max_model_len.value < best.max_model_len.value:
        return f"fits requests of {layout.max_model_len.value} tokens, less than the one taken"
    if layout.tensor > best.tensor:
        return f"fits, and needs {layout.tensor} GPUs where {best.tensor} are enough"
    return "fits as well; the cluster has more of the one taken, or its name comes first"


def _shorter(layout: Layout) -> Rejection:
    problem = Infeasible(
        "spec.engine.maxModelLen",
        f"holds requests of at most {layout.max_model_len.value} tokens",
    )
    return Rejection(layout.gpu, layout.tensor, problem, layout.max_model_len.value)


def _listed(rejections: list[Rejection]) -> list[RejectedCandidate]:
    ordered = sorted(rejections, key=lambda r: (r.gpu.offer.product, r.tensor))
    return [_rejected(rejection) for rejection in ordered]


def _rejected(rejection: Rejection) -> RejectedCandidate:
    return RejectedCandidate(
        gpu=rejection.gpu.offer.product[:63],
        tensor=rejection.tensor,
        pipeline=1,
        nodes=1,
        reason=rejection.problem.message[:512],
    )


def _too_many(request: Request, candidate: GPUCandidate) -> IllegalPin:
    offer = candidate.offer
    largest = candidate.largest_world
    legal = legal_sizes(request.architecture, largest)[-1]
    if offer.is_partition:
        text = f"{offer.product} is a MIG slice, and slices cannot serve one model together"
    elif candidate.per_node_known:
        text = f"a node has {largest} {offer.product}, and a replica runs on one node"
    else:
        text = (
            f"nodes of {largest} {offer.product} are assumed; "
            "set spec.gpu.perNode if they are larger"
        )
    return IllegalPin(
        "spec.parallelism.tensor", f"is {request.tensor}: {text}; at most {legal} works here"
    )


def _problem(
    request: Request, candidates: tuple[GPUCandidate, ...], rejections: list[Rejection]
) -> PlanningError:
    """The one message for a user: the layout that came nearest, and what would work."""
    pins = [r for r in rejections if isinstance(r.problem, IllegalPin)]
    if request.tensor is not None and pins and len(pins) == len(rejections):
        return _illegal_tensor(request, candidates, pins[0])
    legal = [r for r in rejections if r.problem.field != "spec.parallelism.tensor"]
    refused = [r for r in legal if isinstance(r.problem, IllegalPin)]
    if refused and len(refused) == len(legal):
        return refused[0].problem
    if all(r.problem.field in FINAL_FIELDS for r in legal):
        return legal[0].problem if legal else rejections[0].problem
    nearest = max(legal, key=lambda r: (r.longest, r.tensor))
    offer = nearest.gpu.offer
    where = f"{nearest.tensor} x {offer.product}"
    text = f"does not fit: on {where}, {nearest.problem.message}"
    larger = _larger_node(request, nearest.gpu)
    if request.tensor is not None and larger is not None and larger <= nearest.gpu.largest_world:
        works = f"is {request.tensor}, and the model {text}. What works: {larger}"
        return Infeasible("spec.parallelism.tensor", works)
    return Infeasible(nearest.problem.field, f"{text}. {_remedy(request, nearest)}")


def _illegal_tensor(
    request: Request, candidates: tuple[GPUCandidate, ...], pin: Rejection
) -> PlanningError:
    if pin.problem.field != "spec.parallelism.tensor" or "at most" in pin.problem.message:
        return pin.problem
    largest = max(candidate.largest_world for candidate in candidates)
    legal = ", ".join(map(str, legal_sizes(request.architecture, largest)))
    return IllegalPin(
        "spec.parallelism.tensor",
        f"is {request.tensor}: {pin.problem.message}; vLLM accepts {legal} here",
    )


def _remedy(request: Request, nearest: Rejection) -> str:
    """What would work, from computing it: a shorter length, more GPUs in a node."""
    choices = []
    if nearest.longest >= 1 and request.engine.max_model_len is not None:
        choices.append(f"spec.engine.maxModelLen of at most {nearest.longest}")
    larger = _larger_node(request, nearest.gpu)
    if larger is not None:
        choices.append(f"{larger} {nearest.gpu.offer.product} in one node")
    if not choices:
        budget = nearest.gpu.offer.memory_bytes
        choices.append(f"GPUs with more memory than {gib(budget)}")
    return f"What works: {' or '.join(choices)}"


def _larger_node(request: Request, candidate: GPUCandidate) -> int | None:
    if candidate.offer.is_partition:
        return None
    smallest = candidate.largest_world + 1
    if request.tensor is not None:
        smallest = request.tensor + 1
    for tensor in range(smallest, LARGEST_NODE + 1):
        found = find_layout(request, candidate, tensor)
        if isinstance(found, Layout):
            return tensor
    return None
