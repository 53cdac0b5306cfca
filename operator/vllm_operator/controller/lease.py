"""A Lease as the lock of ``kubernetes.aio``'s leader election.

The client's own ``LeaseLock`` cannot create a Lease (37.0.2: it passes a boolean where its typed
API wants a string), and it would load every typed model of the client, some 40 MB. This one speaks
JSON through our client.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import Any, TypeVar

from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.aio.leaderelection.resourcelock.baselock import BaseLock

from vllm_operator.errors import ApiError, TemporaryFailure
from vllm_operator.lifecycle.kinds import LEASES

from .client import Client

Answer = TypeVar("Answer")

MICROSECONDS = "%Y-%m-%dT%H:%M:%S.%fZ"


class LeaseLock(BaseLock):  # type: ignore[misc]  # the client ships no types for it
    """One Lease, held by at most one identity."""

    def __init__(
        self, client: Client, name: str, namespace: str, identity: str, timeout: float
    ) -> None:
        super().__init__(name, namespace, identity)
        self._client = client
        self._timeout = timeout
        """Seconds for one request: a hung one must not outlast the Lease."""

        self._lease: dict[str, Any] | None = None

    async def get(
        self, name: str, namespace: str
    ) -> tuple[bool, LeaderElectionRecord] | tuple[bool, Exception] | tuple[bool, None]:
        """What stands in the Lease, or the error as the election expects it."""
        try:
            self._lease = await self._within(self._client.get(LEASES, namespace, name))
        except (ApiError, TemporaryFailure, TimeoutError) as error:
            return False, _as_expected(getattr(error, "code", 0), str(error))
        if self._lease is None:
            return False, _as_expected(404, "not found")
        spec = self._lease.get("spec") or {}
        duration = spec.get("leaseDurationSeconds")
        record = LeaderElectionRecord(
            spec.get("holderIdentity") or None,
            None if duration is None else str(duration),
            spec.get("acquireTime"),
            spec.get("renewTime"),
        )
        return True, record

    async def create(
        self, name: str, namespace: str, election_record: LeaderElectionRecord
    ) -> bool:
        """Take a Lease that did not exist; False where somebody else was faster."""
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name, "namespace": namespace},
            "spec": _spec(election_record, _now()),
        }
        try:
            self._lease = await self._within(self._client.create(LEASES, namespace, body))
        except (ApiError, TemporaryFailure, TimeoutError):
            return False
        return True

    async def update(self, name: str, namespace: str, updated_record: LeaderElectionRecord) -> bool:
        """Renew or take the Lease that was read; False where it has changed since."""
        assert self._lease is not None
        before = self._lease.get("spec") or {}
        mine = before.get("holderIdentity") == updated_record.holder_identity
        acquired = before.get("acquireTime") if mine else None
        transitions = before.get("leaseTransitions", 0) + (0 if mine else 1)
        spec = _spec(updated_record, acquired or _now())
        return await self._patch({**spec, "leaseTransitions": transitions})

    async def release(self) -> None:
        """Give the Lease back, so that a successor need not wait for it to expire."""
        found, _ = await self.get(self.name, self.namespace)
        holder = ((self._lease or {}).get("spec") or {}).get("holderIdentity")
        if found and holder == self.identity:
            await self._patch({"holderIdentity": "", "leaseDurationSeconds": 1})

    async def _within(self, request: Awaitable[Answer]) -> Answer:
        return await asyncio.wait_for(request, self._timeout)

    async def _patch(self, spec: dict[str, Any]) -> bool:
        assert self._lease is not None
        version = self._lease["metadata"]["resourceVersion"]
        body = {"metadata": {"resourceVersion": version}, "spec": spec}
        try:
            self._lease = await self._within(
                self._client.merge(LEASES, self.namespace, self.name, body)
            )
        except (ApiError, TemporaryFailure, TimeoutError):
            return False
        return True


def _now() -> str:
    return datetime.now(UTC).strftime(MICROSECONDS)


def _spec(record: LeaderElectionRecord, acquired: str) -> dict[str, Any]:
    return {
        "holderIdentity": record.holder_identity,
        "leaseDurationSeconds": int(float(record.lease_duration or 15)),
        "acquireTime": acquired,
        "renewTime": _now(),
    }


def _as_expected(code: int, message: str) -> ApiException:
    error = ApiException(status=code, reason=message)
    error.body = json.dumps({"code": code, "message": message})
    return error
