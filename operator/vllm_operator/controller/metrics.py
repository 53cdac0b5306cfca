"""The operator's own metrics, for Prometheus."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SERVER_STATES: Final = ("Ready", "Progressing", "NotPlanned", "ScaledToZero", "Paused", "Stalled")

DURATIONS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """One registry a process: a test can hold several."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.reconciles = Counter(
            "vllm_operator_reconciles",
            "Reconciles of a server by result (success, requeued, error).",
            ["result"],
            registry=self.registry,
        )
        self.reconcile_seconds = Histogram(
            "vllm_operator_reconcile_duration_seconds",
            "Duration of one reconcile.",
            buckets=DURATIONS,
            registry=self.registry,
        )
        self.writes = Counter(
            "vllm_operator_writes",
            "Writes to the API server by kind of object.",
            ["kind"],
            registry=self.registry,
        )
        self.plan_repairs = Counter(
            "vllm_operator_plan_repairs",
            "Plans that were changed because the engine did not start, by what was lowered.",
            ["repair"],
            registry=self.registry,
        )
        self.calibration_reads = Counter(
            "vllm_operator_calibration_reads",
            "Engines that were asked for their KV cache, by result (read, failed).",
            ["result"],
            registry=self.registry,
        )
        self.cache_error = Gauge(
            "vllm_operator_kv_cache_error_ratio",
            "Blocks of KV cache that an engine has over those that were expected, less 1.",
            ["namespace", "name"],
            registry=self.registry,
        )
        self.queue_depth = Gauge(
            "vllm_operator_queue_depth",
            "Servers that wait for a reconcile.",
            registry=self.registry,
        )
        self.queue_oldest_seconds = Gauge(
            "vllm_operator_queue_oldest_seconds",
            "Age of the reconcile that is in flight the longest.",
            registry=self.registry,
        )
        self.api_requests = Counter(
            "vllm_operator_api_requests",
            "Requests to the API server by verb and status code.",
            ["verb", "code"],
            registry=self.registry,
        )
        self.api_seconds = Histogram(
            "vllm_operator_api_request_duration_seconds",
            "Duration of requests to the API server by verb.",
            ["verb"],
            buckets=DURATIONS,
            registry=self.registry,
        )
        self.watch_events = Counter(
            "vllm_operator_watch_events",
            "Watch events by kind of object.",
            ["kind"],
            registry=self.registry,
        )
        self.server_state = Gauge(
            "vllm_operator_server_state",
            "1 for the state that a server is in.",
            ["namespace", "name", "state"],
            registry=self.registry,
        )
        self.leader = Gauge(
            "vllm_operator_leader", "1 while this process acts on servers.", registry=self.registry
        )
        self._states: dict[tuple[str, str], str] = {}
        self._cache_errors: set[tuple[str, str]] = set()

    def api_request(self, verb: str, code: str, seconds: float) -> None:
        """Count one request to the API server."""
        self.api_requests.labels(verb, code).inc()
        self.api_seconds.labels(verb).observe(seconds)

    def set_server_state(self, namespace: str, name: str, state: str | None) -> None:
        """Move a server to a state; None forgets the server."""
        key = (namespace, name)
        before = self._states.get(key)
        if before == state:
            return
        if before is not None:
            self.server_state.remove(namespace, name, before)
        if state is None:
            self._states.pop(key, None)
            return
        self._states[key] = state
        self.server_state.labels(namespace, name, state).set(1)

    def set_cache_error(self, namespace: str, name: str, error: float | None) -> None:
        """How far off a server's plan was; None forgets the server."""
        if error is not None:
            self.cache_error.labels(namespace, name).set(error)
        elif (namespace, name) in self._cache_errors:
            self.cache_error.remove(namespace, name)
        self._cache_errors.discard((namespace, name))
        if error is not None:
            self._cache_errors.add((namespace, name))

    def exposition(self) -> bytes:
        """The text that a scrape receives."""
        return generate_latest(self.registry)
