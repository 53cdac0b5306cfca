"""Surge or in place: the scheduler decides, because nobody else sees who holds the GPUs.

Other teams' pods hold GPUs too, and a namespaced install cannot see them; free GPUs cannot be
counted. So a rollout starts with a pod beside the old ones. Where something keeps it from starting
that the end of an old pod may free, for as long as the surge timeout, the rollout goes on by
replacing, and the strategy returns to surging when the rollout is over. All that is remembered
stands in two annotations of the workload, which are gone with the rollout.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from vllm_operator.api.canonical import digest
from vllm_operator.api.conditions import timestamp
from vllm_operator.api.v1alpha1 import VLLMServerSpec
from vllm_operator.manifests import labels as names
from vllm_operator.manifests.pod import surge_timeout_seconds
from vllm_operator.manifests.render import IN_PLACE, SURGE

from .hindrances import is_freed
from .records import ChildRecord, PodRecord

_MARK = re.compile(r"\d+/\d+ (\S+)")

WAKE_SECONDS: Final = 30.0
"""How long after a ReplicaSet was woken it is woken once more: a quota is counted late."""
WAKES: Final = 3
"""How often it is woken for the same pods."""


@dataclass(frozen=True)
class Strategy:
    """The rolling update of the moment, and when to look again (seconds) if time alone decides."""

    rolling_update: Mapping[str, int]
    look_again: float | None = None
    marks: Mapping[str, str] = field(default_factory=dict)
    """Annotations of the workload."""


def is_lagging(deployment: ChildRecord) -> bool:
    """Whether the Deployment's status speaks of an older specification than it has."""
    return deployment.observed_generation < deployment.generation


def is_rolling(deployment: ChildRecord) -> bool:
    """Whether a Deployment has not yet replaced every pod by its newest template."""
    return (
        is_lagging(deployment)
        or deployment.updated_replicas < deployment.spec_replicas
        or deployment.replicas > deployment.updated_replicas
    )


def is_settled(deployment: ChildRecord) -> bool:
    """Whether every replica is of the newest template and ready."""
    wanted = deployment.spec_replicas
    return not is_rolling(deployment) and wanted == deployment.replicas == deployment.ready_replicas


def calm(deployment: ChildRecord) -> ChildRecord:
    """A Deployment with a trial as its server's readiness is judged: by pods of either template."""
    wanted = deployment.spec_replicas
    return replace(
        deployment,
        observed_generation=deployment.generation,
        replicas=wanted,
        updated_replicas=wanted,
        ready_replicas=min(deployment.ready_replicas, wanted),
        deadline_exceeded=False,
        message="",
    )


def choose_strategy(
    spec: VLLMServerSpec,
    deployment: ChildRecord | None,
    pods: Sequence[PodRecord],
    now: datetime,
    *,
    template: str,
    planned_at: str = "",
    may_surge: bool = True,
    surges_only: bool = False,
    dead_first: bool = False,
    volume_holder: str = "",
) -> Strategy:
    """The strategy for the next apply.

    ``template`` tells pods of the plan that is rolled out from others, and ``planned_at`` is when
    it was pinned. ``may_surge`` is false where a new pod would wait for a volume that the old one
    holds: then nothing but in place can ever end, whatever the specification asks for. While there
    are pods of another plan, ``surges_only`` takes no ready one away, whatever else is said, as
    nobody asked for this rollout; ``dead_first`` lets those go that do not serve.
    ``volume_holder`` is who has the volume that a new pod waits for, in Kubernetes' words.
    """
    wanted = (spec.rollout.strategy if spec.rollout else None) or "Auto"
    rolling = deployment if deployment is not None and is_rolling(deployment) else None
    wake, again = _wake(deployment, pods, now)
    others = [p for p in pods if p.template != template and not p.deleting and not p.failed]
    if surges_only and others:
        dead = sum(not pod.ready for pod in others) if dead_first else 0
        return Strategy({**SURGE, "maxUnavailable": min(dead, spec.replicas)}, again, wake)
    if not may_surge or wanted == "InPlace":
        return Strategy(IN_PLACE, again, wake)
    if wanted == "Surge" or rolling is None:
        return Strategy(SURGE, again, wake)
    since = _replaced_in_place(rolling, planned_at)
    waiting_since = held_up_since(rolling, template, planned_at, pods)
    if rolling.replicas <= rolling.updated_replicas:
        waiting_since = _waits_for_node_since(
            template, pods
        )  # no old pod of it has what is refused
    waiting_since = waiting_since or _waits_for_volume_since(template, pods, volume_holder)
    if since is None and waiting_since is not None:
        deadline = waiting_since + timedelta(seconds=surge_timeout_seconds(spec))
        if now < deadline:
            left = (deadline - now).total_seconds()
            return Strategy(SURGE, left if again is None else min(left, again), wake)
        placed = [p for p in pods if p.leads and p.scheduled and not p.deleting and not p.failed]
        since = f"{len(placed)}/{spec.replicas} {timestamp(now)}"
    if since is None:
        return Strategy(SURGE, again, wake)
    return Strategy(_in_place(spec, since), again, {**wake, names.IN_PLACE_SINCE: since})


@dataclass(frozen=True)
class Retirement:
    """Whether an old workload goes now, and when to look again (seconds) if time decides."""

    now: bool
    look_again: float | None = None


def may_retire(
    spec: VLLMServerSpec,
    successor: ChildRecord | None,
    pods: Sequence[PodRecord],
    now: datetime,
    *,
    template: str,
    planned_at: str = "",
    may_surge: bool,
) -> Retirement:
    """Whether a workload of another kind (a server came to take several nodes, or one again) goes.

    It serves until its successor does. Where there is no room for both, it goes first, as in every
    rollout: at once in place, else after the surge timeout.
    """
    if successor is None:
        return Retirement(now=False)
    if successor.ready_replicas >= spec.replicas and not is_lagging(successor):
        return Retirement(now=True)
    wanted = (spec.rollout.strategy if spec.rollout else None) or "Auto"
    if wanted == "InPlace" or not may_surge:
        return Retirement(now=True)
    waiting_since = held_up_since(successor, template, planned_at, pods)
    if waiting_since is None or wanted == "Surge":
        return Retirement(now=False)
    left = waiting_since + timedelta(seconds=surge_timeout_seconds(spec)) - now
    seconds = left.total_seconds()
    return Retirement(now=seconds <= 0, look_again=seconds if seconds > 0 else None)


def _in_place(spec: VLLMServerSpec, since: str) -> Mapping[str, int]:
    """In place, with room for replicas that had no node before the rollout either.

    Where fewer GPUs than replicas exist, the Deployment controller counts the pod that waits, or
    that a quota refuses, as the one that may be unavailable, and would never replace a running one
    to make room for it. So those without a node when the rollout went in place are counted on top.
    Not those of later: a pod that waits although an old one has ended for it must not end another.
    """
    placed, wanted = map(int, since.partition(" ")[0].split("/"))
    without = max(min(spec.replicas, wanted) - placed, 0)
    return {**IN_PLACE, "maxUnavailable": 1 + without} if without else IN_PLACE


def _replaced_in_place(rolling: ChildRecord, planned_at: str) -> str | None:
    """The mark of a rollout of this plan that goes on in place; another plan's counts no more."""
    mark = _MARK.fullmatch(rolling.replaced_in_place)
    if not rolling.in_place or mark is None or mark[1] < planned_at:
        return None
    return mark[0]


def _wake(
    deployment: ChildRecord | None, pods: Sequence[PodRecord], now: datetime
) -> tuple[Mapping[str, str], float | None]:
    """The annotation that wakes a ReplicaSet whose pods a quota refuses, and when to wake it again.

    Its controller tries again after a back-off of up to a quarter of an hour, and nothing tells it
    that the quota has room. So it is woken whenever other pods are there than before, and twice
    more, because a quota is counted some seconds late. An annotation of the Deployment is copied to
    the ReplicaSet, whose controller looks at every change. Source: deployment_util.go,
    replica_set.go of kube-controller-manager 1.36.
    """
    if deployment is None or not deployment.message or is_lagging(deployment):
        return {}, None
    if not is_freed("deployment", deployment.message):
        return {}, None
    crowd = digest(sorted(pod.uid for pod in pods), 8)
    known, _, rest = deployment.woken.partition(" ")
    at, _, times = rest.partition(" ")
    count = int(times) if known == crowd and times.isdecimal() else 0
    left = 0.0
    if count:
        left = WAKE_SECONDS - (now - datetime.fromisoformat(at)).total_seconds()
    if count and (left > 0 or count >= WAKES):
        return {names.WOKEN: deployment.woken}, left if left > 0 and count < WAKES else None
    return {names.WOKEN: f"{crowd} {timestamp(now)} {count + 1}"}, WAKE_SECONDS


def held_up_since(
    deployment: ChildRecord, template: str, planned_at: str, pods: Sequence[PodRecord]
) -> datetime | None:
    """Since when something keeps a pod of the plan from starting that the end of old ones may free.

    Old ones may be of the same plan: ``kubectl rollout restart`` makes a ReplicaSet too. What they
    cannot free would hold the pod up without them as well: a typing error in a selector or a
    claim's name, a webhook or a policy must not end a pod that serves.
    """
    times = (_waits_for_node_since(template, pods), _refused_since(deployment, planned_at))
    return min(filter(None, times), default=None)


def _waits_for_node_since(template: str, pods: Sequence[PodRecord]) -> datetime | None:
    alive = [pod for pod in pods if not pod.deleting and not pod.failed]
    templates = {pod.template_hash for pod in alive if pod.scheduled}
    times = [
        datetime.fromisoformat(pod.unschedulable_since)
        for pod in alive
        if pod.template == template
        and pod.unschedulable_since
        and not pod.scheduled
        and not pod.scheduler_failed
        and templates - {pod.template_hash}
        and is_freed("scheduling", pod.unschedulable_message)
    ]
    return min(times, default=None)


def _waits_for_volume_since(
    template: str, pods: Sequence[PodRecord], holder: str
) -> datetime | None:
    """Since when a pod of the plan waits for a volume that an old pod has on another node."""
    alive = [pod for pod in pods if not pod.deleting and not pod.failed]
    new = [pod for pod in alive if pod.template == template and pod.unprepared and pod.started_at]
    if not any(pod.name in holder for pod in alive if pod not in new):
        return None
    return min((datetime.fromisoformat(pod.started_at or "") for pod in new), default=None)


def _refused_since(deployment: ChildRecord, planned_at: str) -> datetime | None:
    """Since when a quota refuses a pod of the plan.

    The condition may be of before the plan: what another ReplicaSet's pods were refused for. It is
    counted from the plan on.
    """
    if not deployment.refused_since or is_lagging(deployment):
        return None
    if not is_freed("deployment", deployment.message):
        return None
    return datetime.fromisoformat(max(deployment.refused_since, planned_at))
