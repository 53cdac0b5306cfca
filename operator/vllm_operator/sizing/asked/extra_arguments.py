"""``spec.engine.extraArgs``: what may be added to the command, and what it changes of the plan.

Which flags may be added stands in ``engine/extra_arguments.csv``, which keys of
``--compilation-config`` in ``engine/compilation.csv``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from vllm_operator.api.plan import Flag
from vllm_operator.engine.arguments import (
    COMPILATION,
    STRUCTURED,
    Argument,
    json_value,
    objection,
    read,
    rules,
    unmeasured_shares,
)
from vllm_operator.engine.flags import VALUES
from vllm_operator.engine.graphs import LARGEST as LARGEST_DEFAULT
from vllm_operator.engine.settings import setting_problems
from vllm_operator.engine.tables import does, rows, rows_for
from vllm_operator.engine.versions import Version
from vllm_operator.errors import IllegalPin, PlanningError

FIELD: Final = "spec.engine.extraArgs"
ASYNC: Final = "--async-scheduling"
PICTURES: Final = "--limit-mm-per-prompt"
APPENDED: Final = ("--middleware", "--ignore-patterns")
"""Flags whose values add up where they are given several times."""

MOST_GRAPHS: Final = 51
"""Default sizes up to ``LARGEST_DEFAULT``: 1, 2, 4, every 8th to 248, every 16th to 512. What
graphs take was fitted to them."""
MODES: Final = ("NONE", "PIECEWISE", "FULL", "FULL_DECODE_ONLY", "FULL_AND_PIECEWISE")
LEVELS: Final = ("0", "1", "2", "3")

SIZES: Final = "cudagraph_capture_sizes"
LARGEST: Final = "max_cudagraph_capture_size"
SIZE_FLAGS: Final = {
    SIZES: ("--cudagraph-capture-sizes", "--cuda-graph-sizes"),
    LARGEST: ("--max-cudagraph-capture-size",),
}
"""What sets a key of ``--compilation-config`` too; vLLM takes one of them only (0.11.1 to 0.33.0
``engine/arg_utils.py``, "are mutually exclusive")."""
REPLACED_KEYS: Final = {"use_cudagraph": False, "full_cuda_graph": True}
"""Settings that 0.10.2 and 0.11.0 (``config/compilation.py``) refuse beside ``cudagraph_mode``."""


@dataclass(frozen=True, slots=True)
class ExtraArguments:
    """What is added to the command, and what of it the plan counts."""

    flags: tuple[Flag, ...] = ()
    names: frozenset[str] = frozenset()
    """Names of the flags."""
    graphs: bool = True
    """Whether CUDA graphs are captured as far as these arguments go."""
    pictures: bool = True
    """Whether requests may carry pictures."""
    asynchronous: bool = False
    """Whether they ask for ``--async-scheduling``."""
    largest_graph: int | None = None
    """Tokens of the largest CUDA graph that they ask for, whatever ``--max-num-seqs`` is; None
    where they leave it to vLLM."""
    share: float = 0.0
    """Which part of a GPU's memory the kernels that they choose may take beyond the plan's."""

    def value(self, name: str) -> str | None:
        """The value of a flag that takes one; None where it is not given."""
        return next((flag.value for flag in self.flags if flag.name == name), None)


def read_extra_arguments(
    words: Sequence[str], version: Version, *, eager: bool = False, batch: int | None = None
) -> tuple[ExtraArguments, list[PlanningError]]:
    """The extra arguments, or why they are refused, each with the word's place.

    ``eager``: no graphs are captured; ``batch``: the pinned tokens of a step, which bound them.
    """
    arguments, found = read(words, version)
    problems: list[PlanningError] = [IllegalPin(_at(index), text) for index, text in found]
    wrong = {index for index, _ in found}
    problems += [
        IllegalPin(_at(one.index), text)
        for one in arguments
        if one.index not in wrong and (text := objection(one, version)) is not None
    ]
    groups: dict[str, list[Argument]] = {}
    for one in arguments:
        groups.setdefault(one.flag.name, []).append(one)
    problems.sort(key=lambda one: int(one.field.partition("[")[2].rstrip("]")))
    problems += _repeated(groups)
    problems += _lacking(groups, version)
    if problems:
        return ExtraArguments(), problems
    values: dict[str, Any] = {}
    for name, group in groups.items():
        if rules()[name].reads not in STRUCTURED:
            continue
        try:
            values[name] = json_value(group)
        except ValueError as problem:
            return ExtraArguments(), [IllegalPin(_at(group[-1].index), f"{name} {problem}")]
    problems += _modelled_problems(groups, values, version)
    if not problems and does("compares-graph-sizes", version):
        captures = not eager and _graphs(groups, values)
        problems += _graph_size_problems(groups, values, batch if captures else 0)
    flags = tuple(
        flag for name in groups for flag in _flags(groups[name], values.get(name), version)
    )
    added = ExtraArguments(
        flags,
        frozenset(groups),
        _graphs(groups, values),
        _pictures(groups, values),
        _on(groups.get(ASYNC, ())),
        _largest_graph(groups, values),
        _share(groups),
    )
    return (ExtraArguments(), problems) if problems else (added, [])


def _share(groups: Mapping[str, Sequence[Argument]]) -> float:
    """The largest share of those that are not left to vLLM."""
    shares = unmeasured_shares()
    chosen = (name for name, group in groups.items() if group[-1].values != ("auto",))
    return max((shares.get(name, 0.0) for name in chosen), default=0.0)


def _bounded(name: str, where: str) -> str:
    """The reason of a flag; of one that nobody has measured also what the plan makes of it."""
    share = unmeasured_shares().get(name)
    if share is None:
        return where
    return (
        f"{where}; nobody has measured what such kernels take: the sure figures leave "
        f"{share:.1%} of the GPU's memory for it, unless it is auto"
    )


def _at(index: int) -> str:
    return f"{FIELD}[{index}]"


def _repeated(groups: Mapping[str, Sequence[Argument]]) -> Iterator[PlanningError]:
    for name, group in groups.items():
        keyed = all(one.key for one in group)
        if len(group) > 1 and not keyed and name not in APPENDED:
            yield IllegalPin(_at(group[-1].index), f"{name} is given more than once; keep one")


def _lacking(groups: Mapping[str, Sequence[Argument]], version: Version) -> Iterator[PlanningError]:
    """Flags that the version refuses without another one (``engine/needs.csv``)."""
    for row in rows_for("needs.csv", version):
        group, (needed, _, value) = groups.get(row["flag"]), row["needs"].partition(" ")
        beside = groups.get(needed, ())
        if not group or not _on(group):
            continue
        if not _on(beside) or (value and beside[-1].values != (value,)):
            yield IllegalPin(
                _at(group[0].index), f"{row['flag']} needs {row['needs']} beside it; add it"
            )


def _on(group: Sequence[Argument]) -> bool:
    return bool(group) and not group[-1].flag.negative


def _flags(group: Sequence[Argument], value: Any, version: Version) -> Iterator[Flag]:
    """As they are passed on: spelt out, dotted keys as one JSON value."""
    first = group[0]
    if first.flag.name == COMPILATION and _count(value):
        # A number alone is read by the first versions only; its key has two names.
        known = {row["key"] for row in rows_for("compilation.csv", version)}
        value = {"mode" if "mode" in known else "level": value}
    # Python has no ``true``; 1 and 0 are read as switches by Python and by JSON.
    old = not does("reads-json-compilation", version)
    if first.flag.name == COMPILATION and old and isinstance(value, dict):
        value = {key: int(one) if isinstance(one, bool) else one for key, one in value.items()}
    if value is not None and (isinstance(value, dict | list) or any(one.key for one in group)):
        where = ", ".join(_at(one.index) for one in group)
        yield Flag(name=first.flag.name, value=_compact(value), reason=where[:512])
        return
    for one in group:
        if one.flag.takes == VALUES:
            for text, index in zip(one.values, one.words, strict=True):
                yield Flag(name=one.name, value=text, reason=_at(index))
        else:
            given = one.values[0] if one.values else None
            yield Flag(name=one.name, value=given, reason=_bounded(one.flag.name, _at(one.index)))


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _modelled_problems(
    groups: Mapping[str, Sequence[Argument]], values: Mapping[str, Any], version: Version
) -> Iterator[PlanningError]:
    for name, group in groups.items():
        where, value = _at(group[-1].index), values.get(name)
        texts = [text for one in group for text in one.values]
        for text in setting_problems(name, texts if value is None else value, version):
            yield IllegalPin(where, f"{name} {text}")
        if name == COMPILATION:
            for text in _compilation_problems(value, version):
                yield IllegalPin(where, f"{name} {text}")
        elif name == PICTURES:
            if not isinstance(value, dict) or not all(map(_count, value.values())):
                yield IllegalPin(
                    where,
                    f"{name} takes a JSON object with a number for each kind of input here, "
                    'for example {"image":0,"video":0}',
                )
        elif name in ("--cudagraph-capture-sizes", "--cuda-graph-sizes"):
            sizes = [int(text) for text in texts]
            # One number alone is the largest of vLLM's own sizes (0.9.0 to 0.12.0).
            alone = name == "--cuda-graph-sizes" and len(sizes) == 1
            problem = _too_large(max(sizes, default=0), 0 if alone else len(sizes))
            if problem is not None:
                yield IllegalPin(where, f"{name} {problem}")
        elif name == "--max-cudagraph-capture-size":
            problem = _too_large(int(texts[0]), 0)
            if problem is not None:
                yield IllegalPin(where, f"{name} {problem}")
        elif name == "--optimization-level" and texts[0] not in LEVELS:
            yield IllegalPin(where, f"{name} {texts[0]} is none of {', '.join(LEVELS)}")


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _too_large(largest: int, number: int) -> str | None:
    if largest > LARGEST_DEFAULT:
        return f"asks for graphs of {largest} requests; the plan counts at most {LARGEST_DEFAULT}"
    if number > MOST_GRAPHS:
        return f"asks for {number} graphs; the plan counts at most {MOST_GRAPHS}"
    return None


def _compilation_problems(value: Any, version: Version) -> Iterator[str]:
    if _count(value):
        if str(value) not in LEVELS:
            yield f"{value} is none of {', '.join(LEVELS)}"
        return
    if not isinstance(value, dict):
        yield "must be a JSON object"
        return
    known = {row["key"]: row["reads"] for row in rows_for("compilation.csv", version)}
    for key, given in value.items():
        if key not in known:
            yield _unknown_key(key, version)
            continue
        problem = _setting_problem(known[key], given)
        if problem is not None:
            yield f"{key} {problem}"
        if "cudagraph_mode" in value and key in REPLACED_KEYS and given is REPLACED_KEYS[key]:
            yield f"{key} and cudagraph_mode say the same thing; keep cudagraph_mode"


def _graph_size_problems(
    groups: Mapping[str, Sequence[Argument]], values: Mapping[str, Any], batch: int | None
) -> Iterator[PlanningError]:
    """Sizes of CUDA graphs that are given twice, or contradict each other.

    ``batch``: tokens of a step, beyond which sizes are dropped; 0 where none is captured. Source:
    0.11.1 to 0.33.0 ``config/vllm.py``, ``_set_cudagraph_sizes``.
    """
    found = {key: list(_given_sizes(key, groups, values)) for key in SIZE_FLAGS}
    for key, given in found.items():
        if len(given) > 1:
            names = " and ".join(name for _, name, _ in given)
            yield IllegalPin(given[-1][0], f"{names} both set {key}; keep one of them")
            return
    if batch == 0:
        return
    for key, given in found.items():
        for where, name, sizes in given:
            if not sizes or (key == LARGEST and sizes[0] < 1):
                yield IllegalPin(where, f"{name} asks for no graph; {_without_graphs(name)}")
                return
    if found[SIZES] and found[LARGEST]:
        yield from _inconsistent(found[SIZES][0], found[LARGEST][0], batch)


def _without_graphs(name: str) -> str:
    return f"set it to 1 or more, or remove {name} and set spec.engine.enforceEager: true"


def _inconsistent(
    listed: tuple[str, str, list[int]], most: tuple[str, str, list[int]], batch: int | None
) -> Iterator[PlanningError]:
    sizes = [size for size in listed[2] if batch is None or size <= batch]
    largest = max(sizes, default=0)
    if most[2][0] == largest:
        return
    within = (
        "" if len(sizes) == len(listed[2]) else f" up to spec.engine.maxNumBatchedTokens {batch}"
    )
    works = f"set it to {largest}, or remove it" if largest else "remove it"
    yield IllegalPin(
        most[0],
        f"{most[1]} is {most[2][0]}, and the largest of {listed[1]}{within} is {largest}; {works}",
    )


def _given_sizes(
    key: str, groups: Mapping[str, Sequence[Argument]], values: Mapping[str, Any]
) -> Iterator[tuple[str, str, list[int]]]:
    """Where a key is set, by what name, and to which sizes."""
    for name in SIZE_FLAGS[key]:
        if name in groups:
            sizes = [int(text) for one in groups[name] for text in one.values]
            yield _at(groups[name][-1].index), name, sizes
    settings = values.get(COMPILATION)
    if isinstance(settings, dict) and key in settings:
        sizes = settings[key] if isinstance(settings[key], list) else [settings[key]]
        yield _at(groups[COMPILATION][-1].index), f"{COMPILATION} {key}", sizes


def _largest_graph(
    groups: Mapping[str, Sequence[Argument]], values: Mapping[str, Any]
) -> int | None:
    """Tokens of the largest graph that is asked for. Both keys name the same one, or are refused
    (``_graph_size_problems``); before they were compared, the list was what counted."""
    for key in SIZE_FLAGS:
        for _, _, sizes in _given_sizes(key, groups, values):
            if sizes:
                return max(sizes)
    return None


def _unknown_key(key: str, version: Version) -> str:
    spans = [row for row in rows("compilation.csv") if row["key"] == key]
    if not spans:
        return f"{key} may not be set here; it is not known to leave memory as it is planned"
    renamed = {"level": "mode", "mode": "level", "use_cudagraph": "cudagraph_mode"}.get(key)
    hint = f"use {renamed}" if renamed else "remove it"
    return f"has no key {key} in vLLM {version}; {hint}"


def _setting_problem(kind: str, given: Any) -> str | None:
    if kind == "level":
        if _count(given) and str(given) in LEVELS:
            return None
        return f"must be one of {', '.join(LEVELS)}, and is {given!r}"
    if kind == "switch" and not isinstance(given, bool):
        return f"must be true or false, and is {given!r}"
    if kind == "mode" and str(given).upper() not in MODES:
        return f"must be one of {', '.join(MODES)}, and is {given!r}"
    if kind == "size":
        return _too_large(given, 0) if _count(given) else f"must be a number, and is {given!r}"
    if kind == "sizes":
        if not isinstance(given, list) or not all(map(_count, given)):
            return f"must be a list of numbers, and is {given!r}"
        return _too_large(max(given, default=0), len(given))
    return None


def _graphs(groups: Mapping[str, Sequence[Argument]], values: Mapping[str, Any]) -> bool:
    level = groups.get("--optimization-level")
    if level and level[-1].values[0] == "0":
        return False
    settings = values.get(COMPILATION)
    if not isinstance(settings, dict):
        return True
    if settings.get("use_cudagraph") is False:
        return False
    return str(settings.get("cudagraph_mode", "")).upper() != "NONE"


def _pictures(groups: Mapping[str, Sequence[Argument]], values: Mapping[str, Any]) -> bool:
    if _on(groups.get("--language-model-only", ())):
        return False
    limits = values.get(PICTURES)
    if not isinstance(limits, dict):
        return True
    return limits.get("image") != 0 or limits.get("video") != 0
