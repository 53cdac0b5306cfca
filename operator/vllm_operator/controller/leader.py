"""One acting process among several replicas, by a Lease."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection

from vllm_operator.errors import LeadershipLost

from .client import Client
from .lease import LeaseLock
from .settings import OperatorSettings


async def lead(
    client: Client,
    settings: OperatorSettings,
    identity: str,
    work: Callable[[], Awaitable[None]],
) -> None:
    """Wait for the Lease, then do ``work``; returns when the work ends.

    Raises LeadershipLost where the Lease is lost before.

    ``LeaderElection`` keeps renewing when the task that it leads has died, so the work is a task of
    our own: the first of renewal and work to end, ends both, and the Lease is released for a
    successor at once. The caller exits the process afterwards.
    """
    leading = asyncio.Event()

    async def started() -> None:
        leading.set()
        await asyncio.Event().wait()

    async def stopped() -> None:
        return None

    lock = LeaseLock(
        client,
        settings.lease_name,
        settings.lease_namespace,
        identity,
        timeout=settings.lease_seconds / 3,
    )
    config = Config(
        lock,
        lease_duration=settings.lease_seconds,
        renew_deadline=settings.lease_seconds * 2 // 3,
        retry_period=max(1, settings.lease_seconds // 6),
        onstarted_leading=started,
        onstopped_leading=stopped,
    )
    election = asyncio.create_task(LeaderElection(config).run())
    waiting = asyncio.create_task(leading.wait())
    await asyncio.wait([election, waiting], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if not leading.is_set():
        await election  # raises what ended it
        return
    task = asyncio.ensure_future(work())
    try:
        await asyncio.wait([election, task], return_when=asyncio.FIRST_COMPLETED)
    finally:
        done = task.done()
        await _cancel(election)
        if done:
            await lock.release()
        else:
            await _cancel(task)
    if not done:
        raise LeadershipLost("the Lease could not be renewed in time")
    task.result()


async def _cancel(task: asyncio.Future[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
