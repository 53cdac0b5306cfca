"""Chooses among layouts, and says why not the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from vllm_operator.api.plan import RejectedCandidate
from vllm_operator.errors import IllegalPin, Infeasible, PlanningError
from vllm_operator.hardware.prices import PRODUCTS_FIELD
from vllm_operator.sizing.asked.gpu_candidates import GPUCandidate
from vllm_operator.sizing.asked.specification import Asked
from vllm_operator.sizing.asked.workload_profiles import ENOUGH_CONTEXT, WORTH_SECONDS
from vllm_operator.sizing.split.divisions import Division, divisions

from .money import Priced, pricing
from .remedies import nodes_looked_at, problem_of
from .search import Layout, Rejection, find_suited_layout
from .speed import seconds_of_answer
from .suitability import unsuited_because

REJECTED_LIMIT = 32
WORTH_STAGES = 1.5
"""How much longer requests must be that nobody pinned for pipeline stages to be worth it: a token
passes through one stage after the other, so that each takes as long as without the further GPUs."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The layout that is taken, or the problem that stops them all."""

    taken: Layout | PlanningError
    rejected: list[RejectedCandidate]


def choose(
    asked: Asked,
    candidates: tuple[GPUCandidate, ...],
    preferred: str | None,
    max_nodes: int,
) -> Choice:
    """The layout with the fewest GPUs that holds a whole request, else the longest requests.

    Tensor parallelism in one node goes before stages, one node before several: where any product
    holds a whole request without them, they are not looked at. Ties go to the product with more
    GPUs in the cluster, then by name. The ``preferred`` product is kept as long as anything fits
    on it.
    """
    products = [_Product(asked, candidate, max_nodes) for candidate in candidates]
    for product in products:
        product.try_tensor()
    whole = any(product.whole for product in products)
    for product in products:
        if not whole or product.name == preferred:
            product.try_stages()
    for product in products:
        product.hasten()
    fitting = [product.best for product in products if product.best is not None]
    rejections = [rejection for product in products for rejection in product.rejected()]
    if not fitting:
        problem = problem_of(asked, candidates, rejections, max_nodes)
        return Choice(problem, _listed(rejections, REJECTED_LIMIT))
    kept = [layout for layout in fitting if layout.gpu.offer.product == preferred]
    money = pricing(asked, fitting)
    best = min(kept or fitting, key=_ranking(asked, money))
    others = [
        _candidate(
            layout.gpu,
            layout.division,
            _dearer(layout, best, money, kept=bool(kept))
            or _not_taken(asked, layout, best, kept=bool(kept)),
        )
        for layout in fitting
        if layout is not best
    ]
    return Choice(best, others + _listed(rejections, REJECTED_LIMIT - len(others)))


class _Product:
    """The search on one product."""

    def __init__(self, asked: Asked, candidate: GPUCandidate, max_nodes: int) -> None:
        self.asked, self.candidate = asked, candidate
        nodes = nodes_looked_at(asked, candidate, max_nodes)
        self.found = divisions(
            asked.architecture,
            asked.pins,
            candidate.largest_world,
            nodes,
            asked.whole_experts,
        )
        self._unsuited = unsuited_because(asked, candidate)
        self.best: Layout | None = None
        self._rejections: list[Rejection] = []

    @property
    def name(self) -> str:
        return self.candidate.offer.product

    @property
    def whole(self) -> bool:
        """Whether a layout was found that is not left for a longer context."""
        best = self.best
        return best is not None and (best.whole_context or self._enough(best))

    def try_tensor(self) -> None:
        """Tensor parallelism in one node."""
        self.best = self._first_whole(self.found.tensor)

    def try_stages(self) -> None:
        """Stages in one node; several nodes only where one holds nothing.

        A model that one node serves with a shorter context is no reason to take two that nobody
        asked for.
        """
        staged = self.found.staged
        for single in (False, True):
            # Stages of one GPU each make the most of them, and are looked at last.
            tried = tuple(one for one in staged if (one.parallelism.tensor == 1) is single)
            if self.whole or not tried:
                continue
            layout = self._first_whole(tried)
            if layout is None or self.best is None:
                self.best = layout or self.best
            else:
                self.best = _worth(self.best, layout, self._rejections)
        if self.best is None:
            self.best = self._first_whole(self.found.several_nodes)
        elif self.asked.features.profile.whole and not self.whole:
            further = self._first_whole(self.found.several_nodes)
            if further is not None and further.whole_context:
                self._rejections.append(_shorter(self.best))
                self.best = further

    def hasten(self) -> None:
        """More tensor parallelism inside the node, as long as it makes answers noticeably faster.

        Only where the profile asks for it, nobody pinned the size, and the GPU's speed is known.
        """
        profile, first = self.asked.features.profile, self.best
        if not profile.fast or first is None or self.asked.pins.tensor is not None:
            return
        if first.division.nodes > 1 or first.parallelism.pipeline > 1:
            return
        taken = seconds_of_answer(self.asked, first)
        if taken is None:
            return
        for division in self.found.tensor:
            if division.gpus <= first.division.gpus:
                continue
            layout = self._find(division)
            if isinstance(layout, Rejection):
                continue
            seconds = seconds_of_answer(self.asked, layout)
            assert self.best is not None
            if seconds is not None and seconds <= WORTH_SECONDS * taken:
                self._rejections.append(_slower(self.best, taken, seconds))
                self.best, taken = replace(layout, hastened=True), seconds

    def rejected(self) -> Iterator[Rejection]:
        """What does not fit, and what is illegal below the size that is taken.

        Why not six is of interest where eight are taken, and not where two are.
        """
        yield from self._rejections
        for division, why in self.found.illegal:
            if self.best is None or division.gpus < self.best.division.gpus:
                problem = IllegalPin("spec.parallelism.tensor", why)
                yield Rejection(self.candidate, division, problem, illegal=True)

    def _find(self, division: Division) -> Layout | Rejection:
        if self._unsuited is not None:
            return Rejection(self.candidate, division, self._unsuited)
        return find_suited_layout(self.asked, self.candidate, division)

    def _first_whole(self, tried: tuple[Division, ...]) -> Layout | None:
        """The first layout with the whole context, else the one with the longest."""
        partial: list[Layout] = []
        for division in tried:
            layout = self._find(division)
            if isinstance(layout, Rejection):
                self._rejections.append(layout)
            elif layout.whole_context or self._enough(layout):
                self._rejections += [_shorter(shorter) for shorter in partial]
                return layout
            else:
                partial.append(layout)
        if not partial:
            return None
        best = min(partial, key=lambda one: (-one.max_model_len.value, one.division.gpus))
        self._rejections += [_shorter(layout) for layout in partial if layout is not best]
        return best

    def _enough(self, layout: Layout) -> bool:
        """Whether a shorter context does: nobody asked for it, and the profile is for cost."""
        asked = self.asked
        if not asked.features.profile.cheap or asked.engine.max_model_len is not None:
            return False
        load = asked.load
        needed = load.tokens if load.stated else ENOUGH_CONTEXT
        return layout.max_model_len.value >= needed


def _worth(fewer: Layout, more: Layout, rejections: list[Rejection]) -> Layout:
    """The layout with more stages if they are worth it, else the one with fewer."""
    longest, other = fewer.max_model_len.value, more.max_model_len.value
    if other >= WORTH_STAGES * longest:
        rejections.append(_shorter(fewer))
        return more
    text = f"holds requests of {other} tokens, where {longest} fit with fewer stages, sooner"
    problem = Infeasible("spec.engine.maxModelLen", text)
    rejections.append(Rejection(more.gpu, more.division, problem, other))
    return fewer


def _slower(layout: Layout, seconds: float, faster: float) -> Rejection:
    text = f"fits, and answers in {seconds:.3g} s what takes {faster:.3g} s with more GPUs"
    return Rejection(layout.gpu, layout.division, Infeasible("spec.workload.profile", text))


def _ranking(
    asked: Asked, money: tuple[Priced, str] | None = None
) -> Callable[[Layout], tuple[float | str, ...]]:
    """Which layouts go first: the smallest key."""
    profile = asked.features.profile

    def rank(layout: Layout) -> tuple[float | str, ...]:
        nodes, whole, length, gpus, name = _rank(layout)
        if money is not None:
            price = money[0](layout)
            paid = math.inf if price is None else price
            return nodes, paid, gpus, gpus * layout.gpu.offer.memory_bytes, whole, length, name
        if profile.cheap:
            return nodes, gpus, gpus * layout.gpu.offer.memory_bytes, whole, length, name
        if profile.whole:
            return whole, nodes, length, gpus, name
        if profile.fast:
            seconds = seconds_of_answer(asked, layout)
            return nodes, whole, length, math.inf if seconds is None else seconds, gpus, name
        return nodes, whole, length, gpus, name

    return rank


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


def _dearer(
    layout: Layout, best: Layout, money: tuple[Priced, str] | None, *, kept: bool
) -> str | None:
    """That a layout was not taken for its price; None where that is not why."""
    if money is None or kept or (layout.division.nodes > 1) is not (best.division.nodes > 1):
        return None
    prices, unit = money
    price, least = prices(layout), prices(best)
    if least is None or price == least:
        return None
    if price is None:
        return f"fits, and no price of it is given ({PRODUCTS_FIELD})"
    return f"fits at {price:.3g} {unit}; the one taken at {least:.3g}"


def _not_taken(asked: Asked, layout: Layout, best: Layout, *, kept: bool) -> str:
    needed, enough = layout.division, best.division
    if kept:
        return f"fits, and the server already runs on {best.gpu.offer.product}"
    if needed.nodes > 1 and enough.nodes == 1:
        return f"fits on {needed.nodes} nodes, and one of {best.gpu.offer.product} is enough"
    if best.whole_context and not layout.whole_context:
        return f"requests of at most {layout.max_model_len.value} tokens fit"
    if layout.max_model_len.value < best.max_model_len.value:
        return f"fits requests of {layout.max_model_len.value} tokens, less than the one taken"
    if asked.features.profile.fast:
        taken, faster = seconds_of_answer(asked, layout), seconds_of_answer(asked, best)
        if taken is not None and faster is not None:
            return f"fits, and answers in {taken:.3g} s; the one taken in {faster:.3g} s"
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
