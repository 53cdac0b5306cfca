"""The field set of an apply, as the API server records it in ``fieldsV1``."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_operator.manifests.fieldset import field_set, field_set_digest

DEPLOYMENT: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {
        "name": "qwen",
        "namespace": "default",
        "uid": "u",
        "resourceVersion": "7",
        "labels": {"app.kubernetes.io/name": "vllm"},
    },
    "spec": {
        "replicas": 1,
        "paused": None,
        "template": {
            "metadata": {"name": "pods", "labels": {"a": "b"}},
            "spec": {
                "containers": [
                    {
                        "name": "engine",
                        "command": ["vllm", "serve"],
                        "ports": [{"containerPort": 8000, "name": "http"}],
                        "env": [{"name": "HOME", "value": "/cache"}],
                    }
                ],
                "nodeSelector": {"pool": "a"},
                "tolerations": [{"key": "gpu", "operator": "Exists"}],
            },
        },
    },
}
FIELDS = {
    "f:metadata": {"f:labels": {"f:app.kubernetes.io/name": {}}},
    "f:spec": {
        "f:replicas": {},
        "f:template": {
            "f:metadata": {"f:labels": {"f:a": {}}, "f:name": {}},
            "f:spec": {
                "f:containers": {
                    'k:{"name":"engine"}': {
                        ".": {},
                        "f:name": {},
                        "f:command": {},
                        "f:ports": {
                            'k:{"containerPort":8000,"protocol":"TCP"}': {
                                ".": {},
                                "f:containerPort": {},
                                "f:name": {},
                            }
                        },
                        "f:env": {'k:{"name":"HOME"}': {".": {}, "f:name": {}, "f:value": {}}},
                    }
                },
                "f:nodeSelector": {},
                "f:tolerations": {},
            },
        },
    },
}


def test_identity_and_nulls_are_owned_by_nobody_and_lists_are_merged_by_their_keys() -> None:
    assert field_set(DEPLOYMENT) == FIELDS


@pytest.mark.parametrize(
    ("path", "differs"),
    [
        (("metadata", "name"), False),
        (("metadata", "uid"), False),
        (("metadata", "annotations"), True),
        (("spec", "paused"), False),
        (("spec", "minReadySeconds"), True),
    ],
)
def test_a_digest_differs_where_another_field_is_owned(
    path: tuple[str, str], differs: bool
) -> None:
    part, key = path
    value = {"a": "b"} if key == "annotations" else 5 if key == "minReadySeconds" else None
    changed = {**DEPLOYMENT, part: {**DEPLOYMENT[part], key: value}}
    before, after = (field_set_digest(field_set(one)) for one in (DEPLOYMENT, changed))
    assert (before != after) is differs


def test_the_order_of_fields_is_no_difference() -> None:
    turned = dict(reversed(DEPLOYMENT.items()))
    assert field_set_digest(field_set(turned)) == field_set_digest(FIELDS)
