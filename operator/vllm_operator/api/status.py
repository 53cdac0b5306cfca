"""``status`` of a ``VLLMServer``: what the operator says back."""

from __future__ import annotations

from .base import ResourceModel
from .conditions import MESSAGE_LIMIT, Condition
from .fields import field, required
from .ledger import Tuning
from .plan import Plan, Problem, TokenEstimate

SCALABLE = {"maximum": 2**31 - 1}
"""Bounds of a number in the scale subresource, which the API server holds to 32 bits."""


class Summary(ResourceModel):
    """What people are shown: the printer columns, and what is planned on a GPU."""

    model: str | None = field(
        "The model of the plan that is applied; the specification's where there is none.",
        max_length=256,
    )
    ready: str | None = field(
        "Pods that serve, of those that are asked for, as 1/4.", max_length=32
    )
    gpus: str | None = field("GPUs of one replica, as 2 x H100.", max_length=128)
    parallelism: str | None = field("Split over GPUs, as TP2.", max_length=64)
    memory: str | None = field(
        "What is planned on each GPU, in GiB; plan.memory has it in bytes.", max_length=128
    )
    version: str | None = field("Version of vLLM.", max_length=64)


class MeasuredCache(ResourceModel):
    """The KV cache that a running engine has, beside the planned one."""

    num_gpu_blocks: int = required("Blocks that the engine has, as its metrics say.")
    planned_num_gpu_blocks: TokenEstimate = required("Blocks that the plan has.")
    relative_error: float = required(
        "Measured over expected blocks, less 1.", schema={"minimum": -1}
    )


class VLLMServerStatus(ResourceModel):
    """What the operator observed and decided."""

    observed_generation: int | None = field("Generation of the specification that this speaks of.")
    replicas: int | None = field("Pods of the server.", schema=SCALABLE)
    ready_replicas: int | None = field("Pods that serve.", schema=SCALABLE)
    selector: str | None = field(
        "Label selector of the pods, for the scale subresource.", max_length=512
    )
    endpoint: str | None = field(
        "Address inside the cluster of the OpenAI-compatible API.", max_length=512
    )
    summary: Summary | None = field("What the printer columns show, and memory in GiB.")
    plan: Plan | None = field(
        "The plan that is applied.",
        # Always written whole: one field to the API server, which then tracks no others in it.
        schema={"x-kubernetes-map-type": "atomic"},
    )
    latest_ready_revision: str | None = field(
        "Name of the ControllerRevision with whose plan the server was last ready: what it goes "
        "back to where a new one does not start.",
        max_length=253,
    )
    rollout_cause: str | None = field(
        "What pods are being replaced for: the first field of the specification, or flag of the "
        "plan, that differs; none where nothing is replaced.",
        max_length=MESSAGE_LIMIT,
    )
    calibration: MeasuredCache | None = field(
        "What an engine of the plan measured; none until one was asked."
    )
    engine_version: str | None = field(
        "What an engine of the plan says at /version; none until one was asked.", max_length=64
    )
    tuning: Tuning | None = field(
        "Where tuning is; none where it was never asked for.",
        schema={"x-kubernetes-map-type": "atomic"},
    )
    problems: list[Problem] = field(
        "Why the specification as it stands cannot be planned, if so.",
        default=[],
        max_length=16,
        schema={"x-kubernetes-list-type": "atomic"},
    )
    conditions: list[Condition] = field(
        "Conditions; from the first visit on all of them, of tuning's while it is asked for.",
        default=[],
        max_length=16,
        schema={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
