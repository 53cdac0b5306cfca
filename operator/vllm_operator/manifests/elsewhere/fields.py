"""What each target does with each field of a specification: ``fields.csv``.

``kept`` is in what is rendered, ``told`` stands in its comments, and ``refused`` renders nothing. A
field means itself and all below it, but for those that have a row of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal

from vllm_operator import datafiles
from vllm_operator.api.v1alpha1 import VLLMServerSpec

Target = Literal["compose", "systemd", "shell", "podman-quadlet"]
Verdict = Literal["kept", "told", "refused"]

EVERY: Final = "*"
DEFAULTS: Final[Mapping[str, Any]] = {
    "spec.replicas": 1,
    "spec.paused": False,
    "spec.pod.automountServiceAccountToken": False,
    "spec.pod.securityContext.readOnlyRootFilesystem": True,
}
"""Values that say nothing which would not hold without them."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table."""

    field: str
    targets: frozenset[str]
    verdict: str
    words: str

    def is_of(self, path: str, target: str) -> bool:
        """Whether it speaks of a field, given by its path, and a target."""
        if not {EVERY, target} & self.targets:
            return False
        return path == self.field or path.startswith((f"{self.field}.", f"{self.field}["))


@lru_cache(maxsize=1)
def rows() -> tuple[Row, ...]:
    """The table."""
    return tuple(
        Row(row["field"], frozenset(row["targets"].split()), row["verdict"], row["words"])
        for row in datafiles.rows(__package__, "fields.csv")
    )


def row_of(path: str, target: str) -> Row | None:
    """The row that speaks of a field most closely; None where none does."""
    found = [row for row in rows() if row.is_of(path, target)]
    return max(found, key=lambda row: len(row.field), default=None)


def given(spec: VLLMServerSpec) -> Iterator[str]:
    """Paths of the fields that a specification gives, without what holds anyhow."""
    for path, value in _leaves(spec.to_json_object(), "spec"):
        if path not in DEFAULTS or DEFAULTS[path] != value:
            yield path


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, member in value.items():
            yield from _leaves(member, f"{path}.{name}")
    elif isinstance(value, list) and value:
        for member in value:
            yield from _leaves(member, f"{path}[]")
    else:
        yield path, value


def of_specification(spec: VLLMServerSpec, target: Target, verdict: Verdict) -> tuple[Row, ...]:
    """The rows of that verdict which a specification meets, once each, in the table's order.

    Raises AssertionError for a field that no row speaks of: a test finds it before.
    """
    found = set()
    for path in given(spec):
        row = row_of(path, target)
        if row is None:
            raise AssertionError(f"fields.csv has no row of {path} for {target}")
        found.add(row)
    return tuple(row for row in rows() if row in found and row.verdict == verdict)
