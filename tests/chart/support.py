"""What the chart's tests share: helm, the values that they render, and schemas for kubeconform."""

import json
import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from localcluster import Cluster, binaries
from localcluster.chart import CHART, render

ROOT = CHART.parents[1]

FOREIGN_KINDS = frozenset({"PodMonitor", "PrometheusRule"})
"""Of the Prometheus Operator, which the tests' control plane does not know."""

_FURTHER = {
    "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
    "extraVolumes": [{"name": "authority", "configMap": {"name": "authority"}}],
    "extraVolumeMounts": [{"name": "authority", "mountPath": "/etc/authority", "readOnly": True}],
}

MATRIX: dict[str, dict[str, Any]] = {
    "defaults": {},
    "one namespace": {"namespaces": ["team-a"]},
    "several namespaces without nodes": {"namespaces": ["team-a", "team-b"], "watchNodes": False},
    "all namespaces without nodes": {"watchNodes": False},
    "two replicas": {"replicas": 2},
    "no replica": {"replicas": 0},
    "no leader election": {"leaderElection": False},
    "digest": {"image": {"tag": "0.1.0", "digest": "sha256:" + "0" * 64}},
    "private registry": {
        "image": {"repository": "registry.local:5000/a/b", "tag": "x", "pullPolicy": "Always"},
        "imagePullSecrets": [{"name": "registry"}],
    },
    "own CRD, account and roles": {
        "crds": {"install": False},
        "serviceAccount": {"create": False, "name": "mine"},
        "rbac": {"create": False, "aggregateToUserRoles": False},
    },
    "annotated account": {"serviceAccount": {"name": "mine", "annotations": {"a.example/b": "c"}}},
    "labels everywhere": {
        "commonLabels": {"team": "inference", "app.kubernetes.io/part-of": "platform"},
        "podLabels": {"team": "pods", "sidecar.example/inject": "true"},
        "podAnnotations": {"a.example/b": "c"},
        "metrics": {"podMonitor": {"enabled": True, "labels": {"team": "monitoring"}}},
    },
    "names": {"fullnameOverride": "vllm", "nameOverride": "models"},
    "metrics without a service": {
        "metrics": {"service": {"enabled": False}, "podMonitor": {"enabled": True}}
    },
    "network policy": {"networkPolicy": {"enabled": True}},
    "network policy with peers": {
        "networkPolicy": {
            "enabled": True,
            "from": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
        }
    },
    "openshift": {"openshift": True},
    "defaults of servers": {
        "defaults": {
            "model": {
                "storage": {"persistentVolumeClaim": {"claimName": "models", "path": "/hub"}}
            },
            "engine": {
                "env": [
                    {"name": "HTTPS_PROXY", "value": 'http://a:"b"@proxy:3128'},
                    {"name": "KEY", "secretKeyRef": {"name": "proxy", "key": "password"}},
                ]
            },
            "pod": {
                "imagePullSecrets": [{"name": "registry"}],
                "tolerations": [
                    {"key": "gpu", "effect": "NoExecute", "tolerationSeconds": 2000000}
                ],
                "nodeSelector": {"pool": "gpu"},
                "runtimeClassName": "nvidia",
                "schedulerName": "volcano",
                "labels": {"team": "platform"},
                "annotations": {"a.example/b": "c"},
                "volumes": [{"name": "ca", "configMap": {"name": "ca", "optional": True}}],
                "volumeMounts": [{"name": "ca", "mountPath": "/etc/ca", "readOnly": True}],
            },
        }
    },
    "prices": {"prices": {"currency": "EUR", "perGPUHour": {"NVIDIA-L4": 0.71, "H100": 3}}},
    "inference pools": {"inferencePools": {"enabled": True}},
    "the platform chooses the user": {"securityContext": {"runAsUser": None, "runAsGroup": None}},
    "hub token": {
        "hub": {
            "endpoint": "https://hub.example",
            "tokenSecret": {"name": "hub", "key": "t"},
            "tokenNamespaces": ["team-a", "team-b"],
        }
    },
    "prometheus": {
        "prometheus": {
            "url": "https://prometheus.example/tenants",
            "secretName": "metrics",
            "tenantHeader": "X-Tenant",
            "labels": {"namespace": "exported_namespace", "pod": "kubernetes_pod"},
            "intervalSeconds": 30,
            "podMonitor": {"enabled": True, "labels": {"team": "monitoring"}},
        },
        "tuning": {"maxConcurrentTrials": 10, "mayPreempt": True},
    },
    "watching": {
        "watching": {
            "rules": {"enabled": True, "labels": {"release": "monitoring"}},
            "dashboards": {"enabled": True, "annotations": {"grafana_folder": "vLLM"}},
            "targets": {"timeToFirstTokenMilliseconds": 2500, "prefixCacheHitRatio": 0.3},
        }
    },
    "scheduling": {
        "replicas": 2,
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "tolerations": [{"key": "control-plane", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {"nodeAffinity": {}},
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
        ],
        "priorityClassName": "system-cluster-critical",
        "resources": {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": None},
        "podDisruptionBudget": {"enabled": False},
    },
    "proxy and certificate authority": _FURTHER,
    "quiet": {
        "log": {"format": "text", "level": "warning"},
        "listenAddress": "[::]",
        "resyncSeconds": 86400,
        "workers": 64,
        "defaultImage": "registry.local/vllm:v0.30.0",
        "hub": {"enabled": False},
    },
}


@cache
def rendered(name: str) -> list[dict[str, Any]]:
    """The chart's objects for values of the matrix, rendered once for all tests: not to be changed.

    Helm takes a fifth of a second of a processor each time.
    """
    return render(MATRIX[name])


def helm(
    *arguments: str, home: Path, kubeconfig: Path | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Runs helm with nothing of the user's own settings."""
    folders = {f"HELM_{name}_HOME": str(home / name) for name in ("CACHE", "CONFIG", "DATA")}
    cluster = {"KUBECONFIG": str(kubeconfig)} if kubeconfig else {}
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HELM_")}
    result = subprocess.run(
        [str(binaries.ensure("helm")["helm"]), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=kept | folders | cluster,
    )
    if check and result.returncode != 0:
        raise AssertionError(f"helm {' '.join(arguments)}: {result.stderr}")
    return result


def default_values() -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
    return values


def leaves(values: dict[str, Any], prefix: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Every value by its path; an empty mapping is a value, and so are resource lists."""
    found: dict[tuple[str, ...], Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value and (*prefix, key) != ("resources",):
            found |= leaves(value, (*prefix, key))
        else:
            found[(*prefix, key)] = value
    return found


def only(objects: list[dict[str, Any]], kind: str, name: str | None = None) -> dict[str, Any]:
    found = [
        one
        for one in objects
        if one["kind"] == kind and (name is None or one["metadata"]["name"] == name)
    ]
    assert len(found) == 1, f"{len(found)} of {kind} {name or ''}"
    return found[0]


def write_schemas(cluster: Cluster, directory: Path, group_versions: list[str]) -> str:
    """The API server's own OpenAPI as the files that kubeconform reads; returns their pattern.

    One file a kind, with all that it refers to. A field that the API server would drop is an error.
    """
    for group_version in group_versions:
        path = "api/v1" if group_version == "v1" else f"apis/{group_version}"
        schemas = cluster.api("GET", f"/openapi/v3/{path}")["components"]["schemas"]
        for name, schema in schemas.items():
            kinds = schema.get("x-kubernetes-group-version-kind", [])
            if len(kinds) != 1:  # several: DeleteOptions and the like; none: a part of an object
                continue
            suffix = "-".join([*([kinds[0]["group"].split(".")[0]] if kinds[0]["group"] else [])])
            parts = [kinds[0]["kind"].lower(), *([suffix] if suffix else []), kinds[0]["version"]]
            document = {
                "$ref": f"#/components/schemas/{name}",
                "components": {"schemas": _closed(_reachable(schemas, name))},
            }
            (directory / f"{'-'.join(parts)}.json").write_text(json.dumps(document))
    return str(directory / "{{ .ResourceKind }}{{ .KindSuffix }}.json")


def _reachable(schemas: dict[str, Any], start: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = schemas[name]
            waiting += _references(schemas[name])
    return found


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"].rsplit("/", 1)[1]] if isinstance(value.get("$ref"), str) else []
        return own + [name for child in value.values() for name in _references(child)]
    if isinstance(value, list):
        return [name for child in value for name in _references(child)]
    return []


def _closed(schemas: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {**schema, "additionalProperties": False}
        if "properties" in schema and "additionalProperties" not in schema
        else schema
        for name, schema in schemas.items()
    }
