"""What tuning costs: a thousand servers that one operator reads from one Prometheus.

    PYTHONPATH=operator:tools:tests python benchmarks/tuning_fleet.py [--servers 1000]

Servers of a real API server, whose pods the kubelets' stand-in plays; a real Prometheus that
scrapes what simulated engines (`tools/enginesimulator`) have counted, a few loads for all pods.
First with tuning off, then with `spec.autotune.mode: Recommend`. Prints a table and writes
build/benchmarks/tuning_fleet.json.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import click
import support_fleet as fleet
from rich.console import Console
from rich.table import Table
from support_audit import AuditLog, writes
from support_processes import cpu_seconds, memory
from support_view import server_fact

from enginesimulator.metrics import exposition
from enginesimulator.planned import Server
from enginesimulator.seconds import NEVER
from enginesimulator.service import Service
from localcluster.chart import install_chart
from localcluster.cluster import Cluster
from localcluster.waiting import wait_until
from support.operating import OperatorProcess

RESULT: Final = Path("build/benchmarks/tuning_fleet.json")
CRDS: Final = Path(__file__).parents[1] / "crds"
VERSION: Final = "0.32.0"
RATES: Final = (1.0, 2.0, 4.0, 8.0, 12.0, 16.0, 24.0, 32.0)
"""Requests a second; the k-th pod has the k-th of them, in turn."""
POD: Final = "a-pod-of-this-rate"
DISABLED_SECONDS: Final = 120.0
TARGETS: Final = {"queries a minute": 120.0, "cores": 0.2, "MB more": 150.0, "writes": 0.0}


class Engines:
    """One engine for each rate, in real time; what they have counted stands for every pod."""

    def __init__(self) -> None:
        told = {"model": fleet.MODEL, "gpu": fleet.GPU, "tensor": 1, "version": VERSION}
        server = Server({**told, "replicas": 1})
        self.pods: Sequence[str] = ()
        self._services = [Service(server, _workload(rate), every=NEVER) for rate in RATES]
        for one in self._services:
            one.add(server.start, 0)
            one.advance(0.001)
        self._began = time.monotonic()
        self._lock = threading.Lock()

    def shown(self) -> bytes:
        """What all pods have counted, in Prometheus' text format."""
        with self._lock:
            now = time.monotonic() - self._began
            texts = []
            for one in self._services:
                one.advance(now)
                labels = {"model_name": fleet.MODEL, "namespace": fleet.NAMESPACE, "pod": POD}
                texts.append(exposition(one.pods[0].engine.counted(), one.buckets, labels))
            return "".join(
                texts[number % len(texts)].replace(POD, pod) for number, pod in enumerate(self.pods)
            ).encode()


def _workload(rate: float) -> dict[str, Any]:
    """Ten hours of a rate."""
    return {
        "name": f"{rate:g} a second",
        "minutes": 600,
        "slo": None,
        "lengths": {
            "prompt": {"mean": 300, "sigma": 0.7},
            "output": {"mean": 100, "sigma": 0.6},
            "sharedPrefix": 0,
        },
        "arrivals": [{"minutes": 600, "kind": "poisson", "requestsPerSecond": rate}],
        "truth": {"jitter": 0.03},
    }


def listen(engines: Engines) -> ThreadingHTTPServer:
    """Serves them, until it is shut down."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text = engines.shown()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as in the base class
            """Nothing: each scrape is a request."""

    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=found.serve_forever, daemon=True).start()
    return found


class Bench:
    """The fleet, and what is measured of its operator."""

    def __init__(self, cluster: Cluster, operator: OperatorProcess, console: Console) -> None:
        self.cluster, self.operator, self.console = cluster, operator, console
        self.user = fleet.identity(operator.kubeconfig)
        self.audit = AuditLog(cluster.directory / "audit.log", [self.user])

    def say(self, text: str) -> None:
        """With the time."""
        self.console.print(f"[dim]{time.strftime('%H:%M:%S')}[/dim] {text}", highlight=False)

    def servers(self) -> list[Any]:
        """All of them."""
        return self.cluster.api("GET", fleet.SERVERS, timeout=120)["items"]

    def ready(self, servers: int) -> bool:
        """Whether all are."""
        facts = [server_fact(server) for server in self.servers()]
        return len(facts) == servers and all(fact.ready for fact in facts)

    def watched(self, seconds: float) -> dict[str, Any]:
        """What the operator does in so many seconds."""
        queries = self.operator.metric("vllm_operator_prometheus_queries_total")
        used, began = cpu_seconds(self.operator.pid), time.time()
        time.sleep(seconds)
        end = time.time()
        more = self.operator.metric("vllm_operator_prometheus_queries_total") - queries
        requests = self.audit.between(self.user, began, end)
        held = memory(self.operator.pid)
        states = Counter(
            server.get("status", {}).get("tuning", {}).get("state", "none")
            for server in self.servers()
        )
        return {
            "seconds": end - began,
            "cores": (cpu_seconds(self.operator.pid) - used) / (end - began),
            "queriesAMinute": 60 * more / (end - began),
            "requests": len(requests),
            "writes": writes(requests),
            "residentBytes": held.resident,
            "peakBytes": held.peak,
            "states": dict(states),
        }

    def turn_on(self, servers: int) -> None:
        """Recommend, for all."""
        patch = {"spec": {"autotune": {"mode": "Recommend"}}}
        for name in fleet.names(servers):
            self.cluster.api(
                "PATCH", f"{fleet.SERVERS}/{name}", patch, "application/merge-patch+json"
            )


@click.command(help=__doc__)
@click.option("--servers", default=1000, show_default=True)
@click.option("--interval", default=15.0, show_default=True, help="Between two scrapes.")
@click.option("--observing-minutes", default=10.0, show_default=True, help="The first, measured.")
@click.option(
    "--settling-minutes", default=75.0, show_default=True, help="Then; all must settle in it."
)
@click.option("--quiet-minutes", default=10.0, show_default=True, help="Then, measured.")
def main(
    servers: int,
    interval: float,
    observing_minutes: float,
    settling_minutes: float,
    quiet_minutes: float,
) -> None:
    """Brings the fleet up and measures it."""
    console = Console(width=110)
    with ExitStack() as exits:
        cluster = exits.enter_context(Cluster(audit=True, manifests=[CRDS]))
        fleet.prepare(cluster, servers)
        engines = Engines()
        listener = listen(engines)
        exits.callback(listener.shutdown)
        url = cluster.start_prometheus(interval, f"127.0.0.1:{listener.server_port}")
        operator = exits.enter_context(
            OperatorProcess(
                cluster,
                install_chart(cluster, {"crds": {"install": False}}),
                cluster.log("operator"),
                log_level="info",
                log_format="json",
                prometheus_url=url,
                prometheus_interval=interval,
            )
        )
        bench = Bench(cluster, operator, console)
        bench.say(f"{servers} servers")
        engine = {"image": f"vllm/vllm-openai:v{VERSION}"}
        fleet.create_servers(cluster, servers, 2, {"engine": engine})
        wait_until(lambda: bench.ready(servers), "all to be Ready", timeout=1200, interval=5)
        pods = cluster.api("GET", f"/api/v1/namespaces/{fleet.NAMESPACE}/pods", timeout=120)
        engines.pods = sorted(one["metadata"]["name"] for one in pods["items"])
        time.sleep(4 * interval)
        rows = {}
        bench.say(f"tuning is off for {DISABLED_SECONDS:.0f} s")
        rows["Disabled"] = bench.watched(DISABLED_SECONDS)
        bench.turn_on(servers)
        bench.say(f"Recommend, for {observing_minutes:g} minutes")
        time.sleep(8 * interval)
        rows["Recommend, observing"] = bench.watched(60 * observing_minutes)
        bench.say(f"until they have settled: {settling_minutes:g} minutes")
        rows["Recommend, looking"] = bench.watched(60 * settling_minutes)
        bench.say(f"and {quiet_minutes:g} minutes more")
        rows["Recommend, settled"] = bench.watched(60 * quiet_minutes)
    result = {"servers": servers, "interval": interval, "targets": TARGETS, "rows": rows}
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1))
    shown = Table()
    for title in ("", "cores", "queries a minute", "MB", "peak MB", "writes", "states"):
        shown.add_column(title)
    for name, row in rows.items():
        states = ", ".join(f"{state} {number}" for state, number in row["states"].items())
        shown.add_row(
            name,
            f"{row['cores']:.3f}",
            f"{row['queriesAMinute']:.1f}",
            f"{row['residentBytes'] / 1e6:.0f}",
            f"{row['peakBytes'] / 1e6:.0f}",
            str(row["writes"]),
            states,
        )
    console.print(shown)


if __name__ == "__main__":
    main()
