"""Which ways of dividing a model over GPUs and nodes are worth a look, in order of preference.

Tensor parallelism exchanges activations twice a layer and wants the links inside a node; pipeline
stages hand over one activation, which a network carries, and a token passes through one after the
other. So: tensor parallelism in one node first; pipeline stages inside a node for what no tensor
size holds; then whole nodes, each a stage
of the largest tensor size that is legal and fills it (or several such stages); tensor parallelism
over nodes only where nothing else is legal. Every node holds equally many GPUs of a world: vLLM
refuses a world that ``--nnodes`` does not divide (0.30.0 ``v1/executor/multiproc_executor.py``).

Pipelines: every architecture that sizing reads has them in every version that has the architecture
(``SupportsPP`` in ``model_executor/models``, 0.8.4 to 0.33.0).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from vllm_operator.models.architecture import Architecture

from .parallelism import Parallelism, illegal_because


@dataclass(frozen=True, slots=True)
class Pins:
    """What ``spec.parallelism`` fixes; None: to be computed."""

    tensor: int | None = None
    pipeline: int | None = None
    data: int | None = None
    expert: bool | None = None

    @property
    def ranks(self) -> int:
        """Data-parallel ranks: never computed, 1 unless pinned."""
        return self.data or 1


@dataclass(frozen=True, slots=True)
class Division:
    """One server's ranks on ``nodes`` nodes, equally many on each."""

    parallelism: Parallelism
    nodes: int = 1

    @property
    def gpus(self) -> int:
        """GPUs of one server."""
        return self.parallelism.gpus

    def __str__(self) -> str:
        split = self.parallelism
        parts = [f"TP{split.tensor}"]
        parts += [f"PP{split.pipeline}"] if split.pipeline > 1 else []
        parts += [f"DP{split.data}"] if split.data > 1 else []
        return " x ".join(parts) + (f" on {self.nodes} nodes" if self.nodes > 1 else "")


@dataclass(frozen=True, slots=True)
class Divisions:
    """Candidates, the preferred first, and what vLLM would refuse."""

    tensor: tuple[Division, ...]
    """In one node, without stages that nobody pinned."""
    staged: tuple[Division, ...]
    """In one node, with stages."""
    several_nodes: tuple[Division, ...]
    illegal: tuple[tuple[Division, str], ...]
    """Tensor-parallel sizes inside a node that vLLM refuses, with the reason."""

    @property
    def one_node(self) -> tuple[Division, ...]:
        """All candidates inside one node."""
        return self.tensor + self.staged


@lru_cache(maxsize=1024)
def divisions(
    architecture: Architecture, pins: Pins, per_node: int, max_nodes: int, whole_experts: bool
) -> Divisions:
    """Every candidate on up to ``max_nodes`` nodes of ``per_node`` GPUs.

    ``whole_experts``: whether expert parallelism may be chosen to make a tensor size legal (this
    vLLM version has it).
    """
    search = _Search(architecture, pins, per_node, whole_experts)
    tensor = tuple(search.in_one_node())
    staged = tuple(search.staged_in_one_node(tensor))
    several = tuple(
        division
        for nodes in range(2, max_nodes + 1)
        if (division := search.over_nodes(nodes)) is not None
    )
    return Divisions(tensor, staged, several, tuple(search.illegal))


class _Search:
    def __init__(
        self, architecture: Architecture, pins: Pins, per_node: int, whole_experts: bool
    ) -> None:
        self.architecture, self.pins, self.per_node = architecture, pins, per_node
        self.whole_experts = whole_experts and architecture.has_experts
        self.illegal: list[tuple[Division, str]] = []

    def legal(self, tensor: int, pipeline: int) -> Parallelism | str:
        """The division, with whole experts where only they make it legal, or why there is none."""
        pins = self.pins
        split = Parallelism(tensor, pipeline, pins.ranks, expert=pins.expert is True)
        why = illegal_because(self.architecture, split)
        if why is not None and pins.expert is None and self.whole_experts:
            whole = replace(split, expert=True)
            if illegal_because(self.architecture, whole) is None:
                return whole
        return split if why is None else why

    def in_one_node(self) -> Iterator[Division]:
        """Tensor-parallel sizes that a node has room for, ascending."""
        pins = self.pins
        pipeline = pins.pipeline or 1
        sizes = range(1, self.per_node + 1) if pins.tensor is None else (pins.tensor,)
        for tensor in sizes:
            if tensor * pipeline * pins.ranks > self.per_node:
                return
            found = self.legal(tensor, pipeline)
            if isinstance(found, Parallelism):
                yield Division(found)
            else:
                split = Parallelism(tensor, pipeline, pins.ranks, expert=pins.expert is True)
                self.illegal.append((Division(split), found))

    def staged_in_one_node(self, tensor: tuple[Division, ...]) -> Iterator[Division]:
        """Pipelines of the largest tensor-parallel size that divides each world.

        They reach worlds that no tensor size alone may have, and divide caches that tensor
        parallelism replicates (latent attention, fewer key/value heads than ranks).
        """
        pins = self.pins
        if pins.pipeline is not None or not tensor:
            return
        sizes = [division.parallelism.tensor for division in tensor]
        staged = []
        for world in range(2 * pins.ranks, self.per_node + 1):
            ranks, rest = divmod(world, pins.ranks)
            fitting = [size for size in sizes if ranks % size == 0 and size < ranks]
            if rest or not fitting:
                continue
            found = self.legal(fitting[-1], ranks // fitting[-1])
            if isinstance(found, Parallelism):
                staged.append(Division(found))
        # A token passes through one stage after the other: many stages of one GPU come last.
        yield from sorted(staged, key=lambda one: one.parallelism.tensor == 1)

    def over_nodes(self, nodes: int) -> Division | None:
        """The division over exactly so many nodes, or None where none is legal."""
        for tensor, pipeline in (*self.stages_of_nodes(nodes), *self.tensor_over_nodes(nodes)):
            found = self.legal(tensor, pipeline)
            if isinstance(found, Parallelism):
                return Division(found, nodes)
        return None

    def stages_of_nodes(self, nodes: int) -> Iterator[tuple[int, int]]:
        """(tensor, pipeline) with one or more whole stages on each node, largest tensor first."""
        pins = self.pins
        sizes = range(self.per_node, 0, -1) if pins.tensor is None else (pins.tensor,)
        for tensor in sizes:
            each = self.per_node // tensor
            if pins.pipeline is not None:
                each, rest = divmod(pins.pipeline * pins.ranks, nodes)
                if rest or not 1 <= each * tensor <= self.per_node:
                    continue
                if tensor * each * nodes <= self.per_node:
                    continue  # One node has room for it.
            elif not each or (pins.tensor is None and each * tensor != self.per_node):
                continue
            pipeline, rest = divmod(each * nodes, pins.ranks)
            if not rest and pipeline:
                yield tensor, pipeline

    def tensor_over_nodes(self, nodes: int) -> Iterator[tuple[int, int]]:
        """(tensor, pipeline) with each stage on several nodes, equally many ranks on each."""
        pins = self.pins
        if pins.tensor is not None:
            spans = -(-pins.tensor // self.per_node)
            pipeline, rest = divmod(nodes, spans * pins.ranks)
            fixed = pins.pipeline is None or pins.pipeline == pipeline
            if spans > 1 and pipeline and not rest and fixed and pins.tensor % spans == 0:
                yield pins.tensor, pipeline
            return
        pipeline = pins.pipeline or 1
        spans, rest = divmod(nodes, pipeline * pins.ranks)
        if spans > 1 and not rest:
            yield from ((spans * each, pipeline) for each in range(self.per_node, 0, -1))
