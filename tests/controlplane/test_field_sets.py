"""The field set that we compute is the one that the API server records."""

from __future__ import annotations

from typing import Any

import pytest

from support.builders import OFFER, make_plan, make_server
from support.world import World
from vllm_operator.controller.apply import with_applied_hash
from vllm_operator.lifecycle.reading import owned_fields
from vllm_operator.manifests.fieldset import field_set, field_set_digest
from vllm_operator.manifests.render import live_objects, render

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
EXISTS = {"matchExpressions": [{"key": "k", "operator": "Exists"}]}
REFERENCE = {"name": "s", "key": "k"}
POD_TERM = {"topologyKey": "zone", "labelSelector": {"matchLabels": {"a": "b"}}}
SPECS: list[tuple[str, dict[str, Any]]] = [
    ("minimal", {}),
    ("replicas", {"replicas": 2}),
    ("metadata", {"pod": {"labels": {"team": "a"}, "annotations": {"x/y": "z"}}}),
    (
        "scheduling",
        {
            "pod": {
                "nodeSelector": {"a": "b"},
                "tolerations": [{"key": "z", "operator": "Exists"}],
                "affinity": {
                    "nodeAffinity": {
                        REQUIRED: {"nodeSelectorTerms": [EXISTS]},
                        PREFERRED: [{"weight": 1, "preference": EXISTS}],
                    },
                    "podAffinity": {REQUIRED: [POD_TERM]},
                    "podAntiAffinity": {PREFERRED: [{"weight": 1, "podAffinityTerm": POD_TERM}]},
                },
                "topologySpreadConstraints": [
                    {"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "ScheduleAnyway"}
                ],
            }
        },
    ),
    (
        "pod",
        {
            "pod": {
                "resources": {"limits": {"memory": "20Gi"}, "requests": {"cpu": "1500m"}},
                "imagePullSecrets": [{"name": "p"}, {"name": "q"}],
                "runtimeClassName": "nvidia",
                "priorityClassName": "system-node-critical",
                "shmSize": "1Gi",
                "securityContext": {"supplementalGroups": [44, 109]},
                "serviceAccountName": "reader",
                "schedulerName": "volcano",
            }
        },
    ),
    (
        "environment",
        {
            "engine": {
                "apiKeySecretRef": REFERENCE,
                "env": [
                    {"name": "A", "value": "b"},
                    {"name": "EMPTY", "value": ""},
                    {"name": "FROM_MAP", "configMapKeyRef": REFERENCE},
                    {"name": "FROM_SECRET", "secretKeyRef": REFERENCE},
                ],
            },
            "model": {"id": "a/b", "tokenSecretRef": REFERENCE},
        },
    ),
    (
        "claim",
        {
            "model": {
                "id": "a/b",
                "storage": {
                    "persistentVolumeClaim": {"claimName": "m", "path": "/a", "mode": "Model"}
                },
            }
        },
    ),
    (
        "folder",
        {"model": {"id": "a/b", "storage": {"hostPath": {"path": "/a", "mode": "Model"}}}},
    ),
    (
        "image",
        {"model": {"id": "a/b", "storage": {"image": {"reference": "a/b", "pullPolicy": "Never"}}}},
    ),
    (
        "volumes",
        {
            "pod": {
                "volumes": [
                    {
                        "name": "a",
                        "configMap": {"name": "a", "items": [{"key": "k", "path": "p"}]},
                    },
                    {"name": "b", "secret": {"secretName": "b", "defaultMode": 288}},
                    {"name": "c", "persistentVolumeClaim": {"claimName": "c", "readOnly": True}},
                    {"name": "d", "emptyDir": {}},
                ],
                "volumeMounts": [
                    {"name": "a", "mountPath": "/a", "subPath": "p", "readOnly": True},
                    {"name": "d", "mountPath": "/d"},
                ],
            }
        },
    ),
    (
        "containers",
        {
            "pod": {
                "workloadLabels": {"team": "a"},
                "workloadAnnotations": {"x/y": "z"},
                "initContainers": [
                    {
                        "name": "first",
                        "image": "a/b",
                        "args": ["x"],
                        "env": [
                            {"name": "A", "value": "b"},
                            {"name": "B", "secretKeyRef": REFERENCE},
                        ],
                        "volumeMounts": [{"name": "cache", "mountPath": "/a"}],
                        "ports": [{"containerPort": 1, "protocol": "UDP"}],
                        "restartPolicy": "Always",
                    }
                ],
                "containers": [
                    {
                        "name": "second",
                        "image": "a/b",
                        "command": ["x"],
                        "resources": {"requests": {"cpu": "1500m"}},
                        "ports": [{"containerPort": 1, "name": "one"}],
                    }
                ],
            }
        },
    ),
    (
        "own-volume",
        {"model": {"id": "a/b", "storage": {"ephemeral": {"storageClassName": "fast"}}}},
    ),
    ("sized-cache", {"model": {"id": "a/b", "storage": {"emptyDir": {"sizeLimit": "9Gi"}}}}),
]


@pytest.mark.parametrize("spec", [spec for _, spec in SPECS], ids=[name for name, _ in SPECS])
def test_of_every_object_that_we_render(world: World, spec: dict[str, Any]) -> None:
    server = make_server(uid="00000000-0000-0000-0000-000000000001", **spec)
    for rendered in (*render(server, make_plan(), OFFER), *live_objects(server)):
        rendered["metadata"]["namespace"] = world.namespace
        desired = with_applied_hash(rendered)
        answer = world.cluster.api(
            "PATCH",
            f"{world.path(desired['kind'], 'qwen')}?fieldManager=vllm-operator&force=true"
            "&fieldValidation=Strict&dryRun=All",
            desired,
            "application/apply-patch+yaml",
        )
        assert owned_fields(answer) == field_set_digest(field_set(desired)), desired["kind"]
