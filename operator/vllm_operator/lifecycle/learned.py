"""What was learned about a plan since it was made, and what of it an edit keeps. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Self

from vllm_operator.api.plan import Plan
from vllm_operator.api.v1alpha1 import VLLMServer, VLLMServerSpec
from vllm_operator.sizing.asked.repairs import Repair
from vllm_operator.sizing.asked.tuned import Tuned

from .revisions import Pinned, planned_fields, replan_request

OF_THE_ENGINE: Final = ("model", "gpu", "parallelism", "engine", "workload")
"""Parts of a specification that change what an engine starts with."""

OF_THE_KIND: Final = ("gpu", "parallelism", "workload")
"""Parts that, with the model and the version, say for what a tuned value was proven."""

OF_NO_SPEED: Final = ("servedName", "additionalServedNames", "tokenSecretRef", "storage")
"""Fields of the model that change neither steps nor memory."""


@dataclass(frozen=True, slots=True)
class Learned:
    """What a new plan takes over from the one in force."""

    repairs: tuple[Repair, ...] = ()
    tuned: Tuned | None = None

    @classmethod
    def of(cls, inputs: Mapping[str, Any]) -> Self:
        """As it is pinned with a plan's inputs."""
        tuned = inputs.get("tuned")
        repairs = tuple(map(Repair.from_json_object, inputs.get("repairs") or ()))
        return cls(repairs, Tuned.from_json_object(tuned) if tuned else None)

    def after(self, before: VLLMServerSpec, now: VLLMServerSpec) -> Learned:
        """What an edit keeps: all, unless it changes what the engine starts with.

        Repairs were made of the words of an engine that started with the specification before.
        Tuned values were proven for a model on a GPU under a load: they outlive an edit of the
        engine's other fields. How long requests may be is then planned anew.
        """
        if _engine_of(before) == _engine_of(now):
            return self
        if self.tuned is None or _kind_of(before) != _kind_of(now):
            return Learned()
        return Learned(tuned=replace(self.tuned, max_model_len=None))


def _engine_of(spec: VLLMServerSpec) -> dict[str, Any]:
    fields = planned_fields(spec)
    return {name: fields.get(name) for name in OF_THE_ENGINE}


def _kind_of(spec: VLLMServerSpec) -> dict[str, Any]:
    fields = planned_fields(spec)
    model, engine = fields["model"], fields.get("engine") or {}
    return {
        **{name: fields.get(name) for name in OF_THE_KIND},
        "model": {name: value for name, value in model.items() if name not in OF_NO_SPEED},
        "engine": [engine.get("image"), engine.get("version")],
    }


def same_kind(one: Plan, other: Plan) -> bool:
    """Whether what was tuned for one plan says something of the other."""
    return (one.placement, one.engine.version) == (other.placement, other.engine.version)


def taken_over(server: VLLMServer, in_force: Pinned | None) -> Learned:
    """What a new plan takes over from the one in force.

    Nothing where a plan was asked for outright, or where what was learned did not help.
    """
    if in_force is None or in_force.replan != replan_request(server):
        return Learned()
    if in_force.abandoned is not None and in_force.abandoned.stopped:
        return Learned()
    return Learned.of(in_force.inputs).after(in_force.spec, server.spec)
