"""A Prometheus that fails, whatever way, is a problem that is told, and is asked little."""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from support.scrapes import Kept
from vllm_operator.controller.sources import prometheus
from vllm_operator.controller.sources.prometheus import (
    Answer,
    Prometheus,
    PrometheusSettings,
    Wanted,
)
from vllm_operator.engine.metrics import metrics
from vllm_operator.engine.versions import Version
from vllm_operator.tuning.durations import Durations

NEW, OLD = Version.parse("0.32.0"), Version.parse("0.9.1")
Asked = dict[str, str]
Play = Callable[["Handler", Asked], None]


class Handler(BaseHTTPRequestHandler):
    play: Play
    asked: list[Asked]
    headers_seen: list[dict[str, str]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        form = {name: values[0] for name, values in parse_qs(body).items()}
        self.asked.append({"path": self.path, **form})
        self.headers_seen.append(dict(self.headers))
        type(self).play(self, form)

    def say(self, content: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


class Fake:
    """A Prometheus that plays."""

    def __init__(self) -> None:
        self.handler = type("Bound", (Handler,), {"asked": [], "headers_seen": []})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.plays(lambda handler, form: handler.say(found(form)))

    def plays(self, play: Play) -> None:
        self.handler.play = staticmethod(play)  # type: ignore[assignment]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    @property
    def asked(self) -> list[Asked]:
        return self.handler.asked

    @property
    def headers(self) -> dict[str, str]:
        return self.handler.headers_seen[-1]


def pods_of(form: Asked) -> list[str]:
    selected = re.search(r'pod=~"([^"]*)"', form["query"])
    assert selected
    return selected[1].split("|")


def found(form: Asked, version: Version = NEW) -> bytes:
    """Three scrapes of each pod that is asked for."""
    kept, now = Kept(), time.time()
    for number in range(3):
        kept.scrape(now - 30 + 15 * number, number)
    known = metrics(version)
    entries = [
        {
            "metric": {
                "__name__": known[one.meaning].name + (one.part and f"_{one.part}"),
                "namespace": "team-a",
                "pod": pod,
                **one.labels,
            },
            "values": [[stamp, str(value)] for stamp, value in one.samples],
        }
        for pod in pods_of(form)
        for one in kept.series()
        if one.meaning in known
    ]
    return json.dumps({"status": "success", "data": {"result": entries}}).encode()


@pytest.fixture
def fake() -> Iterator[Fake]:
    running = Fake()
    yield running
    running.server.shutdown()
    running.server.server_close()


def wanted(count: int = 1, seconds: float = 120, version: Version = NEW) -> list[Wanted]:
    return [Wanted("team-a", f"pod-{number:04}", version, seconds) for number in range(count)]


async def answers(
    url: str, pods: list[Wanted], patience: float = 5, queries: int = 120, **settings: Any
) -> dict[tuple[str, str], Answer]:
    source = Prometheus(PrometheusSettings(url, **settings), patience)
    try:
        return await source.read(pods, Durations(15), queries)
    finally:
        source.close()


async def problem(url: str, patience: float = 5) -> str:
    (answer,) = (await answers(url, wanted(), patience)).values()
    assert answer.reading.intervals == ()
    assert answer.problem is not None
    return answer.problem


async def test_samples_become_intervals(fake: Fake) -> None:
    (answer,) = (await answers(fake.url, wanted())).values()
    assert answer.problem is None
    assert [one.steps for one in answer.reading.intervals] == [100, 100]


async def test_an_older_version_is_asked_by_its_own_names(fake: Fake) -> None:
    fake.plays(lambda handler, form: handler.say(found(form, OLD)))
    (answer,) = (await answers(fake.url, wanted(version=OLD))).values()
    assert "vllm:time_per_output_token_seconds_count" in fake.asked[0]["query"]
    assert [one.gaps for one in answer.reading.intervals] == [1000, 1000]


async def test_the_query_travels_in_the_body_and_bounds_itself(fake: Fake) -> None:
    await answers(fake.url, wanted(2))
    (asked,) = fake.asked
    assert (asked["path"], asked["timeout"]) == ("/api/v1/query", "5s")
    assert asked["query"].endswith('",namespace=~"team-a",pod=~"pod-0000|pod-0001"}[120000ms]')


async def test_dots_of_a_pods_name_are_no_wildcards(fake: Fake) -> None:
    fake.plays(lambda handler, form: handler.say(b'{"data": {"result": []}}'))
    await answers(fake.url, [Wanted("team-a", "a.b", NEW, 60)])
    assert r'pod=~"a\\.b"' in fake.asked[0]["query"]


async def test_labels_are_called_as_the_settings_say(fake: Fake) -> None:
    fake.plays(lambda handler, form: handler.say(b'{"data": {"result": []}}'))
    names = {"namespace_label": "exported_namespace", "pod_label": "kubernetes_pod"}
    await answers(fake.url, wanted(), **names)
    assert ',exported_namespace=~"team-a",kubernetes_pod=~"pod-0000"}' in fake.asked[0]["query"]


async def test_a_pod_of_which_nothing_is_known_is_read_and_empty(fake: Fake) -> None:
    fake.plays(lambda handler, form: handler.say(b'{"data": {"result": []}}'))
    (answer,) = (await answers(fake.url, wanted())).values()
    assert (answer.problem, answer.reading.newest) == (None, None)


async def test_series_of_a_namesake_elsewhere_are_left_out(fake: Fake) -> None:
    def elsewhere(handler: Handler, form: Asked) -> None:
        handler.say(found(form).replace(b'"team-a"', b'"team-b"'))

    fake.plays(elsewhere)
    (answer,) = (await answers(fake.url, wanted())).values()
    assert answer.reading.newest is None


async def test_a_thousand_pods_take_twenty_queries(fake: Fake) -> None:
    fake.plays(lambda handler, form: handler.say(b'{"data": {"result": []}}'))
    assert len(await answers(fake.url, wanted(1000))) == 1000
    assert len(fake.asked) == 20


async def test_long_windows_are_asked_for_few_pods_and_after_the_short_ones(fake: Fake) -> None:
    fake.plays(lambda handler, form: handler.say(b'{"data": {"result": []}}'))
    pods = [*wanted(2, seconds=6 * 3600), Wanted("team-a", "short", NEW, 120)]
    got = await answers(fake.url, pods, queries=2)
    assert [pods_of(asked) for asked in fake.asked] == [["short"], ["pod-0000"]]
    assert ("team-a", "pod-0001") not in got


@pytest.mark.parametrize("status", [401, 404, 500, 503])
async def test_an_error_is_told_and_ends_the_read(fake: Fake, status: int) -> None:
    fake.plays(lambda handler, form: handler.say(b"no", status))
    got = await answers(fake.url, wanted(120))
    assert len(got) == 120
    assert all(str(status) in (answer.problem or "") for answer in got.values())
    assert len(fake.asked) == 1


async def test_pods_that_are_too_many_for_one_query_are_divided(fake: Fake) -> None:
    def refuse_many(handler: Handler, form: Asked) -> None:
        if len(pods_of(form)) > 2:
            handler.say(b"query processing would load too many samples into memory", 422)
        else:
            handler.say(found(form))

    fake.plays(refuse_many)
    got = await answers(fake.url, wanted(5))
    assert [answer.problem for answer in got.values()] == [None] * 5


async def test_one_pod_that_is_too_much_is_told_and_the_others_are_read(fake: Fake) -> None:
    def refuse_one(handler: Handler, form: Asked) -> None:
        if "pod-0001" in pods_of(form):
            handler.say(b"too many samples", 422)
        else:
            handler.say(found(form))

    fake.plays(refuse_one)
    got = await answers(fake.url, wanted(3))
    assert [answer.problem is None for _, answer in sorted(got.items())] == [True, False, True]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>log in</html>",
        b"[]",
        b'{"status": "success"}',
        b'{"data": {"result": {"a": 1}}}',
        b'{"data": {"result": [{"metric": {}, "values": []}]}}',
        b'{"data": {"result": [{"metric": {"__name__": "x"}, "values": [[1]]}]}}',
    ],
)
async def test_garbage_is_told(fake: Fake, content: bytes) -> None:
    fake.plays(lambda handler, form: handler.say(content))
    assert await problem(fake.url)


async def test_a_login_page_is_not_followed(fake: Fake) -> None:
    def away(handler: Handler, form: Asked) -> None:
        handler.send_response(302)
        handler.send_header("Location", "http://127.0.0.1:1/login")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    fake.plays(away)
    assert "302" in await problem(fake.url)


async def test_nobody_at_the_address_is_told() -> None:
    assert "refused" in await problem("http://127.0.0.1:1")


async def test_silence_ends_with_the_time_out(fake: Fake) -> None:
    over = threading.Event()
    fake.plays(lambda handler, form: over.wait(30) and None)
    begun = time.monotonic()
    assert "timed out" in await problem(fake.url, patience=0.3)
    assert time.monotonic() - begun < 5
    over.set()


async def test_an_answer_that_trickles_ends_with_the_time_out(fake: Fake) -> None:
    over = threading.Event()

    def trickle(handler: Handler, form: Asked) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        while not over.wait(0.05):
            handler.wfile.write(b" ")

    fake.plays(trickle)
    begun = time.monotonic()
    assert "longer than 0.5 s" in await problem(fake.url, patience=0.5)
    assert time.monotonic() - begun < 5
    over.set()


async def test_an_answer_that_is_cut_off_is_told(fake: Fake) -> None:
    def cut(handler: Handler, form: Asked) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b'{"data"')
        handler.close_connection = True

    fake.plays(cut)
    assert await problem(fake.url)


async def test_a_huge_answer_is_not_kept(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus, "ANSWER_BYTES", 1 << 20)
    fake.plays(lambda handler, form: handler.say(b" " * (3 << 20)))
    assert "more than 1 MiB" in await problem(fake.url)


async def test_secrets_are_sent_and_read_anew(fake: Fake, tmp_path: Path) -> None:
    (tmp_path / "bearer-token").write_text("first\n")
    (tmp_path / "tenant").write_text("team")
    source = Prometheus(PrometheusSettings(fake.url, tmp_path, tenant_header="X-Tenant"))
    await source.read(wanted(), Durations(15))
    assert (fake.headers["Authorization"], fake.headers["X-Tenant"]) == ("Bearer first", "team")
    (tmp_path / "bearer-token").write_text("second\n")
    await source.read(wanted(), Durations(15))
    assert fake.headers["Authorization"] == "Bearer second"
    source.close()


async def test_a_name_and_a_password_are_basic_authentication(fake: Fake, tmp_path: Path) -> None:
    (tmp_path / "username").write_text("reader")
    (tmp_path / "password").write_text("secret")
    await answers(fake.url, wanted(), secrets=tmp_path)
    expected = base64.b64encode(b"reader:secret").decode()
    assert fake.headers["Authorization"] == f"Basic {expected}"


async def test_a_secret_that_cannot_be_read_is_told(fake: Fake, tmp_path: Path) -> None:
    (tmp_path / "bearer-token").write_bytes(b"\xff\xfe")
    (answer,) = (await answers(fake.url, wanted(), secrets=tmp_path)).values()
    assert answer.problem
    assert fake.asked == []


async def test_each_query_is_observed_with_what_came_of_it(fake: Fake) -> None:
    seen: list[tuple[str, float]] = []
    source = Prometheus(
        PrometheusSettings(fake.url), observe=lambda result, took: seen.append((result, took))
    )
    await source.read(wanted(), Durations(15))
    fake.plays(lambda handler, form: handler.say(b"", 500))
    await source.read(wanted(), Durations(15))
    source.close()
    assert [result for result, _ in seen] == ["success", "error"]
    assert all(0 < took < 5 for _, took in seen)
