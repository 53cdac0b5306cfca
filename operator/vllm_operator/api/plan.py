"""The ledger of every choice: one object, in ``status.plan`` and in ``vllm-operator plan``.

Sizes are bytes, times are seconds, token figures are tokens. ``expected`` is the best estimate and
``low`` the bound that is kept in 99 of 100 starts; every decision uses ``low``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails

from vllm_operator.errors import PlanningError

from .base import ResourceModel
from .conditions import truncate
from .fields import FREE_FORM, field, required
from .patterns import MEANINGS
from .performance import Cost, Performance

SCHEMA_VERSION = 1
PROBLEM_LIMIT = 16
Argument = Annotated[str, Field(max_length=4096)]
AccessMode = Annotated[str, Field(max_length=32)]


class Problem(ResourceModel):
    """Why something cannot be planned: where, and what to do."""

    field: str = required("Path in the manifest.", max_length=200)
    reason: str = required(
        "Machine-readable reason, the same as in the Planned condition.", max_length=64
    )
    message: str = required(
        "What is wrong, with the numbers, and the nearest choice that works.", max_length=1024
    )

    @classmethod
    def of(cls, error: PlanningError) -> Self:
        """A planning error, within the bounds."""
        return cls(field=error.field[:200], reason=error.reason, message=truncate(error.message))

    @classmethod
    def all_of(cls, error: ValidationError) -> list[Self]:
        """What makes a manifest none of the types', field by field."""
        return [
            cls(
                field=".".join(str(part) for part in found["loc"])[:200],
                reason="IllegalPin",
                message=truncate(_in_words(found)),
            )
            for found in error.errors()[:PROBLEM_LIMIT]
        ]


def _in_words(found: ErrorDetails) -> str:
    """A type's complaint; what a pattern is for instead of the pattern."""
    meaning = MEANINGS.get(found.get("ctx", {}).get("pattern", ""))
    return f"must be {meaning}" if meaning else found["msg"]


class TokenEstimate(ResourceModel):
    """A figure in tokens or bytes with its kept bound."""

    expected: int = required("Best estimate.")
    low: int = required("Bound that is kept in 99 of 100 starts.")


class RatioEstimate(ResourceModel):
    """A dimensionless figure with its kept bound."""

    expected: float = required("Best estimate.")
    low: float = required("Bound that is kept in 99 of 100 starts.")


class PlannedModel(ResourceModel):
    """The model as sizing saw it."""

    id: str = required("Repository of the model.", max_length=200)
    revision: str | None = field("Pinned revision.", max_length=128)
    parameters: int = required("Number of parameters.")
    weight_bytes: int = required("Bytes of the checkpoint's tensors.")
    facts: dict[str, Any] = required(
        "All facts that sizing read, so that an outage of their source changes nothing.",
        schema={**FREE_FORM, "maxProperties": 64},
    )
    source: Literal["inline", "configMap", "catalogue", "hub"] = required(
        "Where the facts came from."
    )


class PlannedEngine(ResourceModel):
    """The engine's container."""

    image: str = required("Container image.", max_length=500)
    version: str = required("Version of vLLM.", max_length=64)
    command: list[Argument] = required(
        "The container's argument vector; secrets are never in it.",
        max_length=256,
        schema={"x-kubernetes-list-type": "atomic"},
    )
    env: dict[str, Argument] = required(
        "Environment that the operator sets, without secrets.", schema={"maxProperties": 64}
    )


class Placement(ResourceModel):
    """Where one replica runs."""

    gpu: str = required("GPU product.", max_length=63)
    gpu_memory_bytes: int = required("Memory of one GPU as the device reports it.")
    gpus_per_node: int = required("GPUs in one node.")
    tensor: int = required("Tensor-parallel size.")
    pipeline: int = required("Pipeline-parallel size.")
    data: int = required("Data-parallel size.")
    expert: bool = required("Expert parallelism.")
    nodes: int = required("Nodes of one replica.")
    gpus_per_replica: int = required("GPUs of one replica.")


class MemoryLedger(ResourceModel):
    """Bytes of one GPU, of the worst rank.

    ``budget = weights + activationPeak + cudaGraphs + nonTorch + kvCache.expected`` and
    ``margin = kvCache.expected - kvCache.low``.
    """

    total: int = required("Memory as the device reports it.")
    utilization: float = required("Fraction that the engine may take.")
    budget: int = required("What the engine may take: utilization times total.")
    weights: int = required("Weights of this rank.")
    draft_weights: int | None = field(
        "Part of weights: the draft of speculative decoding, where one is loaded."
    )
    adapters: int | None = field("Part of weights: the slots for LoRA adapters, where asked for.")
    activation_peak: int = required("Largest transient of the profiling run.")
    cuda_graphs: int = required(
        "CUDA graphs, where this vLLM version counts them inside the budget."
    )
    non_torch: int = required("Allocations outside PyTorch that the budget pays for.")
    kv_cache: TokenEstimate = required("What is left for the KV cache.")
    margin: int = required("What keeps the bound: kvCache.expected - kvCache.low.")
    outside_budget: int = required(
        "Context, communicators and graphs that the budget does not pay for."
    )
    free_at_start: TokenEstimate = required(
        "Memory that is free when the engine looks; it refuses to start where that is below budget."
    )


class Capacity(ResourceModel):
    """What one engine (one data-parallel rank) holds, as this vLLM version prints it."""

    max_model_len: int = required("Longest request in tokens.")
    max_num_seqs: int = required("Largest number of running requests.")
    max_num_batched_tokens: int = required("Largest number of tokens in one step.")
    block_size: int = required("Tokens in a KV-cache block.")
    bytes_per_block: int | None = field("Bytes of a KV-cache block on one GPU.")
    kv_tokens: TokenEstimate = required("The engine's 'GPU KV cache size'.")
    max_concurrency: RatioEstimate = required(
        "The engine's 'Maximum concurrency' for maxModelLen tokens per request."
    )


class Advice(ResourceModel):
    """What the user may want to change; the operator does not by itself."""

    field: str = required("Path in the manifest.", max_length=200)
    message: str = required("What it would bring, with the numbers.", max_length=1024)


class PrefixCaching(ResourceModel):
    """Whether the KV cache of prompts is kept for later ones that begin alike."""

    enabled: bool = required("Whether it is.")
    reason: str = required("Why.", max_length=512)


class PlannedStorage(ResourceModel):
    """Where the weights lie or are cached."""

    kind: Literal["EmptyDir", "PersistentVolumeClaim", "HostPath", "Image", "Ephemeral"] = required(
        "Kind of the volume."
    )
    source: str | None = field(
        "Name of the claim or of the storage class, folder of the node, or reference of the image.",
        max_length=1024,
    )
    mode: Literal["Cache", "Model"] = required(
        "Cache: filled by the first start. Model: the checkpoint lies there."
    )
    access_modes: list[AccessMode] | None = field(
        "Access modes of the claim as they were when it was planned; none where nobody knew them.",
        max_length=8,
        schema={"x-kubernetes-list-type": "atomic"},
    )
    surge: bool = required("Whether the volume lets a new pod start beside the old one.")
    note: str | None = field("What the volume forbids.", max_length=512)
    disk_bytes: int | None = field(
        "Bytes of the node's disk that each pod asks for (ephemeral-storage): the weights that it "
        "downloads into an emptyDir, and caches. None where they lie on another volume."
    )
    volume_bytes: int | None = field(
        "Bytes of the volume of its own that each pod gets from a storage class. None for others."
    )
    buffer_bytes: int | None = field(
        "Bytes of its memory that each pod asks for besides, for weights on their way through "
        "Run:ai's streamer. None where nothing is streamed."
    )


class Startup(ResourceModel):
    """How long a start takes and may take."""

    seconds: float = required("Expected seconds from container start to ready.")
    budget_seconds: float = required("Seconds after which a start counts as failed.")


class Flag(ResourceModel):
    """One argument of the command and why it has this value."""

    name: str = required("Flag, as vLLM spells it.", max_length=128)
    value: str | None = field("Value; none for a switch.", max_length=4096)
    reason: str = required("Why; pins are named as such.", max_length=512)


class PlatformDefault(ResourceModel):
    """What the platform said where the specification does not."""

    field: str = required("Field of the specification, as a path.", max_length=200)
    value: str = required("Its value, as JSON where it is no text.", max_length=4096)


class RejectedCandidate(ResourceModel):
    """A layout that was considered and why it was not taken."""

    gpu: str = required("GPU product.", max_length=63)
    tensor: int = required("Tensor-parallel size.")
    pipeline: int = required("Pipeline-parallel size.")
    nodes: int = required("Nodes of one replica.")
    reason: str = required("Why not, with the numbers.", max_length=512)


class _Outcome(ResourceModel):
    """Of which server it is."""

    schema_version: int = required("Version of this object's shape.")
    inputs_hash: str = required(
        "Hash of the specification and the inputs that the planner was given.", max_length=64
    )
    name: str = required("Name of the server.", max_length=253)
    namespace: str = required("Namespace of the server.", max_length=253)


def _flags() -> Any:
    return field(
        "One entry for each argument of the command.",
        default=[],
        max_length=128,
        schema={"x-kubernetes-list-type": "atomic"},
    )


def _rejected() -> Any:
    return field(
        "Layouts that were considered and not taken.",
        default=[],
        max_length=32,
        schema={"x-kubernetes-list-type": "atomic"},
    )


def _problems() -> Any:
    return field(
        "Why this cannot be planned.",
        default=[],
        max_length=PROBLEM_LIMIT,
        schema={"x-kubernetes-list-type": "atomic"},
    )


class Plan(_Outcome):
    """Everything that was decided for one server."""

    feasible: Literal[True] = required("Whether this can run.")
    model: PlannedModel = required("The model as sizing saw it.")
    engine: PlannedEngine = required("The engine's container.")
    placement: Placement = required("Where one replica runs.")
    memory: MemoryLedger = required("Bytes of one GPU, of the worst rank.")
    capacity: Capacity = required("What one engine holds.")
    performance: Performance | None = field(
        "Expected performance of one replica; none where nothing is known of the GPU."
    )
    cost: Cost | None = field("What one replica costs; none where no price of the GPU is given.")
    prefix_caching: PrefixCaching | None = field(
        "Whether prefixes are cached; none for pooling models, and in plans that an older operator "
        "made."
    )
    storage: PlannedStorage = required("Where the weights lie or are cached.")
    startup: Startup = required("How long a start takes and may take.")
    flags: list[Flag] = _flags()
    defaults: list[PlatformDefault] | None = field(
        "What the operator's chart value defaults gave of what the specification leaves out; none "
        "where that is nothing.",
        max_length=256,
        schema={"x-kubernetes-list-type": "atomic"},
    )
    advice: list[Advice] | None = field(
        "What the user may want to change and the operator does not by itself; none where that is "
        "nothing.",
        max_length=16,
        schema={"x-kubernetes-list-type": "atomic"},
    )
    rejected: list[RejectedCandidate] = _rejected()
    problems: list[Problem] = _problems()


class Unplanned(_Outcome):
    """Why there is no plan. Its lists are those of a plan: a reader of both asks neither which."""

    feasible: Literal[False] = required("Whether this can run.")
    flags: list[Flag] = _flags()
    rejected: list[RejectedCandidate] = _rejected()
    problems: list[Problem] = _problems()
