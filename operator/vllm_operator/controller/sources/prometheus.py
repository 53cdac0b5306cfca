"""Asks Prometheus for the raw samples of many servers' pods, with few queries.

Instant queries with a range selector give samples as they were scraped. Many pods, of whatever
server and namespace, share a query; queries go one after the other, in one thread, and never more
of them than a read is allowed. Nothing is raised: what was in the way is a pod's ``problem``.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import requests
from prometheus_api_client.exceptions import PrometheusApiClientException
from prometheus_api_client.prometheus_connect import PrometheusConnect

from vllm_operator.controller.settings import PrometheusSettings
from vllm_operator.engine.metrics import metrics
from vllm_operator.engine.versions import Version
from vllm_operator.errors import Unanswered
from vllm_operator.tuning.durations import Durations
from vllm_operator.tuning.knobs import Objective
from vllm_operator.tuning.samples import PARTS, Reading, Series, read

TIMEOUT_SECONDS: Final = 10.0
ANSWER_BYTES: Final = 64 * 1024 * 1024
PODS: Final = 50
"""Of one query. A pod is about 110 series, 50 of them for two minutes about 2 MiB."""
SAMPLES: Final = 1500
"""Of one query for each series name: longer windows have fewer pods."""
QUERIES_A_MINUTE: Final = 120


@dataclass(frozen=True, slots=True)
class Wanted:
    """A pod to be read."""

    namespace: str
    pod: str
    version: Version
    """Of its vLLM, which decides the names of the metrics."""
    seconds: float
    """How far back samples are asked for."""
    objective: Objective | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.namespace, self.pod


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of reading a pod."""

    reading: Reading
    problem: str | None = None
    """Why Prometheus could not be asked; the reading is then empty."""


class Prometheus:
    """One Prometheus, for all servers. Not to be read by two tasks at once."""

    def __init__(
        self,
        settings: PrometheusSettings,
        timeout: float = TIMEOUT_SECONDS,
        observe: Callable[[str, float], None] = lambda result, seconds: None,
        ask: Callable[[str], Any] | None = None,
    ) -> None:
        """``observe`` is told of each query: ``success`` or ``error``, and seconds. ``ask`` is how
        a query is sent and its ``result`` had, in a thread of its own, where that is not by the
        address in ``settings``; it raises ``Unanswered``."""
        self.settings = settings
        self._ask = ask or self._ask_directly
        self._observe = observe
        self._timeout = timeout
        self._thread = ThreadPoolExecutor(1, "prometheus")
        self._unanswered: Future[dict[tuple[str, str], Answer]] | None = None
        self.queries = 0
        """How many were sent."""

    def close(self) -> None:
        """Asks nothing more; a query that is under way ends by its time-out."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def read(
        self, wanted: Iterable[Wanted], durations: Durations, queries: int = QUERIES_A_MINUTE
    ) -> dict[tuple[str, str], Answer]:
        """Readings by namespace and pod, of at most so many queries.

        Short windows come first. Pods for which no query is left are absent, not held: the next
        read asks for them. Once Prometheus does not answer it is not asked again in this read.
        """
        answers: dict[tuple[str, str], Answer] = {}
        waiting = deque(_chunks(wanted, durations.interval))
        while waiting and queries > 0:
            chunk = waiting.popleft()
            queries -= 1
            try:
                answers |= await self._in_thread(chunk, durations)
            except Unanswered as error:
                half = len(chunk) // 2
                if error.divide and half:
                    waiting.extendleft((chunk[half:], chunk[:half]))
                    continue
                failed = (
                    chunk if error.divide else [*chunk, *(one for rest in waiting for one in rest)]
                )
                answers |= {one.key: Answer(Reading(one.pod), str(error)) for one in failed}
                if not error.divide:
                    break
        return answers

    async def _in_thread(
        self, chunk: Sequence[Wanted], durations: Durations
    ) -> dict[tuple[str, str], Answer]:
        if self._unanswered is not None and not self._unanswered.done():
            raise Unanswered("the query before is still without an answer")
        self._unanswered = self._thread.submit(self._read, chunk, durations)
        # Longer than the thread's own limits; a resolver of names has none.
        limit = 3 * self._timeout
        began, result = time.monotonic(), "error"
        try:
            answer = asyncio.shield(asyncio.wrap_future(self._unanswered))
            found = await asyncio.wait_for(answer, limit)
            result = "success"
            return found
        except TimeoutError:
            raise Unanswered(f"no answer within {limit:g} s") from None
        finally:
            self._observe(result, time.monotonic() - began)

    def _read(self, chunk: Sequence[Wanted], durations: Durations) -> dict[tuple[str, str], Answer]:
        self.queries += 1
        result = self._ask(query(chunk, self.settings))
        try:
            series = _by_pod(result, chunk, self.settings)
        except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
            raise Unanswered(
                f"the answer is none of Prometheus' ({type(error).__name__})"
            ) from error
        return {
            one.key: Answer(read(one.pod, series.get(one.key, ()), durations, one.objective))
            for one in chunk
        }

    def _ask_directly(self, text: str) -> Any:
        try:
            with _Session(self._timeout) as session:
                certificate = self.settings.secrets and self.settings.secrets / "ca.crt"
                if certificate and certificate.is_file():
                    session.verify = str(certificate)
                session.auth = self._basic()
                client = PrometheusConnect(
                    self.settings.url.rstrip("/"),
                    headers=self._headers(),
                    session=session,
                    retry=0,  # the next read is the retry
                    method="POST",
                )
                return client.custom_query(text, {"timeout": f"{self._timeout:g}s"})
        except PrometheusApiClientException as error:
            # 422: too many samples; 503: the query's own time-out
            divide = session.status in (400, 413, 422)
            raise Unanswered(_short(error), divide) from error
        except Unanswered:
            raise
        except Exception as error:  # of whatever library below
            raise Unanswered(_short(error)) from error

    def _headers(self) -> dict[str, str]:
        headers = {}
        if token := self._secret("bearer-token"):
            headers["Authorization"] = f"Bearer {token}"
        if tenant := self._secret("tenant"):
            headers[self.settings.tenant_header] = tenant
        return headers

    def _secret(self, name: str) -> str | None:
        path = self.settings.secrets and self.settings.secrets / name
        return path.read_text("utf-8").strip() if path and path.is_file() else None

    def _basic(self) -> tuple[str, str] | None:
        user = self._secret("username")
        return (user, self._secret("password") or "") if user else None


class _Session(requests.Session):
    """Sends a query in the body, where proxies do not limit its length, and reads an answer only
    within a time and a size."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self.status = 0

    def request(  # type: ignore[override]
        self, method: str, url: str, params: Mapping[str, str], **others: Any
    ) -> requests.Response:
        deadline = time.monotonic() + self._seconds
        others |= {"timeout": self._seconds, "stream": True, "allow_redirects": False}
        body = bytearray()
        with super().request(method, url, data=params, **others) as response:
            self.status = response.status_code
            while part := response.raw.read1(1 << 16, decode_content=True):
                body += part
                if len(body) > ANSWER_BYTES:
                    raise Unanswered(f"more than {ANSWER_BYTES >> 20} MiB of answer", divide=True)
                if time.monotonic() > deadline:
                    raise Unanswered(f"the answer took longer than {self._seconds:g} s")
        response._content = bytes(body)
        return response


def query(chunk: Sequence[Wanted], settings: PrometheusSettings) -> str:
    """PromQL for the raw samples of all pods of a chunk."""
    names = sorted({name for one in chunk for name in _names(one.version)})
    seconds = max(one.seconds for one in chunk)
    spaces, pods = (set(column) for column in zip(*(one.key for one in chunk), strict=True))
    return (
        f'{{__name__=~"{_either(names)}",{settings.namespace_label}=~"{_either(spaces)}",'
        f'{settings.pod_label}=~"{_either(pods)}"}}[{max(1000, round(seconds * 1000))}ms]'
    )


def _either(names: Iterable[str]) -> str:
    """Names of Kubernetes and of metrics have no other character of a regular expression."""
    return "|".join(sorted(name.replace(".", r"\\.") for name in names))


def _names(version: Version) -> Mapping[str, tuple[str, str]]:
    """Meaning and part by the name of the series."""
    known = metrics(version)
    return {
        known[meaning].name + (part and f"_{part}"): (meaning, part)
        for meaning, parts in PARTS.items()
        if meaning in known
        for part in parts
    }


def _chunks(wanted: Iterable[Wanted], interval: float) -> Iterator[list[Wanted]]:
    """Pods with like windows together."""
    chunk: list[Wanted] = []
    for one in sorted(wanted, key=lambda one: one.seconds):
        if (len(chunk) + 1) * one.seconds / interval > SAMPLES or len(chunk) == PODS:
            if chunk:
                yield chunk
            chunk = []
        chunk.append(one)
    if chunk:
        yield chunk


def _by_pod(
    result: Any, chunk: Sequence[Wanted], settings: PrometheusSettings
) -> dict[tuple[str, str], list[Series]]:
    names = {one.key: _names(one.version) for one in chunk}
    found: dict[tuple[str, str], list[Series]] = {}
    for entry in result:
        labels = dict(entry["metric"])
        name = labels.pop("__name__")
        key = labels.pop(settings.namespace_label), labels.pop(settings.pod_label)
        known = names.get(key, {}).get(name)
        if known is not None:  # else of a namesake in another namespace, or of another version
            samples = [(float(stamp), float(value)) for stamp, value in entry["values"]]
            found.setdefault(key, []).append(Series(*known, labels, samples))
    return found


def _short(error: BaseException) -> str:
    text = re.sub(r"\s+", " ", str(error)) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]}…"
