"""Servers of a cluster with what their metrics say: what ``explain``, ``top`` and ``check`` look
at. Edge."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.plan import Plan
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.diagnosis.look import Look, Subject, look
from vllm_operator.engine.versions import Version
from vllm_operator.errors import InputError, PlanningError
from vllm_operator.lifecycle.kept import Revisions
from vllm_operator.lifecycle.kinds import PODS, REVISIONS
from vllm_operator.lifecycle.reading import pod_record, revision_record
from vllm_operator.lifecycle.records import PodRecord
from vllm_operator.lifecycle.remembered import Remembered, read_server
from vllm_operator.lifecycle.revisions import Pinned
from vllm_operator.lifecycle.tuned import facts_of, knobs_in_force, objective_of
from vllm_operator.manifests.labels import SERVER_LABEL
from vllm_operator.tuning.durations import Durations
from vllm_operator.tuning.scene import Facts

from .cluster import Reader, metadata_of

if TYPE_CHECKING:
    from vllm_operator.controller.sources.prometheus import Answer, Prometheus

LEARNED: Final = 7
"""Blocks of time that forecasts rest on: a trial of a single replica takes six."""
LATELY: Final = 20
"""Intervals that a glance speaks of: five minutes."""


@dataclass(frozen=True, slots=True)
class Live:
    """A server as it is."""

    server: VLLMServer
    remembered: Remembered
    plan: Plan | None
    """In force; None where nothing is planned, or another release's is."""
    no_plan: str = ""
    """Why a plan that there is cannot be read."""
    pods: tuple[PodRecord, ...] = ()
    no_pods: str = ""
    """Why its pods could not be read."""
    in_force: Pinned | None = None
    look: Look | None = None
    no_look: str = ""
    """Why there are no metrics."""

    @property
    def name(self) -> str:
        """With its namespace."""
        return f"{self.server.metadata.namespace}/{self.server.metadata.name}"

    @property
    def serving(self) -> tuple[PodRecord, ...]:
        """Pods of the plan in force that serve; without its revision, but for a trial's."""
        serving = (one for one in self.pods if one.serves and not one.deleting)
        if self.in_force is not None:
            return tuple(one for one in serving if one.template == self.in_force.template)
        tuning = self.remembered.status.tuning
        trial = tuning.trial.pod if tuning and tuning.trial else None
        return tuple(one for one in serving if one.name != trial)


def read(body: Mapping[str, Any]) -> Live:
    """A server as it stands, before anything else is asked. Raises ``InputError``."""
    if not isinstance(body.get("spec"), Mapping):
        raise InputError("the server has no spec")
    server, problems = read_server(body)
    if problems:
        raise InputError(f"{problems[0].field}: {problems[0].message}")
    status = body.get("status")
    status = status if isinstance(status, Mapping) else {}
    remembered = Remembered.from_status(status)
    try:
        plan = Plan.model_validate(status["plan"]) if status.get("plan") else None
    except ValueError as problem:
        said = " ".join(str(problem).split())
        return Live(server, remembered, None, no_plan=f"it is of another release: {said:.200}")
    return Live(server, remembered, plan)


async def with_pods(reader: Reader, found: Sequence[Live], namespace: str | None) -> list[Live]:
    """The servers with their pods, asked for at once; of one server its own alone."""
    selector = SERVER_LABEL
    if len(found) == 1:
        selector = f"{SERVER_LABEL}={found[0].server.metadata.name}"
    try:
        bodies = await reader.listed(PODS, namespace, selector)
    except InputError as problem:
        return [replace(one, no_pods=str(problem)) for one in found]
    by_server: dict[tuple[str, str], list[PodRecord]] = {}
    for body in bodies:
        metadata = metadata_of(body)
        key = metadata["namespace"], metadata["labels"][SERVER_LABEL]
        by_server.setdefault(key, []).append(pod_record(body))
    return [replace(one, pods=tuple(by_server.get(_key(one), ()))) for one in found]


async def with_revision(reader: Reader, live: Live) -> Live:
    """The server with its plan as it is pinned: what forecasts rest on. Without the right to read
    it there are none."""
    namespace, name = _key(live)
    try:
        bodies = await reader.listed(REVISIONS, namespace, f"{SERVER_LABEL}={name}")
    except InputError:
        return live
    records = sorted(map(revision_record, bodies), key=lambda one: one.revision)
    return replace(live, in_force=Revisions(records).in_force)


async def with_look(
    found: Sequence[Live],
    source: Prometheus,
    durations: Durations,
    *,
    window: float,
    learn: bool = False,
) -> list[Live]:
    """The servers with what their metrics say; ``learn``: with forecasts, for which more samples
    are read than those of the ``window`` in seconds."""
    from vllm_operator.controller.sources.prometheus import Wanted

    back = max(window, LEARNED * durations.block) if learn else window
    back += 4 * durations.interval  # the first interval of the window begins before it
    wanted = [
        Wanted(
            one.server.metadata.namespace,
            pod.name,
            Version.parse(one.plan.engine.version),
            back,
            objective_of(one.server),
        )
        for one in found
        if one.plan is not None
        for pod in one.serving
    ]
    answers = await source.read(wanted, durations)
    now = time.time()
    return [_looked_at(one, answers, durations, now, window, learn=learn) for one in found]


def _looked_at(
    live: Live,
    answers: Mapping[tuple[str, str], Answer],
    durations: Durations,
    now: float,
    window: float,
    *,
    learn: bool,
) -> Live:
    if live.no_plan:
        return replace(live, no_look=f"its plan cannot be read: {live.no_plan}")
    if live.plan is None or not live.serving:
        return replace(live, no_look=live.no_pods or "no pod serves")
    namespace = live.server.metadata.namespace
    mine = [
        answers[namespace, pod.name] for pod in live.serving if (namespace, pod.name) in answers
    ]
    subject = Subject(
        knobs_in_force(live.plan),
        objective_of(live.server),
        _facts(live) if learn else None,
        live.remembered.status.tuning,
    )
    problem = next((one.problem for one in mine if one.problem), None)
    readings = [one.reading for one in mine]
    return replace(
        live, look=look(readings, subject, durations, now, window=window, problem=problem)
    )


def _facts(live: Live) -> Facts | None:
    try:
        return facts_of(live.server, live.in_force) if live.in_force is not None else None
    except PlanningError:
        return None  # the specification is another one by now


def _key(live: Live) -> tuple[str, str]:
    return live.server.metadata.namespace, live.server.metadata.name
