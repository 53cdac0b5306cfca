"""The operator's process: watches, queue, workers, resync, health and the way down."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import signal
import time
from datetime import UTC, datetime
from typing import Any, Final

from vllm_operator.errors import ApiError, GroupsAppeared, Stale, TemporaryFailure
from vllm_operator.lifecycle.kinds import LEADER_WORKER_SETS, NODES, SERVERS, STORED, Resource
from vllm_operator.lifecycle.records import Key

from . import handlers, health
from .apply import Applier
from .calibrate import Calibrator
from .client import Client, connect, load_configuration
from .curves import Curves
from .inputs import InputSource
from .leader import lead
from .measured import Measurements
from .metrics import Metrics
from .nodes import Nodes
from .planning import Planner
from .queue import WorkQueue
from .reconcile import Reconciler
from .settings import OperatorSettings
from .shelf import Shelf
from .store import Store
from .trials import Tuner
from .tuning import Autotuner

LOG: Final = logging.getLogger("vllm_operator")

STUCK_SECONDS: Final = 300.0
"""A reconcile that takes longer makes /healthz fail."""

RESYNC_SPREAD_SECONDS: Final = 30.0
FIRST_RESYNC_SECONDS: Final = 20.0

STREAMING_LISTS_SINCE: Final = 34
"""Minor version of Kubernetes from which an initial list can come as a stream (KEP-3157)."""


class Operator:
    """Everything that one acting process holds."""

    def __init__(
        self,
        client: Client,
        metrics: Metrics,
        settings: OperatorSettings,
        instance: str,
        tuner: Tuner | None = None,
    ) -> None:
        self.client = client
        self.metrics = metrics
        self.settings = settings
        self.instance = instance
        self.namespaces = settings.namespaces
        """Namespaces to act in: those of the settings that can be read."""
        self.store = Store()
        self.nodes = Nodes(visible=settings.watch_nodes)
        self.queue: WorkQueue[Key] = WorkQueue(time.monotonic, random.random)
        applier = Applier(client, self.store)
        self.inputs = InputSource(client, self.nodes, settings)
        self.calibrator = Calibrator(
            client, settings, metrics, lambda: datetime.now(UTC), self.queue.add
        )
        kept = Shelf(client, settings.lease_namespace, metrics) if settings.calibration else None
        self.curves = Curves(lambda: datetime.now(UTC), kept)
        self.measurements = Measurements(kept)
        self.autotuner = Autotuner.of(
            settings, lambda: datetime.now(UTC), self.queue.add, metrics, self.curves
        )
        self.reconciler = Reconciler(
            client=client,
            store=self.store,
            nodes=self.nodes,
            planner=Planner(self.inputs, applier, self.calibrator.of_model, self.measurements),
            applier=applier,
            metrics=metrics,
            calibrator=self.calibrator,
            clock=lambda: datetime.now(UTC),
            others_wait=lambda: len(self.queue) > 0,
            instance=instance,
            tuner=tuner or self.autotuner,
        )
        self.synced = False
        """Whether the first listing is complete, and workers act on it."""
        self.acting = not settings.leader_election
        """Whether this process is the one that acts: a standby is ready to take over."""
        self._started: dict[Key, float] = {}
        metrics.queue_depth.set_function(lambda: len(self.queue))
        metrics.queue_oldest_seconds.set_function(self.oldest_seconds)

    def take(self, kind: str, change: str | None, body: dict[str, Any]) -> None:
        """Take in a watch event and queue the server that it concerns."""
        self.metrics.watch_events.labels(kind).inc()
        if kind == NODES.kind:
            if change == "DELETED":
                changed = self.nodes.remove(body["metadata"]["name"])
            else:
                changed = self.nodes.observe(body)
            if changed:
                self.queue_all()
            return
        if change == "DELETED":
            key = self.store.remove(kind, body)
        else:
            key = self.store.observe(kind, body)
        if key is not None and self.synced:
            if kind == SERVERS.kind:
                self.queue.forget(key)  # an edit, or a successor, owes nothing to old failures
            # Somebody waits for what they created or edited; a child tells how far its server is.
            self.queue.add(key, urgent=kind == SERVERS.kind)

    def queue_all(self, spread: float = 0.0) -> None:
        """Queue every server, over ``spread`` seconds."""
        if self.synced:
            for key in self.store.server_keys():
                self.queue.add_after(key, random.random() * spread)

    async def resync(self) -> None:
        """List everything live: a watch never delivers deletions that fall into a gap of it."""
        namespaces: tuple[str | None, ...] = self.namespaces or (None,)
        touched: set[Key] = set()
        await self._look_for_groups()
        for resource in self._stored():
            self.store.begin_listing(resource.kind)
            for namespace in namespaces:
                async for page in self.client.pages(resource, namespace, resource.selector):
                    for body in page:
                        key = self.store.observe(resource.kind, body)
                        touched |= {key} if key else set()
            touched |= self.store.end_listing(resource.kind, self.namespaces)
        if self.settings.watch_nodes:
            names = []
            async for page in self.client.pages(NODES, None):
                for node in page:
                    names.append(node["metadata"]["name"])
                    self.nodes.observe(node)
            self.nodes.retain(names)
        for key in touched:
            self.queue.add(key)
        self.reconciler.recheck.update(self.store.server_keys())

    def _stored(self) -> list[Resource]:
        """What is kept, of what the cluster has: a watch of a kind that is not there never ends."""
        return [one for one in STORED if one is not LEADER_WORKER_SETS or self.inputs.groups]

    async def _look_for_groups(self) -> None:
        """See whether the cluster has LeaderWorkerSets. Raises GroupsAppeared while acting."""
        found = await self.client.serves(LEADER_WORKER_SETS)
        if self.synced and found and not self.inputs.groups:
            raise GroupsAppeared("LeaderWorkerSets are there now: starting afresh to watch them")
        if not self.synced:
            self.inputs.groups = found

    async def resync_forever(self) -> None:
        """Resync from time to time; an outage only postpones it."""
        # The first one soon: a deletion between our listing and Kopf's was delivered to nobody.
        delay = min(FIRST_RESYNC_SECONDS, self.settings.resync_seconds)
        while True:
            await asyncio.sleep(delay)
            delay = self.settings.resync_seconds * (0.9 + 0.2 * random.random())
            try:
                await self.measurements.load()
                await self.resync()
            except (ApiError, TemporaryFailure) as error:
                LOG.warning("resync postponed", extra={"error": str(error)})
            else:
                self.queue_all(RESYNC_SPREAD_SECONDS)

    async def work(self) -> None:
        """Reconcile one server after another until the queue is closed."""
        while (key := await self.queue.get()) is not None:
            self._started[key] = time.monotonic()
            result = "success"
            try:
                again = await self.reconciler.reconcile(key)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                stale = isinstance(error, Stale)
                result = "requeued" if stale else "error"
                self._report(key, error, self.queue.fail(key, first_at_once=stale))
            else:
                if again is not None:
                    self.queue.add_after(key, again)
                self.queue.succeed(key)
            finally:
                seconds = time.monotonic() - self._started.pop(key)
            self.metrics.reconciles.labels(result).inc()
            self.metrics.reconcile_seconds.observe(seconds)

    def _report(self, key: Key, error: Exception, delay: float) -> None:
        extra = {"namespace": key[0], "server": key[1], "error": str(error)}
        extra["retry_seconds"] = f"{delay:.1f}"
        if isinstance(error, Stale):
            LOG.debug("reconcile on stale state", extra=extra)
        elif isinstance(error, ApiError | TemporaryFailure):
            LOG.warning("reconcile failed", extra=extra)
        else:
            LOG.error("reconcile failed unexpectedly", extra=extra, exc_info=error)

    def oldest_seconds(self) -> float:
        """Age of the reconcile that is in flight the longest."""
        oldest = min(self._started.values(), default=None)
        return 0.0 if oldest is None else time.monotonic() - oldest

    def stuck(self) -> str | None:
        """What is wrong where a reconcile hangs."""
        age = self.oldest_seconds()
        return f"a reconcile runs for {age:.0f} s" if age > STUCK_SECONDS else None

    def not_ready(self) -> str | None:
        """What an acting process still lacks."""
        lacks = self.acting and not self.synced
        return "the first listing is not complete" if lacks else None

    async def run(self, stop: asyncio.Event) -> None:
        """Act on servers until ``stop``; raises where a watch ended for good."""
        self.acting = True
        self.metrics.leader.set(1)
        await self._first_sync(stop)
        if stop.is_set():
            return
        watched = [*self._stored(), *([NODES] if self.settings.watch_nodes else [])]
        registry = handlers.build_registry(self.take, load_configuration, watched)
        stop_watching, started = asyncio.Event(), asyncio.Event()
        streaming = await self.client.minor_version() >= STREAMING_LISTS_SINCE
        watches = asyncio.create_task(
            handlers.watch_forever(
                registry,
                self.namespaces,
                stop_watching,
                started,
                identity=self.instance,
                streaming=streaming,
            )
        )
        signals = asyncio.create_task(_stop_on_signals_once(started, stop))
        workers = [asyncio.create_task(self.work()) for _ in range(self.settings.workers)]
        resyncs = asyncio.create_task(self.resync_forever())
        tuning = asyncio.create_task(self.autotuner.run())
        stopped = asyncio.create_task(stop.wait())
        self.synced = True
        self.queue_all()
        LOG.info("acting", extra={"servers": len(self.store.server_keys())})
        try:
            await asyncio.wait(
                [watches, resyncs, stopped, *workers], return_when=asyncio.FIRST_COMPLETED
            )
        except asyncio.CancelledError:
            # The Lease is lost: somebody else may act by now, so nothing is finished here.
            for worker in workers:
                worker.cancel()
            raise
        finally:
            self.synced = False
            self.queue.close()
            for task in (resyncs, stopped, signals, tuning):
                task.cancel()
            stop_watching.set()
            _, late = await asyncio.wait(workers, timeout=self.settings.drain_seconds)
            for task in late:
                task.cancel()
            await asyncio.wait([watches], timeout=5)
            self.metrics.leader.set(0)
        for task in (watches, resyncs, *workers):
            if task.done() and not task.cancelled():
                task.result()

    async def _leave_out_refused_namespaces(self) -> None:
        """Act in the namespaces that can be read: one that is deleted must not stop the others.

        Raises ApiError where none can be.
        """
        readable = []
        refusal: ApiError | None = None
        for namespace in self.settings.namespaces:
            try:
                async for _ in self.client.pages(SERVERS, namespace):
                    break
            except ApiError as error:
                if error.code not in (403, 404):
                    raise
                refusal = error
                LOG.error("namespace left out", extra={"namespace": namespace, "error": str(error)})
            else:
                readable.append(namespace)
        if refusal is not None and not readable:
            raise refusal
        self.namespaces = tuple(readable)

    async def _first_sync(self, stop: asyncio.Event) -> None:
        delay = 0.5
        while not stop.is_set():
            try:
                await self._leave_out_refused_namespaces()
                await self.calibrator.load()
                await self.curves.load()
                await self.measurements.load()
                await self.resync()
            except (ApiError, TemporaryFailure) as error:
                if isinstance(error, ApiError) and error.code in (401, 403, 404):
                    LOG.error("cannot list what the operator acts on", extra={"error": str(error)})
                else:
                    LOG.warning("waiting for the API server", extra={"error": str(error)})
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), delay)
                delay = min(delay * 2, 10.0)
            else:
                return


def stop_on_signals(stop: asyncio.Event) -> None:
    """Let SIGTERM and SIGINT set ``stop``."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)


async def _stop_on_signals_once(started: asyncio.Event, stop: asyncio.Event) -> None:
    # Kopf installs handlers of its own, which would end the watches and not let us drain.
    await started.wait()
    stop_on_signals(stop)


async def run_operator(
    settings: OperatorSettings, instance: str, tuner: Tuner | None = None
) -> None:
    """Run until SIGTERM or SIGINT, then drain. Raises where the process should start afresh.

    ``tuner`` decides what is tried on servers with ``spec.autotune``, in place of the operator's.
    """
    stop = asyncio.Event()
    stop_on_signals(stop)
    metrics = Metrics()
    client = await connect(metrics)
    operator = Operator(client, metrics, settings, instance, tuner)
    runner = None
    try:
        if settings.listen:
            runner = await health.serve(
                settings.listen, metrics, operator.stuck, operator.not_ready
            )
        if settings.leader_election:
            await _lead_until_stopped(client, settings, instance, operator, stop)
        else:
            await operator.run(stop)
    finally:
        if runner is not None:
            await runner.cleanup()
        await client.close()
        LOG.info("stopped")


async def _lead_until_stopped(
    client: Client,
    settings: OperatorSettings,
    instance: str,
    operator: Operator,
    stop: asyncio.Event,
) -> None:
    leading = asyncio.create_task(lead(client, settings, instance, lambda: operator.run(stop)))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait([leading, stopped], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not leading.done():
        # A leader stops by itself, in order; a follower has nothing to put in order.
        if operator.synced:
            await leading
        else:
            leading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await leading
        return
    leading.result()
