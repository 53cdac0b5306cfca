"""Pinned inputs: what a plan depended on, kept with the plan and the rendered objects.

A plan depends on more than the specification: nodes, catalogue, Hub facts, default image, release.
All of it is resolved once for a semantic hash of the specification and kept in an owned
ControllerRevision, so that a new node, a new release or an outage never rolls a server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from vllm_operator import __version__
from vllm_operator.api.canonical import digest
from vllm_operator.api.plan import Plan
from vllm_operator.api.v1alpha1 import VLLMServer, VLLMServerSpec
from vllm_operator.hardware import catalogue as gpus
from vllm_operator.manifests import labels as names
from vllm_operator.manifests.render import owner_reference
from vllm_operator.models import catalogue as models
from vllm_operator.sizing import coefficients

from .store import RevisionRecord

RELEASE: Final = f"{__version__}+" + digest(
    [gpus.fingerprint(), models.fingerprint(), coefficients.fingerprint()], 8
)
"""This release and the facts that it decides by."""

HISTORY_LIMIT: Final = 5
DATA_SCHEMA: Final = 1

LIVE_FIELDS: Final = ("replicas", "paused", "autotune")
"""Fields that act at once and are in no plan and no pinned object."""

LIVE_ROLLOUT_FIELDS: Final = ("strategy",)


@dataclass(frozen=True)
class Pinned:
    """One pinned plan."""

    name: str
    revision: int
    plan_hash: str
    pod_hash: str
    replan: str | None
    release: str
    inputs: Mapping[str, Any]
    plan: Plan
    objects: tuple[dict[str, Any], ...]

    def serves(self, server: VLLMServer) -> bool:
        """Whether this still is the plan of the server's specification."""
        return (
            self.plan_hash == plan_hash(server.spec)
            and self.pod_hash == pod_hash(server.spec)
            and self.replan == replan_request(server)
        )


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
) -> dict[str, Any]:
    """The ControllerRevision that pins a plan. Its data cannot be changed once it exists."""
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
        "data": {
            "schema": DATA_SCHEMA,
            "planHash": plan_hash(server.spec),
            "podHash": pod_hash(server.spec),
            "replan": replan_request(server),
            "release": RELEASE,
            "inputs": dict(inputs),
            "plan": plan.to_json_object(),
            "objects": list(objects),
        },
    }


def pinned(record: RevisionRecord) -> Pinned:
    """What a ControllerRevision pins."""
    data = record.data()
    return Pinned(
        name=record.name,
        revision=record.revision,
        plan_hash=data["planHash"],
        pod_hash=data["podHash"],
        replan=data.get("replan"),
        release=data["release"],
        inputs=data["inputs"],
        plan=Plan.model_validate(data["plan"]),
        objects=tuple(data["objects"]),
    )


def expired(records: list[RevisionRecord]) -> list[RevisionRecord]:
    """Pinned plans beyond the bounded history, oldest first."""
    return records[:-HISTORY_LIMIT] if len(records) > HISTORY_LIMIT else []
