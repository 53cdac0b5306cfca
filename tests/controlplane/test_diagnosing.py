"""Servers of a real API server are explained, watched and checked under the documented rights.

A real Prometheus scrapes scripted engines under a load, and is asked through the API server.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from docs.support import DOCS, blocks
from enginesimulator.live import Live
from localcluster import Cluster
from localcluster.waiting import wait_until
from support import rights
from support.fixtures import StartOperator
from support.loaded import SHORT_OF_SEQUENCES, server
from support.pods import pod_place
from support.world import World
from vllm_operator.cli.main import main

# Prometheus may have to be built first.
pytestmark = pytest.mark.timeout(1800)
INTERVAL = 1.0
"""Seconds between two scrapes, on a machine that has other tests to run."""
SECONDS = 60
PASSING = """
import sys, urllib.error, urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Passing(BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            url = "http://127." + "0.0.1:" + sys.argv[1] + self.path
            with urllib.request.urlopen(url, timeout=20) as answer:
                status, body = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, body = error.code, error.read()
        except OSError as error:
            status, body = 502, str(error).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

ThreadingHTTPServer(("0.0.0.0", 8000), Passing).serve_forever()
"""
"""What a pod runs that stands for Prometheus': the API server's proxy reaches pods alone. This
machine's own address is spelt so that the node agent leaves it as it is."""


@pytest.fixture
def prometheus(engines: Cluster) -> Iterator[str]:
    """A real Prometheus behind a Service with the usual label; its namespace."""
    port = engines.start_prometheus(scrape_seconds=INTERVAL).rpartition(":")[2]
    with pod_place(engines) as place:
        image = "scripted/vllm:v0.32.0"
        place.run("prometheus", "python3", "-c", PASSING, port, image=image)
        metadata = {"name": "prometheus", "labels": {"app.kubernetes.io/name": "prometheus"}}
        ports = [{"name": "http-web", "port": 9090, "targetPort": "http"}]
        service = {"selector": {"app": "prometheus"}, "ports": ports}
        engines.api("POST", f"{place.path}/services", {"metadata": metadata, "spec": service})
        wait_until(lambda: place.is_ready("prometheus"), "Prometheus' pod", SECONDS)
        yield place.namespace
        engines.api("DELETE", f"{place.path}/services/prometheus")
    engines.stop_prometheus(kill=True)


@pytest.fixture
def busy(engine_world: World, start_operator: StartOperator, prometheus: str) -> Iterator[World]:
    """A server of two replicas, for which more requests come than it has places."""
    start_operator(engine_world)
    with Live(SHORT_OF_SEQUENCES) as live:
        engine_world.apply(**{**server(live.url), "autotune": None})
        engine_world.wait_ready(timeout=SECONDS)
        yield engine_world


def run(kubeconfig: Path, *arguments: str) -> Result:
    environment = {"KUBECONFIG": str(kubeconfig), "COLUMNS": "160"}
    return CliRunner().invoke(main, list(arguments), env=environment)


def documented() -> dict[str, list[Any]]:
    """The rules that the page names, by the name of the role."""
    text = "---\n".join(block.text for block in blocks(DOCS / "diagnosing.md", "yaml"))
    return {role["metadata"]["name"]: role["rules"] for role in yaml.safe_load_all(text)}


def user(world: World, folder: Path, monitoring: str, without: str = "") -> Path:
    """The kubeconfig of somebody with the documented rights, but for those to one resource;
    ``monitoring`` is the namespace of Prometheus."""
    rules = {
        name: [rule for rule in role if without not in rule["resources"]]
        for name, role in documented().items()
    }
    return rights.user(
        world,
        folder,
        rules["vllm-diagnose"],
        rules["vllm-diagnose-cluster"],
        {monitoring: rules["vllm-diagnose-prometheus"]},
    )


def plugin(folder: Path) -> Path:
    """What the package installs as kubectl's plugin."""
    script = folder / "kubectl-vllm"
    operator = Path(__file__).parents[2] / "operator"
    script.write_text(
        f"#!/bin/sh\nPYTHONPATH={operator} exec {sys.executable} -c "
        "'from vllm_operator.cli.main import main; main()' \"$@\"\n"
    )
    script.chmod(0o755)
    return script


def test_a_busy_server_is_watched_explained_and_checked_under_the_documented_rights(
    busy: World, prometheus: str, tmp_path: Path
) -> None:
    kubeconfig = user(busy, tmp_path, prometheus)
    where = ("-n", busy.namespace, "--interval", str(INTERVAL))

    told: list[str] = []

    def bound() -> dict[str, Any] | None:
        found = run(kubeconfig, "top", *where, "-o", "json")
        assert found.exit_code == 0, found.output
        (one,) = json.loads(found.output)
        told.append(one["why"])
        both = one["boundBy"] == "Sequences" and one["figures"]["pods"] == 2
        return one if both else None  # each of two pods, as each is scraped for itself

    try:
        one = busy.wait(bound, "top to see that places are short", timeout=SECONDS)
    except TimeoutError as error:
        error.add_note(f"top says: {told[-1]}")
        raise
    assert one["ready"] == "2/2"
    assert 20 <= one["figures"]["running"] <= 28.1
    assert one["figures"]["waiting"] > 5

    # On a busy machine a scrape may be late, and a look then says that samples are stale.
    def shown() -> bool:
        found = run(kubeconfig, "top", "qwen", *where, "--once")
        return re.search(r"^qwen +2/2 .* Sequences", found.output, re.M) is not None

    busy.wait(shown, "top to show it as a table", timeout=SECONDS)

    def explained() -> str | None:
        found = run(kubeconfig, "explain", "qwen", *where)
        assert found.exit_code == 0, found.output
        said = re.sub(r"\s+", " ", found.output)
        return said if "requests wait for a place, though the KV cache has room" in said else None

    said = busy.wait(explained, "explain to say what bounds it", timeout=SECONDS)
    for part in (
        "What would help",
        "of 28 requests run",
        "every replica starts anew",
        "Memory of one",
    ):
        assert part in said

    def checked() -> dict[str, str] | None:
        found = run(kubeconfig, "check", "qwen", *where, "-o", "json")
        (one,) = json.loads(found.output)
        outcomes = {one["check"]: one["outcome"] for one in one["checks"]}
        return outcomes if outcomes["metrics"] == "pass" and found.exit_code == 0 else None

    outcomes = busy.wait(checked, "check to see fresh samples", timeout=SECONDS)
    for name in ("plan", "health", "attention backend", "completion", "disruption budget"):
        assert outcomes[name] == "pass"
    assert outcomes["objective"] == "warn"

    plugged = plugin(tmp_path)
    environment = busy.cluster.environment
    environment["PATH"] = f"{plugged.parent}:{environment['PATH']}"
    by_plugin = subprocess.run(
        ["kubectl", "vllm", "top", *where, "--once"],
        env={**environment, "KUBECONFIG": str(kubeconfig)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert by_plugin.returncode == 0, by_plugin.stderr
    assert re.search(r"^qwen +2/2 ", by_plugin.stdout, re.M), by_plugin.stdout


@pytest.mark.parametrize(
    ("resource", "check", "said"),
    [
        ("pods/log", "attention backend", "you may not get pods/log"),
        ("services/proxy", "completion", "you may not create services/proxy"),
        ("poddisruptionbudgets", "disruption budget", "you may not get poddisruptionbudgets"),
        ("services", "metrics", "you may not list services in all namespaces"),
    ],
)
def test_a_right_that_is_missing_is_named_by_the_check_that_needs_it(
    engine_world: World,
    start_operator: StartOperator,
    tmp_path: Path,
    resource: str,
    check: str,
    said: str,
) -> None:
    start_operator(engine_world)
    engine_world.apply(replicas=2, engine={"image": "scripted/vllm:v0.32.0"})
    engine_world.wait_ready(timeout=SECONDS)
    found = run(
        user(engine_world, tmp_path, engine_world.namespace, resource),
        *("check", "qwen", "-n", engine_world.namespace, "-o", "json"),
    )
    assert found.exit_code == 0, found.output
    (checks,) = json.loads(found.output)
    (one,) = [one for one in checks["checks"] if one["check"] == check]
    assert one["outcome"] == "skip"
    assert said in one["why"]


def test_a_server_that_does_not_serve_fails_in_a_pipeline(
    engine_world: World, start_operator: StartOperator
) -> None:
    start_operator(engine_world)
    engine_world.apply(engine={"image": "nobody/vllm:v0.30.0"})
    engine_world.wait(lambda: engine_world.status().get("plan"), "a plan", SECONDS)
    kubeconfig = engine_world.cluster.kubeconfig
    found = run(kubeconfig, "check", "qwen", "-n", engine_world.namespace)
    assert found.exit_code == 1
    assert "0 of 1 replica serve" in found.output
    nobody = run(kubeconfig, "check", "nobody", "-n", engine_world.namespace)
    assert nobody.exit_code == 2
    assert f"there is no server {engine_world.namespace}/nobody" in nobody.output
