"""How the operator copes with a large fleet, beside the least that any operator must do.

One real API server, fake GPU nodes, and in one run: the naive loop of ``naive_operator.py`` brings
up a fleet; then ``vllm-operator run``, under its chart's rights, does the same from nothing; then,
with all servers present, single ones are edited and damaged, the operator is left in peace, and
restarted; at last fleets of other sizes tell whether its cost grows linearly.

Requests are counted from the API server's audit log, processor time and memory are read from /proc,
times of changes come from the audit log and from watches. docs/benchmarks.md says what each figure
means, and how to run this.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click
import support_fleet as fleet
from rich.console import Console
from support_audit import AuditLog, Request, by_kind, by_verb, median_seconds, writes
from support_processes import NaiveProcess, cpu_seconds, memory, wait_calm
from support_report import show, targets
from support_view import View

from localcluster import binaries
from localcluster.chart import install_chart
from localcluster.cluster import Cluster
from support.operating import OperatorProcess

CRDS: Final = Path(__file__).parents[1] / "crds"
WARM_UP_SERVERS: Final = 20
AFTER_SECONDS: Final = 5.0
"""How long requests are counted on after a fleet has settled, and after a restart."""

Results = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the command line asks for."""

    servers: int
    sizes: tuple[int, ...]
    quiet_seconds: float
    repeats: int
    image: str
    threads: int
    timeout: float


class Bench:
    """A cluster with its audit log, and the measurements on it."""

    def __init__(self, cluster: Cluster, settings: Settings, console: Console, logs: Path) -> None:
        self._cluster = cluster
        self._settings = settings
        self._console = console
        self._logs = logs
        fleet.prepare(cluster, max(settings.servers, *settings.sizes, WARM_UP_SERVERS))
        self._naive = fleet.install_naive(cluster)
        self._ours = install_chart(cluster, {"crds": {"install": False}})
        users = [fleet.identity(kubeconfig) for kubeconfig in (self._naive, self._ours)]
        self._naive_user, self._our_user = users
        self._audit = AuditLog(cluster.directory / "audit.log", users)

    def warm_up(self) -> None:
        """A few servers, unmeasured: the API server's first of everything is slow."""
        self._say(f"warming up with {WARM_UP_SERVERS} servers")
        with NaiveProcess(self._naive, self._logs / "warm-up.log"), self._view() as view:
            fleet.create_servers(self._cluster, WARM_UP_SERVERS, 1)
            up = view.expect(lambda: len(view.deployments_ready) == WARM_UP_SERVERS)
            view.wait(up, "the first servers", self._settings.timeout)
        self._clear()

    def naive(self) -> Results:
        """The naive loop's bring-up."""
        with NaiveProcess(self._naive, self._logs / "naive.log") as operator, self._view() as view:
            servers = self._settings.servers
            return self._bring_up("naive loop", self._naive_user, operator.pid, view, servers)

    def operator(self, results: Results, *, full: bool) -> None:
        """Our bring-up and, if ``full``, everything that is measured with the servers present."""
        with self._operator("operator.log") as operator, self._view() as view:
            servers = self._settings.servers
            results["operator"] = self._bring_up_ours(operator, view, servers)
            if not full:
                return
            results["reactions"] = self._reactions(view)
            self._calm(operator.pid)
            results["quiet"] = self._quiet(operator, view)
            steady = memory(operator.pid)
            results["operator"]["peak_bytes"] = steady.peak
            results["operator"]["quiet_bytes"] = steady.resident
            results["restart"] = self._restart(operator, view)

    def linearity(self, known: Results | None) -> list[Results]:
        """Our bring-up at each size; one that is known already is not measured again."""
        runs = []
        for size in self._settings.sizes:
            if known is not None and known["servers"] == size:
                runs.append(known)
                continue
            log = f"operator-{size}.log"
            with self._operator(log) as operator, self._view() as view:
                runs.append(self._bring_up_ours(operator, view, size))
            self._clear()
        return runs

    def clear(self) -> None:
        """Take all servers away."""
        self._clear()

    # Measurements

    def _bring_up_ours(self, operator: OperatorProcess, view: View, servers: int) -> Results:
        return self._bring_up("vllm-operator", self._our_user, operator.pid, view, servers)

    def _bring_up(self, title: str, user: str, pid: int, view: View, servers: int) -> Results:
        self._calm(pid)
        settled = view.expect(
            lambda: (
                len(view.deployments_ready) == servers == len(view.services)
                and len(view.servers_visited) == servers
                # The naive loop says nothing of Ready: that of its Deployments is all there is.
                and (user == self._naive_user or len(view.servers_ready) == servers)
            )
        )
        available = view.expect(lambda: len(view.deployments_ready) == servers)
        used, plane = cpu_seconds(pid), self._plane_cpu()
        observer = time.process_time()
        began, applied = fleet.create_servers(self._cluster, servers, self._settings.threads)
        end = view.wait(settled, f"{servers} servers to settle", self._settings.timeout)
        cpu, plane_cpu = cpu_seconds(pid) - used, self._plane_cpu() - plane
        observer = time.process_time() - observer
        time.sleep(max(0.0, end + AFTER_SECONDS - time.time()))
        requests = self._audit.between(user, began, end)
        used_memory = memory(pid)
        result = {
            "servers": servers,
            "applied_seconds": applied - began,
            "applied_a_second": servers / (applied - began),
            "deployments_seconds": _last_deployment(requests, servers) - began,
            "available_seconds": view.wait(available, "the Deployments", 1) - began,
            "settled_seconds": end - began,
            "requests": len(requests),
            "requests_a_server": len(requests) / servers,
            "requests_by_verb": by_verb(requests),
            "requests_by_kind": by_kind(requests),
            "answer_seconds_by_kind": median_seconds(requests),
            "refused": sum(one.code >= 400 and one.code != 404 for one in requests),
            "requests_after": len(self._audit.between(user, end, end + AFTER_SECONDS)),
            "cpu_seconds": cpu,
            "start_up_cpu_seconds": used,
            "control_plane_cpu_seconds": plane_cpu,
            "benchmark_cpu_seconds": observer,
            "watches_resumed": view.resumed,
            "peak_bytes": used_memory.peak,
            "steady_bytes": used_memory.resident,
        }
        self._say(
            f"{title}: {servers} servers applied in {result['applied_seconds']:.1f} s "
            f"({result['applied_a_second']:.0f} a second), all Deployments after "
            f"{result['deployments_seconds']:.1f} s, settled after "
            f"{result['settled_seconds']:.1f} s, {result['requests_a_server']:.1f} requests a "
            f"server, {cpu:.1f} s of CPU"
        )
        return result

    def _reactions(self, view: View) -> dict[str, list[float]]:
        settings = self._settings
        reactions = fleet.Reactions(self._cluster, view, settings.image, settings.timeout)
        chosen = _spread(fleet.names(settings.servers), settings.repeats * len(reactions.kinds))
        measured: dict[str, list[float]] = {}
        for offset, (kind, measure) in enumerate(reactions.kinds.items()):
            measured[kind] = []
            for name in chosen[offset :: len(reactions.kinds)]:
                reactions.settle(name)
                measured[kind].append(measure(name))
                reactions.settle(name)
            self._say(f"{kind}: {', '.join(f'{one:.2f}' for one in measured[kind])} s")
        return measured

    def _quiet(self, operator: OperatorProcess, view: View) -> Results:
        seconds = self._settings.quiet_seconds
        self._say(f"watching for {seconds:.0f} quiet seconds")
        before = view.resource_versions()
        used, began = cpu_seconds(operator.pid), time.time()
        time.sleep(seconds)
        end, cpu = time.time(), cpu_seconds(operator.pid) - used
        after = view.resource_versions()
        requests = self._audit.between(self._our_user, began, end)
        return {
            "seconds": end - began,
            "writes": writes(requests),
            "requests": len(requests),
            "requests_by_kind": by_kind(requests),
            "changed_objects": sum(before.get(key) != version for key, version in after.items()),
            "cpu_seconds": cpu,
        }

    def _restart(self, operator: OperatorProcess, view: View) -> Results:
        began = time.time()
        status = operator.terminate()
        stopped = time.time()
        operator.start()
        ready = time.time()
        idle = _wait_idle(operator, self._settings.timeout)
        used, end = cpu_seconds(operator.pid), time.time()
        time.sleep(max(0.0, idle + AFTER_SECONDS - end))
        requests = self._audit.between(self._our_user, began, time.time())
        result = {
            "exit_status": status,
            "stop_seconds": stopped - began,
            "ready_seconds": ready - stopped,
            "idle_seconds": idle - stopped,
            "requests": len(requests),
            "requests_by_verb": by_verb(requests),
            "requests_by_kind": by_kind(requests),
            "writes": writes(requests),
            "cpu_seconds": used,
            "peak_bytes": memory(operator.pid).peak,
            "servers_ready": len(view.servers_ready),
        }
        self._say(f"restarted: idle after {result['idle_seconds']:.1f} s")
        return result

    # Around them

    @contextmanager
    def _operator(self, log: str) -> Iterator[OperatorProcess]:
        process = OperatorProcess(
            self._cluster, self._ours, self._logs / log, log_level="info", log_format="json"
        )
        with process:
            yield process

    def _view(self) -> View:
        return View(self._cluster, fleet.NAMESPACE)

    def _clear(self) -> None:
        fleet.delete_servers(self._cluster, self._settings.timeout)
        self._calm()

    def _calm(self, *pids: int) -> None:
        wait_calm([*self._cluster.pids.values(), *pids])

    def _plane_cpu(self) -> float:
        return sum(cpu_seconds(pid) for pid in self._cluster.pids.values())

    def _say(self, text: str) -> None:
        self._console.print(f"[dim]{time.strftime('%H:%M:%S')}[/dim] {text}", highlight=False)


def _last_deployment(requests: Sequence[Request], servers: int) -> float:
    """When the API server had answered the apply that created the last Deployment."""
    created = [
        one.answered for one in requests if one.resource == "deployments" and one.code == 201
    ]
    if len(created) < servers:
        raise RuntimeError(f"{len(created)} Deployments were created for {servers} servers")
    return max(created)


def _wait_idle(operator: OperatorProcess, timeout: float) -> float:
    """When the operator had visited what it had to: the start of a second without a visit."""
    deadline = time.time() + timeout
    since, before = 0.0, -1.0
    while time.time() < deadline:
        visits = operator.metric("vllm_operator_reconciles_total")
        waiting = operator.metric("vllm_operator_queue_depth")
        now = time.time()
        if waiting or not visits or visits != before:
            since, before = now, visits
        elif now - since >= 1:
            return since
        time.sleep(0.2)
    raise TimeoutError("the operator did not become idle")


def _spread(names: Sequence[str], count: int) -> list[str]:
    """So many of the names, evenly spread, each once."""
    if count > len(names):
        raise click.UsageError(f"--servers must be at least {count} for so many --repeats")
    return [names[number * len(names) // count] for number in range(count)]


def _machine() -> Results:
    cpus = len(os.sched_getaffinity(0))
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpus": cpus,
        "memory_bytes": total,
        "python": platform.python_version(),
        "kubernetes": binaries.KUBERNETES_VERSION,
    }


def _measure(
    settings: Settings, console: Console, results: Results, *, naive: bool, presence: bool
) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="scale-") as logs,
        Cluster(audit=True, manifests=[CRDS]) as cluster,
    ):
        bench = Bench(cluster, settings, console, Path(logs))
        bench.warm_up()
        if naive:
            results["naive"] = bench.naive()
            bench.clear()
        bench.operator(results, full=presence)
        bench.clear()
        results["linearity"] = bench.linearity(results["operator"])


def _sizes(_: click.Context, __: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        return tuple(sorted(int(size) for size in value.split(",") if size))
    except ValueError as error:
        raise click.BadParameter("numbers of servers, by commas") from error


@click.command()
@click.option("--servers", type=click.IntRange(1), default=1000, show_default=True)
@click.option(
    "--sizes",
    default="250,500,1000,2000",
    callback=_sizes,
    show_default=True,
    help="Fleets for the linearity run; empty: none.",
)
@click.option("--quiet-seconds", type=click.FloatRange(0), default=120.0, show_default=True)
@click.option("--repeats", type=click.IntRange(1), default=10, show_default=True, help="Reactions.")
@click.option(
    "--image",
    default="vllm/vllm-openai:v0.29.0",
    show_default=True,
    help="What the image is edited to.",
)
@click.option("--threads", type=click.IntRange(1), default=4, show_default=True, help="Appliers.")
@click.option("--timeout", type=float, default=900.0, show_default=True, help="Of each wait, in s.")
@click.option("--skip-naive", is_flag=True, help="Leave the yardstick out.")
@click.option("--skip-presence", is_flag=True, help="Leave out reactions, quiet and restart.")
@click.option("--check", is_flag=True, help="End with status 1 where a target is not met.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("build/scale.json"),
    show_default=True,
)
def main(
    servers: int,
    sizes: tuple[int, ...],
    quiet_seconds: float,
    repeats: int,
    image: str,
    threads: int,
    timeout: float,
    skip_naive: bool,
    skip_presence: bool,
    check: bool,
    output: Path,
) -> None:
    """Measure bring-up, reactions, quiet and restart with a large fleet on a real API server."""
    settings = Settings(servers, sizes, quiet_seconds, repeats, image, threads, timeout)
    console = Console(width=None if sys.stdout.isatty() else 110)
    results: Results = {
        "machine": _machine(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "settings": dataclasses.asdict(settings),
    }
    try:
        _measure(settings, console, results, naive=not skip_naive, presence=not skip_presence)
    finally:
        # What was measured before a failure is worth keeping.
        promised = targets(results)
        results["targets"] = [target.to_json_object() for target in promised]
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(results, indent=2) + "\n")
    show(console, results, promised)
    console.print(f"written to {output}", highlight=False)
    if check and not all(target.met for target in promised):
        sys.exit(1)


if __name__ == "__main__":
    main()
