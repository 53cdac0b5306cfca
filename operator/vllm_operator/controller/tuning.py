"""Tuning's edge: reads engines' metrics from time to time, and answers visits from what it read.

One task asks Prometheus for the pods of all servers together. A visit never waits for it: it is
answered from what was read last, and each server is visited again when there is something new.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from vllm_operator.api.conditions import ConditionDraft, truncate
from vllm_operator.api.v1alpha1 import VLLMServerSpec
from vllm_operator.engine.versions import Version
from vllm_operator.lifecycle.intent import World
from vllm_operator.lifecycle.notes import Note
from vllm_operator.lifecycle.records import Key
from vllm_operator.lifecycle.trial import Wanted
from vllm_operator.lifecycle.tuned import (
    curve_key,
    facts_of,
    scene_of,
    wanted_of,
    window_problem,
    with_revision,
)
from vllm_operator.tuning import story
from vllm_operator.tuning.curve import UNSEEN
from vllm_operator.tuning.durations import Durations
from vllm_operator.tuning.edges import HELD
from vllm_operator.tuning.knobs import Objective
from vllm_operator.tuning.quality import Held, held
from vllm_operator.tuning.scene import Facts, Look
from vllm_operator.tuning.standing import Mode
from vllm_operator.tuning.tuner import Tuner

from .curves import Curves
from .metrics import Metrics
from .settings import OperatorSettings
from .sources.prometheus import Prometheus
from .sources.prometheus import Wanted as Asked
from .trials import Told

LOG: Final = logging.getLogger("vllm_operator")

READ_INTERVALS: Final = 4
"""Intervals between two reads."""
OVERLAP_SCRAPES: Final = 4
"""Scrapes of before the last read that each read asks for again: late ones are not lost."""
UNKNOWN_INTERVALS: Final = 28
"""Intervals that are asked for of a pod of whose scrapes nothing is known yet."""
FIRST_BLOCKS: Final = 4
"""Blocks of time that the first read of a server asks for."""
NOT_CONFIGURED: Final = "the operator has no Prometheus: set prometheus.url in its chart"
NOT_READ: Final = ConditionDraft(
    type="MetricsAvailable",
    status="Unknown",
    reason="NoSeries",
    message="the server's pods were not read yet",
)
NOT_DESCRIBED: Final = ConditionDraft(
    type="Tuned",
    status="False",
    reason="NotDescribed",
    message="a server of several engines, nodes or stages, with drafts or pictures, or on a GPU "
    "of whose speed nothing is known, is not tuned",
)


@dataclass(slots=True)
class _Server:
    """What is kept of a server that is tuned."""

    tuner: Tuner
    kind: str = ""
    """Of servers that have one curve."""
    plan: str = ""
    """Name of the revision that the facts are of."""
    facts: Facts | None = None
    spec: VLLMServerSpec | None = None
    window: str = ""
    """What is wrong with when trials may begin."""
    pods: frozenset[str] = frozenset()
    version: Version | None = None
    objective: Objective | None = None
    read: bool = False
    """Whether the pods were read once."""
    answered: dict[str, float] = field(default_factory=dict)
    """When each pod was read last without a problem, seconds since the epoch."""
    look: Look | None = None
    held: bool = False
    """Whether it has a trial."""
    refused: str = ""
    news: bool = False
    """Whether the last look took an edge that was not told yet."""
    counted: str = ""
    """When the trial was proposed whose end was counted last."""

    def notes(self) -> tuple[Note, ...]:
        """The event of the edge that was taken, once."""
        look = self.look
        if look is None or look.step.edge is None or look.tuning is None or not self.news:
            return ()
        self.news = False
        edge, said = look.step.edge, truncate(story.tuned(look.tuning).message)
        if edge.verdict == "RolledBack":
            return (("Warning", edge.tells, "Tune", said),)
        return (("Normal", edge.tells, "Tune", said),)


@dataclass(slots=True)
class Autotuner:
    """The tuners of all servers. ``queue`` asks for a visit."""

    settings: OperatorSettings
    clock: Callable[[], datetime]
    queue: Callable[[Key], None]
    prometheus: Prometheus | None = None
    durations: Durations = field(default_factory=Durations)
    metrics: Metrics = field(default_factory=Metrics)
    curves: Curves | None = None
    _servers: dict[Key, _Server] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        settings: OperatorSettings,
        clock: Callable[[], datetime],
        queue: Callable[[Key], None],
        metrics: Metrics,
        curves: Curves,
    ) -> Autotuner:
        """As the operator's settings have it."""
        if settings.prometheus is None:
            return cls(settings, clock, queue, metrics=metrics, curves=curves)
        source = Prometheus(settings.prometheus, observe=metrics.prometheus_query)
        durations = Durations(settings.prometheus.interval)
        return cls(settings, clock, queue, source, durations, metrics, curves)

    def wants(self, key: Key, world: World) -> Wanted:
        """What is asked for of a server that is visited.

        A defect here asks for nothing, which ends what is held: it stops no visit.
        """
        try:
            return self._wants(key, world)
        except Exception:
            LOG.exception("tuning failed", extra={"namespace": key[0], "server": key[1]})
            self._servers.pop(key, None)
            return Wanted()

    def _wants(self, key: Key, world: World) -> Wanted:
        autotune = world.server.spec.autotune
        mode = Mode(autotune.mode or "Disabled") if autotune else Mode.DISABLED
        tuning = with_revision(world)
        if mode is Mode.DISABLED and tuning is None:
            self._servers.pop(key, None)
            return Wanted()
        assert world.in_force is not None
        kind = curve_key(world.in_force.plan) if world.in_force.plan else ""
        kept = self._servers.get(key)
        if kept is None or kept.kind != kind:
            prior = UNSEEN if self.curves is None else self.curves.prior(kind)
            kept = self._servers[key] = _Server(Tuner(self.durations, prior), kind)
        if kept.plan != world.in_force.name or kept.spec != world.server.spec:
            kept.facts = facts_of(world.server, world.in_force)
            kept.plan, kept.spec = world.in_force.name, world.server.spec
            kept.window, kept.refused = window_problem(world.server), ""
        if world.in_force.plan is None or kept.facts is None:
            kept.look = None
            return Wanted()
        kept.objective = kept.facts.objective
        kept.version = Version.parse(world.in_force.plan.engine.version)
        held_trials = sum(one.held for one in self._servers.values())
        permit = kept.held or held_trials < self.settings.tuning_max_concurrent_trials
        scene = scene_of(
            world,
            permit=permit and not kept.refused,
            may_preempt=self.settings.tuning_may_preempt,
        )
        kept.pods = scene.pods | ({scene.trial_pod} if scene.trial_pod else set())
        began = time.perf_counter()
        look = kept.tuner.look(tuning, kept.facts, scene, world.now.timestamp())
        self.metrics.tuning_look_seconds.observe(time.perf_counter() - began)
        kept.look, kept.held = look, look.step.standing.state in HELD
        kept.news = look.step.edge is not None
        self._count(kept, look)
        posterior = kept.tuner.posterior
        if kept.news and posterior is not None and self.curves is not None:
            self.curves.learned(kind, posterior)
        if kept.news:
            self.queue(key)  # what the status says now is done at the next visit
        return wanted_of(tuning, world, kept.facts, news=kept.news)

    def _count(self, kept: _Server, look: Look) -> None:
        """Counts a trial that ended, once: an edge whose status is not written is taken again."""
        if look.step.edge is None or look.step.edge.verdict is None or look.tuning is None:
            return
        ended = next(iter(look.tuning.history), None)
        if ended is not None and ended.proposed_at != kept.counted:
            kept.counted = ended.proposed_at
            self.metrics.tuning_trials.labels(ended.verdict).inc()

    def refused(self, key: Key, why: str) -> None:
        """Told where what was asked for cannot be planned; nothing is tried until another plan."""
        LOG.warning("a setting cannot be tried", extra={"server": key[1], "error": why})
        if key in self._servers:
            self._servers[key].refused = why

    def told(self, key: Key, world: World) -> Told:
        """What the status says; what it said before where the server was not looked at."""
        told = self._told(key, world)
        self.metrics.set_tuning_state(*key, told.tuning.state if told.tuning else None)
        return told

    def _told(self, key: Key, world: World) -> Told:
        before = world.remembered.status.tuning
        kept = self._servers.get(key)
        autotune = world.server.spec.autotune
        if autotune is None or (autotune.mode or "Disabled") == "Disabled":
            return Told()
        if kept is None:
            return Told(before)
        conditions = [self._available(kept, world)]
        if kept.look is None:
            conditions.append(NOT_DESCRIBED)
            return Told(before, tuple(conditions))
        tuning = kept.look.tuning
        if tuning is not None and tuning.state != "Disabled":
            conditions.append(story.tuned(tuning, kept.window))
        return Told(tuning, tuple(conditions), kept.notes())

    def _available(self, kept: _Server, world: World) -> ConditionDraft:
        """Until the pods were read, what was said before: an operator that starts again has nothing
        new to say."""
        if self.prometheus is None:
            return _unavailable("NotConfigured", NOT_CONFIGURED)
        if kept.read:
            return _metrics(kept.tuner.held)
        said = world.remembered.condition("MetricsAvailable")
        if said is None or said.reason == "NotConfigured":
            return NOT_READ
        return ConditionDraft(
            type=said.type, status=said.status, reason=said.reason, message=said.message
        )

    def forget(self, key: Key) -> None:
        """Keep nothing of a server that is gone."""
        self.metrics.set_tuning_state(*key, None)
        self._servers.pop(key, None)

    async def run(self) -> None:
        """Read, and ask for visits, until cancelled."""
        if self.prometheus is None:
            return
        try:
            while True:
                await asyncio.sleep(READ_INTERVALS * self.durations.interval)
                await self.read()
        finally:
            self.prometheus.close()

    async def read(self) -> None:
        """Read all servers' pods once."""
        assert self.prometheus is not None
        now = self.clock().timestamp()
        asked = []
        for key, kept in self._servers.items():
            if kept.version is not None:
                asked += [
                    Asked(key[0], pod, kept.version, self._back(kept, pod, now), kept.objective)
                    for pod in kept.pods
                ]
        answers = await self.prometheus.read(asked, self.durations)
        began, now = now, self.clock().timestamp()
        for key, kept in list(self._servers.items()):
            mine = [answers[key[0], pod] for pod in kept.pods if (key[0], pod) in answers]
            if kept.pods and not mine:
                continue
            problem = next((one.problem for one in mine if one.problem), None)
            since = now - self.durations.window
            readings = kept.tuner.seen.recall((one.reading for one in mine), since)
            kept.answered = {pod: kept.answered[pod] for pod in kept.pods & kept.answered.keys()}
            kept.answered |= {one.reading.pod: began for one in mine if not one.problem}
            kept.tuner.learn(readings, held(readings, now, self.durations, problem), now)
            kept.read = True
            self.queue(key)
        if self.curves is not None:
            await self.curves.write()

    def _back(self, kept: _Server, pod: str, now: float) -> float:
        """Seconds of samples that a read asks for."""
        durations = self.durations
        first = FIRST_BLOCKS * durations.block
        if not kept.read:
            return first
        last, reading = kept.answered.get(pod), kept.tuner.seen.readings.get(pod)
        if last is None or reading is None or reading.scrape is None:
            return UNKNOWN_INTERVALS * durations.interval
        again = OVERLAP_SCRAPES * max(durations.interval, reading.scrape)
        return min(first, now - last + again)


def _metrics(found: Held | None) -> ConditionDraft:
    if found is None:
        return ConditionDraft(
            type="MetricsAvailable",
            status="True",
            reason="Available",
            message="the metrics of all pods are there and fresh",
        )
    return _unavailable(found.reason.value, _without_figures(found))


def _unavailable(reason: str, message: str) -> ConditionDraft:
    return ConditionDraft(
        type="MetricsAvailable", status="False", reason=reason, message=truncate(message)
    )


def _without_figures(found: Held) -> str:
    """What it means: ages and counts move at each look, and nothing in the status does."""
    return found.reason.sentence
