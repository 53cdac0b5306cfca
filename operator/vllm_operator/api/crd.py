"""The CustomResourceDefinition ``vllmservers.vllm-operator.io``, generated from the types."""

from __future__ import annotations

from typing import Any, Final

import yaml

from .base import GROUP, KIND, PLURAL, VERSION
from .offline import schema_problems
from .patterns import MEANINGS
from .rules import SERVER_NAME
from .schema import INT_OR_STRING, RULES_KEY, Schema, structural_schema
from .status import VLLMServerStatus
from .v1alpha1 import VLLMServerSpec

CRD_NAME: Final = f"{PLURAL}.{GROUP}"
REGENERATE: Final = f"vllm-operator crd > crds/{CRD_NAME}.yaml"

_READY = '.status.conditions[?(@.type=="Ready")]'
COLUMNS: Final = (
    ("Model", "string", "The model that is served.", ".status.summary.model"),
    ("GPUs", "string", "GPUs of one replica.", ".status.summary.gpus"),
    ("Parallelism", "string", "How a replica is split over them.", ".status.summary.parallelism"),
    ("Version", "string", "vLLM version.", ".status.summary.version"),
    ("Ready", "string", "Pods that serve, of those that are asked for.", ".status.summary.ready"),
    ("Status", "string", "Ready, or why it is not.", f"{_READY}.reason"),
    ("Age", "date", "Time since the server was created.", ".metadata.creationTimestamp"),
)
"""What ``kubectl get vllm`` prints beside the name: (name, type, description, JSONPath)."""

WIDE_COLUMNS: Final = (
    ("Endpoint", "string", "Address of the API; with -o wide.", ".status.endpoint"),
    ("Autotune", "string", "What tuning may do; with -o wide.", ".spec.autotune.mode"),
    ("Tuning", "string", "What tuning does; with -o wide.", ".status.tuning.state"),
    ("Message", "string", "The status in words; with -o wide.", f"{_READY}.message"),
)
"""What ``-o wide`` prints beside them."""


def server_schema() -> Schema:
    """The structural schema of a whole VLLMServer."""
    return {
        "description": "A vLLM model server: what to serve, and how it is to run.",
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {
                "description": f"Group and version of this resource: {GROUP}/{VERSION}.",
                "type": "string",
            },
            "kind": {"description": f"Kind of this resource: {KIND}.", "type": "string"},
            "metadata": {"type": "object"},
            "spec": structural_schema(VLLMServerSpec, "spec"),
            "status": structural_schema(VLLMServerStatus, "status"),
        },
        RULES_KEY: [SERVER_NAME.entry()],
    }


def in_words(schema: Schema) -> Schema:
    """A schema whose patterns are rules with a message: the API server shows a pattern as it is.

    Raises KeyError for a pattern without a meaning.
    """
    node = {key: value for key, value in schema.items() if key != "pattern"}
    if "pattern" in schema:
        text = f"self.matches(r'{schema['pattern']}')"
        rule = {
            "rule": f"type(self) == int || {text}" if INT_OR_STRING in schema else text,
            "message": f"must be {MEANINGS[schema['pattern']]}",
        }
        node[RULES_KEY] = [*schema.get(RULES_KEY, []), rule]
    if "properties" in schema:
        node["properties"] = {name: in_words(one) for name, one in schema["properties"].items()}
    for below in ("items", "additionalProperties"):
        if below in schema:
            node[below] = in_words(schema[below])
    return node


def custom_resource_definition() -> dict[str, Any]:
    """The whole CustomResourceDefinition, as it is applied to a cluster."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": CRD_NAME},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["vllm"],
                "categories": ["all"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.replicas",
                            "statusReplicasPath": ".status.replicas",
                            "labelSelectorPath": ".status.selector",
                        },
                    },
                    "additionalPrinterColumns": [
                        {"name": name, "type": kind, "description": text, "jsonPath": path}
                        for name, kind, text, path in COLUMNS
                    ]
                    + [
                        {
                            "name": name,
                            "type": kind,
                            "description": text,
                            "jsonPath": path,
                            "priority": 1,
                        }
                        for name, kind, text, path in WIDE_COLUMNS
                    ],
                    "schema": {"openAPIV3Schema": in_words(server_schema())},
                }
            ],
        },
    }


class _Dumper(yaml.SafeDumper):
    """Writes out what is repeated instead of anchoring it: Helm and people read no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def crd_yaml() -> str:
    """The CustomResourceDefinition as the YAML that is committed in ``crds/``."""
    text = yaml.dump(
        custom_resource_definition(), Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True
    )
    return f"# Generated from the types in vllm_operator.api: {REGENERATE}\n{text}"


__all__ = [
    "COLUMNS",
    "CRD_NAME",
    "REGENERATE",
    "WIDE_COLUMNS",
    "crd_yaml",
    "custom_resource_definition",
    "in_words",
    "schema_problems",
    "server_schema",
]
