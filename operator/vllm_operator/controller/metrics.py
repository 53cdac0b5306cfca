"""The operator's own metrics, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Final, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from vllm_operator.api.ledger import Verdict
from vllm_operator.lifecycle.gauges import FAMILIES, Sample

SERVER_STATES: Final = ("Ready", "Progressing", "NotPlanned", "ScaledToZero", "Paused", "Stalled")

PREFIX: Final = "vllm_operator"
DURATIONS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """One registry a process: a test can hold several."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        counter = partial(Counter, namespace=PREFIX, registry=registry)
        gauge = partial(Gauge, namespace=PREFIX, registry=registry)
        histogram = partial(Histogram, namespace=PREFIX, registry=registry, buckets=DURATIONS)
        self.reconciles = counter(
            "reconciles", "Reconciles of a server by result (success, requeued, error).", ["result"]
        )
        self.reconcile_seconds = histogram(
            "reconcile_duration_seconds", "Duration of one reconcile."
        )
        self.writes = counter("writes", "Writes to the API server by kind of object.", ["kind"])
        self.plan_repairs = counter(
            "plan_repairs",
            "Plans that were changed because the engine did not start, by what was lowered.",
            ["repair"],
        )
        self.calibration_reads = counter(
            "calibration_reads",
            "Engines that were asked for their KV cache, by result (read, failed).",
            ["result"],
        )
        self.cache_error = gauge(
            "kv_cache_error_ratio",
            "Blocks of KV cache that an engine has over those that were expected, less 1.",
            ["namespace", "server"],
        )
        self.queue_depth = gauge("queue_depth", "Servers that wait for a reconcile.")
        self.queue_oldest_seconds = gauge(
            "queue_oldest_seconds", "Age of the reconcile that is in flight the longest."
        )
        self.api_requests = counter(
            "api_requests", "Requests to the API server by verb and status code.", ["verb", "code"]
        )
        self.api_seconds = histogram(
            "api_request_duration_seconds",
            "Duration of requests to the API server by verb.",
            ["verb"],
        )
        self.watch_events = counter("watch_events", "Watch events by kind of object.", ["kind"])
        self.server_state = gauge(
            "server_state", "1 for the state that a server is in.", ["namespace", "server", "state"]
        )
        self.tuning_state = gauge(
            "tuning_state",
            "1 for the state that tuning of a server is in.",
            ["namespace", "server", "state"],
        )
        self.tuning_trials = counter("tuning_trials", "Trials that ended by verdict.", ["verdict"])
        self.tuning_look_seconds = histogram(
            "tuning_look_duration_seconds", "Duration of one look at what a server's metrics say."
        )
        self.prometheus_queries = counter(
            "prometheus_queries", "Queries to Prometheus by result (success, error).", ["result"]
        )
        self.prometheus_seconds = histogram(
            "prometheus_query_duration_seconds", "Duration of queries to Prometheus."
        )
        self.leader = gauge("leader", "1 while this process acts on servers.")
        # There from the start: of a counter that appears with its first event no rate is seen.
        for counted, results in (
            (self.reconciles, ("success", "requeued", "error")),
            (self.prometheus_queries, ("success", "error")),
            (self.calibration_reads, ("read", "failed")),
            (self.tuning_trials, get_args(Verdict)),
        ):
            for result in results:
                counted.labels(result)
        self.servers = {
            name: gauge(name, family.help, ["namespace", "server", *family.labels])
            for name, family in FAMILIES.items()
        }
        self._samples: dict[tuple[str, str], frozenset[tuple[str, tuple[str, ...]]]] = {}
        self._states: dict[tuple[str, str], str] = {}
        self._tuning: dict[tuple[str, str], str] = {}

    def api_request(self, verb: str, code: str, seconds: float) -> None:
        """Count one request to the API server."""
        self.api_requests.labels(verb, code).inc()
        self.api_seconds.labels(verb).observe(seconds)

    def set_server(self, namespace: str, name: str, samples: Iterable[Sample] = ()) -> None:
        """What is said of a server, in place of all that was said before; nothing forgets it."""
        key, said = (namespace, name), set()
        for one in samples:
            self.servers[one.name].labels(*key, *one.labels).set(one.value)
            said.add((one.name, one.labels))
        for family, labels in self._samples.pop(key, frozenset()) - said:
            self.servers[family].remove(*key, *labels)
        if said:
            self._samples[key] = frozenset(said)

    def forget(self, namespace: str, name: str) -> None:
        """Say nothing more of a server: neither its state nor what was said of it."""
        self.set_server_state(namespace, name, None)
        self.set_server(namespace, name)

    def set_server_state(self, namespace: str, name: str, state: str | None) -> None:
        """Move a server to a state; None forgets the server."""
        _move(self.server_state, self._states, (namespace, name), state)

    def set_tuning_state(self, namespace: str, name: str, state: str | None) -> None:
        """Move tuning of a server to a state; None where it is not tuned, or gone."""
        _move(self.tuning_state, self._tuning, (namespace, name), state)

    def prometheus_query(self, result: str, seconds: float) -> None:
        """Count one query to Prometheus."""
        self.prometheus_queries.labels(result).inc()
        self.prometheus_seconds.observe(seconds)

    def set_cache_error(self, namespace: str, name: str, error: float | None) -> None:
        """How far off a server's plan was; None forgets the server."""
        if error is None:
            self.cache_error.remove(namespace, name)
        else:
            self.cache_error.labels(namespace, name).set(error)

    def exposition(self) -> bytes:
        """The text that a scrape receives."""
        return generate_latest(self.registry)


def _move(
    gauge: Gauge, known: dict[tuple[str, str], str], key: tuple[str, str], state: str | None
) -> None:
    """The one series of a server to another state; None removes it."""
    before = known.get(key)
    if before == state:
        return
    if before is not None:
        gauge.remove(*key, before)
    if state is None:
        known.pop(key, None)
        return
    known[key] = state
    gauge.labels(*key, state).set(1)
