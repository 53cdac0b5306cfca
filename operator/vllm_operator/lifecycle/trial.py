"""A trial as a held rollout: what is seen of it, what ends it, and what the Deployment is to be.

Another template with a ``minReadySeconds`` that never passes gives exactly one new pod, which
serves and moves nothing else, however long nobody watches. All that is remembered of it stands in
an annotation of the Deployment, which is gone when it is over. Pure.

What is seen decides whether it may go on, whoever wants it to; what nobody wants is ended.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Self

from vllm_operator.api.canonical import canonical_json
from vllm_operator.api.conditions import timestamp
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.manifests import labels as names
from vllm_operator.manifests.fieldset import field_set, field_set_digest
from vllm_operator.manifests.pod import surge_timeout_seconds
from vllm_operator.manifests.render import (
    DEPLOYMENT,
    HELD,
    HOLD_SECONDS,
    IN_PLACE,
    LET_GO,
    SURGE,
    WORTH_A_BUDGET,
    Object,
    held,
    with_live_fields,
)
from vllm_operator.tuning.leave import stays_one_pod
from vllm_operator.tuning.standing import Wants

from .hindrances import is_freed
from .records import ChildRecord, PodRecord
from .revisions import Pinned
from .rollout import is_lagging, is_settled
from .trials import Candidate, Trial


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for of a server."""

    wants: Wants = Wants.STABLE
    trial: str = ""
    """Name of the trial that goes on, is promoted or, with ``STABLE``, is not to be in force."""
    candidate: Candidate | None = None
    """With ``TRIAL`` and no name: what is to be tried. It is begun once, where that may be."""


NOTHING_WANTED: Final = Wanted()


class End(StrEnum):
    """Why a held rollout is ended, whoever wants it to go on."""

    NO_ROOM = "NoRoomForCanary"
    """Something kept its first pod from running for the surge timeout: no start counts."""
    LOST = "CandidateLost"
    """Its pod went, and nothing took another one for as long."""
    DISTURBED = "Disturbed"
    """Somebody changed the Deployment."""
    SCALED = "Scaled"
    """The replicas changed by more than a held rollout stands, or a new one finds no GPU."""
    REPLANNED = "Replanned"
    """Another plan is in force than the one it began beside."""
    FORBIDDEN = "DisruptionForbidden"
    """It took a stable pod's place, which is no longer allowed."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What the Deployment says of its trial: which one, and over what it began."""

    trial: str
    parent: str
    template: str
    surroundings: str
    """Hash of the live pod template beside what a trial changes."""
    replicas: int
    began: str
    """RFC 3339, as ``in_place``: since when it has a stable pod's place, if so."""
    in_place: str = ""

    def displacing(self, since: str) -> Self:
        """The same with a stable pod's place from then on."""
        return replace(self, in_place=since)

    def __str__(self) -> str:
        return canonical_json(asdict(self))

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """From the annotation; None where it is not one of ours."""
        with suppress(ValueError, TypeError):
            return cls(**json.loads(text))
        return None


@dataclass(frozen=True)
class Seen:
    """What is seen of a server's trial."""

    mark: Mark | None = None
    """Which one is held, or was and is not over yet."""
    held: Trial | None = None
    """The trial that is held."""
    pods: tuple[PodRecord, ...] = ()
    """The trial's, that are not going."""
    end: End | None = None
    """Why what is held is to end."""
    displaces: bool = False
    """Whether it is to take a stable pod's place from now on, as nothing else has room."""
    crowded: bool = False
    """Whether a stable pod waits for room."""
    look_again: float | None = None
    """Seconds after which time alone may end it."""

    @property
    def serves(self) -> bool:
        """Whether its pod answers requests."""
        return any(pod.serves for pod in self.pods)


NOTHING: Final = Seen()


def see(
    server: VLLMServer,
    in_force: Pinned,
    trials: Sequence[Trial],
    deployment: ChildRecord | None,
    pods: Sequence[PodRecord],
    now: datetime,
) -> Seen:
    """What is seen of a trial of the server's Deployment; ``trials`` are those that are pinned."""
    mark = Mark.parse(deployment.trial) if deployment is not None else None
    if deployment is None or mark is None:
        return NOTHING
    found = tuple(pod for pod in pods if pod.template == mark.template and not is_going(pod))
    seen = Seen(mark=mark, pods=found)
    trial = next((one for one in trials if one.name == mark.trial), None)
    if deployment.min_ready_seconds == 0:
        return seen  # it is being let go
    if trial is None:
        return replace(seen, end=End.NO_ROOM)  # so it was deleted, and the visit ended there
    stable = [p for p in pods if p.template == in_force.template and not is_going(p)]
    lacks = [p for p in stable if p.unschedulable_since and not p.scheduled]
    seen = replace(seen, held=trial, crowded=bool(lacks))
    if mark.parent != in_force.name:
        return replace(seen, end=End.REPLANNED)
    if _is_disturbed(deployment, mark, trial, found):
        return replace(seen, end=End.DISTURBED)
    if not stays_through(mark, deployment.spec_replicas, server.spec.replicas):
        return replace(seen, end=End.SCALED)
    grew = server.spec.replicas > mark.replicas
    if grew and any(is_freed("scheduling", pod.unschedulable_message) for pod in lacks):
        return replace(seen, end=End.SCALED)
    if mark.in_place and forbids(server):
        return replace(seen, end=End.FORBIDDEN)
    return _timed(seen, server, in_force, deployment, now)


def is_marked(deployment: ChildRecord) -> bool:
    """Whether a Deployment's rollout is held, or was and is not over yet."""
    known = Mark.parse(deployment.trial) is not None
    return known or deployment.min_ready_seconds >= HOLD_SECONDS


def is_beside(in_force: Pinned, deployment: ChildRecord | None) -> bool:
    """Whether a Deployment has a trial beside the plan in force, held or about to go."""
    mark = Mark.parse(deployment.trial) if deployment is not None else None
    return mark is not None and mark.parent == in_force.name


def forbids(server: VLLMServer) -> bool:
    """Whether tuning may not take a ready pod away."""
    autotune = server.spec.autotune
    return autotune is None or autotune.disruption != "Allow"


def stays_through(mark: Mark, before: int, after: int) -> bool:
    """Whether a trial is still one pod after a scaling."""
    return stays_one_pod(before, after, in_place=bool(mark.in_place))


def obstacle(
    server: VLLMServer,
    in_force: Pinned,
    deployment: ChildRecord | None,
    pods: Sequence[PodRecord],
) -> str | None:
    """Why no trial begins now, in words; None where the stable pods are settled."""
    autotune = server.spec.autotune
    if autotune is None or autotune.mode != "Auto":
        return "spec.autotune.mode is not Auto"
    if in_force.workload != DEPLOYMENT:
        return "a replica takes several nodes"
    if not in_force.may_surge and forbids(server):
        return "a second pod cannot have the volume, and none may be taken away for it"
    wanted = server.spec.replicas
    if wanted == 0:
        return "spec.replicas is 0"
    if (
        deployment is None
        or deployment.deleting
        or deployment.controller_uid != server.metadata.uid
    ):
        return "there is no Deployment"
    if is_marked(deployment):
        return "a trial is not over yet"
    if deployment.paused:
        return "the Deployment is paused"
    if deployment.template != in_force.template:
        return "the Deployment does not have the plan in force"
    if deployment.spec_replicas != wanted or not is_settled(deployment):
        return "a rollout is under way"
    standing = [pod for pod in pods if not is_going(pod)]
    mine = [pod for pod in standing if pod.template == in_force.template]
    if len(standing) != wanted or len([pod for pod in mine if pod.serves]) != wanted:
        return "a replica is not ready"
    return None


def begun(
    trial: Trial, deployment: ChildRecord, surroundings: str, now: datetime, *, in_place: bool
) -> Mark:
    """The mark of a trial that begins now over a Deployment as it is."""
    stamp = timestamp(now)
    return Mark(
        trial=trial.name,
        parent=trial.parent,
        template=trial.template,
        surroundings=surroundings,
        replicas=deployment.spec_replicas,
        began=stamp,
        in_place=stamp if in_place else "",
    )


@dataclass(frozen=True)
class Shape:
    """What a Deployment is while a trial is held or ended."""

    workload: Object
    """As it is rendered for the plan whose template it has."""
    replicas: int
    rolling_update: Mapping[str, int]
    fields: Mapping[str, Any]
    """``HELD`` or ``LET_GO``."""
    marks: Mapping[str, str] = field(default_factory=dict)
    least: int | None = None
    """Pods that the PodDisruptionBudget keeps."""

    @property
    def holds(self) -> bool:
        """Whether the rollout is held."""
        return self.fields is HELD

    def of_the_moment(self, server: VLLMServer) -> Object:
        """The Deployment that is applied, without the hash of itself."""
        spec = server.spec.model_copy(update={"replicas": self.replicas})
        desired = with_live_fields(self.workload, spec, self.rolling_update, self.marks)
        return held(desired, self.fields)


def holding(trial: Trial, mark: Mark, replicas: int) -> Shape:
    """A trial that is held: one pod more, or one in the place of another."""
    return Shape(
        workload=trial.pinned.objects[0],
        replicas=replicas,
        rolling_update=IN_PLACE if mark.in_place else SURGE,
        fields=HELD,
        marks={names.TRIAL: str(mark)},
        least=_least(mark, replicas),
    )


def ending(
    seen: Seen,
    in_force: Pinned,
    parent: Pinned | None,
    deployment: ChildRecord | None,
    pods: Sequence[PodRecord],
) -> Shape | None:
    """How a trial ends; None where it is over, or the plan in force has its template.

    Back to the template of the plan that it began beside, at the replicas of the moment: what was
    edited or scaled follows when no pod of the trial is left. With no pod that may be unavailable
    the Deployment controller would wait for a stable pod that waits for the trial's GPU; and each
    stable pod that serves no longer counts as one. Where somebody else changed the template there
    is no ReplicaSet to go back to: that is an ordinary rollout.
    """
    mark, base = seen.mark, parent or in_force
    if deployment is None or mark is None or in_force.template == mark.template:
        return None
    if base.workload != DEPLOYMENT or deployment.surroundings != mark.surroundings:
        return None
    gone = not seen.pods and deployment.replicas <= deployment.updated_replicas
    if deployment.min_ready_seconds == 0 and gone and not is_lagging(deployment):
        return None
    wanted = deployment.spec_replicas
    serving = sum(pod.serves and pod.template != mark.template for pod in pods)
    return Shape(
        workload=base.objects[0],
        replicas=wanted,
        rolling_update={"maxSurge": 1, "maxUnavailable": max(1, wanted - serving)},
        fields=LET_GO,
        marks={names.TRIAL: str(mark)},
        least=_least(mark, wanted),
    )


def _least(mark: Mark, replicas: int) -> int | None:
    """Of a trial that has a stable pod's place there are no more pods than replicas."""
    return None if mark.in_place or replicas < WORTH_A_BUDGET else replicas


def is_going(pod: PodRecord) -> bool:
    """Whether a pod is about to be none of the server's."""
    return pod.deleting or pod.failed


def _is_disturbed(
    deployment: ChildRecord, mark: Mark, trial: Trial, pods: Sequence[PodRecord]
) -> bool:
    """Whether somebody changed what a held Deployment is.

    A restart changes the template beside what is ours; an undo, an edit, a pause and another hold
    take a field that is.
    """
    expected = holding(trial, mark, deployment.spec_replicas)
    return (
        deployment.template != mark.template
        or deployment.surroundings != mark.surroundings
        or deployment.min_ready_seconds != HOLD_SECONDS
        or deployment.paused
        or deployment.owned_fields != _owned(expected)
        or len({pod.template_hash for pod in pods}) > 1
    )


def _owned(shape: Shape) -> str:
    """Digest of the field set that is recorded for a Deployment of that shape."""
    workload = shape.workload
    metadata = workload["metadata"]
    annotations = {**metadata["annotations"], **shape.marks, names.APPLIED_HASH: ""}
    spec = {
        **workload["spec"],
        **shape.fields,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": dict(shape.rolling_update)},
    }
    metadata = {**metadata, "annotations": annotations}
    return field_set_digest(field_set({**workload, "metadata": metadata, "spec": spec}))


def _timed(
    seen: Seen, server: VLLMServer, in_force: Pinned, deployment: ChildRecord, now: datetime
) -> Seen:
    """Whether something keeps the trial's pod from running for too long."""
    mark = seen.mark
    assert mark is not None
    pod = min(seen.pods, key=lambda one: one.created_at, default=None)
    if pod is not None and pod.scheduled:
        return seen
    if pod is None and (not deployment.message or is_lagging(deployment)):
        return seen  # it is about to be made
    placed = mark.in_place or mark.began
    since = max(placed, pod.created_at if pod is not None else deployment.refused_since)
    patience = timedelta(seconds=surge_timeout_seconds(server.spec))
    due = datetime.fromisoformat(since) + patience
    if now < due:
        return replace(seen, look_again=(due - now).total_seconds())
    told = pod.unschedulable_message if pod is not None else deployment.message
    freed = is_freed("scheduling" if pod is not None else "deployment", told)
    if not mark.in_place and freed and not forbids(server):
        return replace(seen, displaces=True)
    # One that is younger than the patience with the first pod cannot be the first.
    first = datetime.fromisoformat(since) <= datetime.fromisoformat(placed) + patience
    return replace(seen, end=End.NO_ROOM if first else End.LOST)
