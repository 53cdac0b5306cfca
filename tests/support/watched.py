"""A real Prometheus, and the queries of the chart's dashboards and rules to be asked of it."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from localcluster import binaries, components
from localcluster.chart import CHART
from localcluster.processes import LOOPBACK, Processes, ReservedPort
from localcluster.waiting import wait_until

FILES = CHART / "files"
WINDOW = "1m"
"""In place of Grafana's ``$__rate_interval``."""


@dataclass(frozen=True)
class Asked:
    """A query, and what it is of: dashboard and panel, or the rule."""

    where: str
    expr: str
    labels: tuple[str, ...] = ()
    """That each series of the answer has: those that its name in a panel is made of."""


def of_dashboards(namespace: str, server: str) -> Iterator[Asked]:
    """Queries of all panels, as Grafana sends them for one server, or for all of a namespace."""
    for path in sorted((FILES / "dashboards").glob("*.json")):
        board = json.loads(path.read_text())
        chosen = {"namespace": namespace, "server": server, "__rate_interval": WINDOW}
        for variable in board["templating"]["list"]:
            if variable["type"] == "constant":
                chosen[variable["name"]] = variable["query"]
        for panel in (one for one in board["panels"] if one["type"] != "row"):
            for target in panel["targets"]:
                called = target["legendFormat"]
                labels = re.findall(r"\{\{(\w+)\}\}", called)
                if panel["type"] == "table":
                    labels = ["namespace", "server"]
                where = f"{board['title']}: {panel['title']}: {called}"
                yield Asked(where, _with(target["expr"], chosen), tuple(labels))


def of_variables(namespace: str) -> Iterator[Asked]:
    """The series that the dashboards' variables take their values from."""
    for path in sorted((FILES / "dashboards").glob("*.json")):
        for variable in json.loads(path.read_text())["templating"]["list"]:
            if variable["type"] == "query":
                (series, label) = re.fullmatch(
                    r"label_values\((.+), (\w+)\)", variable["query"]
                ).groups()  # type: ignore[union-attr]
                selected = _with(series, {"namespace": namespace})
                yield Asked(f"{path.stem}: {variable['name']}", f"group by ({label}) ({selected})")


def of_rules() -> Iterator[Asked]:
    """What is recorded, and of each alert the series that it goes by: itself it mostly says
    nothing. That a server is in some state, or something ended in some way, is left out of them.
    """
    for group in yaml.safe_load((FILES / "rules.yaml").read_text())["groups"]:
        for rule in group["rules"]:
            if "record" in rule:
                labels = ",".join(f'{k}="{v}"' for k, v in rule.get("labels", {}).items())
                kept = () if rule["record"].startswith("vllm_target") else ("namespace", "server")
                yield Asked(rule["record"], f"{rule['record']}{{{labels}}}", kept)
            else:
                for selector in _selectors(rule["expr"]):
                    yield Asked(rule["alert"], selector)


def _with(expr: str, values: Mapping[str, str]) -> str:
    """A query with the dashboard's variables; longer names first, as one may begin another."""
    for name in sorted(values, key=len, reverse=True):
        expr = expr.replace(f"${name}", values[name])
    return expr


def _selectors(expr: str) -> Iterator[str]:
    for name, matchers in re.findall(r"((?:vllm|namespace_server:|up\b)[\w:]*)(\{[^}]*\})?", expr):
        found = re.findall(r'(\w+)(=~?)"([^"]*)"', matchers)
        kept = [f'{k}{how}"{v}"' for k, how, v in found if k not in ("state", "result")]
        kept += [f'{k}!=""' for k, _, _ in found if k in ("state", "result")]
        yield f"{name}{{{','.join(kept)}}}"


class Prometheus:
    """Scrapes once a second what the jobs say, and evaluates the chart's rules. A context."""

    def __init__(self) -> None:
        self._port = ReservedPort()
        self._processes: Processes | None = None
        self._directory = Path(tempfile.mkdtemp(prefix="prometheus-"))
        self._logs = Path(tempfile.mkdtemp(prefix="prometheus-log-"))

    @property
    def url(self) -> str:
        """Where it listens, also before it is started."""
        return f"http://{LOOPBACK}:{self._port.number}"

    def start(self, jobs: Sequence[Mapping[str, Any]]) -> None:
        """Start it with these ``scrape_configs``. Raises TimeoutError."""
        binary = binaries.ensure("prometheus")["prometheus"]
        often = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        configuration = {
            "global": often,
            "rule_files": [str(FILES / "rules.yaml")],
            "scrape_configs": list(jobs),
        }
        path = self._logs / "prometheus.json"
        path.write_text(json.dumps(configuration))
        self._processes = Processes(self._directory, self._logs)
        data = self._directory / "data"
        command = components.prometheus(binary, path, data, self._port.number)
        self._processes.start("prometheus", command)
        wait_until(self._ready, "Prometheus to be ready", timeout=120)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None and self._processes is not None:
            error.add_note(self._processes.tail("prometheus"))
        if self._processes is not None:
            self._processes.close()
        self._port.close()
        shutil.rmtree(self._directory, ignore_errors=True)
        shutil.rmtree(self._logs, ignore_errors=True)

    def ask(self, expr: str) -> list[dict[str, Any]]:
        """The series that answer a query now. Raises HTTPError where it is refused."""
        found: list[dict[str, Any]] = self._get("query", query=expr)["result"]
        return found

    def broken_rules(self) -> list[str]:
        """Rules that could not be evaluated, with why."""
        groups = self._get("rules")["groups"]
        return [
            f"{rule['name']}: {rule.get('lastError') or rule['health']}"
            for group in groups
            for rule in group["rules"]
            if rule["health"] != "ok"
        ]

    def problems(self, asked: Sequence[Asked], numbers: bool = True) -> list[str]:
        """Queries that nothing answers, that lack a label, or whose answer is no number where it is
        to be one."""
        found = ((one, self._problem(one, numbers)) for one in asked)
        return [f"{why}: {one.where}: {one.expr}" for one, why in found if why]

    def _problem(self, asked: Asked, numbers: bool) -> str:
        found = self.ask(asked.expr)
        if not found:
            return "empty"
        lacking = [label for label in asked.labels for one in found if label not in one["metric"]]
        if lacking:
            return f"without {', '.join(sorted(set(lacking)))}"
        undefined = numbers and any(one["value"][1] == "NaN" for one in found)
        return "no number" if undefined else ""

    def wait(self, filled: Callable[[], bool], what: str, timeout: float = 120) -> None:
        """Until Prometheus has seen it. Raises TimeoutError."""
        wait_until(filled, what, timeout, interval=1)

    def _get(self, what: str, **arguments: str) -> Any:
        body = urllib.parse.urlencode(arguments).encode()
        where = f"{self.url}/api/v1/{what}"
        with urllib.request.urlopen(where, body or None, timeout=60) as answer:
            return json.load(answer)["data"]

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


def job_of(monitor: Mapping[str, Any], kubeconfig: Path) -> dict[str, Any]:
    """The ``scrape_config`` that the Prometheus Operator makes of the engines' PodMonitor.

    As far as what is kept and which labels it gets: ``namespace``, ``container``, ``pod``, ``job``,
    ``endpoint``, then the monitor's own relabelings (``pkg/prometheus/promcfg.go`` there).
    """
    pod = "__meta_kubernetes_pod"
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    kept = {
        f"{pod}_label_{_label(name)}": value
        for name, value in monitor["spec"]["selector"]["matchLabels"].items()
    }
    kept[f"{pod}_container_port_name"] = endpoint["port"]
    renamed = {
        "__meta_kubernetes_namespace": "namespace",
        f"{pod}_container_name": "container",
        f"{pod}_name": "pod",
    }
    own = [
        {"source_labels": one["sourceLabels"], "target_label": one["targetLabel"]}
        for one in endpoint["relabelings"]
    ]
    name = f"{monitor['metadata']['namespace']}/{monitor['metadata']['name']}"
    return {
        "job_name": f"podMonitor/{name}/0",
        "metrics_path": endpoint["path"],
        "kubernetes_sd_configs": [{"role": "pod", "kubeconfig_file": str(kubeconfig)}],
        "relabel_configs": [
            *(
                {"source_labels": [label], "regex": value, "action": "keep"}
                for label, value in kept.items()
            ),
            {"source_labels": [f"{pod}_phase"], "regex": "(Failed|Succeeded)", "action": "drop"},
            *(
                {"source_labels": [label], "target_label": target}
                for label, target in renamed.items()
            ),
            {"target_label": "job", "replacement": name},
            {"target_label": "endpoint", "replacement": endpoint["port"]},
            *own,
        ],
    }


def _label(name: str) -> str:
    """A label of Kubernetes as service discovery names it."""
    return re.sub(r"[^a-zA-Z0-9_]", "_", name)


def job_at(name: str, address: str, labels: Mapping[str, str], honoured: bool) -> dict[str, Any]:
    """One target, ``host:port``, with labels of its own; ``honoured`` are those that it says."""
    return {
        "job_name": name,
        "honor_labels": honoured,
        "static_configs": [{"targets": [address], "labels": dict(labels)}],
    }
