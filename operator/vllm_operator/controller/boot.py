"""Why a server's pods do not start: gathers what Kubernetes and the log tell. Edge.

The log of an end is read once (``pods/log``, in the server's namespace), and only for pods of the
plan in force. What is found out stands until the pods change: a container that is being started
again for the fifth time has failed all the same, and two starts that fail alike say the same.

Where a node does not get so far as to start a container, the pod's events are read instead: of a
pod that has waited for long, and ever more seldom (``lifecycle.podevents``).

A status is old when it arrives. Where it says that the container has just ended, the kubelet may
have started it again, and "the log of the container of now" is then that of the next life. Unless
that log shows a failure beyond doubt, the log of the container before is asked for too, and as long
as there is none, what was found is said but looked into again at the next visits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from http import HTTPStatus
from typing import Any, Final

from vllm_operator.engine.failures import Failure, known_failure, unknown_failure
from vllm_operator.engine.versions import NEWEST_KNOWN, Version
from vllm_operator.errors import ApiError, TemporaryFailure
from vllm_operator.lifecycle.containers import BACK_OFF
from vllm_operator.lifecycle.diagnoses import (
    crashed,
    failure_beside,
    failure_of_objects,
    failure_to_wait,
    is_news,
)
from vllm_operator.lifecycle.endings import Ending
from vllm_operator.lifecycle.podevents import reads_due, told
from vllm_operator.lifecycle.records import ChildRecord, Key, PodRecord
from vllm_operator.lifecycle.recovery import Diagnosis
from vllm_operator.lifecycle.revisions import Pinned, pods_of_plan

from .client import Client

LOG: Final = logging.getLogger("vllm_operator")

LOG_LINES: Final = 1000
LOG_BYTES: Final = 256 * 1024
LOG_SECONDS: Final = 5.0
"""A node that is away must not hold up the servers of others."""

READS_AT_ONCE: Final = 4
PODS_READ: Final = 3
"""Pods of a server whose logs or events are read: replicas of one plan fail alike."""

EVENTS_READ: Final = 100
"""Of a pod: a kubelet tells the same thing in one event."""

MOST_DOUBTS: Final = 3
"""Visits at which an end is looked into while nothing tells whose log it is that is read."""


class _Certainty(Enum):
    """How certain it is that what was read is the log of an end."""

    CERTAIN = "certain"
    DOUBTFUL = "doubtful"
    """It may be another life's: looked into again, a few times."""
    UNREAD = "unread"
    """Nothing answered: looked into again."""


@dataclass(frozen=True, slots=True)
class _Looked:
    """What came of looking into an end of a pod's engine."""

    end: str
    failure: Failure
    doubts: int = 0
    """How often that was, without certainty; 0 with it."""

    def settles(self, ending: Ending) -> bool:
        """Whether there is nothing more to look for."""
        given_up = self.doubts >= MOST_DOUBTS and not ending.previous
        return self.end == ending.id and (self.doubts == 0 or given_up)


@dataclass(frozen=True, slots=True)
class _Told:
    """What a pod's events said, after so many reads."""

    reads: int
    failure: Failure | None


@dataclass(frozen=True, slots=True)
class _Log:
    """A log as it was read, empty where it was not."""

    text: str
    code: int
    """Of the answer: 200, or what the API server refused it with."""


class BootReader:
    """Finds out why pods do not start."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._reads = asyncio.Semaphore(READS_AT_ONCE)
        self._ends: dict[Key, dict[str, _Looked]] = {}
        """By server and pod: the end that was looked into, and what it was."""
        self._told: dict[Key, dict[str, _Told]] = {}
        """By server and pod that its node has yet to prepare."""
        self._said: dict[Key, tuple[str, Failure]] = {}
        """By server: the plan, and what was said of it."""

    async def diagnose(
        self,
        key: Key,
        in_force: Pinned,
        deployment: ChildRecord | None,
        pods: Sequence[PodRecord],
        now: datetime,
    ) -> Diagnosis | None:
        """What stops the plan in force, None where nothing is known to."""
        version = _version(in_force)
        found = [
            diagnosis
            for pod in [p for p in pods_of_plan(in_force, pods) if not p.ready][:PODS_READ]
            if (diagnosis := await self._of_pod(key, pod, in_force, version, now)) is not None
        ]
        if not found:
            failure = failure_of_objects(in_force, deployment, pods, version)
            found = [Diagnosis(failure)] if failure is not None else []
        self._forget_pods(key, pods)
        if not found:
            self._said.pop(key, None)
            return None
        worst = min(found, key=lambda diagnosis: diagnosis.failure.passes)
        return replace(worst, failure=self._kept(key, in_force.uid, worst.failure))

    def forget(self, key: Key) -> None:
        """Drop what is remembered of a server that is gone, or that nothing stops."""
        self._ends.pop(key, None)
        self._told.pop(key, None)
        self._said.pop(key, None)

    def _kept(self, key: Key, plan: str, failure: Failure) -> Failure:
        before = self._said.get(key)
        if before is not None and before[0] == plan and not is_news(failure, before[1]):
            return before[1]
        self._said[key] = (plan, failure)
        return failure

    async def _of_pod(
        self, key: Key, pod: PodRecord, in_force: Pinned, version: Version, now: datetime
    ) -> Diagnosis | None:
        if pod.unschedulable_since and not pod.scheduled:
            failure = known_failure("scheduling", pod.unschedulable_message, version)
            return Diagnosis(failure) if failure else None
        if pod.waiting_reason and pod.waiting_reason != BACK_OFF:
            waits = f"{pod.waiting_reason}: {pod.waiting_message}"
            failure = failure_to_wait(waits, in_force, version)
            if failure is not None:
                return Diagnosis(failure, pod.ending.ends if pod.ending else 0)
        unprepared = await self._of_events(key, pod, version, now)
        if unprepared is not None:
            return Diagnosis(unprepared, pod.ending.ends if pod.ending else 0)
        if pod.beside is not None and (pod.ending is None or pod.engine_ready):
            return Diagnosis(failure_beside(pod.beside, version))
        if pod.ending is None:
            return None
        failure = await self._of_ending(key, pod, pod.ending, version)
        return Diagnosis(failure, pod.ending.ends, pod.ending.served)

    async def _of_events(
        self, key: Key, pod: PodRecord, version: Version, now: datetime
    ) -> Failure | None:
        """What the events of a pod tell that its node has yet to prepare."""
        due = reads_due(pod, now)
        if not due:
            return None
        known = self._told.setdefault(key, {})
        before = known.get(pod.uid)
        if before is not None and before.reads >= due:
            return before.failure
        async with self._reads:
            try:
                found = await self._client.events_of(pod.namespace, pod.uid, EVENTS_READ)
                failure = told(found, version)
            except (ApiError, TemporaryFailure) as error:
                LOG.info("no events", extra={"pod": pod.name, "error": str(error)})
                failure = before.failure if before is not None else None
        known[pod.uid] = _Told(due, failure)
        return failure

    async def _of_ending(
        self, key: Key, pod: PodRecord, ending: Ending, version: Version
    ) -> Failure:
        ends = self._ends.setdefault(key, {})
        looked = ends.get(pod.uid)
        if looked is not None and looked.settles(ending):
            return looked.failure
        failure, certainty = known_failure("termination", ending.text, version), _Certainty.CERTAIN
        if failure is None:
            failure, certainty = await self._of_logs(pod, ending, version)
        if ending.served:
            failure = crashed(failure)
        if certainty == _Certainty.CERTAIN:
            ends[pod.uid] = _Looked(ending.id, failure)
        elif certainty == _Certainty.DOUBTFUL:
            before = looked.doubts if looked is not None and looked.end == ending.id else 0
            ends[pod.uid] = _Looked(ending.id, failure, before + 1)
        return failure

    async def _of_logs(
        self, pod: PodRecord, ending: Ending, version: Version
    ) -> tuple[Failure, _Certainty]:
        """What the log tells, and how certain it is that it is the log of that end."""
        log = await self._log(pod, ending, previous=ending.previous)
        found = _known(log, ending, version)
        certainty = (
            _Certainty.UNREAD
            if log.code >= HTTPStatus.INTERNAL_SERVER_ERROR
            else _Certainty.CERTAIN
        )
        if (
            not ending.previous
            and log.code in (HTTPStatus.OK, HTTPStatus.BAD_REQUEST)
            and (found is None or found.weak)
        ):
            # From the start of that life on: the log before may also be that of an older one.
            before = await self._log(pod, ending, previous=True, since=ending.started)
            certainty = _Certainty.CERTAIN if before.text else _Certainty.DOUBTFUL
            if before.text:
                log, found = before, _known(before, ending, version)
        return found or unknown_failure(_text(log, ending), _brief(ending)), certainty

    async def _log(
        self, pod: PodRecord, ending: Ending, *, previous: bool, since: str | None = None
    ) -> _Log:
        async with self._reads:
            try:
                text = await self._client.log(
                    pod.namespace,
                    pod.name,
                    ending.container,
                    previous=previous,
                    lines=LOG_LINES,
                    limit=LOG_BYTES,
                    seconds=LOG_SECONDS,
                    since=since,
                )
            except ApiError as error:
                LOG.info("no log", extra={"pod": pod.name, "error": str(error)})
                return _Log("", error.code)
            except TemporaryFailure as error:
                LOG.info("no log", extra={"pod": pod.name, "error": str(error)})
                return _Log("", HTTPStatus.GATEWAY_TIMEOUT)
        return _Log(text.strip(), HTTPStatus.OK)

    def _forget_pods(self, key: Key, pods: Sequence[PodRecord]) -> None:
        _keep_only(self._ends, key, {pod.uid for pod in pods})
        _keep_only(self._told, key, {pod.uid for pod in pods if pod.unprepared})


def _keep_only(memory: dict[Key, dict[str, Any]], key: Key, uids: Set[str]) -> None:
    """Forget pods of a server but these."""
    known = memory.get(key)
    if known is None:
        return
    for uid in known.keys() - uids:
        del known[uid]
    if not known:
        del memory[key]


def _known(log: _Log, ending: Ending, version: Version) -> Failure | None:
    return known_failure("log", _text(log, ending), version)


def _text(log: _Log, ending: Ending) -> str:
    return f"{log.text}\n{ending.message}"


def _brief(ending: Ending) -> str:
    return ending.text.partition(", message")[0]


def _version(in_force: Pinned) -> Version:
    plan = in_force.plan
    return (
        NEWEST_KNOWN if plan is None or plan.engine is None else Version.parse(plan.engine.version)
    )
