"""Dashboards and rules of the chart: when they are there, and what they are about."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from chart.support import ROOT, only
from localcluster.chart import CHART, render
from vllm_operator.controller.metrics import Metrics
from vllm_operator.engine.tables import rows
from watching import boards, fleet, rules, server
from watching.panels import Board, Panel, Query, Row
from watching.targets import TARGETS

FILES = CHART / "files"
DOCUMENT = (ROOT / "docs" / "watching.md").read_text()
SCHEMA = json.loads((CHART / "values.schema.json").read_text())["properties"]["watching"]
RULES = yaml.safe_load((FILES / "rules.yaml").read_text())
BOARDS = {path.stem: json.loads(path.read_text()) for path in (FILES / "dashboards").glob("*.json")}


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in board["panels"] if one["type"] != "row"]


def expressions() -> Iterator[tuple[str, str]]:
    for name, board in BOARDS.items():
        for panel in panels(board):
            yield from ((f"{name}: {panel['title']}", one["expr"]) for one in panel["targets"])
    for group in RULES["groups"]:
        for rule in group["rules"]:
            yield rule.get("alert", rule.get("record")), rule["expr"]


def rendered(**values: Any) -> list[dict[str, Any]]:
    return render({"watching": values})


def spec(**values: Any) -> dict[str, Any]:
    rules_on = {"rules": {"enabled": True, **values.pop("rules", {})}}
    found: dict[str, Any] = only(rendered(**rules_on, **values), "PrometheusRule")["spec"]
    return found


def dashboards(**values: Any) -> dict[str, dict[str, Any]]:
    objects = rendered(dashboards={"enabled": True}, **values)
    return {
        name.removesuffix(".json"): json.loads(text)
        for one in objects
        if one["kind"] == "ConfigMap"
        for name, text in one["data"].items()
    }


def constant(board: dict[str, Any], name: str) -> str:
    (found,) = (one["query"] for one in board["templating"]["list"] if one["name"] == name)
    assert isinstance(found, str)
    return found


def test_values_of_a_release_that_had_no_prices_and_no_watching_are_rendered() -> None:
    kinds = {one["kind"] for one in render({"prices": None, "watching": None})}
    assert "Deployment" in kinds
    assert "PrometheusRule" not in kinds


def test_neither_rules_nor_dashboards_are_there_unless_they_are_asked_for() -> None:
    kinds = {one["kind"] for one in render()}
    assert kinds.isdisjoint({"PrometheusRule", "PodMonitor", "ConfigMap"})


def test_the_rules_of_the_defaults_are_those_of_the_plain_file() -> None:
    assert spec() == RULES


def test_the_dashboards_of_the_defaults_are_those_of_the_plain_files() -> None:
    assert dashboards() == BOARDS
    assert set(BOARDS) == {"vllm-fleet", "vllm-server"}


def test_the_sidecar_finds_each_dashboard_by_its_label_and_its_folder() -> None:
    objects = rendered(
        dashboards={"enabled": True, "annotations": {"grafana_folder": "vLLM"}},
    )
    found = [one["metadata"] for one in objects if one["kind"] == "ConfigMap"]
    assert len(found) == 2
    for metadata in found:
        assert metadata["labels"]["grafana_dashboard"] == "1"
        assert metadata["annotations"] == {"grafana_folder": "vLLM"}


def test_an_alert_that_is_not_wanted_is_left_out_and_no_other() -> None:
    def names(found: dict[str, Any]) -> list[str]:
        return [
            rule["alert"] for one in found["groups"] for rule in one["rules"] if "alert" in rule
        ]

    left = [name for name in names(RULES) if name != "VLLMLowPrefixCacheHitRate"]
    assert names(spec(rules={"withoutAlerts": ["VLLMLowPrefixCacheHitRate"]})) == left


def test_without_any_alert_the_recorded_series_stay() -> None:
    everything = spec(rules={"withoutAlerts": rules.alerts()})
    assert [one["name"] for one in everything["groups"]] == ["vllm-targets", "vllm-servers"]


@pytest.mark.parametrize(
    ("milliseconds", "edge"), [(1, "0.001"), (250, "0.25"), (1000, "1.0"), (2560000, "2560.0")]
)
def test_a_target_of_milliseconds_is_the_edge_that_vllm_writes(
    milliseconds: int, edge: str
) -> None:
    targets = {"timeToFirstTokenMilliseconds": milliseconds}
    first = spec(targets=targets)["groups"][0]["rules"][0]["expr"]
    assert f'"le", "{edge}"' in first
    board = dashboards(targets=targets)["vllm-server"]
    assert constant(board, "first_token_edge") == edge
    assert float(constant(board, "first_token")) == milliseconds / 1000


def test_a_target_of_0_milliseconds_is_no_objective() -> None:
    records = spec(targets={"interTokenLatencyMilliseconds": 0})["groups"][0]["rules"]
    objectives = [one["labels"] for one in records if one["record"].endswith("objective_ratio")]
    assert objectives == [{"latency": "timeToFirstToken"}]


def test_a_target_is_the_same_in_rules_and_dashboards() -> None:
    targets = {"prefixCacheHitRatio": 0.35, "kvCacheUsageRatio": 1, "restartsPerHour": 4}
    told = {one["record"]: one["expr"] for one in spec(targets=targets)["groups"][0]["rules"]}
    assert told["vllm_target:prefix_cache_hit_ratio"] == "vector(0.35)"
    assert told["vllm_target:kv_cache_usage_ratio"] == "vector(1)"
    board = dashboards(targets=targets)["vllm-server"]
    assert constant(board, "hit_ratio") == "0.35"
    assert constant(board, "cache_usage") == "1"
    assert constant(board, "restarts") == "4"


def test_the_values_are_the_targets_with_their_defaults() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())["watching"]["targets"]
    assert values == {one.value: one.default for one in TARGETS} | {"percentile": 95}


def test_the_schema_knows_every_alert_and_every_edge() -> None:
    known = SCHEMA["properties"]
    assert known["rules"]["properties"]["withoutAlerts"]["items"]["enum"] == rules.alerts()
    for row in rows("latency_edges.csv"):
        edges = [round(float(one) * 1000) for one in row["seconds"].split()]
        target = known["targets"]["properties"][f"{row['meaning']}Milliseconds"]
        assert target["enum"] == [0, *edges]


def test_every_panel_says_what_it_shows_and_in_which_unit() -> None:
    for name, board in BOARDS.items():
        for panel in panels(board):
            assert panel["fieldConfig"]["defaults"]["unit"], f"{name}: {panel['title']}"
            assert panel["targets"], panel["title"]
            assert all(one["legendFormat"] for one in panel["targets"])
            assert all(one["datasource"]["uid"] == "$datasource" for one in panel["targets"])


def test_panels_of_a_dashboard_have_an_id_each_and_do_not_lie_on_each_other() -> None:
    for board in BOARDS.values():
        numbers = [one["id"] for one in panels(board)]
        assert len(set(numbers)) == len(numbers)
        taken: set[tuple[int, int]] = set()
        for one in board["panels"]:
            place = one["gridPos"]
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert taken.isdisjoint(cells), one["title"]
            assert max(x for x, _ in cells) < 24
            taken |= cells


def test_every_variable_that_a_query_names_is_the_dashboards() -> None:
    for name, board in BOARDS.items():
        known = {one["name"] for one in board["templating"]["list"]} | {"__rate_interval"}
        asked = " ".join(one["expr"] for panel in panels(board) for one in panel["targets"])
        assert set(re.findall(r"\$(\w+)", asked)) <= known, name


def exported() -> set[str]:
    """Names of series that vLLM or the operator has."""
    found = {"up"}
    for row in rows("metrics.csv"):
        parts = ("_bucket", "_sum", "_count") if row["type"] == "histogram" else ("",)
        found |= {f"{row['metric']}{part}" for part in parts}
    for family in Metrics().registry.collect():
        suffix = "_total" if family.type == "counter" else ""
        parts = ("_bucket", "_sum", "_count") if family.type == "histogram" else (suffix,)
        found |= {f"{family.name}{part}" for part in parts}
    return found


def test_every_series_that_is_asked_for_is_exported_or_recorded() -> None:
    recorded = {
        rule["record"] for one in RULES["groups"] for rule in one["rules"] if "record" in rule
    }
    known = exported() | recorded
    found = 0
    for where, expression in expressions():
        names = re.findall(
            r"([a-zA-Z_:][\w:]*)(?=[{[])|(?<![\w:])(\w+:vllm\w*:\w+|vllm\w*:\w+|vllm_operator_\w+)",
            expression,
        )
        for name in (one or other for one, other in names):
            assert name in known, f"{where}: {name}"
            found += 1
    assert found > 200


def test_every_recorded_series_is_used() -> None:
    everything = " ".join(expression for _where, expression in expressions())
    for group in RULES["groups"]:
        for rule in group["rules"]:
            if "record" in rule:
                assert rule["record"] in everything, rule["record"]


def test_every_alert_has_a_severity_and_words() -> None:
    for group in RULES["groups"]:
        for rule in (one for one in group["rules"] if "alert" in one):
            assert rule["labels"]["severity"] in ("critical", "warning", "info")
            assert set(rule["annotations"]) == {"summary", "description"}


def test_the_document_has_a_line_for_each_alert_and_each_dashboard() -> None:
    told = re.findall(r"^\| `(VLLM\w+)` \| (\w+) \|", DOCUMENT, re.MULTILINE)
    severities = [
        (rule["alert"], rule["labels"]["severity"])
        for one in RULES["groups"]
        for rule in one["rules"]
        if "alert" in rule
    ]
    assert told == severities
    for board in (fleet.BOARD, server.BOARD):
        assert f"*{board.title}*" in DOCUMENT
        for row in board.rows:
            assert row.title in DOCUMENT, row.title


def test_a_panel_without_its_unit_would_be_seen() -> None:
    panel = Panel("A", "", "", [Query("up", "up")])
    board = Board("a", "A", "", [Row("B", [panel])], of_one_server=True)
    (made,) = panels(json.loads(boards.made(board)))
    assert not made["fieldConfig"]["defaults"]["unit"]
