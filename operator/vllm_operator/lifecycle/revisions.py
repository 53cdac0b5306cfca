"""Pinned inputs: what a plan depended on, kept with the plan and the rendered objects.

A plan depends on more than the specification: nodes, catalogue, Hub facts, default image, release.
All of it is resolved once for a semantic hash of the specification and kept in an owned
ControllerRevision, so that a new node, a new release or an outage never rolls a server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Self

from pydantic import ValidationError

from vllm_operator import __version__
from vllm_operator.api.canonical import digest
from vllm_operator.api.plan import Plan
from vllm_operator.api.pod import PodSpec
from vllm_operator.api.v1alpha1 import VLLMServer, VLLMServerSpec
from vllm_operator.errors import UnreadableRevision
from vllm_operator.hardware import catalogue as gpus
from vllm_operator.hardware.nodes import GPUOffer
from vllm_operator.manifests import labels as names
from vllm_operator.manifests.planned import Planned
from vllm_operator.manifests.render import DEPLOYMENT, WORKLOADS, owner_reference, template_of
from vllm_operator.models import catalogue as models
from vllm_operator.sizing.asked.defaults import overlaid_pod
from vllm_operator.sizing.asked.inputs import defaults_of
from vllm_operator.sizing.memory import coefficients
from vllm_operator.sizing.plan import startup
from vllm_operator.sizing.plan.planner import Sized

from .records import PodRecord, RevisionRecord

RELEASE: Final = f"{__version__}+" + digest(
    [
        gpus.fingerprint(),
        models.fingerprint(),
        coefficients.fingerprint(),
        startup.fingerprint(),
    ],
    8,
)
"""This release and the facts that it decides by."""

DATA_SCHEMA: Final = 1

LIVE_PATHS: Final = frozenset(
    {
        "spec.replicas",
        "spec.paused",
        "spec.autotune",
        "spec.routing",
        "spec.rollout.strategy",
        "spec.workload.slo",
    }
)
"""Fields that act at once: they are in no plan and no pinned object, and their change rolls
nothing."""


@dataclass(frozen=True, slots=True)
class Abandoned:
    """A specification whose engine did not start, and is not tried again by itself."""

    spec: VLLMServerSpec
    replan: str | None
    reason: str
    message: str
    stopped: bool
    """Whether there was no other plan to go back to: no pods are started."""
    revision: str = ""
    """Name of the plan that it had."""

    def is_of(self, server: VLLMServer) -> bool:
        """Whether that still is the server's specification."""
        return _same(self.spec, server.spec) and self.replan == replan_request(server)

    def to_json_object(self) -> dict[str, Any]:
        """As it is pinned."""
        return {
            "spec": self.spec.to_json_object(),
            "replan": self.replan,
            "reason": self.reason,
            "message": self.message,
            "stopped": self.stopped,
            "revision": self.revision,
        }

    @classmethod
    def from_json_object(cls, found: Mapping[str, Any]) -> Self:
        """As it was pinned. Raises KeyError, TypeError and ValidationError."""
        spec = VLLMServerSpec.model_validate(found["spec"])
        reason, message = str(found["reason"]), str(found["message"])
        stopped, revision = found["stopped"] is True, str(found["revision"])
        return cls(spec, found.get("replan"), reason, message, stopped, revision)


@dataclass(frozen=True)
class Pinned:
    """One pinned plan."""

    name: str
    uid: str
    revision: int
    spec: VLLMServerSpec
    """The specification that was planned, as this release reads it: comparing what is hashed today
    on both sides lets the way of hashing, and the fields that a release knows, change."""
    replan: str | None
    release: str
    inputs: Mapping[str, Any]
    sized: Sized | None
    """The plan. None where another release wrote what this one cannot read; the objects are kept
    all the same, and nothing is planned anew by itself."""
    objects: tuple[dict[str, Any], ...]
    template: str
    """What its pods carry in the label ``vllm-operator.io/template``."""
    created_at: str = ""
    abandoned: Abandoned | None = None
    """The specification in whose place this plan serves again, or, where there was none to go back
    to, this plan's own, whose pods are no longer started."""
    tuning: Mapping[str, Any] = field(default_factory=dict)
    """Where tuning put it in force: the ``trial`` that it was, or that it takes the place of
    (``instead``), and that trial's ``parent``."""

    @property
    def plan(self) -> Plan | None:
        """The plan without the GPUs that it was made for."""
        return self.sized.plan if self.sized else None

    @property
    def pod(self) -> PodSpec:
        """What its pods were asked to be, by the server or by the platform."""
        return overlaid_pod(self.spec, defaults_of(self.inputs))

    @property
    def workload(self) -> str:
        """The kind that runs its pods."""
        kinds = [str(one["kind"]) for one in self.objects]
        return next((kind for kind in kinds if kind in WORKLOADS), DEPLOYMENT)

    @property
    def may_surge(self) -> bool:
        """Whether the storage lets a new pod start beside the old one."""
        return self.plan is None or self.plan.storage.surge

    def is_for(self, server: VLLMServer) -> bool:
        """Whether this still is the plan of the server's specification."""
        return _same(self.spec, server.spec) and self.replan == replan_request(server)


class Relation(Enum):
    """How the plan in force stands to the specification as it is."""

    ABSENT = "absent"
    """There is none."""
    CURRENT = "current"
    """It is the specification's."""
    STOPPED = "stopped"
    """It is, but was given up with none to go back to: its pods are no longer started."""
    STANDS_IN = "stands in"
    """It serves in place of the specification's, which was given up."""
    WANTED_AGAIN = "wanted again"
    """It stood in for another one's, and is the specification's again."""
    OTHER_POD = "other pod"
    """Only what the pod template reads has changed since: plan and inputs stay."""
    OUTDATED = "outdated"
    """The specification wants another one."""

    @property
    def is_planned(self) -> bool:
        """Whether the specification as it stands has the plan in force."""
        return self in (Relation.CURRENT, Relation.STOPPED, Relation.WANTED_AGAIN)

    @property
    def is_given_up(self) -> bool:
        """Whether the specification as it stands is not tried again by itself."""
        return self in (Relation.STOPPED, Relation.STANDS_IN)


def relation(in_force: Pinned | None, server: VLLMServer) -> Relation:
    """How the plan in force stands to the server's specification."""
    if in_force is None:
        return Relation.ABSENT
    abandoned = in_force.abandoned
    if abandoned is not None and abandoned.is_of(server):
        return Relation.STOPPED if abandoned.stopped else Relation.STANDS_IN
    if in_force.is_for(server):
        return Relation.CURRENT if abandoned is None else Relation.WANTED_AGAIN
    same_plan = plan_hash(in_force.spec) == plan_hash(server.spec)
    if same_plan and in_force.replan == replan_request(server):
        return Relation.OTHER_POD
    return Relation.OUTDATED


def _same(one: VLLMServerSpec, other: VLLMServerSpec) -> bool:
    """Whether two specifications give the same plan and the same pods."""
    return plan_hash(one) == plan_hash(other) and pod_hash(one) == pod_hash(other)


def replan_request(server: VLLMServer) -> str | None:
    """The value of the annotation that asks for a new plan whenever it changes."""
    return server.metadata.annotations.get(names.REPLAN_ANNOTATION)


def plan_hash(spec: VLLMServerSpec) -> str:
    """Semantic hash of what planning reads: parsed values, not bytes."""
    return digest(planned_fields(spec))


def planned_fields(spec: VLLMServerSpec) -> dict[str, Any]:
    """What planning reads of a specification, as JSON."""
    return _without_live(spec.to_json_object(), "spec")


def _without_live(document: Mapping[str, Any], path: str) -> dict[str, Any]:
    """A part of which only live fields are given counts as absent."""
    kept = {}
    for name, value in document.items():
        here = f"{path}.{name}"
        if here in LIVE_PATHS or here == "spec.pod":
            continue
        if isinstance(value, Mapping) and any(live.startswith(f"{here}.") for live in LIVE_PATHS):
            value = _without_live(value, here)
            if not value:
                continue
        kept[name] = value
    return kept


def pod_hash(spec: VLLMServerSpec) -> str:
    """Semantic hash of what only the pod template reads; a change of it alone keeps the plan."""
    return digest(spec.pod.to_json_object() if spec.pod else {})


def revision_name(server: VLLMServer, revision: int) -> str:
    """Name of a pinned plan; the uid keeps a successor of the same name apart."""
    return f"{server.metadata.name}-{digest(server.metadata.uid, 6)}-{revision}"


def controller_revision(
    server: VLLMServer,
    revision: int,
    inputs: Mapping[str, Any],
    planned: Planned,
    release: str = RELEASE,
) -> dict[str, Any]:
    """The ControllerRevision that pins a plan. Its data cannot be changed once it exists."""
    return owned_revision(server, revision, content_of(server, inputs, planned, release))


def content_of(
    server: VLLMServer, inputs: Mapping[str, Any], planned: Planned, release: str = RELEASE
) -> dict[str, Any]:
    """What is pinned of a plan."""
    return {
        "schema": DATA_SCHEMA,
        "spec": server.spec.to_json_object(),
        "replan": replan_request(server),
        "release": release,
        "inputs": dict(inputs),
        "plan": planned.plan.to_json_object(),
        "gpu": planned.gpu.to_json_object(),
        "objects": list(planned.objects),
    }


def given_up(
    server: VLLMServer, revision: int, kept: RevisionRecord, abandoned: Abandoned
) -> dict[str, Any]:
    """The ControllerRevision that pins the plan of ``kept`` again, in place of one refused."""
    content = {**kept.data(), "abandoned": abandoned.to_json_object()}
    return owned_revision(server, revision, content)


def taken_back(server: VLLMServer, revision: int, kept: RevisionRecord) -> dict[str, Any]:
    """The ControllerRevision that pins the plan of ``kept`` without what was refused once."""
    content = {key: value for key, value in kept.data().items() if key != "abandoned"}
    return owned_revision(server, revision, content)


def owned_revision(server: VLLMServer, revision: int, content: dict[str, Any]) -> dict[str, Any]:
    """A ControllerRevision of the server that holds ``content``."""
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": revision_name(server, revision),
            "namespace": server.metadata.namespace,
            "labels": names.object_labels(server.metadata.name),
            "ownerReferences": [owner_reference(server)],
        },
        "revision": revision,
        "data": content,
    }


def pinned(record: RevisionRecord) -> Pinned:
    """What a ControllerRevision pins, a trial's as well.

    Raises UnreadableRevision where it holds no objects.
    """
    data = record.data()
    if record.trial:
        data = data.get("pinned") or {}
    try:
        objects = tuple(data["objects"])
        template = template_of(objects)
        spec = VLLMServerSpec.model_validate(data["spec"])
    except (LookupError, TypeError, ValidationError) as error:
        raise UnreadableRevision(f"ControllerRevision {record.name}: {error}") from error
    sized = None
    with suppress(LookupError, TypeError, ValidationError):
        plan = Plan.model_validate(data["plan"])
        sized = Sized(plan, GPUOffer.from_json_object(data["gpu"]))
    try:
        abandoned = Abandoned.from_json_object(data["abandoned"]) if "abandoned" in data else None
    except (KeyError, TypeError, ValidationError):
        abandoned = None
    return Pinned(
        name=record.name,
        uid=record.uid,
        revision=record.revision,
        spec=spec,
        replan=data.get("replan"),
        release=str(data.get("release", "")),
        inputs=data.get("inputs") or {},
        sized=sized,
        objects=objects,
        template=template,
        created_at=record.created_at,
        abandoned=abandoned,
        tuning=data.get("tuning") or {},
    )


def pods_of_plan(in_force: Pinned, pods: Sequence[PodRecord]) -> list[PodRecord]:
    """The pods that the plan in force made, oldest first; none that is going, or ended as a whole.

    Others may wait, crash or serve beside them: nothing that they do is the plan's.
    """
    mine = [p for p in pods if p.template == in_force.template and not p.deleting and not p.failed]
    return sorted(mine, key=lambda pod: (pod.created_at, pod.name))


def ready_revision(in_force: Pinned, mine: Sequence[PodRecord]) -> str | None:
    """Name of the plan in force where a pod of it serves."""
    return in_force.name if any(pod.serves for pod in mine) else None
