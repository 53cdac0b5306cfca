"""The chart's rules, evaluated by promtool over series that are told: what fires, and what not."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from chart.alerts import CHAT, SCENARIOS, Scenario, cache, ended, engine, looked_for, slow
from localcluster import binaries
from localcluster.chart import CHART, render
from watching import server

# Its binary may have to be built first.
pytestmark = pytest.mark.timeout(1800)

RULES = CHART / "files" / "rules.yaml"
BY_ALERT = {one.alert: one for one in SCENARIOS}
Promtool = Callable[..., subprocess.CompletedProcess[str]]
Fired = Callable[..., list[dict[str, str]]]


@pytest.fixture(scope="module")
def promtool() -> Promtool:
    program = binaries.ensure("promtool")["promtool"]

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [str(program), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


def alerts() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


@pytest.fixture
def holds(promtool: Promtool, tmp_path: Path) -> Callable[..., None]:
    """Asserts what an expression gives after so many minutes of these series."""

    def check(
        series: Mapping[str, str],
        minutes: int,
        expression: str,
        samples: list[dict[str, Any]],
        rules: Path = RULES,
    ) -> None:
        asked = {"expr": expression, "eval_time": f"{minutes}m", "exp_samples": samples}
        told = [{"series": name, "values": values} for name, values in series.items()]
        test = {"interval": "1m", "input_series": told, "promql_expr_test": [asked]}
        path = tmp_path / "test.yaml"
        path.write_text(json.dumps({"rule_files": [str(rules)], "tests": [test]}))
        answer = promtool("test", "rules", path)
        assert answer.returncode == 0, answer.stdout + answer.stderr

    return check


def firing(alert: str, labels: Mapping[str, str]) -> list[dict[str, Any]]:
    severity = alerts()[alert]["labels"]["severity"]
    own = {"alertname": alert, "alertstate": "firing", "severity": severity, **labels}
    inside = ",".join(f'{name}="{value}"' for name, value in own.items())
    return [{"labels": f"ALERTS{{{inside}}}", "value": 1}]


def named(scenario: Scenario) -> dict[str, str]:
    server = {"namespace": "ai", "server": "chat"} if scenario.of_a_server else {}
    return {**server, **scenario.labels}


def asked(alert: str) -> str:
    return f'ALERTS{{alertname="{alert}",alertstate="firing"}}'


def test_promtool_finds_nothing_wrong_with_the_rules(promtool: Promtool) -> None:
    answer = promtool("check", "rules", "--lint=all", "--lint-fatal", RULES)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_every_alert_has_series_that_fire_it() -> None:
    assert list(alerts()) == list(BY_ALERT)


@pytest.mark.parametrize("alert", BY_ALERT)
def test_an_alert_fires_by_what_it_is_about(alert: str, holds: Callable[..., None]) -> None:
    one = BY_ALERT[alert]
    holds(one.fires, one.minutes, asked(alert), firing(alert, named(one)))


@pytest.mark.parametrize("alert", BY_ALERT)
def test_an_alert_is_silent_where_that_is_not_so(alert: str, holds: Callable[..., None]) -> None:
    one = BY_ALERT[alert]
    holds(one.silent, one.minutes, asked(alert), [])


@pytest.mark.parametrize(
    "alert", [one.alert for one in SCENARIOS if one.alert != "VLLMOperatorDown"]
)
def test_an_alert_is_silent_where_nothing_is_scraped(
    alert: str, holds: Callable[..., None]
) -> None:
    holds({"other": "1x60"}, BY_ALERT[alert].minutes, asked(alert), [])


def test_servers_that_are_scaled_to_zero_are_not_down(holds: Callable[..., None]) -> None:
    series = {
        f"vllm_operator_replicas{{{CHAT}}}": "1x30 0x30",
        f"vllm_operator_ready_replicas{{{CHAT}}}": "1x30 0x30",
    }
    holds(series, 35, asked("VLLMServerDown"), [])


def test_a_server_that_loads_after_it_was_scaled_to_zero_is_not_down(
    holds: Callable[..., None],
) -> None:
    series = {
        f"vllm_operator_replicas{{{CHAT}}}": "1x29 0x9 1x90",
        f"vllm_operator_ready_replicas{{{CHAT}}}": "1x29 0x100",
    }
    for minutes in (45, 120):
        holds(series, minutes, asked("VLLMServerDown"), [])


def test_a_server_that_breaks_soon_after_it_was_scaled_to_zero_is_down(
    holds: Callable[..., None],
) -> None:
    series = {
        f"vllm_operator_replicas{{{CHAT}}}": "1x29 0x9 1x90",
        f"vllm_operator_ready_replicas{{{CHAT}}}": "1x29 0x14 1x4 0x90",
    }
    labels = {"namespace": "ai", "server": "chat"}
    holds(series, 55, asked("VLLMServerDown"), firing("VLLMServerDown", labels))


def test_an_outage_of_hours_is_told_to_its_end(holds: Callable[..., None]) -> None:
    series = {
        f"vllm_operator_replicas{{{CHAT}}}": "1x400",
        f"vllm_operator_ready_replicas{{{CHAT}}}": "1x29 0x400",
    }
    labels = {"namespace": "ai", "server": "chat"}
    for minutes in (100, 390):
        holds(series, minutes, asked("VLLMServerDown"), firing("VLLMServerDown", labels))


def test_a_server_with_an_objective_of_its_own_is_held_to_that(holds: Callable[..., None]) -> None:
    own = f'vllm_operator_objective_ratio{{{CHAT},latency="timeToFirstToken",le="1.0"}}'
    bucket = engine("vllm:time_to_first_token_seconds_bucket", ',le="1.0"')
    kept = {**slow(8, 120), own: "0.95x120", bucket: "0+10x120"}
    holds(kept, 70, asked("VLLMObjectiveFast"), [])
    missed = {**slow(8, 120), own: "0.95x120", bucket: "0+1x120"}
    labels = {"namespace": "ai", "server": "chat", "latency": "timeToFirstToken"}
    holds(missed, 70, asked("VLLMObjectiveFast"), firing("VLLMObjectiveFast", labels))


def test_an_objective_of_half_of_the_requests_can_be_missed_fast(
    holds: Callable[..., None],
) -> None:
    own = f'vllm_operator_objective_ratio{{{CHAT},latency="timeToFirstToken",le="0.5"}}'
    labels = {"namespace": "ai", "server": "chat", "latency": "timeToFirstToken"}
    series = {**slow(9.5, 120), own: "0.5x120"}
    holds(series, 70, asked("VLLMObjectiveFast"), firing("VLLMObjectiveFast", labels))


def test_slow_requests_that_are_over_are_told_no_more(holds: Callable[..., None]) -> None:
    series = {name: values.replace("x120", "x60") for name, values in slow(8, 120).items()}
    fast = {name: "_x60 1x60" if "up{" in name else "_x60 0+10x60" for name in series}
    merged = {
        name: f"{values} {fast[name].removeprefix('_x60 ')}" for name, values in series.items()
    }
    holds(merged, 75, asked("VLLMObjectiveFast"), [])


def test_a_few_slow_requests_are_not_told(holds: Callable[..., None]) -> None:
    series = {name: values.replace("0+", "0+0.0") for name, values in slow(8, 120).items()}
    holds(series, 70, asked("VLLMObjectiveFast"), [])


def test_a_hit_rate_of_few_tokens_is_not_told(holds: Callable[..., None]) -> None:
    holds(looked_for(30, 100), 130, asked("VLLMLowPrefixCacheHitRate"), [])


def test_versions_that_count_no_errors_have_none(holds: Callable[..., None]) -> None:
    series = {name: values for name, values in ended(10, 0).items() if "error" not in name}
    expression = "namespace_server:vllm_failed_requests:ratio_rate15m"
    labels = f"{expression}{{{CHAT}}}"
    holds(series, 25, expression, [{"labels": labels, "value": 0}])


def test_names_that_older_versions_have_are_read(holds: Callable[..., None]) -> None:
    labels = {"namespace": "ai", "server": "chat"}
    alert = "VLLMKVCacheFull"
    holds(cache(0.95, 3, "vllm:gpu_cache_usage_perc"), 16, asked(alert), firing(alert, labels))
    between = {**labels, "latency": "interTokenLatency"}
    alert, name = "VLLMObjectiveFast", "vllm:time_per_output_token_seconds"
    holds(slow(8, 120, name), 70, asked(alert), firing(alert, between))


def test_a_metric_under_both_of_its_names_is_counted_once(holds: Callable[..., None]) -> None:
    names = ("vllm:prefix_cache_", "vllm:gpu_prefix_cache_")
    told = looked_for(3000, 10000)
    both = told | {name.replace(*names): values for name, values in told.items()}
    expression = "namespace_server:vllm_prefix_cache_hits:ratio_rate1h"
    holds(both, 130, expression, [{"labels": f"{expression}{{{CHAT}}}", "value": 0.3}])


def drawn(title: str, called: str, **constants: str) -> str:
    """A query of the board of one server, as Grafana asks it."""
    (panel,) = (one for one in server.BOARD.panels if one.title == title)
    (query,) = (one.expr for one in panel.queries if one.called == called)
    for name, value in {"namespace": "ai", "server": "chat", **constants}.items():
        query = query.replace(f"${name}", value)
    return query


def test_requests_at_once_of_a_replica_are_those_of_all_its_engines(
    holds: Callable[..., None],
) -> None:
    series = {
        engine("vllm:num_requests_running", f',engine="{number}"'): f"{requests}x9"
        for number, requests in enumerate((6, 8))
    }
    measured = drawn("Requests at once of a replica", "measured")
    holds(series, 5, measured, [{"labels": "{}", "value": 14}])


@pytest.mark.parametrize(
    "title", ["Time between two tokens", "Speed of one request"], ids=["seconds", "speed"]
)
def test_an_objective_of_0_is_not_drawn(title: str, holds: Callable[..., None]) -> None:
    none, some = (drawn(title, "objective", between_tokens=one) for one in ("0", "1"))
    holds({"other": "1x9"}, 5, none, [])
    holds({"other": "1x9"}, 5, some, [{"labels": "{}", "value": 1}])


def test_a_target_of_the_chart_moves_its_alert(holds: Callable[..., None], tmp_path: Path) -> None:
    values = {"rules": {"enabled": True}, "targets": {"kvCacheUsageRatio": 0.97}}
    (rule,) = (one for one in render({"watching": values}) if one["kind"] == "PrometheusRule")
    path = tmp_path / "rules.yaml"
    path.write_text(json.dumps(rule["spec"]))
    holds(cache(0.95, 3), 16, asked("VLLMKVCacheFull"), [], path)


def test_an_alert_says_which_server_how_much_and_what_to_do(
    promtool: Promtool, tmp_path: Path
) -> None:
    alert = alerts()["VLLMKVCacheThrash"]
    series = BY_ALERT["VLLMKVCacheThrash"].fires
    wanted = {
        "exp_labels": {"namespace": "ai", "server": "chat", "severity": "warning"},
        "exp_annotations": {
            "summary": "ai/chat preempts 20% of its requests",
            "description": alert["annotations"]["description"],
        },
    }
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [
            {"eval_time": "35m", "alertname": "VLLMKVCacheThrash", "exp_alerts": [wanted]}
        ],
    }
    path = tmp_path / "test.yaml"
    path.write_text(json.dumps({"rule_files": [str(RULES)], "tests": [test]}))
    answer = promtool("test", "rules", path)
    assert answer.returncode == 0, answer.stdout + answer.stderr
