"""What the engine's configuration refuses inside a flag's value, beyond its type.

``settings.csv`` says which version has which of these rules; bounds of single numbers stand in
``bounds.csv``, flags that are refused without another one in ``needs.csv``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from .tables import rows_for
from .versions import Version

CPU_LIST: Final = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")
"""What numactl reads as processors: 0-3 or 0,2,4-7."""
POOLING_TYPES: Final = ("CLS", "LAST", "MEAN", "ALL", "STEP")
BASES: Final = ("all", "none")
PIECEWISE: Final = 3
"""The mode of vLLM's own compilation, which is the default."""
FAMILIES: Final = (
    "request_latency", "time_to_first_token", "inter_token_latency", "iteration_tokens",
    "request_params_n", "request_num_preemptions", "request_tokens", "kv_cache_residency",
)  # fmt: skip
"""Histograms whose bounds may be set (0.32.0 and 0.33.0 ``v1/metrics/buckets.py``)."""
BACKENDS: Final = {
    "disable_any_whitespace": ("xgrammar", "guidance"),
    "disable_additional_properties": ("guidance",),
}
"""The backends of structured outputs that a setting is refused without."""


def setting_problems(flag: str, value: Any, version: Version) -> Iterator[str]:
    """What ``version`` refuses of a flag's value: parsed JSON, or a list of words.

    Each says the key, what is wrong with it, and what works.
    """
    known = {row["rule"] for row in rows_for("settings.csv", version)}
    for rule in RULES.get(flag, ()):
        if rule in known:
            yield from CHECKS[rule](value)


def _numbers(value: object) -> list[float]:
    """The finite numbers of a list, up to the first thing that is none."""
    found: list[float] = []
    for one in value if isinstance(value, list) else ():
        if isinstance(one, bool) or not isinstance(one, int | float) or not math.isfinite(one):
            break
        found.append(float(one))
    return found


def _structured_outputs(value: Any) -> Iterator[str]:
    for key, backends in BACKENDS.items():
        if value.get(key) is True and value.get("backend", "auto") not in backends:
            either = " or ".join(backends)
            yield f"{key} is refused with another backend than {either}; add the key backend"


def _pooling_types(value: Any) -> Iterator[str]:
    given = value.get("pooling_type")
    if given is not None and given not in POOLING_TYPES:
        yield f"pooling_type {given!r} is none of {', '.join(POOLING_TYPES)}"


def _profiler_folder(value: Any) -> Iterator[str]:
    profiler, folder = value.get("profiler"), value.get("torch_profiler_dir")
    if profiler == "torch" and not folder:
        yield "profiler torch is refused without torch_profiler_dir; add a folder, such as /tmp"
    elif folder and profiler != "torch":
        yield "torch_profiler_dir is refused without profiler torch; add it"
    elif profiler == "proton":
        yield "profiler proton is refused without proton_profiler_dir, which may not be set here"


def _profiler_counts(value: Any) -> Iterator[str]:
    for key in ("delay_iterations", "max_iterations"):
        given = value.get(key, 0)
        if isinstance(given, int) and given < 0:
            yield f"{key} is {given}, and must be at least 0"


def _histogram_bounds(value: Any) -> Iterator[str]:
    for family, bounds in value.items():
        if family not in FAMILIES:
            yield f"{family} is none of {', '.join(FAMILIES)}"
            continue
        found = _numbers(bounds)
        rises = all(low < high for low, high in pairwise(found))
        whole = isinstance(bounds, list) and len(found) == len(bounds)
        if not found or not whole or found[0] <= 0 or not rises:
            yield f"{family} must be a list of rising numbers above 0, and is {bounds!r:.80}"


def _cpu_lists(value: Sequence[str]) -> Iterator[str]:
    for one in value:
        ends = [part.split("-") for part in one.split(",") if "-" in part]
        if CPU_LIST.fullmatch(one) is None:
            yield f"{one!r} is no list of processors such as 0-3 or 0,2,4-7"
        elif any(int(low) > int(high) for low, high in ends):
            yield f"{one!r} has a range that falls; write the smaller number first"


def _custom_ops(value: Any) -> list[str]:
    found = value.get("custom_ops")
    return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []


def _op_syntax(value: Any) -> Iterator[str]:
    for one in _custom_ops(value):
        if one not in BASES and (len(one) < 2 or one[0] not in "+-"):
            yield f"custom_ops {one!r} is none of all, none, +op and -op"


def _op_bases(value: Any) -> Iterator[str]:
    found = [one for one in _custom_ops(value) if one in BASES]
    if len(found) > 1:
        yield f"custom_ops has {' and '.join(found)}; keep one of them"


def _op_contradictions(value: Any) -> Iterator[str]:
    given = _custom_ops(value)
    on, off = ({one[1:] for one in given if one.startswith(sign)} for sign in "+-")
    for one in sorted(on & off):
        yield f"custom_ops has +{one} and -{one}; keep one of them"


def _compile_backend(value: Any) -> Iterator[str]:
    backend = value.get("backend", "")
    compiles = value.get("mode", value.get("level", PIECEWISE)) == PIECEWISE
    if compiles and backend not in ("", "eager", "inductor"):
        yield f"backend {backend!r} is none of eager and inductor, which mode {PIECEWISE} takes"


def _compile_ends(value: Any) -> Iterator[str]:
    keys = ("compile_ranges_endpoints", "compile_ranges_split_points")
    key = next((key for key in keys if value.get(key)), None)
    if key is None:
        return
    if not isinstance(value[key], list):
        yield f"{key} must be a list, and is {value[key]!r:.80}; write it as [512,2048]"
        return
    wrong = [one for one in value[key] if not isinstance(one, int) or one <= 0]
    if wrong:
        yield f"compile ranges end at whole numbers above 0, and {wrong[0]!r} is none"


def _of_objects(check: Callable[[Any], Iterator[str]]) -> Callable[[Any], Iterator[str]]:
    """The check for JSON objects; anything else is another's business."""
    return lambda value: check(value) if isinstance(value, Mapping) else iter(())


CHECKS: Final[Mapping[str, Callable[[Any], Iterator[str]]]] = {
    "compile-backend": _of_objects(_compile_backend),
    "compile-ends": _of_objects(_compile_ends),
    "custom-op-bases": _of_objects(_op_bases),
    "custom-op-contradictions": _of_objects(_op_contradictions),
    "custom-op-syntax": _of_objects(_op_syntax),
    "histogram-bounds": _of_objects(_histogram_bounds),
    "numa-cpu-lists": _cpu_lists,
    "pooling-types": _of_objects(_pooling_types),
    "profiler-counts": _of_objects(_profiler_counts),
    "profiler-folder": _of_objects(_profiler_folder),
    "structured-output-backends": _of_objects(_structured_outputs),
}
"""Each rule of ``settings.csv``."""

RULES: Final[Mapping[str, tuple[str, ...]]] = {
    "--compilation-config": (
        "custom-op-syntax", "custom-op-bases", "custom-op-contradictions", "compile-backend",
        "compile-ends",
    ),
    "--custom-histogram-buckets": ("histogram-bounds",),
    "--numa-bind-cpus": ("numa-cpu-lists",),
    "--override-pooler-config": ("pooling-types",),
    "--pooler-config": ("pooling-types",),
    "--profiler-config": ("profiler-folder", "profiler-counts"),
    "--structured-outputs-config": ("structured-output-backends",),
}  # fmt: skip
"""The rules of each flag."""
