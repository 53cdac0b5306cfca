"""Servers that are rendered for other targets, and readers of what comes out."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from unit.sizing.examples import inputs_for, server
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.cli.documents import read_manifests
from vllm_operator.cli.plan import Surroundings, plan_manifests
from vllm_operator.manifests.elsewhere.fields import Target
from vllm_operator.manifests.elsewhere.targets import elsewhere
from vllm_operator.manifests.planned import Planned, planned

TARGETS: tuple[Target, ...] = get_args(Target)
ROOT = Path(__file__).resolve().parents[4]
FOLDER = ROOT / "examples"
DATA = Path(__file__).parent / "data"
H100 = {"product": "NVIDIA-H100-80GB-HBM3", "perNode": 8}


def planned_of(*model: Any, **spec: Any) -> Planned:
    """A server's plan, without a user that nobody asked for."""
    spec.setdefault("gpu", H100)
    wanted: VLLMServer = server(*model, **spec)
    found = planned(wanted, inputs_for(wanted, max_nodes=8, identity="Platform"))
    assert isinstance(found, Planned), found.problems
    return found


def rendered(target: Target, *model: Any, devices: str | None = None, **spec: Any) -> str:
    """A server for a target."""
    text = elsewhere(planned_of(*model, **spec), target, devices)
    assert isinstance(text, str), text
    return text


def refused(
    target: Target, *model: Any, devices: str | None = None, **spec: Any
) -> tuple[str, str]:
    """Field and message of the one reason why there is none."""
    found = elsewhere(planned_of(*model, **spec), target, devices)
    assert isinstance(found, tuple), found
    (problem,) = found
    return problem.field, problem.message


def needed(program: str | Path | None, name: str, instead: str) -> str:
    """The program; without it the test is skipped, and the reason says what holds the same for
    everybody: `make test` wants nothing of a machine but Python, make and git."""
    if program is None:
        pytest.skip(f"{name} is not on this machine; {instead} is asked everywhere")
    return str(program)


@dataclass(frozen=True)
class Example:
    """A server of a file of examples."""

    path: Path
    name: str
    stem: str


def _examples() -> Iterator[Example]:
    """The servers of all files, the guides' recipes included; files of none are passed over."""
    for path in (*sorted(FOLDER.glob("*.yaml")), *sorted(FOLDER.glob("*/*.yaml"))):
        documents = [one for one in yaml.safe_load_all(path.read_text()) if one]
        names = [one["metadata"]["name"] for one in documents if one.get("kind") == "VLLMServer"]
        for name in names:
            yield Example(path, name, path.stem if len(names) == 1 else f"{path.stem}-{name}")


EXAMPLES = tuple(_examples())


@lru_cache(maxsize=128)
def example_planned(example: Example) -> Planned:
    """The server of an example, on a node of eight H100 unless its file names GPUs."""
    named = "product:" in example.path.read_text()
    gpu, count = (None, None) if named else ("H100", 8)
    around = Surroundings(gpu=gpu, gpus_per_node=count, offline=True, identity="Platform")
    plans = plan_manifests(read_manifests(str(example.path)), around)
    (found,) = [one for one in plans if one.server.metadata.name == example.name]
    assert isinstance(found, Planned)
    return found


def example_rendered(example: Example, target: Target) -> str:
    """An example for a target."""
    text = elsewhere(example_planned(example), target)
    assert isinstance(text, str), text
    return text


def service(text: str) -> dict[str, Any]:
    """The one service of a compose file, as Compose reads it."""
    ((_, found),) = yaml.safe_load(text)["services"].items()
    return dict(_uninterpolated(found))


def _uninterpolated(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _uninterpolated(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_uninterpolated(item) for item in value]
    return value.replace("$$", "$") if isinstance(value, str) else value


def entries(text: str, section: str) -> list[tuple[str, str]]:
    """Keys and values of a section of a unit, continued lines joined."""
    joined = re.sub(r"\\\n\s*", "", text.replace(" \\\n", " \\\n"))
    part = joined.split(f"\n[{section}]\n")[1].split("\n[")[0]
    return [
        (key, value)
        for key, _, value in (line.partition("=") for line in part.splitlines() if line.strip())
    ]


def values(text: str, section: str, key: str) -> list[str]:
    """All values of a key."""
    return [value for name, value in entries(text, section) if name == key]


UNIT_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'", "s": " "}


def unit_words(value: str, *, expands: bool) -> list[str]:
    """Words of a unit's value, read as systemd.syntax(7) and systemd.service(5) say."""
    words, word, quote, begun, place = list[str](), "", "", False, 0
    while place < len(value):
        one, ahead = value[place], value[place : place + 2]
        if one == "\\":
            if value[place + 1] == "x":
                word += chr(int(value[place + 2 : place + 4], 16))
                place += 4
            else:
                word += UNIT_ESCAPES[value[place + 1]]
                place += 2
            begun = True
            continue
        if quote:
            quote, word = ("", word) if one == quote else (quote, word + one)
        elif one in "\"'":
            quote, begun = one, True
        elif one in " \t":
            if begun:
                words.append(word)
            word, begun = "", False
        else:
            word, begun = word + one, True
        place += 1
        assert ahead
    assert not quote
    words += [word] if begun else []
    return [_expanded(found, expands) for found in words]


def _expanded(word: str, expands: bool) -> str:
    assert re.fullmatch(r"(?:[^%]|%%)*", word, re.S), f"a specifier in {word!r}"
    word = word.replace("%%", "%")
    if not expands:
        return word
    assert re.fullmatch(r"(?:[^$]|\$\$)*", word, re.S), f"a variable in {word!r}"
    return word.replace("$$", "$")


def shell_environment(script: str) -> dict[str, str]:
    """The variables that a script's last command is given."""
    return dict(word.split("=", 1) for word in _last(script)[0])


def shell_command(script: str) -> list[str]:
    """The words of a script's last command."""
    return _last(script)[1]


def _last(script: str) -> tuple[list[str], list[str]]:
    words = shlex.split(script[script.index("\nexec env ") :].replace("\\\n", " "))[2:]
    begins = next(place for place, word in enumerate(words) if "=" not in word)
    return words[:begins], words[begins:]
