"""What was learned about a plan since it was made, and what of it an edit keeps. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from vllm_operator.api.v1alpha1 import VLLMServer, VLLMServerSpec
from vllm_operator.sizing.asked.repairs import Repair

from .revisions import Pinned, planned_fields, replan_request

OF_THE_ENGINE: Final = ("model", "gpu", "parallelism", "engine", "workload")
"""Parts of a specification that change what an engine starts with."""


@dataclass(frozen=True, slots=True)
class Learned:
    """What a new plan takes over from the one in force."""

    repairs: tuple[Repair, ...] = ()

    @classmethod
    def of(cls, inputs: Mapping[str, Any]) -> Self:
        """As it is pinned with a plan's inputs."""
        return cls(tuple(map(Repair.from_json_object, inputs.get("repairs") or ())))

    def after(self, before: VLLMServerSpec, now: VLLMServerSpec) -> Learned:
        """What an edit keeps: all, unless it changes what the engine starts with.

        Repairs were made of the words of an engine that started with the specification before.
        """
        return self if _engine_of(before) == _engine_of(now) else Learned()


def _engine_of(spec: VLLMServerSpec) -> dict[str, Any]:
    fields = planned_fields(spec)
    return {name: fields.get(name) for name in OF_THE_ENGINE}


def taken_over(server: VLLMServer, in_force: Pinned | None) -> Learned:
    """What a new plan takes over from the one in force.

    Nothing where a plan was asked for outright, or where what was learned did not help.
    """
    if in_force is None or in_force.replan != replan_request(server):
        return Learned()
    if in_force.abandoned is not None and in_force.abandoned.stopped:
        return Learned()
    return Learned.of(in_force.inputs).after(in_force.spec, server.spec)
