"""Nodes that GPU feature discovery does not label: the clouds' own labels name their GPUs.

``cloud_labels.csv`` maps values of such labels to products of the catalogue, ``cloud_parts.csv``
says which nodes with such a label hold GPUs that are shared or only parts of GPUs, and
``cloud_counts.csv`` how many a machine has: a node that offers more has pods share them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from vllm_operator import datafiles

INSTANCE_TYPE: Final = "node.kubernetes.io/instance-type"
COUNTS: Final = ("karpenter.k8s.aws/instance-gpu-count", "eks.amazonaws.com/instance-gpu-count")
"""Labels that say how many GPUs the machine has."""


@dataclass(frozen=True, slots=True)
class Part:
    """A label that says that a node's GPUs are not whole GPUs of one's own."""

    label: str
    values: tuple[str, ...]
    """Values that say so; empty where any does."""
    is_shared: bool
    """Whether whole GPUs are shared; else they are parts of GPUs."""

    def marks(self, labels: Mapping[str, str]) -> bool:
        """Whether a node with these labels is meant."""
        return self.label in labels and (not self.values or labels[self.label] in self.values)

    def present(self) -> dict[str, Any]:
        """The match expression of nodes that are meant."""
        if not self.values:
            return {"key": self.label, "operator": "Exists"}
        return {"key": self.label, "operator": "In", "values": list(self.values)}

    def absent(self) -> dict[str, Any]:
        """The match expression of nodes that are not meant."""
        if not self.values:
            return {"key": self.label, "operator": "DoesNotExist"}
        return {"key": self.label, "operator": "NotIn", "values": list(self.values)}


def named(labels: Mapping[str, str]) -> tuple[str, str] | None:
    """The label of a node that names its GPUs, and the product that it means."""
    for label, products in _by_label().items():
        if product := products.get(labels.get(label, "")):
            return label, product
    return None


def labels_of(products: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Labels that mean one of these products, with their values."""
    found: dict[str, tuple[str, ...]] = {}
    for label, meant in _by_label().items():
        values = tuple(value for value, product in meant.items() if product in products)
        if values:
            found[label] = values
    return found


def is_known(label: str) -> bool:
    """Whether a label is one that names GPUs, or says that they are parts."""
    parts_too = any(part.label == label for part in _all_parts())
    return label in _by_label() or label in COUNTS or parts_too


def gpus(labels: Mapping[str, str]) -> int | None:
    """How many GPUs a machine has, as its cloud says; None where nobody has described it."""
    said = next((labels[label] for label in COUNTS if labels.get(label, "").isdecimal()), None)
    return _counts().get(labels.get(INSTANCE_TYPE, "")) if said is None else int(said)


def parts(label: str) -> tuple[Part, ...]:
    """What may stand beside a label that names GPUs and says that they are no whole ones."""
    return _parts().get(label, ())


def other_values(products: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Labels of clouds that say nothing but which GPU a node has, with the values that mean others.

    A value that nobody has described is not among them.
    """
    found = {}
    for label, meant in _by_label().items():
        others = tuple(value for value, product in meant.items() if product not in products)
        if label != INSTANCE_TYPE and others:
            found[label] = others
    return found


@lru_cache(maxsize=1)
def _by_label() -> Mapping[str, Mapping[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for row in datafiles.rows(__package__, "cloud_labels.csv"):
        for label in row["label"].split(";"):
            for value in row["values"].split(";"):
                found.setdefault(label, {})[value] = row["product"]
    return found


@lru_cache(maxsize=1)
def _parts() -> Mapping[str, tuple[Part, ...]]:
    found: dict[str, tuple[Part, ...]] = {}
    for row in datafiles.rows(__package__, "cloud_parts.csv"):
        values = tuple(value for value in row["values"].split(";") if value)
        part = Part(row["beside"], values, row["means"] == "shared")
        found[row["label"]] = (*found.get(row["label"], ()), part)
    return found


@lru_cache(maxsize=1)
def _counts() -> Mapping[str, int]:
    rows = datafiles.rows(__package__, "cloud_counts.csv")
    return {name: int(row["gpus"]) for row in rows for name in row["types"].split(";")}


def _all_parts() -> list[Part]:
    return [part for each in _parts().values() for part in each]
