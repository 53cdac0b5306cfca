"""Arguments that a user adds to ``vllm serve``: read as vLLM reads them, and what they may be.

``extra_arguments.csv`` says of every flag whether it may be added (``free``), whether it is taken
into account (``modelled``), or who sets it instead: a ``field`` of the specification, the
``operator``; that it would change ``memory`` behind the plan's back; or that the plan leaves more
room for it, as nobody has measured what it takes (``bounded``, by ``backends.csv``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal

from .flags import SWITCH, VALUES, ServeFlag, find, refusal
from .tables import rows, rows_for
from .versions import Version

Verdict = Literal["free", "modelled", "bounded", "field", "operator", "memory"]

SIZE: Final = re.compile(r"\d+(\.\d+)?[kmgt]|\d+[KMGT]")
"""What is a whole number beside what ``int`` reads: 25.6k, 1K; never 25.6K, nor a sign
(``human_readable_int`` of vllm ``engine/arg_utils.py``, from 0.20 ``utils/argparse_utils.py``)."""
NAMED: Final = re.compile(r"--[a-z0-9-]+")
"""A flag in a text."""

COMPILATION: Final = "--compilation-config"
STRUCTURED: Final = ("json", "object")
KINDS: Final = {
    "int": "a whole number",
    "count": "a whole number from 0 on",
    "size": "a whole number, or one such as 16M or 1.5k",
    "float": "a number",
    "json": "JSON",
    "object": "a JSON object",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """What ``extra_arguments.csv`` says of a flag."""

    verdict: Verdict
    reads: str
    """A key of ``KINDS``, or empty for any text."""
    values: tuple[tuple[str, Version | None], ...]
    """The values that may be given, of JSON the keys, each with the first version that has it where
    the flag is older; empty where any may."""
    remedy: str
    since: Version | None = None
    """Before it, the flag makes vLLM fall back to the engine before V1."""

    @property
    def refused(self) -> bool:
        """Whether the flag may not be added."""
        return self.verdict not in ("free", "modelled", "bounded")

    def values_of(self, version: Version) -> tuple[str, ...]:
        """The values, or the keys, that may be given to ``version``."""
        return tuple(
            value
            for value, since in self.values
            if since is None or version.release >= since.release
        )


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
            tuple(_value(one) for one in row["values"].split("|") if one),
            row["remedy"],
            Version.parse(row["since"]) if row["since"] else None,
        )
        for row in rows("extra_arguments.csv")
    }


def _value(text: str) -> tuple[str, Version | None]:
    """``formatter@0.32`` is a value that 0.32 is the first to have."""
    value, _, since = text.partition("@")
    return value, Version.parse(since) if since else None


@lru_cache(maxsize=1)
def unmeasured_shares() -> Mapping[str, float]:
    """By flag, which part of a GPU's memory kernels that it chooses may take beyond the plan's."""
    return {row["flag"]: float(row["share"]) for row in rows("backends.csv")}


@lru_cache(maxsize=64)
def bounds(version: Version) -> dict[str, tuple[Mapping[str, str], ...]]:
    """By flag, the rows of ``bounds.csv`` that hold for ``version``."""
    found: dict[str, tuple[Mapping[str, str], ...]] = {}
    for row in rows_for("bounds.csv", version):
        found[row["flag"]] = (*found.get(row["flag"], ()), row)
    return found


def read(words: Sequence[str], version: Version) -> tuple[list[Argument], list[tuple[int, str]]]:
    """The flags that ``words`` give, and what the parser of ``version`` has against them.

    A problem is the number of a word and what is wrong with it. As ``FlexibleArgumentParser``
    reads (vllm ``utils/argparse_utils.py``): ``_`` for ``-``, ``--flag=value``, short forms,
    beginnings of names, dotted JSON keys. ``-O.mode=3`` is a key of ``--compilation-config`` in
    every version, as it was from 0.9.2 to 0.12.0; later parsers accept it for a level that the
    engine then refuses.
    """
    found: list[Argument] = []
    problems: list[tuple[int, str]] = []
    unknown = False
    for index, given in enumerate(words):
        word = f"{COMPILATION}{given[2:]}" if given.startswith("-O.") else given
        if not _is_flag(word):
            last = found[-1] if found else None
            if unknown:
                continue  # whose value it is nobody knows
            if last is None or not _takes_more(last):
                problems.append((index, _stray(word, version)))
            else:
                found[-1] = _with_value(last, word, index)
            continue
        if word == "--":
            problems.append((index, "-- ends the flags; remove it"))
            continue
        flag = find(word, version)
        unknown = flag is None
        if flag is None:
            problems.append((index, _unknown(word, version)))
            continue
        found.append(_begun(word, index, flag))
    problems += [problem for argument in found for problem in _value_problems(argument, version)]
    return found, sorted(problems)


def objection(argument: Argument, version: Version) -> str | None:
    """Why the argument's flag may not be added, and what to do; None where it may."""
    return _objection(argument.name, argument.flag, version)


def _objection(name: str, flag: ServeFlag, version: Version) -> str | None:
    rule = rules().get(flag.name)
    if rule is None:
        return f"{name} is not known to leave memory as it is planned; remove it"
    if rule.verdict == "field":
        return f"{name} repeats a field of the specification; {rule.remedy}"
    if rule.refused:
        return f"{name} may not be set here; {rule.remedy}"
    if rule.since is not None and version.release < rule.since.release:
        return (
            f"{name} makes vLLM {version} fall back to the engine before V1; remove it, or take "
            f"{rule.since} or newer"
        )
    return None


def _unknown(word: str, version: Version) -> str:
    """What is wrong with a flag that the version does not have.

    What took its place is vLLM's word; a remedy that is refused in its turn is none, so the last
    of the chain is told.
    """
    text = refusal(word, version)
    if text is None:
        return f"vLLM does not know {word}; remove it"
    lacking, _, remedy = text.partition("; ")
    own = rules().get(word.partition("=")[0].replace("_", "-"))
    if own is not None and own.refused:
        return f"{lacking}; {own.remedy}"
    for name in NAMED.findall(remedy):
        rule = rules().get(name)
        if find(name, version) is None:
            return f"{lacking}; remove it"
        if rule is not None and rule.refused:
            nearest = f"{remedy}; " if remedy.startswith("the nearest") else ""
            return f"{lacking}; {nearest}{rule.remedy}"
    return text


def _stray(word: str, version: Version) -> str:
    """What is wrong with a word that no flag takes: mostly a flag and its value in one word."""
    spelling, _, rest = word.strip().partition(" ")
    flag = find(spelling, version) if _is_flag(spelling) else None
    if not _is_flag(spelling) or spelling == "--":
        return f"{word!r} follows nothing that takes a value; remove it"
    if flag is None:
        return _unknown(spelling, version)
    refused = _objection(_begun(spelling, 0, flag).name, flag, version)
    if refused is not None:
        return refused
    value = rest.strip().removeprefix("=").strip()
    if not value or flag.takes == SWITCH:
        return f"{word!r} is more than a flag; write {spelling} alone"
    several = flag.takes == VALUES or any(map(_is_flag, value.split()))
    if several and " " in value:
        return f"{word!r} is one entry; write every flag and every value as an entry of its own"
    if "=" in spelling:
        return f"{word!r} follows nothing that takes a value; remove it"
    return f"{word!r} is one entry; write two, {spelling} and {value}, or {spelling}={value}"


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


def _value_problems(argument: Argument, version: Version) -> Iterator[tuple[int, str]]:
    flag, name = argument.flag, argument.name
    if flag.takes == SWITCH:
        if argument.values:
            yield argument.index, f"{name} takes no value; remove what follows the ="
        return
    if not argument.values:
        # Nor may a list be empty: no version has a flag of `nargs="*"` among these.
        yield argument.index, f"{name} has no value; add it"
        return
    rule = rules().get(flag.name)
    if argument.key and (rule is None or rule.reads not in STRUCTURED):
        yield argument.index, f"{flag.name} takes no JSON, and so no key {argument.key}"
        return
    if rule is not None and rule.reads == "json" and rule.values:
        yield from ((argument.index, text) for text in _key_problems(argument, rule, version))
        return
    listed = rule.values_of(version) if rule is not None else ()
    for value, index in zip(argument.values, argument.words, strict=True):
        if argument.key:
            continue
        # The parser of some versions lists a None that no word gives.
        accepted = tuple(one for one in flag.choices if one != "None")
        if listed:
            accepted = tuple(one for one in accepted or listed if one in listed)
        if accepted and value not in accepted:
            yield index, f"{name} {value} is none of {', '.join(accepted)}"
        elif rule is not None and not _reads(rule.reads, value):
            yield index, f"{name} takes {KINDS[rule.reads]}, and is {value!r}"
        elif (outside := _outside(argument.flag.name, value, version)) is not None:
            yield index, f"{name} {outside}"
        elif len(argument.values) > 1 and value.startswith("-"):
            # Joined to the flag it would be a list of its own, and argparse keeps the last one.
            yield index, f"{name} {value}: a value that begins with a dash ends the list; remove it"


def _outside(flag: str, value: str, version: Version) -> str | None:
    """Why the engine's configuration refuses a value that its parser reads (``bounds.csv``)."""
    for row in bounds(version).get(flag, ()):
        if row["value"]:
            if value == row["value"]:
                return f"{value} is refused by vLLM {version}; {row['remedy']}"
            continue
        try:
            number = float(value)
        except ValueError:
            continue  # 16M, which is above all that is refused
        low = row["above"] and number <= float(row["above"])
        low = low or (row["least"] and number < float(row["least"]))
        high = row["below"] and number >= float(row["below"])
        high = high or (row["most"] and number > float(row["most"]))
        if low or high:
            return f"is {value}, and vLLM {version} takes {_range(row)}; {row['remedy']}"
    return None


def _range(row: Mapping[str, str]) -> str:
    """The numbers that a row lets pass."""
    low = f"more than {row['above']}" if row["above"] else f"at least {row['least']}"
    if not (row["most"] or row["below"]):
        return low
    return f"{low} and {'at most ' + row['most'] if row['most'] else 'less than ' + row['below']}"


def _key_problems(argument: Argument, rule: Rule, version: Version) -> Iterator[str]:
    """Keys that the version does not have are refused: vLLM's parser refuses them."""
    if argument.key:
        keys = [argument.key.partition(".")[0]]
    else:
        given = _parsed(argument.values[0])
        if not isinstance(given, dict):
            yield f"{argument.name} takes a JSON object, and is {argument.values[0]!r}"
            return
        keys = list(given)
    for key in keys:
        if key not in rule.values_of(version):
            known = ", ".join(rule.values_of(version))
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
        elif kind == "count":
            return int(value) >= 0
        elif kind == "size" and SIZE.fullmatch(value.strip()) is None:
            int(value)
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
