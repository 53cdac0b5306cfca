"""What the chart tells the operator is what the operator understands."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from chart.support import MATRIX, only
from localcluster.chart import render
from vllm_operator.cli.main import main
from vllm_operator.controller import process
from vllm_operator.controller.settings import OperatorSettings, PrometheusSettings
from vllm_operator.hardware.prices import Prices
from vllm_operator.sizing.asked.defaults import Defaults


def understood(
    values: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    token: Path | None = None,
    secrets: Path | None = None,
) -> OperatorSettings:
    """Starts `vllm-operator` with the rendered arguments and environment, up to the loop itself."""
    container = only(render(values, namespace="ops"), "Deployment")["spec"]["template"]["spec"][
        "containers"
    ][0]
    seen: list[OperatorSettings] = []

    async def run_operator(settings: OperatorSettings, instance: str) -> None:
        assert instance.startswith("operator-0")
        seen.append(settings)

    monkeypatch.setattr(process, "run_operator", run_operator)
    environment = {one["name"]: one["value"] for one in container["env"] if "value" in one}
    environment |= {"POD_NAME": "operator-0", "POD_NAMESPACE": "ops"}
    if token is not None:
        assert "VLLM_OPERATOR_HUB_TOKEN_FILE" in environment
        environment["VLLM_OPERATOR_HUB_TOKEN_FILE"] = str(token)
    if secrets is not None:
        assert "VLLM_OPERATOR_PROMETHEUS_SECRETS" in environment
        environment["VLLM_OPERATOR_PROMETHEUS_SECRETS"] = str(secrets)
    with _unchanged_logging():
        result = CliRunner().invoke(main, container["args"], env=environment)
    assert result.exit_code == 0, result.output
    return seen[0]


@contextmanager
def _unchanged_logging() -> Iterator[None]:
    """`run` sets up the process's logging, which is not the tests' to keep."""
    import logging

    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


def test_the_charts_defaults_are_the_operators_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert understood({}, monkeypatch) == OperatorSettings(
        leader_election=True, lease_namespace="ops", calibration=True
    )


def test_every_setting_arrives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("hf_secret\n")
    values = MATRIX["quiet"] | {
        "namespaces": ["team-a", "team-b"],
        "watchNodes": False,
        "leaderElection": False,
        "hostPathPrefixes": ["/mnt/models", "/data"],
        "openshift": True,
        **MATRIX["defaults of servers"],
        **MATRIX["prices"],
        "calibration": {"enabled": False},
        "hub": {"enabled": False, **MATRIX["hub token"]["hub"]},
        **MATRIX["prometheus"],
    }
    assert understood(values, monkeypatch, token, tmp_path) == OperatorSettings(
        namespaces=("team-a", "team-b"),
        watch_nodes=False,
        default_image="registry.local/vllm:v0.30.0",
        listen="[::]:8080",
        leader_election=False,
        lease_namespace="ops",
        hub=False,
        hub_token="hf_secret",
        hub_token_namespaces=("team-a", "team-b"),
        host_path_prefixes=("/mnt/models", "/data"),
        pod_identity="Platform",
        defaults=Defaults.model_validate(MATRIX["defaults of servers"]["defaults"]),
        prices=Prices("EUR", (("H100", 3.0), ("NVIDIA-L4", 0.71))),
        prometheus=PrometheusSettings(
            url="https://prometheus.example/tenants",
            secrets=tmp_path,
            tenant_header="X-Tenant",
            namespace_label="exported_namespace",
            pod_label="kubernetes_pod",
            interval=30,
        ),
        tuning_max_concurrent_trials=10,
        tuning_may_preempt=True,
        resync_seconds=86400,
        workers=64,
    )


@pytest.mark.parametrize("level", ["debug", "info", "warning"])
@pytest.mark.parametrize("format_", ["json", "text"])
def test_every_log_setting_is_accepted(
    level: str, format_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    understood({"log": {"level": level, "format": format_}}, monkeypatch)


def test_defaults_that_only_the_operator_can_refuse_are_told_by_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mounts = [{"name": "not-there", "mountPath": "/a"}]
    settings = understood({"defaults": {"pod": {"volumeMounts": mounts}}}, monkeypatch)
    assert settings.defaults == Defaults()
    assert "chart value defaults.pod.volumeMounts is wrong" in settings.defaults_problem
