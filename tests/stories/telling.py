"""Stories as functions, to tell them again with the operator killed after its n-th write."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from localcluster.cluster import Cluster
from stories import (
    test_changing,
    test_failing,
    test_starting,
    test_surviving,
    test_trials,
    test_tuning,
)
from stories.life import EACH, Life, living

MODULES: tuple[ModuleType, ...] = (
    test_starting,
    test_changing,
    test_surviving,
    test_failing,
    test_trials,
    test_tuning,
)


@dataclass(frozen=True)
class Story:
    """One row of the table."""

    file: str
    name: str
    tell: Callable[[Life], None]

    def __str__(self) -> str:
        return self.name.removeprefix("test_")


def stories() -> Iterator[Story]:
    """All of them: each test of the modules, once for each of its cases."""
    for module in MODULES:
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if name.startswith("test_"):
                file = f"{module.__name__.rpartition('.')[2]}.py"
                for suffix, case in _cases(function):
                    yield Story(file, name + suffix, partial(function, **case))


def story(name: str) -> Story:
    """The one with that name."""
    (found,) = [one for one in stories() if one.name == name]
    return found


def killed_after(cluster: Cluster, folder: Path, told: Story, write: int) -> bool:
    """Tell a story with the operator killed after its n-th write; whether there was such a one."""
    with living(cluster, folder, told.name, killed_after=write) as life:
        told.tell(life)
        return len(life.writes) >= write


def killed_after_every_write(cluster: Cluster, folder: Path, told: Story) -> int:
    """Tell it once, with the operator killed after each of its writes; how many there were."""
    with living(cluster, folder, told.name, killed_after=EACH) as life:
        told.tell(life)
        return len(life.writes)


def killed_after_each(cluster: Cluster, folder: Path, told: Story) -> int:
    """Tell it for each of its writes; how many there were."""
    return next(n - 1 for n in count(1) if not killed_after(cluster, folder, told, n))


def _cases(function: Callable[..., None]) -> Iterator[tuple[str, dict[str, Any]]]:
    marks: list[pytest.Mark] = getattr(function, "pytestmark", [])
    if not marks:
        yield "", {}
        return
    (mark,) = marks
    names, values = mark.args
    for name, case in zip(mark.kwargs["ids"], values, strict=True):
        yield f"[{name}]", dict(zip(names, case, strict=True))
