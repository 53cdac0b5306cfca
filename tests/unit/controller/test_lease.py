"""The Lease as a lock: who holds it, who may take it, and how it is given back."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord

from vllm_operator.controller import leader as leading
from vllm_operator.controller.lease import LeaseLock
from vllm_operator.controller.settings import OperatorSettings
from vllm_operator.errors import ApiError, LeadershipLost, TemporaryFailure

RECORD = LeaderElectionRecord("me", "15", "", "")
OTHERS = {
    "holderIdentity": "other",
    "leaseDurationSeconds": 15,
    "acquireTime": "2026-01-01T10:00:00.000000Z",
    "renewTime": "2026-01-01T10:00:10.000000Z",
    "leaseTransitions": 3,
}


class Leases:
    """Keeps one Lease, or answers with an error; nothing is decided here."""

    def __init__(self, **spec: Any) -> None:
        self.lease: dict[str, Any] | None = None
        if spec:
            self.lease = {"metadata": {"name": "lease", "resourceVersion": "7"}, "spec": spec}
        self.error: Exception | None = None
        self.hangs = False
        self.patches: list[dict[str, Any]] = []

    async def _answer(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error

    async def get(self, _resource: Any, _namespace: str, _name: str) -> dict[str, Any] | None:
        await self._answer()
        return self.lease

    async def create(self, _resource: Any, _namespace: str, body: Any) -> dict[str, Any]:
        await self._answer()
        self.lease = {**body, "metadata": {**body["metadata"], "resourceVersion": "1"}}
        return self.lease

    async def merge(self, _resource: Any, _namespace: str, _name: str, body: Any) -> dict[str, Any]:
        await self._answer()
        assert self.lease is not None
        self.patches.append(body)
        self.lease = {**self.lease, "spec": {**self.lease["spec"], **body["spec"]}}
        return self.lease


def lock(leases: Leases, timeout: float = 5.0) -> LeaseLock:
    return LeaseLock(leases, "lease", "default", "me", timeout)  # type: ignore[arg-type]


async def test_what_stands_in_the_lease_is_read_as_the_election_wants_it() -> None:
    found, record = await lock(Leases(**OTHERS)).get("lease", "default")
    assert found
    assert isinstance(record, LeaderElectionRecord)
    assert (record.holder_identity, record.lease_duration) == ("other", "15")
    assert (record.acquire_time, record.renew_time) == (OTHERS["acquireTime"], OTHERS["renewTime"])


async def test_a_lease_that_was_given_back_has_no_holder() -> None:
    _, record = await lock(Leases(holderIdentity="")).get("lease", "default")
    assert isinstance(record, LeaderElectionRecord)
    assert record.holder_identity is None
    assert record.lease_duration is None


@pytest.mark.parametrize(
    ("error", "code"),
    [(None, 404), (ApiError(403, "Forbidden", "no"), 403), (TemporaryFailure("away"), 0)],
)
async def test_a_lease_that_cannot_be_read_is_an_error_with_its_code(
    error: Exception | None, code: int
) -> None:
    leases = Leases()
    leases.error = error
    found, answer = await lock(leases).get("lease", "default")
    assert not found
    assert json.loads(answer.body)["code"] == code  # type: ignore[union-attr]


async def test_a_request_that_hangs_is_given_up_in_time() -> None:
    leases = Leases(**OTHERS)
    one = lock(leases, timeout=0.01)
    await one.get("lease", "default")
    leases.hangs = True
    assert not (await one.get("lease", "default"))[0]
    assert not await one.create("lease", "default", RECORD)
    leases.hangs = False
    await one.get("lease", "default")
    leases.hangs = True
    assert not await one.update("lease", "default", RECORD)


async def test_a_lease_that_did_not_exist_is_taken() -> None:
    leases = Leases()
    assert await lock(leases).create("lease", "default", RECORD)
    assert leases.lease is not None
    assert leases.lease["kind"] == "Lease"
    assert leases.lease["apiVersion"] == "coordination.k8s.io/v1"
    assert leases.lease["metadata"]["name"] == "lease"
    assert leases.lease["metadata"]["namespace"] == "default"
    spec = leases.lease["spec"]
    assert (spec["holderIdentity"], spec["leaseDurationSeconds"]) == ("me", 15)
    assert spec["acquireTime"].startswith("20")
    assert spec["renewTime"] >= spec["acquireTime"]


@pytest.mark.parametrize("error", [ApiError(409, "AlreadyExists", ""), TemporaryFailure("away")])
async def test_where_somebody_else_was_faster_the_lease_is_not_taken(error: Exception) -> None:
    leases = Leases(**OTHERS)
    leases.error = error
    assert not await lock(leases).create("lease", "default", RECORD)


async def updated(leases: Leases) -> dict[str, Any]:
    one = lock(leases)
    await one.get("lease", "default")
    assert await one.update("lease", "default", RECORD)
    assert leases.patches[-1]["metadata"] == {"resourceVersion": "7"}
    return dict(leases.patches[-1]["spec"])


async def test_a_lease_of_another_holder_is_taken_with_one_more_transition() -> None:
    spec = await updated(Leases(**OTHERS))
    assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("me", 4)
    assert spec["acquireTime"] > OTHERS["acquireTime"]


async def test_an_own_lease_is_renewed_and_was_acquired_when_it_was() -> None:
    spec = await updated(Leases(**{**OTHERS, "holderIdentity": "me"}))
    assert spec["leaseTransitions"] == 3
    assert spec["acquireTime"] == OTHERS["acquireTime"]
    assert spec["renewTime"] > OTHERS["renewTime"]


async def test_an_own_lease_that_does_not_say_since_when_is_acquired_now() -> None:
    spec = await updated(Leases(holderIdentity="me"))
    assert spec["leaseTransitions"] == 0
    assert spec["acquireTime"].startswith("20")


async def test_a_lease_that_changed_since_it_was_read_is_not_renewed() -> None:
    leases = Leases(**OTHERS)
    one = lock(leases)
    await one.get("lease", "default")
    leases.error = ApiError(409, "Conflict", "")
    assert not await one.update("lease", "default", RECORD)


async def test_an_own_lease_is_given_back_for_a_successor_to_take_at_once() -> None:
    leases = Leases(**{**OTHERS, "holderIdentity": "me"})
    await lock(leases).release()
    assert leases.patches[-1]["spec"] == {"holderIdentity": "", "leaseDurationSeconds": 1}


async def test_a_lease_of_another_holder_is_left_to_it() -> None:
    leases = Leases(**OTHERS)
    one = lock(leases)
    await one.release()
    assert leases.patches == []
    leases.lease = None
    await one.release()
    assert leases.patches == []


async def test_a_lease_that_cannot_be_read_is_not_given_back() -> None:
    leases = Leases(**{**OTHERS, "holderIdentity": "me"})
    one = lock(leases)
    await one.get("lease", "default")
    leases.error = TemporaryFailure("away")
    await one.release()
    assert leases.patches == []


class Election:
    """Stands for the client's election: leads at once, until it is told that it no longer does."""

    def __init__(self, config: Any) -> None:
        self.config = config
        made.append(self)
        self.lost = asyncio.Event()

    async def run(self) -> None:
        await self.config.lock.get("lease", "default")
        if made_fail:
            raise made_fail[0]
        leads = asyncio.create_task(self.config.onstarted_leading())
        try:
            await self.lost.wait()
        finally:
            leads.cancel()


made: list[Election] = []
made_fail: list[Exception] = []


@pytest.fixture
def leases(monkeypatch: pytest.MonkeyPatch) -> Leases:
    made.clear()
    made_fail.clear()
    monkeypatch.setattr(leading, "LeaderElection", Election)
    return Leases(**{**OTHERS, "holderIdentity": "me"})


def lead(leases: Leases, work: Any, **settings: Any) -> asyncio.Task[None]:
    client: Any = leases
    return asyncio.create_task(leading.lead(client, OperatorSettings(**settings), "me", work))


async def test_when_the_work_ends_the_lease_is_given_back(leases: Leases) -> None:
    async def work() -> None:
        return None

    await lead(leases, work)
    assert leases.patches[-1]["spec"]["holderIdentity"] == ""


async def test_a_defect_of_the_work_is_told_and_the_lease_given_back(leases: Leases) -> None:
    async def work() -> None:
        raise ValueError("a defect")

    with pytest.raises(ValueError, match="a defect"):
        await lead(leases, work)
    assert leases.patches[-1]["spec"]["holderIdentity"] == ""


async def test_where_the_lease_is_lost_the_work_is_ended_and_nothing_given_back(
    leases: Leases,
) -> None:
    ended = []

    async def work() -> None:
        made[0].lost.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append(True)
            raise

    with pytest.raises(LeadershipLost):
        await lead(leases, work)
    assert ended == [True]
    assert leases.patches == []


async def test_an_election_that_fails_before_it_leads_says_so(leases: Leases) -> None:
    made_fail.append(ValueError("no such namespace"))
    with pytest.raises(ValueError, match="no such namespace"):
        await lead(leases, None)


@pytest.mark.parametrize(
    ("seconds", "renewed_within", "tried_every"), [(15, 10, 2), (60, 40, 10), (3, 2, 1)]
)
async def test_a_lease_is_renewed_well_before_it_expires(
    leases: Leases, seconds: int, renewed_within: int, tried_every: int
) -> None:
    async def work() -> None:
        return None

    await lead(leases, work, lease_seconds=seconds)
    config = made[0].config
    assert config.lease_duration == seconds
    assert config.renew_deadline == renewed_within
    assert config.retry_period == tried_every
    assert config.lock._timeout == seconds / 3
