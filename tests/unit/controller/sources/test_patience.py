"""How long a read waits for a thread that nobody can stop, as where a name resolves for ever."""

from __future__ import annotations

import threading

from vllm_operator.controller.settings import PrometheusSettings
from vllm_operator.controller.sources.prometheus import Prometheus, Wanted
from vllm_operator.engine.versions import Version
from vllm_operator.tuning.durations import Durations

ONE_POD = [Wanted("team-a", "pod-0", Version((0, 30, 0)), 120)]


async def test_a_query_has_three_times_its_own_limit_and_no_second_beside_it() -> None:
    over = threading.Event()
    source = Prometheus(PrometheusSettings("http://127.0.0.1:1"), 0.02)
    source._read = lambda chunk, durations: over.wait(30) and {}
    try:
        (first,) = (await source.read(ONE_POD, Durations(15))).values()
        (second,) = (await source.read(ONE_POD, Durations(15))).values()
    finally:
        over.set()
        source.close()
    assert first.problem == "no answer within 0.06 s"
    assert second.problem == "the query before is still without an answer"
