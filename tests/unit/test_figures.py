"""Numbers that have a name, and defaults: each stands in ``figures.csv`` a second time.

A figure that was chosen changes in two places or not at all, so that a slip of the hand is seen and
a change is read as one. A failing test shows the lines that differ.
"""

from __future__ import annotations

import csv
import dataclasses
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import BaseModel

import vllm_operator

FIGURES = Path(__file__).parent / "figures.csv"
PACKAGE = vllm_operator.__name__
ROOMS = sorted(one.name for one in pkgutil.iter_modules(vllm_operator.__path__) if one.ispkg)
ASSIGNED = re.compile(r"^(_?[A-Z][A-Z0-9_]*)(?:: [^=]+)? = ", re.MULTILINE)
FEWEST = {"controller": 50, "lifecycle": 40, "models": 40, "sizing": 90, "tuning": 150}


def written() -> dict[str, str]:
    with FIGURES.open(encoding="utf-8", newline="") as lines:
        return {row["name"]: row["value"] for row in csv.DictReader(lines)}


def is_figure(value: Any) -> bool:
    """A number, a switch, or a row or table of numbers."""
    if type(value) is tuple:
        return bool(value) and all(map(is_figure, value))
    if type(value) is dict:
        return bool(value) and all(map(is_figure, value.values()))
    return type(value) in (int, float, bool)


def modules(room: str) -> Iterator[ModuleType]:
    package = importlib.import_module(f"{PACKAGE}.{room}")
    yield package
    for one in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if one.name.startswith(f"{PACKAGE}.manifests.scripts."):
            continue  # programs of their own, which pods run
        yield importlib.import_module(one.name)


def of_class(kind: type) -> Iterator[tuple[str, Any]]:
    """Defaults of fields, and of what the methods are called with."""
    if dataclasses.is_dataclass(kind):
        yield from ((one.name, one.default) for one in dataclasses.fields(kind))
    elif issubclass(kind, BaseModel):
        yield from ((name, one.default) for name, one in kind.model_fields.items())
    else:
        yield from of_function("__init__", kind.__init__)
    for name, value in vars(kind).items():
        if inspect.isfunction(value) and not name.startswith("__"):
            yield from of_function(name, value)


def of_function(name: str, function: Any) -> Iterator[tuple[str, Any]]:
    for one in inspect.signature(function).parameters.values():
        yield f"{name}({one.name})", one.default


def figures(room: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for module in modules(room):
        at = module.__name__.removeprefix(f"{PACKAGE}.")
        here = set(ASSIGNED.findall(Path(str(module.__file__)).read_text("utf-8")))
        for name, value in list(vars(module).items()):
            if name in here and is_figure(value):
                found[f"{at}.{name}"] = repr(value)
            elif getattr(value, "__module__", "") != module.__name__:
                continue
            elif inspect.isclass(value):
                found |= {
                    f"{at}.{name}.{one}": repr(default)
                    for one, default in of_class(value)
                    if is_figure(default)
                }
            elif inspect.isfunction(inspect.unwrap(value)):
                found |= {
                    f"{at}.{one}": repr(default)
                    for one, default in of_function(name, inspect.unwrap(value))
                    if is_figure(default)
                }
    return found


def differences(here: Mapping[str, str], there: Mapping[str, str]) -> list[str]:
    return sorted(f"{name},{here[name]}" for name in here if there.get(name) != here[name])


@pytest.mark.parametrize("room", ROOMS)
def test_a_named_number_is_the_one_that_was_chosen(room: str) -> None:
    expected = {k: v for k, v in written().items() if k.split(".")[0] == room}
    found = figures(room)
    assert differences(found, expected) == differences(expected, found)
    assert len(found) >= FEWEST.get(room, 0)


def test_every_written_figure_is_of_a_room() -> None:
    assert {name.split(".")[0] for name in written()} <= set(ROOMS)
