"""Asks started engines what they are and measured, and remembers it in one ConfigMap. Edge.

A read happens beside the visits, once for each start of a pod: no visit waits for an engine. One
that fails is counted, and asked again at the next start or at the operator's: a cluster whose
network keeps the operator from pods loses nothing but the correction.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import aiohttp

from vllm_operator.api.base import PORT
from vllm_operator.api.conditions import timestamp
from vllm_operator.api.plan import Plan, TokenEstimate
from vllm_operator.api.status import MeasuredCache
from vllm_operator.api.v1alpha1 import Engine
from vllm_operator.engine.metrics import metrics as metric_names
from vllm_operator.engine.versions import Version, version_differs
from vllm_operator.hardware.measured import KEPT_AS as GPUS
from vllm_operator.lifecycle.records import Key, PodRecord
from vllm_operator.lifecycle.revisions import Pinned, pods_of_plan
from vllm_operator.sizing.asked.inputs import PlanningInputs
from vllm_operator.sizing.memory.calibration import Calibration, measured
from vllm_operator.sizing.performance.learned import KEPT_AS as SPEEDS
from vllm_operator.tuning.curve import KEPT_AS as CURVES

from .client import Client
from .metrics import Metrics
from .settings import OperatorSettings
from .shelf import Shelf

LOG: Final = logging.getLogger("vllm_operator")

KEPT: Final = 500
"""Measurements that are remembered; the oldest go first. About 250 bytes each."""

OTHERS: Final = (CURVES, GPUS, SPEEDS)
"""How the keys begin of what else is kept beside them."""

READ_SECONDS: Final = 5.0
READS_AT_ONCE: Final = 4
READ_BYTES: Final = 4 * 1024 * 1024

_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Measurement:
    """Blocks of a plan's engine."""

    plan: str
    """Uid of the pinned plan."""
    start: str
    """The pod, and which of its starts."""
    blocks: int | None
    version: str | None
    """What the engine says that it is."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a running engine says of itself; None where it was not asked, or does not say."""

    cache: MeasuredCache | None = None
    version: str | None = None


class Calibrator:
    """Holds measurements by server, and calibrations by kind."""

    def __init__(
        self,
        client: Client,
        settings: OperatorSettings,
        metrics: Metrics,
        clock: Callable[[], datetime],
        wake: Callable[[Key], None],
    ) -> None:
        self._shelf = Shelf(client, settings.lease_namespace, metrics)
        self._enabled = settings.calibration
        self._metrics = metrics
        self._clock = clock
        self._wake = wake
        self._known: dict[str, tuple[str, Calibration]] = {}
        """By key: when it was learned, and what."""
        self._measured: dict[Key, Measurement] = {}
        self._asked: dict[Key, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._reads = asyncio.Semaphore(READS_AT_ONCE)

    async def load(self) -> None:
        """Take in what was remembered. What cannot be read is left out."""
        if not self._enabled:
            return
        for key, text in (await self._shelf.read() or {}).items():
            if key.startswith(OTHERS):
                continue
            try:
                document = json.loads(text)
                calibration = Calibration.from_json_object(document)
                self._known[calibration.key] = (str(document["learned"]), calibration)
            except (KeyError, TypeError, ValueError) as error:
                LOG.warning("a calibration cannot be read", extra={"error": str(error)})

    def of_model(self, model: str) -> tuple[Calibration, ...]:
        """What is known of a model, in a stable order."""
        found = [one for _, one in self._known.values() if one.model == model]
        return tuple(sorted(found, key=lambda one: one.key))

    def look(self, key: Key, in_force: Pinned, pods: Sequence[PodRecord]) -> Answer:
        """What an engine of the plan in force said; asks one that was not asked yet."""
        if not self._enabled or in_force.plan is None:
            return Answer()
        ready = [pod for pod in pods_of_plan(in_force, pods) if pod.ready]
        known = self._measured.get(key)
        if ready and ready[0].address:
            start = f"{in_force.uid}/{ready[0].uid}/{ready[0].restarts}"
            if self._asked.get(key) != start:
                self._asked[key] = start
                task = asyncio.create_task(self._read(key, in_force, ready[0], start))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        if known is None or known.plan != in_force.uid:
            return Answer()
        cache = None if known.blocks is None else compared(in_force.plan, known.blocks)
        self._metrics.set_cache_error(*key, cache.relative_error if cache else None)
        return Answer(cache, known.version)

    def forget(self, key: Key) -> None:
        """Drop what is remembered of a server that is gone; what it taught stays."""
        self._measured.pop(key, None)
        self._asked.pop(key, None)
        self._metrics.set_cache_error(*key, None)

    async def _read(self, key: Key, in_force: Pinned, pod: PodRecord, start: str) -> None:
        plan = in_force.plan
        assert plan is not None
        name = metric_names(Version.parse(plan.engine.version))["cacheConfig"].name
        blocks, version = None, None
        try:
            async with self._reads:
                version = version_in(await _read(pod.address, "/version"))
                blocks = blocks_in(await _read(pod.address, "/metrics"), name)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            LOG.debug("no measurement", extra={"pod": pod.name, "error": str(error)})
        self._metrics.calibration_reads.labels("failed" if blocks is None else "read").inc()
        if (blocks is None and version is None) or self._asked.get(key) != start:
            return
        self._measured[key] = Measurement(in_force.uid, start, blocks, version)
        used = PlanningInputs.from_json_object(in_force.inputs).calibrations
        planned_for = not version_differs(plan.engine.version, version)
        engine = in_force.spec.engine or Engine()
        learned = None
        if blocks is not None and planned_for:
            learned = measured(plan, engine, used, blocks)
        if learned is not None:
            await self._remember(learned)
        self._wake(key)

    async def _remember(self, learned: Calibration) -> None:
        before = self._known.get(learned.key)
        if before is not None and before[1] == learned:
            return
        now = timestamp(self._clock())
        self._known[learned.key] = (now, learned)
        changed: dict[str, str | None] = {learned.key: _text(now, learned)}
        for old in sorted(self._known, key=lambda one: self._known[one][0])[:-KEPT]:
            del self._known[old]
            changed[old] = None
        await self._shelf.write(changed)


def compared(plan: Plan, blocks: int) -> MeasuredCache | None:
    """Measured beside planned blocks of one engine; None where the plan does not say its own."""
    size = plan.capacity.bytes_per_block
    if not size:
        return None
    expected, low = plan.memory.kv_cache.expected // size, plan.memory.kv_cache.low // size
    each = blocks // plan.placement.data  # vLLM sums them over data-parallel ranks
    return MeasuredCache(
        num_gpu_blocks=each,
        planned_num_gpu_blocks=TokenEstimate(expected=expected, low=low),
        relative_error=round(each / expected - 1, 4) if expected > 0 else 0.0,
    )


def blocks_in(exposition: str, name: str) -> int | None:
    """``num_gpu_blocks`` of the engine's cache settings; None where they do not say it."""
    for line in exposition.splitlines():
        if line.startswith(f"{name}{{"):
            blocks = dict(_LABEL.findall(line)).get("num_gpu_blocks", "")
            return int(blocks) if blocks.isdecimal() and int(blocks) > 0 else None
    return None


def version_in(answer: str) -> str | None:
    """What the engine's ``/version`` says; None for anything else than a version."""
    try:
        text = json.loads(answer)["version"]
        return str(text)[:64] if Version.parse(text) else None
    except (ValueError, TypeError, KeyError):
        return None


def _text(learned: str, calibration: Calibration) -> str:
    return json.dumps({"learned": learned, **calibration.to_json_object()}, sort_keys=True)


async def _read(address: str, path: str) -> str:
    host = f"[{address}]" if ":" in address else address
    timeout = aiohttp.ClientTimeout(total=READ_SECONDS)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.get(f"http://{host}:{PORT}{path}", allow_redirects=False) as answer,
    ):
        answer.raise_for_status()
        content = await answer.content.read(READ_BYTES)
        while len(content) < READ_BYTES and not answer.content.at_eof():
            content += await answer.content.read(READ_BYTES - len(content))
        return content.decode(errors="replace")
