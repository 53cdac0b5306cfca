"""A planned server for one of the targets, or what keeps it from being one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from vllm_operator.api.plan import Problem
from vllm_operator.errors import IllegalPin, PlanningError
from vllm_operator.manifests.planned import Planned

from .compose import compose
from .container import Container, container_of
from .devices import Devices, devices_of
from .fields import Target, of_specification
from .quadlet import quadlet
from .shell import shell
from .systemd import systemd

Writer = Callable[[Planned, Container, Devices], str]

WRITERS: Final[Mapping[Target, Writer]] = {
    "compose": compose,
    "systemd": systemd,
    "shell": shell,
    "podman-quadlet": quadlet,
}


def elsewhere(
    planned: Planned, target: Target, devices: str | None = None
) -> str | tuple[Problem, ...]:
    """The file of a target, or why there is none, by field.

    ``devices`` are the GPUs to use, numbers or UUIDs with commas between; by default the first.
    """
    problems = [Problem.of(error) for error in _refusals(planned, target)]
    if problems:
        return tuple(problems)
    try:
        chosen = devices_of(planned, devices, target)
        return WRITERS[target](planned, container_of(planned), chosen)
    except PlanningError as error:
        return (Problem.of(error),)


def _refusals(planned: Planned, target: Target) -> Iterator[PlanningError]:
    placement = planned.plan.placement
    if placement.nodes > 1:
        yield IllegalPin(
            "spec.parallelism",
            f"a replica takes {placement.nodes} nodes of "
            f"{placement.gpus_per_replica // placement.nodes} x {placement.gpu}, and {target} "
            "is for one machine; render --target kubernetes, which makes a LeaderWorkerSet, or "
            "make it fit one node: vllm-operator plan --max-nodes 1 says what would",
        )
    for row in of_specification(planned.server.spec, target, "refused"):
        yield IllegalPin(row.field, row.words.format(target=target))
