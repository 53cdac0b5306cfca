"""What Jobs that measure have in common: how they end, and how their logs are read. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from vllm_operator.errors import InputError

CONTAINER: Final = "benchmark"
LASTS_SECONDS: Final = 3600
"""After its end: for pipelines that read its log."""

Object = dict[str, Any]


def name_at(now: datetime) -> str:
    """The name of what is measured at that second, so that names sort as they came."""
    return f"{now:%Y%m%d-%H%M%S}"


def as_job(
    name: str,
    namespace: str,
    labels: Mapping[str, str],
    pod: Mapping[str, Any],
    deadline_seconds: int,
    owners: list[Object] | None = None,
) -> Object:
    """A Job of one pod that is not tried again and has no rights of its own.

    ``pod`` completes its specification.
    """
    owned = {} if owners is None else {"ownerReferences": owners}
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 5,
        **pod,
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels), **owned},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": deadline_seconds,
            "ttlSecondsAfterFinished": LASTS_SECONDS,
            "template": {"metadata": {"labels": dict(labels)}, "spec": spec},
        },
    }


def plain(argument: str) -> str:
    """An argument that a process gets as it is: Kubernetes makes one ``$`` of two, and puts the
    value of a variable for ``$(NAME)``."""
    return argument.replace("$", "$$")


def marked(text: str, mark: str) -> Iterator[Mapping[str, Any]]:
    """The records of a log's marked lines. Raises ``InputError`` where one cannot be read."""
    for line in text.splitlines():
        _, found, told = line.partition(mark)
        if not found:
            continue
        try:
            record: Mapping[str, Any] = json.loads(told)
        except ValueError as problem:
            raise InputError(f"a line of the log is cut off: {told[:80]!r}") from problem
        yield record
