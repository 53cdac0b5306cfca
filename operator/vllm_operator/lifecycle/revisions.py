"""Pinned inputs: what a plan depended on, kept with the plan and the rendered objects.

A plan depends on more than the specification: nodes, catalogue, Hub facts, default image, release.
All of it is resolved once for a semantic hash of the specification and kept in an owned
ControllerRevision, so that a new node, a new release or an outage never rolls a server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from pydantic import ValidationError

from vllm_operator import __version__
from vllm_operator.api.canonical import digest
from vllm_operator.api.plan import Plan
from vllm_operator.api.v1alpha1 import VLLMServer, VLLMServerSpec
from vllm_operator.errors import UnreadableRevision
from vllm_operator.hardware import catalogue as gpus
from vllm_operator.manifests import labels as names
from vllm_operator.manifests.render import DEPLOYMENT, WORKLOADS, owner_reference, template_of
from vllm_operator.models import catalogue as models
from vllm_operator.sizing.memory import coefficients
from vllm_operator.sizing.plan import startup

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

HISTORY_LIMIT: Final = 5
DATA_SCHEMA: Final = 1

LIVE_FIELDS: Final = ("replicas", "paused", "autotune")
"""Fields that act at once and are in no plan and no pinned object."""

LIVE_ROLLOUT_FIELDS: Final = ("strategy",)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A specification whose engine did not start, and is not tried again by itself."""

    spec: VLLMServerSpec
    replan: str | None
    reason: str
    message: str
    stopped: bool
    """Whether there was no other plan to go back to: no pods are started."""

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
        }

    @classmethod
    def from_json_object(cls, found: Mapping[str, Any]) -> Self:
        """As it was pinned. Raises KeyError, TypeError and ValidationError."""
        spec = VLLMServerSpec.model_validate(found["spec"])
        reason, message = str(found["reason"]), str(found["message"])
        return cls(spec, found.get("replan"), reason, message, found["stopped"] is True)


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
    plan: Plan | None
    """None where another release wrote what this one cannot read; the objects are kept all the
    same, and nothing is planned anew by itself."""
    objects: tuple[dict[str, Any], ...]
    template: str
    """What its pods carry in the label ``vllm-operator.io/template``."""
    created_at: str = ""
    refusal: Refusal | None = None
    """The specification in whose place this plan serves again, or, where there was none to go back
    to, this plan's own, whose pods are no longer started."""

    def refused(self, server: VLLMServer) -> Refusal | None:
        """Why the server's specification as it stands is not tried again, if so."""
        return self.refusal if self.refusal is not None and self.refusal.is_of(server) else None

    def stopped(self, server: VLLMServer) -> bool:
        """Whether its own pods are no longer started."""
        refusal = self.refused(server)
        return refusal is not None and refusal.stopped

    def is_taken_back(self, server: VLLMServer) -> bool:
        """Whether the server wants this very plan, and no longer the one that was refused."""
        return self.refusal is not None and not self.refusal.stopped and self.serves(server)

    @property
    def workload(self) -> str:
        """The kind that runs its pods."""
        kinds = [str(one["kind"]) for one in self.objects]
        return next((kind for kind in kinds if kind in WORKLOADS), DEPLOYMENT)

    @property
    def may_surge(self) -> bool:
        """Whether the storage lets a new pod start beside the old one."""
        return self.plan is None or self.plan.storage is None or self.plan.storage.surge

    def serves(self, server: VLLMServer) -> bool:
        """Whether this still is the plan of the server's specification."""
        return _same(self.spec, server.spec) and self.replan == replan_request(server)

    def plans(self, server: VLLMServer) -> bool:
        """Whether the plan, though perhaps not the pod template, still is the server's."""
        same = plan_hash(self.spec) == plan_hash(server.spec)
        return same and self.replan == replan_request(server)


def _same(one: VLLMServerSpec, other: VLLMServerSpec) -> bool:
    """Whether two specifications give the same plan and the same pods."""
    return plan_hash(one) == plan_hash(other) and pod_hash(one) == pod_hash(other)


def replan_request(server: VLLMServer) -> str | None:
    """The value of the annotation that asks for a new plan whenever it changes."""
    return server.metadata.annotations.get(names.REPLAN_ANNOTATION)


def plan_hash(spec: VLLMServerSpec) -> str:
    """Semantic hash of what planning reads: parsed values, not bytes."""
    document = spec.to_json_object()
    for field in (*LIVE_FIELDS, "pod"):
        document.pop(field, None)
    rollout = {
        key: value
        for key, value in (document.pop("rollout", None) or {}).items()
        if key not in LIVE_ROLLOUT_FIELDS
    }
    return digest({**document, **({"rollout": rollout} if rollout else {})})


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
    plan: Plan,
    objects: tuple[dict[str, Any], ...],
    release: str = RELEASE,
) -> dict[str, Any]:
    """The ControllerRevision that pins a plan. Its data cannot be changed once it exists."""
    content = {
        "schema": DATA_SCHEMA,
        "spec": server.spec.to_json_object(),
        "replan": replan_request(server),
        "release": release,
        "inputs": dict(inputs),
        "plan": plan.to_json_object(),
        "objects": list(objects),
    }
    return _revision(server, revision, content)


def given_up(
    server: VLLMServer, revision: int, kept: RevisionRecord, refusal: Refusal
) -> dict[str, Any]:
    """The ControllerRevision that pins the plan of ``kept`` again, in place of one refused."""
    content = {**kept.data(), "refused": refusal.to_json_object()}
    return _revision(server, revision, content)


def taken_back(server: VLLMServer, revision: int, kept: RevisionRecord) -> dict[str, Any]:
    """The ControllerRevision that pins the plan of ``kept`` without what was refused once."""
    content = {key: value for key, value in kept.data().items() if key != "refused"}
    return _revision(server, revision, content)


def _revision(server: VLLMServer, revision: int, content: dict[str, Any]) -> dict[str, Any]:
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
    """What a ControllerRevision pins. Raises UnreadableRevision where it holds no objects."""
    data = record.data()
    try:
        objects = tuple(data["objects"])
        template = template_of(objects)
        spec = VLLMServerSpec.model_validate(data["spec"])
    except (LookupError, TypeError, ValidationError) as error:
        raise UnreadableRevision(f"ControllerRevision {record.name}: {error}") from error
    try:
        plan = Plan.model_validate(data["plan"])
    except (KeyError, ValidationError):
        plan = None
    try:
        refusal = Refusal.from_json_object(data["refused"]) if "refused" in data else None
    except (KeyError, TypeError, ValidationError):
        refusal = None
    return Pinned(
        name=record.name,
        uid=record.uid,
        revision=record.revision,
        spec=spec,
        replan=data.get("replan"),
        release=str(data.get("release", "")),
        inputs=data.get("inputs") or {},
        plan=plan if plan is not None and plan.feasible else None,
        objects=objects,
        template=template,
        created_at=record.created_at,
        refusal=refusal,
    )


def pods_of_plan(in_force: Pinned, pods: Sequence[PodRecord]) -> list[PodRecord]:
    """The pods that the plan in force made, oldest first; none that is going, or ended as a whole.

    Others may wait, crash or serve beside them: nothing that they do is the plan's.
    """
    mine = [p for p in pods if p.template == in_force.template and not p.deleting and not p.failed]
    return sorted(mine, key=lambda pod: (pod.created_at, pod.name))


def expired(records: list[RevisionRecord], good: str | None = None) -> list[RevisionRecord]:
    """Pinned plans beyond the bounded history, oldest first; ``good`` names one that is kept."""
    old = records[:-HISTORY_LIMIT] if len(records) > HISTORY_LIMIT else []
    return [record for record in old if record.name != good]
