"""Arguments that a user adds to ``vllm serve``: read as vLLM reads them, and what they may be.

``extra_arguments.csv`` says of every flag whether it may be added (``free``), whether it is taken
into account (``modelled``), or who sets it instead: a ``field`` of the specification, the
``operator``; or that it would change ``memory`` behind the plan's back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal

from .flags import SWITCH, VALUES, ServeFlag, find, refusal
from .tables import rows
from .versions import Version

Verdict = Literal["free", "modelled", "field", "operator", "memory"]

SIZE: Final = re.compile(r"^-?[0-9]+(\.[0-9]+)?[kKmMgGtT]?$")
"""Whole numbers, also as 25.6k or 1K (``human_readable_int`` of vllm ``engine/arg_utils.py``)."""

STRUCTURED: Final = ("json", "object")
KINDS: Final = {
    "int": "a whole number",
    "size": "a whole number",
    "float": "a number",
    "json": "JSON",
    "object": "a JSON object",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """What ``extra_arguments.csv`` says of a flag."""

    verdict: Verdict
    reads: str
    """``int``, ``float``, ``size``, ``json``, ``object`` (of JSON), or empty for any text."""
    values: tuple[str, ...]
    """The values that may be given, of JSON the keys; empty where any may."""
    remedy: str
    since: Version | None = None
    """Before it, the flag makes vLLM fall back to the engine before V1."""


@dataclass(frozen=True, slots=True)
class Argument:
    """One flag with its values."""

    index: int
    """Which word gives the flag."""
    flag: ServeFlag
    key: str
    """What follows the dot where a part of a JSON value is given, else empty."""
    values: tuple[str, ...]
    words: tuple[int, ...]
    """Which word gives each value."""

    @property
    def name(self) -> str:
        """The flag as it is passed on: spelt out."""
        spelling = self.flag.spelling
        return spelling if spelling.startswith("--") else self.flag.name


@lru_cache(maxsize=1)
def rules() -> dict[str, Rule]:
    """Every rule by the flag's name."""
    return {
        row["flag"]: Rule(
            row["verdict"],  # type: ignore[arg-type]
            row["reads"],
            tuple(value for value in row["values"].split("|") if value),
            row["remedy"],
            Version.parse(row["since"]) if row["since"] else None,
        )
        for row in rows("extra_arguments.csv")
    }


def read(words: Sequence[str], version: Version) -> tuple[list[Argument], list[tuple[int, str]]]:
    """The flags that ``words`` give, and what the parser of ``version`` has against them.

    A problem is the number of a word and what is wrong with it. As ``FlexibleArgumentParser``
    reads (vllm ``utils/argparse_utils.py``): ``_`` for ``-``, ``--flag=value``, short forms,
    beginnings of names, dotted JSON keys.
    """
    found: list[Argument] = []
    problems: list[tuple[int, str]] = []
    unknown = False
    for index, word in enumerate(words):
        if not _is_flag(word):
            last = found[-1] if found else None
            if unknown:
                continue  # whose value it is nobody knows
            if last is None or not _takes_more(last):
                problems.append((index, f"{word!r} follows nothing that takes a value; remove it"))
            else:
                found[-1] = _with_value(last, word, index)
            continue
        if word == "--":
            problems.append((index, "-- ends the flags; remove it"))
            continue
        flag = find(word, version)
        unknown = flag is None
        if flag is None:
            problems.append((index, refusal(word, version) or f"vLLM does not know {word}"))
            continue
        found.append(_begun(word, index, flag))
    problems += [problem for argument in found for problem in _value_problems(argument)]
    return found, sorted(problems)


def _is_flag(word: str) -> bool:
    """As argparse tells them: a negative number is a value, and so is a word with a space."""
    if not word.startswith("-") or word == "-" or " " in word.partition("=")[0]:
        return False
    try:
        float(word)
    except ValueError:
        return True
    return False


def _begun(word: str, index: int, flag: ServeFlag) -> Argument:
    spelling, given, value = word.partition("=")
    if not spelling.startswith("--") and not given and flag.takes != SWITCH:
        # -O3, -qfp8: the value follows without a space.
        whole = spelling.partition(".")[0]
        if whole != flag.spelling and whole.startswith(flag.spelling):
            value, given = whole.removeprefix(flag.spelling), "="
        elif whole.startswith("-O") and flag.name == "--optimization-level" and whole != "-O":
            value, given = whole.removeprefix("-O"), "="
    key = spelling.partition(".")[2]
    values = (value,) if given else ()
    return Argument(index, flag, key, values, (index,) * len(values))


def _takes_more(argument: Argument) -> bool:
    if argument.flag.takes == SWITCH:
        return False
    if argument.flag.takes == VALUES and not argument.key:
        # --flag=value is one value, and what follows it is none.
        return argument.index not in argument.words
    return not argument.values


def _with_value(argument: Argument, value: str, index: int) -> Argument:
    return Argument(
        argument.index,
        argument.flag,
        argument.key,
        (*argument.values, value),
        (*argument.words, index),
    )


def _value_problems(argument: Argument) -> Iterator[tuple[int, str]]:
    flag, name = argument.flag, argument.name
    if flag.takes == SWITCH:
        if argument.values:
            yield argument.index, f"{name} takes no value; remove what follows the ="
        return
    if not argument.values:
        # A list may be empty; nothing else may.
        if flag.takes != VALUES:
            yield argument.index, f"{name} has no value; add it"
        return
    rule = rules().get(flag.name)
    if argument.key and (rule is None or rule.reads not in STRUCTURED):
        yield argument.index, f"{flag.name} takes no JSON, and so no key {argument.key}"
        return
    if rule is not None and rule.reads == "json" and rule.values:
        yield from ((argument.index, text) for text in _key_problems(argument, rule))
        return
    for value, index in zip(argument.values, argument.words, strict=True):
        if argument.key:
            continue
        # The parser of some versions lists a None that no word gives.
        accepted = tuple(one for one in flag.choices if one != "None")
        if rule is not None and rule.values:
            accepted = tuple(one for one in accepted or rule.values if one in rule.values)
        if accepted and value not in accepted:
            yield index, f"{name} {value} is none of {', '.join(accepted)}"
        elif rule is not None and not _reads(rule.reads, value):
            yield index, f"{name} takes {KINDS[rule.reads]}, and is {value!r}"


def _key_problems(argument: Argument, rule: Rule) -> Iterator[str]:
    """Keys that not every version with the flag has are refused: vLLM's parser refuses them."""
    if argument.key:
        keys = [argument.key.partition(".")[0]]
    else:
        given = _parsed(argument.values[0])
        if not isinstance(given, dict):
            yield f"{argument.name} takes a JSON object, and is {argument.values[0]!r}"
            return
        keys = list(given)
    for key in keys:
        if key not in rule.values:
            known = ", ".join(rule.values)
            yield f"{argument.name} has no key {key} that may be set here; it has {known}"


def _reads(kind: str, value: str) -> bool:
    try:
        if kind == "int":
            int(value)
        elif kind == "float":
            float(value)
        elif kind == "json":
            json.loads(value)
        elif kind == "object":
            return isinstance(json.loads(value), dict)
        elif kind == "size":
            return SIZE.match(value) is not None
    except ValueError:
        return False
    return True


def json_value(arguments: Sequence[Argument]) -> Any:
    """What several arguments of one flag give together: one JSON value, or dotted keys.

    Raises ``ValueError`` where they are both (vLLM's parser drops the former), or no object.
    """
    whole: dict[str, Any] = {}
    for argument in arguments:
        value = _parsed(argument.values[0]) if argument.values else None
        if not argument.key:
            if len(arguments) > 1:
                raise ValueError("is given more than once; keep one")
            return value
        target = whole
        *path, last = argument.key.split(".")
        for part in path:
            target = target.setdefault(part, {})
            if not isinstance(target, dict):
                raise ValueError(f"{part} must be a JSON object")
        target[last] = value
    return whole


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
