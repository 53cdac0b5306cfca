"""The one message for a user where nothing fits: what came nearest, and what would work.

What would work is computed, not guessed: larger nodes, more nodes, shorter or fewer requests.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from vllm_operator.errors import IllegalPin, Infeasible, PlanningError

from .divisions import Division, Divisions, Pins, divisions
from .gpus import GPUCandidate
from .layout import Layout, Rejection, find_layout
from .parallelism import Parallelism, illegal_because, legal_sizes
from .pinned_limits import CONCURRENCY_FIELD, lower_limits
from .request import Request
from .utilization import gib

FINAL_FIELDS: Final = frozenset({"spec.gpu.product", "spec.engine.gpuMemoryUtilization"})
"""Problems whose message says already what works; the smallest layout's is the one to show."""
LARGEST_NODE: Final = 16
"""GPUs of the largest node that a message suggests."""
MOST_NODES: Final = 8
"""Nodes of the largest server that a message suggests."""
LARGEST_TENSOR: Final = 64
"""The largest size that the field takes."""
TENSOR_FIELD: Final = "spec.parallelism.tensor"
ONE_NODE: Final = "one node is looked at"


def problem_of(
    request: Request,
    candidates: tuple[GPUCandidate, ...],
    rejections: list[Rejection],
    max_nodes: int,
) -> PlanningError:
    """The problem to show of all that were met."""
    legal = [rejection for rejection in rejections if not rejection.illegal]
    if not legal:
        largest = max(candidates, key=lambda one: one.largest_world)
        if rejections:
            return _illegal(request, largest, rejections[0])
        return _too_many(request, largest, max_nodes)
    refused = [r for r in legal if isinstance(r.problem, IllegalPin)]
    if refused and len(refused) == len(legal):
        return refused[0].problem
    final = [r for r in legal if r.problem.field in FINAL_FIELDS]
    if final and not any(r.longest for r in legal):
        return final[0].problem
    nearest = max(legal, key=lambda r: (r.held, r.longest, r.division.gpus))
    where = f"{nearest.division.gpus} x {nearest.gpu.offer.product}"
    if nearest.division.nodes > 1 or nearest.division.parallelism.pipeline > 1:
        where += f" ({nearest.division})"
    text = f"does not fit: on {where}, {nearest.problem.message}"
    lowered = lower_limits(request, nearest, text)
    if lowered is not None:
        return lowered
    loosened = _without_tensor_pin(request, nearest.gpu)
    if loosened is not None:
        works = f"is {request.pins.tensor}, and the model {text}. What works: {loosened}"
        return Infeasible(TENSOR_FIELD, works)
    return Infeasible(nearest.problem.field, f"{text}. {_remedy(request, nearest, max_nodes)}")


def _illegal(request: Request, candidate: GPUCandidate, pin: Rejection) -> PlanningError:
    """A pinned size that vLLM refuses, with those that it accepts."""
    pins = request.pins
    legal = _legal(request, candidate.largest_world)
    accepted = ", ".join(map(str, legal))
    if pins.tensor is not None:
        return IllegalPin(
            TENSOR_FIELD,
            f"is {pins.tensor}: {pin.problem.message}; vLLM accepts {accepted} here",
        )
    accepted = ", ".join(map(str, _legal_data(request, candidate.largest_world)))
    return IllegalPin(
        "spec.parallelism.data",
        f"is {pins.data}: {pin.problem.message}, and no other tensor-parallel size is legal with "
        f"it either; vLLM accepts {accepted} here",
    )


def _legal_data(request: Request, largest: int) -> list[int]:
    """Data-parallel sizes with which some tensor-parallel size is legal; 1 is among them."""
    return [
        data
        for data in range(1, largest + 1)
        if _divided(request, replace(request.pins, data=data), largest, 1).one_node
    ]


def _legal(request: Request, largest: int) -> tuple[int, ...]:
    pins = request.pins
    if pins.ranks == 1 and pins.expert is None:
        return legal_sizes(request.architecture, largest)
    found = _divided(request, replace(pins, tensor=None, pipeline=None), largest, 1)
    return tuple(sorted({division.parallelism.tensor for division in found.one_node}))


def _divided(request: Request, pins: Pins, per_node: int, max_nodes: int) -> Divisions:
    return divisions(request.architecture, pins, per_node, max_nodes, request.whole_experts)


def _too_many(request: Request, candidate: GPUCandidate, max_nodes: int) -> IllegalPin:
    """Pins that ask for more GPUs than there may be."""
    offer, pins = candidate.offer, request.pins
    largest = candidate.largest_world
    nodes = 1 if offer.is_partition else max_nodes
    refused = _tensor_refused(request, largest, nodes)
    if refused is not None:
        return refused
    if offer.is_partition:
        text = f"{offer.product} is a MIG slice, and slices cannot serve one model together"
    elif max_nodes > 1:
        text = f"{max_nodes} nodes of {largest} {offer.product} cannot be divided evenly by it"
    elif candidate.per_node_known:
        text = f"a node has {largest} {offer.product}, and {ONE_NODE}"
    else:
        text = (
            f"nodes of {largest} {offer.product} are assumed; "
            "set spec.gpu.perNode if they are larger"
        )
    asked = [(name, size) for name, size in _sizes(pins) if size > 1]
    if len(asked) == 1 and asked[0][0] == "tensor":
        works = f"at most {_tensor_sizes(request, largest, nodes)[-1]} works here"
        return IllegalPin(TENSOR_FIELD, f"is {pins.tensor}: {text}; {works}")
    name, size = asked[-1]
    product = " x ".join(f"{other} {value}" for other, value in asked)
    others = 1
    for _, value in asked[:-1]:
        others *= value
    works = f"set it to at most {max(1, largest // others)}"
    if others > largest:
        works = f"set {' x '.join(other for other, _ in asked)} to at most {largest} together"
    total = others * size
    return IllegalPin(
        f"spec.parallelism.{name}",
        f"is {size}, and {product} are {total} GPUs: {text}; {works}",
    )


def _tensor_refused(request: Request, largest: int, nodes: int) -> IllegalPin | None:
    """Why a pinned tensor-parallel size is illegal on however many GPUs, or None."""
    pins = request.pins
    if pins.tensor is None:
        return None
    split = Parallelism(pins.tensor, 1, pins.ranks, expert=pins.expert is True)
    why = illegal_because(request.architecture, split)
    if why is not None and pins.expert is None and request.whole_experts:
        why = illegal_because(request.architecture, replace(split, expert=True)) and why
    if why is None:
        return None
    accepted = ", ".join(map(str, _tensor_sizes(request, largest, nodes)))
    return IllegalPin(TENSOR_FIELD, f"is {pins.tensor}: {why}; {accepted} work here")


def _tensor_sizes(request: Request, largest: int, nodes: int) -> list[int]:
    """Tensor-parallel sizes with which the other pins can be kept, or without them at worst."""
    for pins in (request.pins, replace(request.pins, pipeline=None, data=None)):
        sizes = [
            size
            for size in range(1, min(largest * nodes, LARGEST_TENSOR) + 1)
            if _possible(request, replace(pins, tensor=size), largest, nodes)
        ]
        if sizes:
            return sizes
    return [1]


def _possible(request: Request, pins: Pins, largest: int, nodes: int) -> bool:
    found = _divided(request, pins, largest, nodes)
    return bool(found.one_node or found.several_nodes)


def _sizes(pins: Pins) -> Iterator[tuple[str, int]]:
    for name, size in (("tensor", pins.tensor), ("pipeline", pins.pipeline), ("data", pins.data)):
        yield name, size or 1


def _without_tensor_pin(request: Request, candidate: GPUCandidate) -> int | None:
    """The smallest tensor-parallel size of a node that fits, where a smaller one is pinned."""
    pins = request.pins
    if pins.tensor is None:
        return None
    found = _divided(request, replace(pins, tensor=None), candidate.largest_world, 1)
    for division in found.one_node:
        larger = division.parallelism.tensor > pins.tensor
        if larger and isinstance(find_layout(request, candidate, division), Layout):
            return division.parallelism.tensor
    return None


def _remedy(request: Request, nearest: Rejection, max_nodes: int) -> str:
    choices = []
    if nearest.problem.field == CONCURRENCY_FIELD and nearest.held:
        at_most = nearest.held * request.pins.ranks
        choices.append(
            f"a concurrency of at most {at_most} a replica (spec.replicas spreads the load)"
        )
    elif nearest.sequences:
        choices.append(f"spec.engine.maxNumSeqs of at most {nearest.sequences}")
    elif nearest.longest >= 1 and request.engine.max_model_len is not None:
        choices.append(f"spec.engine.maxModelLen of at most {nearest.longest}")
    larger = _larger_node(request, nearest.gpu)
    if larger is not None:
        choices.append(f"{larger} {nearest.gpu.offer.product} in one node")
    several = _more_nodes(request, nearest.gpu, max_nodes)
    if not choices and several is None:
        choices.append(f"GPUs with more memory than {gib(nearest.gpu.offer.memory_bytes)}")
    text = f"What works: {' or '.join(choices)}" if choices else ""
    if several is not None:
        limit = ONE_NODE if max_nodes == 1 else f"at most {max_nodes} nodes are looked at"
        gpu = nearest.gpu.offer.product
        also = f"{several} of {nearest.gpu.largest_world} {gpu} would fit, and {limit}"
        text = f"{text}; {also}" if text else f"{also}"
    return text


def _larger_node(request: Request, candidate: GPUCandidate) -> int | None:
    """GPUs of the smallest node on which it would fit."""
    if candidate.offer.is_partition:
        return None
    found = _divided(request, request.pins, LARGEST_NODE, 1)
    fitting = _first_fitting(request, candidate, found.one_node, candidate.largest_world)
    return None if fitting is None else fitting.gpus


def _more_nodes(request: Request, candidate: GPUCandidate, max_nodes: int) -> Division | None:
    """The fewest further nodes on which it would fit."""
    if candidate.offer.is_partition:
        return None
    found = _divided(request, request.pins, candidate.largest_world, MOST_NODES)
    more = tuple(division for division in found.several_nodes if division.nodes > max_nodes)
    return _first_fitting(request, candidate, more, 0)


def _first_fitting(
    request: Request, candidate: GPUCandidate, tried: tuple[Division, ...], larger_than: int
) -> Division | None:
    for division in tried:
        if division.gpus > larger_than and isinstance(
            find_layout(request, candidate, division), Layout
        ):
            return division
    return None
