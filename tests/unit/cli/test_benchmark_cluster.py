"""Waiting for a benchmark's Job while the API server is not always there."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from unit.benchmark.support import measured, result
from vllm_operator.benchmark.results import MARK, Progress
from vllm_operator.cli import jobs
from vllm_operator.cli.benchmark_cluster import Cluster
from vllm_operator.errors import ApiError, InputError, TemporaryFailure

AWAY = TemporaryFailure("the API server did not answer")
COMPLETE = {"type": "Complete", "status": "True"}
FAILED = {"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "too long"}


def log() -> str:
    run = {"point": 0, "repeat": 0, "figures": dict(measured(1.0).runs[0])}
    records = [{"begin": result(points=[measured()]).to_json_object()}, {"run": run}, {"end": True}]
    return "".join(f"{MARK}{json.dumps(one)}\n" for one in records)


class Answers:
    """What the API server says, look by look."""

    def __init__(self, *looks: Any, text: Any = "") -> None:
        self.looks = list(looks)
        self.text = text

    async def get(self, _resource: Any, _namespace: str, _name: str) -> Any:
        look = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        if isinstance(look, Exception):
            raise look
        return None if look is None else {"status": {"conditions": look}}

    async def pages(self, *_: Any) -> AsyncIterator[list[Any]]:
        yield [{"metadata": {"name": "pod", "creationTimestamp": "2026-01-01T00:00:00Z"}}]

    async def log(self, *_: Any, **__: Any) -> str:
        if isinstance(self.text, Exception):
            raise self.text
        return str(self.text)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "POLL_SECONDS", 0.0)


async def finished(answers: Answers) -> tuple[Any, list[Progress]]:
    told: list[Progress] = []
    cluster = Cluster(answers, "default")
    return await cluster.finished("job", lambda one, _: told.append(one)), told


async def test_the_result_is_read_once_the_job_is_complete() -> None:
    found, told = await finished(Answers([FAILED | {"status": "False"}], [COMPLETE], text=log()))
    assert found == result(points=[measured(1.0)])
    assert len(told) == 1


async def test_an_api_server_that_is_away_for_a_while_is_waited_for() -> None:
    found, _ = await finished(Answers(AWAY, AWAY, [COMPLETE], text=log()))
    assert found.points[0].runs


async def test_an_api_server_that_stays_away_is_told() -> None:
    with pytest.raises(TemporaryFailure):
        await finished(Answers(AWAY))


async def test_a_job_that_failed_is_told_with_its_reason_and_log() -> None:
    with pytest.raises(InputError, match=r"(?s)DeadlineExceeded: too long.*last words"):
        await finished(Answers([FAILED], text="last words\n"))


async def test_a_job_that_somebody_deleted_is_told() -> None:
    with pytest.raises(InputError, match="was deleted before it had a result"):
        await finished(Answers(None))


async def test_a_log_that_may_not_be_read_is_told_with_the_right() -> None:
    with pytest.raises(InputError, match="you may not get pods/log"):
        await finished(Answers([], text=ApiError(403, "Forbidden", "no")))


async def test_a_container_that_has_not_started_is_waited_for() -> None:
    waiting = ApiError(400, "BadRequest", "container is waiting to start")
    answers = Answers([], [COMPLETE], text=waiting)
    with pytest.raises(InputError, match="ended: Complete; the end of its log"):
        await finished(answers)
