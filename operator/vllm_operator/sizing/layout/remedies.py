"""The one message for a user where nothing fits: what came nearest, and what would work.

What would work is computed, not guessed: larger nodes, more nodes, shorter or fewer requests.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from vllm_operator.api.v1alpha1 import Engine
from vllm_operator.errors import IllegalPin, Infeasible, PlanningError
from vllm_operator.sizing.asked.gpu_candidates import GPUCandidate
from vllm_operator.sizing.asked.specification import Asked
from vllm_operator.sizing.memory.online_quantization import advised_method, quantized_online
from vllm_operator.sizing.split.divisions import Division, Divisions, Pins, divisions
from vllm_operator.sizing.split.parallelism import Parallelism, illegal_because, legal_sizes

from .search import Layout, Rejection, find_layout
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
LIMIT_FIELDS: Final = {
    "max_num_seqs": "spec.engine.maxNumSeqs",
    "max_num_batched_tokens": "spec.engine.maxNumBatchedTokens",
}
CONCURRENCY_FIELD: Final = "spec.workload.concurrency"
SMALLEST_LIMIT: Final = 64
"""Smaller limits than this are no remedy that anybody wants."""


def nodes_looked_at(asked: Asked, candidate: GPUCandidate, max_nodes: int) -> int:
    """Nodes over which one server may be divided.

    Where nodes have one GPU each, only those that are there or are asked for: who says that there
    is one card does not mean several machines.
    """
    if candidate.offer.is_partition:
        return 1
    pins = asked.pins
    asked_for = (pins.tensor or 1) * (pins.pipeline or 1) * pins.ranks > 1
    if asked_for or not candidate.per_node_known or candidate.largest_world > 1:
        return max_nodes
    return min(max_nodes, max(1, candidate.offer.nodes))


def problem_of(
    asked: Asked,
    candidates: tuple[GPUCandidate, ...],
    rejections: list[Rejection],
    max_nodes: int,
) -> PlanningError:
    """The problem to show of all that were met."""
    legal = [rejection for rejection in rejections if not rejection.illegal]
    if not legal:
        largest = max(candidates, key=lambda one: one.largest_world)
        if rejections:
            return _illegal(asked, largest, rejections[0])
        return _too_many(asked, largest, max_nodes)
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
    lowered = _lower_limits(asked, nearest, text)
    if lowered is not None:
        return lowered
    loosened = _without_tensor_pin(asked, nearest.gpu)
    if loosened is not None:
        works = f"is {asked.pins.tensor}, and the model {text}. What works: {loosened}"
        return Infeasible(TENSOR_FIELD, works)
    return Infeasible(nearest.problem.field, f"{text}. {_remedy(asked, nearest, max_nodes)}")


def _illegal(asked: Asked, candidate: GPUCandidate, pin: Rejection) -> PlanningError:
    """A pinned size that vLLM refuses, with those that it accepts."""
    pins = asked.pins
    legal = _legal(asked, candidate.largest_world)
    accepted = ", ".join(map(str, legal))
    if pins.tensor is not None:
        return IllegalPin(
            TENSOR_FIELD,
            f"is {pins.tensor}: {pin.problem.message}; vLLM accepts {accepted} here",
        )
    accepted = ", ".join(map(str, _legal_data(asked, candidate.largest_world)))
    return IllegalPin(
        "spec.parallelism.data",
        f"is {pins.data}: {pin.problem.message}, and no other tensor-parallel size is legal with "
        f"it either; vLLM accepts {accepted} here",
    )


def _legal_data(asked: Asked, largest: int) -> list[int]:
    """Data-parallel sizes with which some tensor-parallel size is legal; 1 is among them."""
    return [
        data
        for data in range(1, largest + 1)
        if _divided(asked, replace(asked.pins, data=data), largest, 1).one_node
    ]


def _legal(asked: Asked, largest: int) -> tuple[int, ...]:
    pins = asked.pins
    if pins.ranks == 1 and pins.expert is None:
        return legal_sizes(asked.architecture, largest)
    found = _divided(asked, replace(pins, tensor=None, pipeline=None), largest, 1)
    return tuple(sorted({division.parallelism.tensor for division in found.one_node}))


def _divided(asked: Asked, pins: Pins, per_node: int, max_nodes: int) -> Divisions:
    return divisions(asked.architecture, pins, per_node, max_nodes, asked.whole_experts)


def _too_many(asked: Asked, candidate: GPUCandidate, max_nodes: int) -> IllegalPin:
    """Pins that ask for more GPUs than there may be."""
    offer, pins = candidate.offer, asked.pins
    largest = candidate.largest_world
    nodes = 1 if offer.is_partition else max_nodes
    refused = _tensor_refused(asked, largest, nodes)
    if refused is not None:
        return refused
    if offer.is_partition:
        text = f"{offer.product} is a slice of a GPU, and slices cannot serve one model together"
    elif max_nodes > 1:
        text = f"{max_nodes} nodes of {largest} {offer.product} cannot be divided evenly by it"
    elif candidate.per_node_known:
        text = f"a node has {largest} {offer.product}, and {ONE_NODE}"
    else:
        text = (
            f"nodes of {largest} {offer.product} are assumed; "
            "set spec.gpu.perNode if they are larger"
        )
    wanted = [(name, size) for name, size in _sizes(pins) if size > 1]
    if len(wanted) == 1 and wanted[0][0] == "tensor":
        works = f"at most {_tensor_sizes(asked, largest, nodes)[-1]} works here"
        return IllegalPin(TENSOR_FIELD, f"is {pins.tensor}: {text}; {works}")
    name, size = wanted[-1]
    product = " x ".join(f"{other} {value}" for other, value in wanted)
    others = 1
    for _, value in wanted[:-1]:
        others *= value
    works = f"set it to at most {max(1, largest // others)}"
    if others > largest:
        works = f"set {' x '.join(other for other, _ in wanted)} to at most {largest} together"
    total = others * size
    return IllegalPin(
        f"spec.parallelism.{name}",
        f"is {size}, and {product} are {total} GPUs: {text}; {works}",
    )


def _tensor_refused(asked: Asked, largest: int, nodes: int) -> IllegalPin | None:
    """Why a pinned tensor-parallel size is illegal on however many GPUs, or None."""
    pins = asked.pins
    if pins.tensor is None:
        return None
    split = Parallelism(pins.tensor, 1, pins.ranks, expert=pins.expert is True)
    why = illegal_because(asked.architecture, split)
    if why is not None and pins.expert is None and asked.whole_experts:
        why = illegal_because(asked.architecture, replace(split, expert=True)) and why
    if why is None:
        return None
    accepted = ", ".join(map(str, _tensor_sizes(asked, largest, nodes)))
    return IllegalPin(TENSOR_FIELD, f"is {pins.tensor}: {why}; {accepted} work here")


def _tensor_sizes(asked: Asked, largest: int, nodes: int) -> list[int]:
    """Tensor-parallel sizes with which the other pins can be kept, or without them at worst."""
    for pins in (asked.pins, replace(asked.pins, pipeline=None, data=None)):
        sizes = [
            size
            for size in range(1, min(largest * nodes, LARGEST_TENSOR) + 1)
            if _possible(asked, replace(pins, tensor=size), largest, nodes)
        ]
        if sizes:
            return sizes
    return [1]


def _possible(asked: Asked, pins: Pins, largest: int, nodes: int) -> bool:
    found = _divided(asked, pins, largest, nodes)
    return bool(found.one_node or found.several_nodes)


def _sizes(pins: Pins) -> Iterator[tuple[str, int]]:
    for name, size in (("tensor", pins.tensor), ("pipeline", pins.pipeline), ("data", pins.data)):
        yield name, size or 1


def _without_tensor_pin(asked: Asked, candidate: GPUCandidate) -> int | None:
    """The smallest tensor-parallel size of a node that fits, where a smaller one is pinned."""
    pins = asked.pins
    if pins.tensor is None:
        return None
    found = _divided(asked, replace(pins, tensor=None), candidate.largest_world, 1)
    for division in found.one_node:
        larger = division.parallelism.tensor > pins.tensor
        if larger and isinstance(find_layout(asked, candidate, division), Layout):
            return division.parallelism.tensor
    return None


def _remedy(asked: Asked, nearest: Rejection, max_nodes: int) -> str:
    choices = []
    if nearest.problem.field == CONCURRENCY_FIELD and nearest.held:
        at_most = nearest.held * asked.pins.ranks
        choices.append(
            f"a concurrency of at most {at_most} a replica (spec.replicas spreads the load)"
        )
    elif nearest.sequences:
        choices.append(f"spec.engine.maxNumSeqs of at most {nearest.sequences}")
    elif nearest.longest >= 1 and asked.engine.max_model_len is not None:
        choices.append(f"spec.engine.maxModelLen of at most {nearest.longest}")
    larger = _larger_node(asked, nearest.gpu)
    if larger is not None:
        choices.append(f"{larger} {nearest.gpu.offer.product} in one node")
    method = _quantizing(asked, nearest)
    if method is not None:
        choices.append(
            f"spec.engine.quantization {method} on {nearest.division.gpus}, which rounds the "
            "weights to 8 bits"
        )
    looked = nodes_looked_at(asked, nearest.gpu, max_nodes)
    several = _more_nodes(asked, nearest.gpu, looked)
    if not choices and several is None:
        choices.append(f"GPUs with more memory than {gib(nearest.gpu.offer.memory_bytes)}")
    text = f"What works: {' or '.join(choices)}" if choices else ""
    if several is not None:
        limit = ONE_NODE if looked == 1 else f"at most {looked} nodes are looked at"
        if looked < max_nodes:
            limit += f" unless several are asked for ({_asking_for(several)})"
        gpu = nearest.gpu.offer.product
        also = f"{several} of {nearest.gpu.largest_world} {gpu} would fit, and {limit}"
        text = f"{text}; {also}" if text else f"{also}"
    return text


def _quantizing(asked: Asked, nearest: Rejection) -> str | None:
    """A quantisation while loading with which the nearest layout fits; None where none does."""
    method = advised_method(asked.version)
    if method is None or asked.architecture.quantization.method is not None:
        return None
    engine = asked.engine.model_copy(update={"quantization": method})
    try:
        architecture = quantized_online(asked.architecture, method, asked.version)
    except PlanningError:
        return None
    other = replace(asked, engine=engine, architecture=architecture)
    found = find_layout(other, nearest.gpu, nearest.division)
    return method if isinstance(found, Layout) else None


def _asking_for(division: Division) -> str:
    split = division.parallelism
    if split.pipeline > 1:
        return f"spec.parallelism.pipeline {split.pipeline}"
    return f"{TENSOR_FIELD} {split.tensor}"


def _larger_node(asked: Asked, candidate: GPUCandidate) -> int | None:
    """GPUs of the smallest node on which it would fit."""
    if candidate.offer.is_partition:
        return None
    found = _divided(asked, asked.pins, LARGEST_NODE, 1)
    fitting = _first_fitting(asked, candidate, found.one_node, candidate.largest_world)
    return None if fitting is None else fitting.gpus


def _more_nodes(asked: Asked, candidate: GPUCandidate, max_nodes: int) -> Division | None:
    """The fewest further nodes on which it would fit."""
    if candidate.offer.is_partition:
        return None
    found = _divided(asked, asked.pins, candidate.largest_world, MOST_NODES)
    more = tuple(division for division in found.several_nodes if division.nodes > max_nodes)
    return _first_fitting(asked, candidate, more, 0)


def _first_fitting(
    asked: Asked, candidate: GPUCandidate, tried: tuple[Division, ...], larger_than: int
) -> Division | None:
    for division in tried:
        if division.gpus > larger_than and isinstance(
            find_layout(asked, candidate, division), Layout
        ):
            return division
    return None


def _lower_limits(asked: Asked, nearest: Rejection, text: str) -> Infeasible | None:
    """The pins to lower for the nearest layout to fit, by halves; None where that does not help.

    ``text`` says what does not fit.
    """
    if nearest.problem.field != "spec.gpu":
        return None
    fewer = _fewer_requests(asked, nearest)
    if fewer is not None:
        workload = asked.spec.workload
        at_once = workload.concurrency if workload is not None else None
        at_most = fewer * asked.pins.ranks
        return Infeasible(
            CONCURRENCY_FIELD,
            f"is {at_once}, and the model {text}. What works: {CONCURRENCY_FIELD} of at most "
            f"{at_most} a replica (spec.replicas spreads the load)",
        )
    for engine in _lowered(asked):
        found = find_layout(replace(asked, engine=engine), nearest.gpu, nearest.division)
        if isinstance(found, Layout):
            return _too_large(asked.engine, engine, text)
    return None


def _fewer_requests(asked: Asked, nearest: Rejection) -> int | None:
    """Expected requests at once for which there is room, by halves; None where none helps."""
    fewer = (asked.load.concurrency or 0) // 2
    while fewer:
        load = replace(asked.load, concurrency=fewer)
        found = find_layout(replace(asked, load=load), nearest.gpu, nearest.division)
        if isinstance(found, Layout):
            return fewer
        fewer //= 2
    return None


def _lowered(asked: Asked) -> Iterator[Engine]:
    """Engines with one pin halved ever again, then with both; none that vLLM would refuse."""
    engine = asked.engine
    pinned = {name: value for name in LIMIT_FIELDS if (value := getattr(engine, name)) is not None}
    choices = [(name,) for name in pinned] + ([tuple(pinned)] if len(pinned) > 1 else [])
    for names in choices:
        values = {name: pinned[name] // 2 for name in names}
        while min(values.values()) >= SMALLEST_LIMIT:
            lowered = engine.model_copy(update=values)
            if not _suits(asked, lowered):
                break
            yield lowered
            values = {name: value // 2 for name, value in values.items()}


def _suits(asked: Asked, engine: Engine) -> bool:
    """Whether the limits suit each other, the length and the asked requests at once."""
    at_once = asked.load.concurrency or 0
    seqs, tokens = engine.max_num_seqs, engine.max_num_batched_tokens
    if seqs is not None and seqs < at_once:
        return False
    if tokens is None:
        return True
    length = (engine.max_model_len or 0) if engine.chunked_prefill is False else 0
    return tokens >= max(seqs or 0, at_once, length)


def _too_large(pinned: Engine, lowered: Engine, text: str) -> Infeasible:
    changed = [
        (field, getattr(pinned, name), getattr(lowered, name))
        for name, field in LIMIT_FIELDS.items()
        if getattr(pinned, name) != getattr(lowered, name)
    ]
    works = " and ".join(f"{field} of at most {value}" for field, _, value in changed)
    field, value, _ = changed[0]
    return Infeasible(field, f"is {value}, and the model {text}. What works: {works}")
