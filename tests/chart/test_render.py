"""What the chart renders, over a matrix of values."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from chart.support import FOREIGN_KINDS, MATRIX, default_values, helm, leaves, only, rendered
from localcluster import Cluster
from localcluster.chart import CHART, ChartError, render
from vllm_operator.manifests.labels import SERVER_LABEL, object_labels

Objects = list[dict[str, Any]]

RULES: dict[str, Any] = {"watching": {"rules": {"enabled": True}}}
DASHBOARDS: dict[str, Any] = {"watching": {"dashboards": {"enabled": True}}}

# A second legal value for each value, to show that the value is used; fields that only matter
# beside another value say which.
OTHER: dict[str, tuple[Any, dict[str, Any]]] = {
    "nameOverride": ("other", {}),
    "fullnameOverride": ("other", {}),
    "commonLabels": ({"a": "b"}, {}),
    "image.repository": ("other/other", {}),
    "image.tag": ("other", {}),
    "image.digest": ("sha256:" + "1" * 64, {}),
    "image.pullPolicy": ("Always", {}),
    "imagePullSecrets": ([{"name": "a"}], {}),
    "replicas": (2, {}),
    "leaderElection": (False, {}),
    "namespaces": (["a"], {}),
    "watchNodes": (False, {}),
    "defaultImage": ("a:v0.30.0", {}),
    "defaults.model.storage": ({"emptyDir": {"sizeLimit": "9Gi"}}, {}),
    "defaults.engine.env": ([{"name": "A", "value": "b"}], {}),
    "defaults.pod.imagePullSecrets": ([{"name": "a"}], {}),
    "defaults.pod.tolerations": ([{"operator": "Exists"}], {}),
    "defaults.pod.nodeSelector": ({"a": "b"}, {}),
    "defaults.pod.runtimeClassName": ("a", {}),
    "defaults.pod.schedulerName": ("a", {}),
    "defaults.pod.labels": ({"a": "b"}, {}),
    "defaults.pod.annotations": ({"a": "b"}, {}),
    "defaults.pod.volumes": ([{"name": "a", "emptyDir": {}}], {}),
    "defaults.pod.volumeMounts": ([{"name": "a", "mountPath": "/a"}], {}),
    "prices.currency": ("EUR", {"prices": {"perGPUHour": {"NVIDIA-L4": 0.71}}}),
    "prices.perGPUHour": ({"NVIDIA-L4": 0.71}, {}),
    "resyncSeconds": (60, {}),
    "hostPathPrefixes": (["/mnt/models"], {}),
    "openshift": (True, {}),
    "workers": (1, {}),
    "calibration.enabled": (False, {}),
    "inferencePools.enabled": (True, {}),
    "prometheus.url": ("http://a", {}),
    "prometheus.secretName": ("a", {"prometheus": {"url": "http://a"}}),
    "prometheus.tenantHeader": ("A", {"prometheus": {"url": "http://a"}}),
    "prometheus.labels.namespace": ("a", {"prometheus": {"url": "http://a"}}),
    "prometheus.labels.pod": ("a", {"prometheus": {"url": "http://a"}}),
    "prometheus.intervalSeconds": (30, {"prometheus": {"url": "http://a"}}),
    "prometheus.podMonitor.enabled": (True, {}),
    "prometheus.podMonitor.labels": ({"a": "b"}, {"prometheus": {"podMonitor": {"enabled": True}}}),
    "prometheus.podMonitor.interval": ("9s", {"prometheus": {"podMonitor": {"enabled": True}}}),
    "prometheus.podMonitor.scrapeTimeout": (
        "5s",
        {"prometheus": {"podMonitor": {"enabled": True}}},
    ),
    "tuning.maxConcurrentTrials": (0, {}),
    "tuning.mayPreempt": (True, {}),
    "hub.enabled": (False, {}),
    "hub.endpoint": ("https://a.example", {}),
    "hub.tokenSecret.name": ("a", {}),
    "hub.tokenSecret.key": ("a", {"hub": {"tokenSecret": {"name": "a"}}}),
    "hub.tokenNamespaces": (["a"], {"hub": {"tokenSecret": {"name": "a"}}}),
    "log.format": ("text", {}),
    "log.level": ("debug", {}),
    "listenAddress": ("[::]", {}),
    "crds.install": (False, {}),
    "serviceAccount.create": (False, {}),
    "serviceAccount.name": ("a", {}),
    "serviceAccount.annotations": ({"a": "b"}, {}),
    "rbac.create": (False, {}),
    "rbac.aggregateToUserRoles": (False, {}),
    "metrics.service.enabled": (False, {}),
    "metrics.service.annotations": ({"a": "b"}, {}),
    "metrics.podMonitor.enabled": (True, {}),
    "metrics.podMonitor.labels": ({"a": "b"}, {"metrics": {"podMonitor": {"enabled": True}}}),
    "metrics.podMonitor.interval": ("15s", {"metrics": {"podMonitor": {"enabled": True}}}),
    "metrics.podMonitor.scrapeTimeout": ("5s", {"metrics": {"podMonitor": {"enabled": True}}}),
    "watching.rules.enabled": (True, {}),
    "watching.rules.labels": ({"a": "b"}, RULES),
    "watching.rules.withoutAlerts": (["VLLMServerDown"], RULES),
    "watching.dashboards.enabled": (True, {}),
    "watching.dashboards.labels.grafana_dashboard": ("yes", DASHBOARDS),
    "watching.dashboards.annotations": ({"grafana_folder": "vLLM"}, DASHBOARDS),
    "watching.targets.timeToFirstTokenMilliseconds": (1000, RULES),
    "watching.targets.interTokenLatencyMilliseconds": (25, RULES),
    "watching.targets.percentile": (99, RULES),
    "watching.targets.prefixCacheHitRatio": (0.5, RULES),
    "watching.targets.kvCacheUsageRatio": (0.95, RULES),
    "watching.targets.preemptionRatio": (0.2, RULES),
    "watching.targets.failedRequestRatio": (0.05, RULES),
    "watching.targets.restartsPerHour": (5, RULES),
    "networkPolicy.enabled": (True, {}),
    "networkPolicy.from": ([{"podSelector": {}}], {"networkPolicy": {"enabled": True}}),
    "podDisruptionBudget.enabled": (False, {"replicas": 2}),
    "resources": ({"requests": {"cpu": "1"}}, {}),
    "securityContext.runAsUser": (1000, {}),
    "securityContext.runAsGroup": (1000, {}),
    "terminationGracePeriodSeconds": (60, {}),
    "podLabels": ({"a": "b"}, {}),
    "podAnnotations": ({"a": "b"}, {}),
    "nodeSelector": ({"a": "b"}, {}),
    "tolerations": ([{"operator": "Exists"}], {}),
    "affinity": ({"nodeAffinity": {}}, {}),
    "topologySpreadConstraints": (
        [{"maxSkew": 1, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule"}],
        {},
    ),
    "priorityClassName": ("a", {}),
    "extraEnv": ([{"name": "A", "value": "b"}], {}),
    "extraVolumes": ([{"name": "a", "emptyDir": {}}], {}),
    "extraVolumeMounts": ([{"name": "tmp", "mountPath": "/a"}], {}),
}


def deployment(values: dict[str, Any]) -> dict[str, Any]:
    return only(render(values), "Deployment")


def container(values: dict[str, Any]) -> dict[str, Any]:
    containers = deployment(values)["spec"]["template"]["spec"]["containers"]
    assert len(containers) == 1
    result: dict[str, Any] = containers[0]
    return result


def environment(values: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in container(values)["env"] if "value" in one}


def with_value(values: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(values)
    parent = changed
    for key in path[:-1]:
        parent = parent.setdefault(key, {})
    parent[path[-1]] = value
    return changed


def test_helm_lint_finds_nothing(helm_home: Path) -> None:
    report = helm("lint", str(CHART), "--strict", home=helm_home).stdout
    assert "0 chart(s) failed" in report
    assert "[WARNING]" not in report


@pytest.mark.parametrize("name", MATRIX)
def test_every_object_is_valid_by_the_api_servers_own_schemas(
    name: str, kubeconform: Callable[[Objects], list[str]]
) -> None:
    assert kubeconform(rendered(name)) == []


def test_kubeconform_sees_a_misspelt_field(kubeconform: Callable[[Objects], list[str]]) -> None:
    objects = render()
    only(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]["imagePolicy"] = "x"
    assert any("imagePolicy" in problem for problem in kubeconform(objects))


@pytest.mark.parametrize("name", MATRIX)
def test_the_api_server_accepts_every_object(name: str, chart_cluster: Cluster) -> None:
    objects = [one for one in rendered(name) if one["kind"] not in FOREIGN_KINDS]
    answer = chart_cluster.kubectl(
        *("apply", "--server-side", "--force-conflicts", "--dry-run=server"),
        *("--validate=strict", "-f", "-"),
        input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}),
    )
    assert "Warning" not in answer.stderr
    assert answer.stdout.count("(server dry run)") == len(objects)


@pytest.mark.parametrize("name", MATRIX)
def test_every_object_says_its_release_and_namespace(name: str) -> None:
    cluster_scoped = {"CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding"}
    for one in render(MATRIX[name], release="models", namespace="ops"):
        labels = one["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == "models"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert labels["app.kubernetes.io/version"] == "0.1.0"
        assert ("namespace" in one["metadata"]) == (one["kind"] not in cluster_scoped)
        if one["kind"] not in {"Role", "RoleBinding"}:
            assert one["metadata"].get("namespace", "ops") == "ops"


def test_every_selector_matches_the_pods() -> None:
    objects = render(
        {
            "replicas": 2,
            "podLabels": {"a": "b"},
            "networkPolicy": {"enabled": True},
            "metrics": {"podMonitor": {"enabled": True}},
        }
    )
    labels = only(objects, "Deployment")["spec"]["template"]["metadata"]["labels"].items()
    for selector in (
        only(objects, "Deployment")["spec"]["selector"]["matchLabels"],
        only(objects, "Service")["spec"]["selector"],
        only(objects, "PodMonitor")["spec"]["selector"]["matchLabels"],
        only(objects, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        only(objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= labels
        assert set(selector) == {"app.kubernetes.io/name", "app.kubernetes.io/instance"}


def test_labels_of_the_user_win_on_pods_and_monitors_and_never_on_selectors() -> None:
    objects = render(MATRIX["labels everywhere"])
    pods = only(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert pods["team"] == "pods"
    assert only(objects, "PodMonitor")["metadata"]["labels"]["team"] == "monitoring"
    for one in objects:
        assert one["metadata"]["labels"]["app.kubernetes.io/part-of"] == "platform"
    with pytest.raises(ChartError, match="commonLabels"):
        render({"commonLabels": {"app.kubernetes.io/name": "other"}})


def test_the_image_is_the_charts_version_unless_a_tag_or_a_digest_is_given() -> None:
    repository = "ghcr.io/vllm-operator/vllm-operator"
    digest = "sha256:" + "0" * 64
    assert container({})["image"] == f"{repository}:0.1.0"
    assert container({"image": {"tag": "main"}})["image"] == f"{repository}:main"
    assert container({"image": {"digest": digest}})["image"] == f"{repository}:0.1.0@{digest}"


def test_values_reach_the_operator_as_its_environment() -> None:
    assert environment({}) == {
        "VLLM_OPERATOR_NAMESPACES": "",
        "VLLM_OPERATOR_WATCH_NODES": "true",
        "VLLM_OPERATOR_LISTEN": "0.0.0.0:8080",
        "VLLM_OPERATOR_LEADER_ELECTION": "true",
        "VLLM_OPERATOR_LOG_FORMAT": "json",
        "VLLM_OPERATOR_LOG_LEVEL": "info",
        "VLLM_OPERATOR_RESYNC_SECONDS": "600",
        "VLLM_OPERATOR_WORKERS": "24",
        "VLLM_OPERATOR_CALIBRATION": "true",
        "VLLM_OPERATOR_HUB": "true",
        "VLLM_OPERATOR_TUNING_MAX_CONCURRENT_TRIALS": "3",
        "VLLM_OPERATOR_TUNING_MAY_PREEMPT": "false",
        "HF_HOME": "/tmp/huggingface",
    }
    quiet = environment(MATRIX["quiet"] | {"namespaces": ["team-a", "team-b"]})
    assert quiet["VLLM_OPERATOR_NAMESPACES"] == "team-a,team-b"
    assert quiet["VLLM_OPERATOR_LISTEN"] == "[::]:8080"
    assert quiet["VLLM_OPERATOR_DEFAULT_IMAGE"] == "registry.local/vllm:v0.30.0"
    assert quiet["VLLM_OPERATOR_RESYNC_SECONDS"] == "86400"
    assert quiet["VLLM_OPERATOR_HUB"] == "false"


def test_the_hub_token_is_a_mounted_file_and_never_in_the_environment() -> None:
    values = MATRIX["hub token"]
    variables = environment(values)
    assert variables["VLLM_OPERATOR_HUB_TOKEN_NAMESPACES"] == "team-a,team-b"
    assert variables["HF_ENDPOINT"] == "https://hub.example"
    assert not any("secretKeyRef" in one.get("valueFrom", {}) for one in container(values)["env"])
    volume = deployment(values)["spec"]["template"]["spec"]["volumes"][1]["secret"]
    mount = container(values)["volumeMounts"][1]
    item = volume["items"][0]
    assert volume["secretName"] == "hub"
    assert item["key"] == "t"
    assert variables["VLLM_OPERATOR_HUB_TOKEN_FILE"] == f"{mount['mountPath']}/{item['path']}"
    assert volume["defaultMode"] == 0o440


def test_two_replicas_prefer_two_nodes_and_keep_one_through_drains() -> None:
    objects = render({"replicas": 2})
    assert only(objects, "PodDisruptionBudget")["spec"]["minAvailable"] == 1
    pod = only(objects, "Deployment")["spec"]["template"]["spec"]
    assert "podAntiAffinity" in pod["affinity"]
    # One replica with a budget would block every drain of its node.
    assert not any(one["kind"] == "PodDisruptionBudget" for one in render({"replicas": 1}))


def test_replicas_above_one_without_leader_election_are_refused_with_the_remedy() -> None:
    with pytest.raises(ChartError, match="leaderElection: true"):
        render({"replicas": 2, "leaderElection": False})


def test_without_leader_election_two_operators_never_overlap() -> None:
    assert deployment({"leaderElection": False})["spec"]["strategy"] == {"type": "Recreate"}
    strategy = deployment({})["spec"]["strategy"]
    assert strategy["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_the_pod_monitor_scrapes_the_port_that_the_pod_declares() -> None:
    monitor = only(render({"metrics": {"podMonitor": {"enabled": True}}}), "PodMonitor")
    endpoints = monitor["spec"]["podMetricsEndpoints"]
    ports = {port["name"]: port["containerPort"] for port in container({})["ports"]}
    assert endpoints == [
        {
            "port": "metrics",
            "path": "/metrics",
            "honorLabels": True,
            "interval": "30s",
            "scrapeTimeout": "10s",
        }
    ]
    assert ports == {"metrics": 8080}


def test_the_pod_monitor_of_engines_selects_what_the_operator_labels() -> None:
    values = {"prometheus": {"podMonitor": {"enabled": True}}}
    spec = only(render(values), "PodMonitor")["spec"]
    assert spec["namespaceSelector"] == {"any": True}
    assert spec["selector"]["matchLabels"].items() <= object_labels("chat").items()
    assert [one["port"] for one in spec["podMetricsEndpoints"]] == ["http"]
    there = only(render(values | {"namespaces": ["team-a", "team-b"]}), "PodMonitor")["spec"]
    assert there["namespaceSelector"] == {"matchNames": ["team-a", "team-b"]}


def test_series_of_engines_say_of_which_server_they_are() -> None:
    values = {"prometheus": {"podMonitor": {"enabled": True}}}
    (endpoint,) = only(render(values), "PodMonitor")["spec"]["podMetricsEndpoints"]
    (relabeling,) = endpoint["relabelings"]
    assert SERVER_LABEL == "vllm-operator.io/server"
    assert relabeling == {
        "sourceLabels": ["__meta_kubernetes_pod_label_vllm_operator_io_server"],
        "targetLabel": "server",
    }


def test_secrets_of_prometheus_are_mounted_files_and_never_in_the_environment() -> None:
    values = MATRIX["prometheus"]
    (volume,) = (
        one["secret"]
        for one in deployment(values)["spec"]["template"]["spec"]["volumes"]
        if one["name"] == "prometheus"
    )
    (mount,) = (one for one in container(values)["volumeMounts"] if one["name"] == "prometheus")
    assert volume == {"secretName": "metrics", "defaultMode": 0o440}
    assert environment(values)["VLLM_OPERATOR_PROMETHEUS_SECRETS"] == mount["mountPath"]
    assert not any("secretKeyRef" in one.get("valueFrom", {}) for one in container(values)["env"])


@pytest.mark.parametrize("path", [".".join(path) for path in leaves(default_values())])
def test_every_value_changes_something(path: str) -> None:
    other, beside = OTHER[path]
    assert render(with_value(beside, tuple(path.split(".")), other)) != render(beside)


def test_an_unknown_value_is_refused_at_every_level() -> None:
    parents = {path[:depth] for path in leaves(default_values()) for depth in range(len(path))}
    assert len(parents) > 10
    for parent in parents:
        with pytest.raises(ChartError, match="unheardOf"):
            render(with_value({}, (*parent, "unheardOf"), True))


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"replicas": "2"}, "replicas"),
        ({"replicas": -1}, "replicas"),
        ({"image": {"digest": "sha256:abc"}}, "digest"),
        ({"namespaces": "team-a"}, "namespaces"),
        ({"namespaces": ["Team A"]}, "namespaces"),
        ({"log": {"level": "trace"}}, "level"),
        ({"hostPathPrefixes": ["mnt/models"]}, "hostPathPrefixes"),
        ({"hostPathPrefixes": ["/a,/b"]}, "hostPathPrefixes"),
        ({"workers": 0}, "workers"),
        ({"extraEnv": [{"name": "VLLM_OPERATOR_WORKERS", "value": "1"}]}, "extraEnv"),
        ({"extraVolumes": [{"name": "tmp", "emptyDir": {}}]}, "extraVolumes"),
        ({"securityContext": {"runAsUser": 0}}, "runAsUser"),
        ({"securityContext": {"privileged": True}}, "privileged"),
        ({"metrics": {"podMonitor": {"interval": "30"}}}, "interval"),
        ({"prometheus": {"url": "prometheus:9090"}}, "url"),
        ({"prometheus": {"token": "secret"}}, "token"),
        ({"prometheus": {"labels": {"pod": 'a"b'}}}, "pod"),
        ({"prometheus": {"intervalSeconds": 61}}, "intervalSeconds"),
        ({"watching": {"targets": {"timeToFirstTokenMilliseconds": 600}}}, "timeToFirstToken"),
        ({"watching": {"targets": {"percentile": 100}}}, "percentile"),
        ({"watching": {"targets": {"prefixCacheHitRatio": 70}}}, "prefixCacheHitRatio"),
        ({"watching": {"rules": {"withoutAlerts": ["ServerDown"]}}}, "withoutAlerts"),
        ({"tuning": {"maxConcurrentTrials": -1}}, "maxConcurrentTrials"),
        ({"tuning": {"maxTrials": 3}}, "maxTrials"),
        ({"defaults": {"replicas": 3}}, "replicas"),
        ({"defaults": {"engine": {"env": [{"name": "A"}]}}}, "env"),
        ({"defaults": {"engine": {"env": [{"name": "a-b", "value": "c"}]}}}, "name"),
        ({"defaults": {"engine": {"env": [{"name": "A", "value": 1}]}}}, "value"),
        ({"defaults": {"engine": {"image": "a:v0.30.0"}}}, "image"),
        ({"defaults": {"pod": {"tolerations": [{"effect": "Never"}]}}}, "effect"),
        ({"defaults": {"pod": {"imagePullSecrets": ["a"]}}}, "imagePullSecrets"),
        ({"defaults": {"pod": {"labels": {"app.kubernetes.io/name": "a"}}}}, "labels"),
        ({"defaults": {"pod": {"volumes": [{"name": "a", "hostPath": {}}]}}}, "volumes"),
        ({"defaults": {"pod": {"volumes": [{"name": "tmp", "emptyDir": {}}]}}}, "volumes"),
        ({"defaults": {"model": {"storage": {"image": {"reference": "a"}}}}}, "image"),
        (
            {"defaults": {"model": {"storage": {"persistentVolumeClaim": {"path": "/a"}}}}},
            "claimName",
        ),
        (
            {"defaults": {"model": {"storage": {"hostPath": {"path": "/a", "mode": "Model"}}}}},
            "mode",
        ),
        (
            {"defaults": {"model": {"storage": {"ephemeral": {"storageClassName": "A B"}}}}},
            "storageClassName",
        ),
        (
            {
                "defaults": {
                    "model": {"storage": {"ephemeral": {}, "emptyDir": {"sizeLimit": "1Gi"}}}
                }
            },
            "storage",
        ),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(values: dict[str, Any], field: str) -> None:
    with pytest.raises(ChartError, match=field):
        render(values)


def test_the_chart_may_be_part_of_another_chart() -> None:
    assert render({"global": {"imageRegistry": "a"}, "enabled": True}) == render()


def test_kubernetes_before_1_30_is_refused() -> None:
    render(kubernetes_version="1.30.0")
    render(kubernetes_version="1.31.2-eks-1234567")
    with pytest.raises(ChartError, match=r"1\.29"):
        render(kubernetes_version="1.29.9")


def test_rendering_twice_gives_the_same() -> None:
    assert render(MATRIX["labels everywhere"]) == render(MATRIX["labels everywhere"])


def test_the_versions_of_chart_and_operator_agree() -> None:
    from vllm_operator import __version__

    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == __version__


ON: dict[str, Any] = {
    "metrics": {"podMonitor": {"enabled": True}},
    "networkPolicy": {"enabled": True},
    "prometheus": {"url": "http://prometheus:9090", "podMonitor": {"enabled": True}},
    "watching": {"rules": {"enabled": True}, "dashboards": {"enabled": True}},
}
ABSENT = ("resources",)
"""Values whose absence says something."""


def without(defaults: dict[str, Any], given: dict[str, Any], depth: int) -> dict[str, Any]:
    """What is given, with no other value at all: missing from its section, which is missing itself
    from the ``depth``-th on."""
    missing: dict[str, Any] = {}
    for name, default in defaults.items():
        if isinstance(given.get(name), dict):
            missing[name] = without(default, given[name], depth - 1)
        elif name in given:
            missing[name] = given[name]
        elif isinstance(default, dict) and default and depth > 1:
            missing[name] = without(default, {}, depth - 1)
        else:
            missing[name] = None
    return missing


@pytest.mark.parametrize("given", [{}, ON], ids=["nothing on", "all on"])
@pytest.mark.parametrize("depth", [1, 2, 3], ids=["sections", "their sections", "single values"])
def test_values_that_a_release_before_did_not_have_are_the_defaults(
    given: dict[str, Any], depth: int
) -> None:
    known = {name: one for name, one in default_values().items() if name not in ABSENT}
    missing = without(known, given, depth)
    # Null says there that the platform chooses, and that the label is not wanted.
    if depth > 1:
        missing["securityContext"] = known["securityContext"]
    if depth > 2:
        boards = missing["watching"]["dashboards"]
        boards["labels"] = known["watching"]["dashboards"]["labels"]
    assert render(missing) == render(given)


def test_the_defaults_that_are_filled_in_are_the_chart_s_values() -> None:
    assert (CHART / "files" / "values.yaml").read_bytes() == (CHART / "values.yaml").read_bytes()


def test_every_template_fills_in_what_is_missing() -> None:
    filled = '{{- include "vllm-operator.fill" .'
    first = {
        path.name: path.read_text().splitlines()[0].startswith(filled)
        for path in (CHART / "templates").iterdir()
        if path.name != "_helpers.tpl"
    }
    assert first == dict.fromkeys(first, True)
