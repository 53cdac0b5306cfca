"""Looks up what the lists of a quantisation say of a matrix."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import translate
from functools import lru_cache
from typing import Any, Final, Generic

from vllm_operator.models.reader import LAYER_DIGITS, layer_number, shown

from .names import (
    MOST_LAYERS,
    is_embedding,
    layers_in_prose,
    outside_name,
    parents,
    sequences,
    spellings,
    split_name,
    without_expert,
)
from .schemes import KVCacheType, Quantization, Scheme, T
from .settings import layer_counts, names_in, refuse

_PREFIXES: Final = ("model.", "model.language_model.", "language_model.model.", "backbone.", "")

_WILDCARDS: Final = frozenset("*?[")

_ONE_LAYER: Final = re.compile(r"\D*layers\\?\.(\d+)(?:\\\.|\.(?=\(?[a-z]))\D*")
"""A regular expression that can match modules of one layer only."""

_TELLS_LAYERS: Final = re.compile(r"(?<![a-z\d])\d|\\d(?![+*])|layers")
"""In an expression that may treat layers differently."""

_UNNAMED: Final = -1
"""Stands for every layer of which a list says nothing of its own."""


LONGEST_EXPRESSION: Final = 512
MOST_REPEATS: Final = 5
MOST_ALTERNATIVES: Final = 256

_QUANTIFIED_GROUP: Final = re.compile(r"(?<!\\)\)[*+{]")
_GROUP: Final = re.compile(r"(?<!\\)\(")
_REPEAT: Final = re.compile(r"(?<!\\)(?<!\()[*+{?]")


@lru_cache(maxsize=4096)
def _expression(pattern: str, glob: bool) -> re.Pattern[str]:
    if not glob and _backtracks(pattern):
        refuse("ignore", f"{shown(pattern)} repeats too much to be matched in reasonable time")
    if len(pattern) > LONGEST_EXPRESSION:
        refuse("ignore", f"{shown(pattern)} is longer than {LONGEST_EXPRESSION} characters")
    try:
        return re.compile(translate(pattern) if glob else pattern)
    except (re.error, OverflowError, RecursionError) as error:
        refuse("ignore", f"{shown(pattern)} is not a regular expression: {error}")


def _backtracks(pattern: str) -> bool:
    """Whether Python's matching may take time that grows without bound with an expression.

    It would with repeated groups that repeat inside, and with many repeats or alternatives one
    after the other. Lists of real checkpoints have none.
    """
    repeats = len(_REPEAT.findall(re.sub(r"(\.[*+])?\$?$", "", pattern)))
    ways = 1
    for group in _GROUP.split(pattern)[1:]:
        ways *= 1 + group.count("|")
    return bool(
        _QUANTIFIED_GROUP.search(pattern) or repeats > MOST_REPEATS or ways > MOST_ALTERNATIVES
    )


@lru_cache(maxsize=1024)
def _layers_like(start: str) -> tuple[int, ...]:
    """The layers whose number, as it is written, starts so."""
    return tuple(one for one in range(MOST_LAYERS) if str(one).startswith(start))


class Modules(Generic[T]):
    """Looks up what a list of names, globs and regular expressions says of a module.

    Lists are written with the checkpoint's prefixes, with vLLM's or with none, so that prefixes
    before ``layers.N.`` do not count. A name stands for itself and for the modules below it; one
    without ``layers.N.`` stands for every run of components like it (``visual``, ``mlp.gate``).
    Names end where components end: ``mlp.gate`` is not ``mlp.gate_proj``. Layers that the list
    does not tell apart are looked up once.
    """

    def __init__(self, entries: Iterable[tuple[str, T]]) -> None:
        self._in_layer: dict[int, dict[str, T]] = {}
        self._in_layer_globs: dict[int, list[tuple[re.Pattern[str], T]]] = {}
        self._in_layer_expressions: dict[int, list[tuple[re.Pattern[str], bool, T]]] = {}
        self._in_every_layer: dict[str, T] = {}
        self._name_globs: list[tuple[re.Pattern[str], T]] = []
        self._anywhere: dict[str, T] = {}
        self._expressions: list[tuple[re.Pattern[str], bool, T]] = []
        self._by_layer: list[tuple[re.Pattern[str], bool, T]] = []
        self._outside: list[tuple[re.Pattern[str], bool, T]] = []
        for pattern, value in entries:
            self._add(pattern, value)
        self._like = self._alike()
        self._known: dict[tuple[str, int | None, bool], T | None] = {}

    def _add(self, pattern: str, value: T) -> None:
        if pattern.startswith("re:"):
            self._add_expression(pattern[3:], False, value)
            return
        split = split_name(pattern)
        if split is None:
            if _WILDCARDS.isdisjoint(pattern):
                self._anywhere.setdefault(outside_name(without_expert(pattern)), value)
            else:
                self._add_expression(pattern, True, value)
            return
        number, name = split[0], without_expert(split[1])
        wild = not _WILDCARDS.isdisjoint(name)
        layer = layer_number(number)
        if layer is not None and wild:
            globs = self._in_layer_globs.setdefault(layer, [])
            globs.append((_expression(name, True), value))
        elif layer is not None:
            self._in_layer.setdefault(layer, {}).setdefault(name, value)
        elif number == "*" and wild:
            self._name_globs.append((_expression(name, True), value))
        elif number == "*":
            self._in_every_layer.setdefault(name, value)
        elif layer_number(number[:-1]) is not None and number.endswith("*") and not name:
            for one in _layers_like(number[:-1]):
                self._in_layer.setdefault(one, {}).setdefault("", value)
        else:
            self._add_expression(pattern, True, value)

    def _add_expression(self, pattern: str, glob: bool, value: T) -> None:
        anchored = not pattern.startswith("*" if glob else (".*", "^.*"))
        entry = (_expression(pattern, glob), anchored, value)
        one = None if glob else _ONE_LAYER.fullmatch(pattern)
        if glob and anchored and "layers." in pattern and split_name(pattern) is None:
            self._outside.append(entry)
            return
        if one:
            self._in_layer_expressions.setdefault(int(one[1][:LAYER_DIGITS]), []).append(entry)
        elif _TELLS_LAYERS.search(pattern):
            self._by_layer.append(entry)
        else:
            self._expressions.append(entry)

    def _alike(self) -> dict[int, int]:
        """For every layer that is named, the first of which the same is said."""
        numbers = sorted({*self._in_layer, *self._in_layer_globs, *self._in_layer_expressions})
        first: dict[object, int] = {}
        return {
            number: first.setdefault(
                (
                    frozenset(self._in_layer.get(number, {}).items()),
                    tuple(self._in_layer_globs.get(number, ())),
                    number if number in self._in_layer_expressions else None,
                ),
                number,
            )
            for number in numbers
        }

    def find(self, name: str, layer: int | None, expert: bool = False) -> T | None:
        """What the list says of this module; None where it does not name it."""
        like = layer
        if layer is not None and not self._by_layer:
            like = self._like.get(layer, _UNNAMED)
        key = (name, like, expert)
        if key in self._known:
            return self._known[key]
        found = None
        if layer is not None:
            found = self._of_layer(name, layer, expert)
        if found is None:
            found = self._of_any(name, layer, expert)
        self._known[key] = found
        return found

    def _of_layer(self, name: str, layer: int, expert: bool) -> T | None:
        names = self._in_layer.get(layer, {})
        globs = self._in_layer_globs.get(layer, ())
        if names or globs:
            for spelling in spellings(name):
                for parent in parents(spelling):
                    if parent in names:
                        return names[parent]
                    for expression, value in globs:
                        if expression.match(parent):
                            return value
        own = self._in_layer_expressions.get(layer, [])
        return self._matching([*own, *self._by_layer], name, layer, expert)

    def _of_any(self, name: str, layer: int | None, expert: bool) -> T | None:
        plain = name if layer is not None else outside_name(name)
        for spelling in spellings(plain):
            for run in sequences(spelling):
                if run in self._anywhere:
                    return self._anywhere[run]
            if layer is None:
                continue
            for parent in parents(spelling):
                if parent in self._in_every_layer:
                    return self._in_every_layer[parent]
                for expression, value in self._name_globs:
                    if expression.match(parent):
                        return value
        found = self._matching(self._expressions, name, layer, expert)
        if found is None and layer is None:
            found = self._matching([*self._outside, *self._by_layer], name, layer, expert)
        return found

    @staticmethod
    def _matching(
        expressions: list[tuple[re.Pattern[str], bool, T]],
        name: str,
        layer: int | None,
        expert: bool,
    ) -> T | None:
        if not expressions:
            return None
        full = list(_full_names(name, layer, expert))
        for expression, anchored, value in expressions:
            for prefix in _PREFIXES if anchored else _PREFIXES[:1]:
                if any(expression.match(prefix + one) for one in full):
                    return value
        return None


def _full_names(name: str, layer: int | None, expert: bool) -> Iterator[str]:
    """The names, below the decoder's prefix, that an expression may have been written for."""
    for spelling in spellings(name):
        head, experts, rest = spelling.partition("experts.")
        variants = [spelling, f"{head}experts.0.{rest}"] if expert and experts else [spelling]
        if layer is None:
            yield from variants
            for part in ("blocks.", "layers."):
                before, found, after = spelling.partition(part)
                if found and not after[:1].isdigit():
                    yield f"{before}{part}0.{after}"
        else:
            yield from (f"layers.{layer}.{variant}" for variant in variants)


class Kept:
    """The modules that stay in the model's data type."""

    def __init__(self, found: Mapping[str, Any], config: Mapping[str, Any], *keys: str) -> None:
        names: list[str] = []
        for name in names_in(found, *keys):
            names.extend(layers_in_prose(name, config) if " " in name else [name])
        self._modules = Modules((name, True) for name in names)
        self._layers = layer_counts(config).get("num_hidden_layers", MOST_LAYERS)

    def names(self, name: str, layer: int | None, expert: bool) -> bool:
        """Whether the list names this module; layers after the last are those of a draft."""
        if self._modules.find(name, layer, expert):
            return True
        if layer is None or layer < self._layers:
            return False
        draft = f"mtp.layers.0.{name}"
        return bool(self._modules.find(draft, None, expert))


def build(
    method: str,
    choose: Callable[[str, int | None, bool], Scheme | None],
    schemes: Iterable[Scheme],
    capability: float,
    kept: Kept,
    kv_cache: KVCacheType | None = None,
) -> Quantization:
    """What a method makes of its settings; ``choose`` is asked for what is not kept in full."""
    known: dict[tuple[str, int | None, bool], Scheme | None] = {}

    def remembered(name: str, layer: int | None, expert: bool) -> Scheme | None:
        key = (name, layer, expert)
        if key not in known:
            whole = is_embedding(name) or kept.names(name, layer, expert)
            known[key] = None if whole else choose(name, layer, expert)
        return known[key]

    schemes = [*schemes]
    return Quantization(
        method,
        remembered,
        block=max((scheme.block for scheme in schemes), default=0),
        group=max((one.group for one in schemes if one.pad_inputs == 1), default=0),
        min_capability=capability,
        kv_cache=kv_cache,
    )
