"""The chart's dashboards and rules on a real Prometheus that has scraped the real vLLM.

Of the newest version that runs here. Older names, and drafts, are asked of scripted engines
(`tests/controlplane/test_watching.py`).
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from localcluster.tuning_bed import IN_ONE_PROCESS
from realengine.environments import Environment
from realengine.server import Server
from support.builders import make_server
from support.watched import Asked, Prometheus, job_at, of_dashboards, of_rules, of_variables
from vllm_operator.api.ledger import Tuning, TuningDiagnosis
from vllm_operator.api.plan import Plan
from vllm_operator.api.status import VLLMServerStatus
from vllm_operator.controller.metrics import Metrics
from vllm_operator.lifecycle.gauges import gauges
from vllm_operator.lifecycle.status import summary

pytestmark = pytest.mark.timeout(3600)

OF_DRAFTS = "spec_decode"
"""In the names that only an engine with drafts has: on a processor its steps take seconds."""
START_SECONDS = 1500.0
"""That a start may take on a machine with other work; a minute on an idle one."""
POD = {"namespace": "ai", "server": "tiny", "pod": "tiny-1"}
PROMPT = [5, 6, 7, 8] * 450


@contextmanager
def started(environment: Environment, models: Path, folder: Path) -> Iterator[Server]:
    """A server of this version; the tokenizer has the class that transformers 4 and 5 both have."""
    model = folder / "llama"
    shutil.copytree(models / "llama", model)
    told = model / "tokenizer_config.json"
    told.write_text(
        json.dumps({**json.loads(told.read_text()), "tokenizer_class": "PreTrainedTokenizerFast"})
    )
    command = [
        *("vllm", "serve", str(model), "--served-model-name", "tiny", "--enforce-eager"),
        *("--max-model-len", "2048", "--max-num-seqs", "16", "--dtype", "bfloat16"),
        *("--block-size", "32", "--kv-cache-memory-bytes", "64000000"),
        *("--distributed-executor-backend", IN_ONE_PROCESS),
    ]
    server = Server(environment, command)
    try:
        server.start(timeout=START_SECONDS)
        yield server
    finally:
        server.close()


@pytest.fixture
def prometheus() -> Iterator[Prometheus]:
    with Prometheus() as found:
        yield found


@pytest.fixture
def operator(planned: Plan) -> Iterator[str]:
    """Where the operator's metrics are, as they are of a server with this plan."""
    metrics = Metrics()
    slo = {"timeToFirstTokenMilliseconds": 400, "interTokenLatencyMilliseconds": 60}
    diagnosis = TuningDiagnosis(bound="Load", message="requests hardly ever wait")
    status = VLLMServerStatus(
        ready_replicas=1,
        plan=planned,
        summary=summary(planned),
        tuning=Tuning(
            state="Settled", since="2026-01-01T00:00:00Z", reason="Settled", diagnosis=diagnosis
        ),
    )
    key = POD["namespace"], POD["server"]
    metrics.set_server(*key, gauges(make_server(workload={"slo": slo}).spec, status))
    metrics.set_server_state(*key, "Ready")
    metrics.set_tuning_state(*key, "Settled")
    metrics.set_cache_error(*key, 0.01)
    metrics.leader.set(1)
    metrics.writes.labels("Deployment").inc()

    class Told(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.end_headers()
            metrics.reconciles.labels("success").inc()
            metrics.reconcile_seconds.observe(0.01)
            self.wfile.write(metrics.exposition())

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            """Nothing."""

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Told)
    thread = threading.Thread(target=listener.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{listener.server_port}"
    listener.shutdown()
    listener.server_close()


def everything() -> list[Asked]:
    own = POD["namespace"], POD["server"]
    asked = [*of_dashboards(*own), *of_variables(own[0]), *of_rules()]
    return [one for one in asked if OF_DRAFTS not in one.expr]


def test_every_query_of_dashboards_and_rules_is_answered_with_numbers(
    environment: Environment,
    models: Path,
    operator: str,
    prometheus: Prometheus,
    tmp_path: Path,
) -> None:
    own = {"namespace": "the-operators-own", "pod": "operator-1"}
    asked, left = everything(), []
    with started(environment, models, tmp_path) as server:
        engine = job_at("engines", server.url.removeprefix("http://"), POD, honoured=False)
        prometheus.start([engine, job_at("operator", operator, own, honoured=True)])

        def filled() -> bool:
            body = {"model": "tiny", "prompt": PROMPT, "max_tokens": 20, "ignore_eos": True}
            for _ in range(10):
                server.post("/v1/completions", body)
            left[:] = prometheus.problems(asked)
            return not left

        try:
            prometheus.wait(filled, "every query to be answered", 600)
        except TimeoutError:
            assert not left, "\n".join(left)
    assert prometheus.broken_rules() == []
