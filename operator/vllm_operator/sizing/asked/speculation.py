"""A model with what speculative decoding adds to it: weights, and layers in its KV cache.

Which vLLM versions know a method, what it loads, and from when on the second model runner serves
it, stands in the engine's ``speculation.csv``; which models have a draft of their own in
``own_drafts.csv``, which have a drafter that reads their cache in ``assistants.csv``, and which let
an EAGLE-3 head see their states in ``eagle3.csv``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final, Literal, get_args

from vllm_operator.api.features import Speculative
from vllm_operator.api.v1alpha1 import Engine
from vllm_operator.engine import defaults
from vllm_operator.engine.tables import holds, rows, rows_for
from vllm_operator.engine.versions import Version
from vllm_operator.errors import IllegalPin, PlanningError, UnknownModel
from vllm_operator.models import catalogue
from vllm_operator.models.architecture import Architecture, architecture_from_config
from vllm_operator.models.drafts import (
    ASSISTANTS,
    MODEL_FIELD,
    assistant_draft,
    eagle_draft,
    own_draft,
    whole_draft,
)

SPECULATIVE_FIELD: Final = "spec.engine.speculative"
FIELD: Final = f"{SPECULATIVE_FIELD}.method"
METHODS: Final[tuple[str, ...]] = get_args(Speculative.model_fields["method"].annotation)
"""The field's values."""
CONFIG_FIELD: Final = "spec.engine.speculative.config"
TOKENS_FIELD: Final = "spec.engine.speculative.tokens"
FLAG: Final = "--speculative-config"
METHODS_TABLE: Final = "speculation.csv"
DEFAULT_TOKENS: Final = 3

Loads = Literal["nothing", "own", "head", "model", "assistant"]
"""``own``: the model's multi-token-prediction layers; ``head``: an EAGLE head; ``assistant``: a
drafter that reads the model's cache."""


@dataclass(frozen=True, slots=True)
class Speculation:
    """How tokens are drafted."""

    method: str
    """As this vLLM version spells it."""
    tokens: int
    """Drafted before they are verified."""
    loads: Loads
    model: str | None

    @property
    def argument(self) -> str:
        """The value of ``--speculative-config``."""
        settings: dict[str, object] = {"method": self.method}
        if self.model is not None:
            settings["model"] = self.model
        settings["num_speculative_tokens"] = self.tokens
        return json.dumps(settings, separators=(",", ":"))

    @property
    def step_tokens(self) -> int:
        """Tokens that a running sequence takes of a step: the drafts and one more."""
        return self.tokens + 1


def methods_of(
    version: Version, architecture: Architecture | None = None, image: str | None = None
) -> tuple[str, ...]:
    """The values of the field that ``version`` takes, for this model and image where given.

    ``mtp`` and ``eagle3`` depend on the model, ``suffix`` on the image: without one they are left
    out.
    """
    known = {row["method"] for row in rows_for(METHODS_TABLE, version)}
    depends = {
        "suffix": image is not None and not defaults.is_official(image),
        "eagle3": architecture is not None and _shows_its_states(architecture, version),
    }
    found = [one for one in METHODS if one in known and depends.get(one, True) and one != "mtp"]
    if architecture is not None and (
        _drafts_itself(architecture, version) or _has_assistant(architecture, version)
    ):
        found.append("mtp")
    return tuple(found)


def _instead(methods: tuple[str, ...]) -> str:
    if not methods:
        return f"remove {SPECULATIVE_FIELD}"
    return f"take {'one of ' if len(methods) > 1 else ''}{', '.join(methods)}"


def loads_of(method: str, version: Version, others: tuple[str, ...] | None = None) -> Loads:
    """What a method loads; raises ``IllegalPin`` where it is not known to ``version`` or here.

    ``others`` are offered instead of it.
    """
    for row in rows_for(METHODS_TABLE, version):
        if row["method"] == method:
            loads: Loads = row["loads"]  # type: ignore[assignment]
            return loads
    methods = methods_of(version) if others is None else others
    ways = [_instead(methods)] if methods else []
    ways += [
        f"use vLLM {row['since']} or newer"
        for row in rows(METHODS_TABLE)
        if row["method"] == method and version.release < Version.parse(row["since"]).release
    ]
    raise IllegalPin(
        FIELD,
        f"{method!r} cannot be sized for vLLM {version}; {', or '.join(ways) or _instead(())}",
    )


def with_draft(
    architecture: Architecture,
    method: str,
    version: Version,
    *,
    config: Mapping[str, Any] | None = None,
    weight_bytes: int | None = None,
) -> Architecture:
    """The model with its draft loaded: ``bytes_per_rank`` and ``cache_layout`` then count it.

    ``config`` is the ``config.json`` of the draft (EAGLE heads, draft models) and ``weight_bytes``
    the bytes of its tensors. Raises ``IllegalPin`` for a method that cannot be planned for this
    model and version, ``UnknownModel`` for a draft that is not understood.
    """
    text = None if config is None else json.dumps(config, sort_keys=True)
    return _with_draft(architecture, method, version, text, weight_bytes)


@lru_cache(maxsize=256)
def _with_draft(
    architecture: Architecture,
    method: str,
    version: Version,
    text: str | None,
    weight_bytes: int | None,
) -> Architecture:
    loads = loads_of(method, version)
    if loads == "nothing":
        return architecture
    if method == "mtp" and text is not None:
        found_draft = assistant_draft(json.loads(text), architecture)
        return replace(architecture, speculator=found_draft)
    if loads == "own":
        draft = own_draft(architecture, method)
        if draft is None:
            others = _instead(methods_of(version, architecture))
            why = (
                "the checkpoint's own layers draft as DSpark (dspark_block_size in config.json): "
                f"vLLM finds no weights of {method!r} in it"
                if architecture.dspark
                else f"{method!r} needs multi-token-prediction layers and the model's config.json "
                "names none (num_nextn_predict_layers, mtp_num_hidden_layers)"
            )
            raise IllegalPin(FIELD, f"{why}; {others}")
        return replace(architecture, speculator=draft)
    if text is None:
        raise IllegalPin(MODEL_FIELD, f"is needed by {method!r}: the repository of the draft")
    config = json.loads(text)
    if loads == "head":
        kind: Literal["eagle", "eagle3"] = "eagle3" if method == "eagle3" else "eagle"
        return replace(
            architecture, speculator=eagle_draft(config, kind, architecture, weight_bytes)
        )
    if config.get("model_type") in ASSISTANTS:
        raise IllegalPin(
            FIELD, "is draft_model, and the draft reads the model's own KV cache; set it to mtp"
        )
    found = architecture_from_config(config)
    if found.vocabulary_size != architecture.vocabulary_size:
        raise IllegalPin(
            MODEL_FIELD,
            f"has {found.vocabulary_size} tokens and the model {architecture.vocabulary_size}; "
            "a draft model needs the same vocabulary",
        )
    return replace(architecture, speculator=whole_draft(found, method))


def _has_assistant(architecture: Architecture, version: Version) -> bool:
    """Whether a repository of its own drafts for the model with the model's cache."""
    found = rows_for("assistants.csv", version)
    return any(row["architecture"] == architecture.name for row in found)


def _own_methods(architecture: Architecture) -> list[Mapping[str, str]]:
    return [row for row in rows("own_drafts.csv") if row["architecture"] == architecture.name]


def _drafts_itself(architecture: Architecture, version: Version) -> bool:
    return any(
        holds(row, version) and own_draft(architecture, row["method"]) is not None
        for row in _own_methods(architecture)
    )


def _own_method(architecture: Architecture, version: Version) -> str:
    """What a version calls the model's own multi-token-prediction layers."""
    named = _own_methods(architecture)
    for row in named:
        if holds(row, version):
            return row["method"]
    others = _instead(methods_of(version, architecture))
    since = f"it can from {named[0]['since']} on" if named else others
    raise IllegalPin(
        FIELD, f"vLLM {version} cannot draft with {architecture.name}'s own layers; {since}"
    )


def speculation_of(
    given: Speculative, architecture: Architecture, version: Version, image: str
) -> tuple[Architecture, Speculation]:
    """The model with its draft, and how it is asked for.

    Raises ``IllegalPin`` for what this version or model cannot do and ``UnknownModel`` for a draft
    that no source describes.
    """
    if architecture.pooling:
        raise IllegalPin(FIELD, "a pooling model generates no tokens to draft; remove it")
    if not defaults.has_flag(FLAG, version):
        raise IllegalPin(FIELD, f"needs {FLAG}, which vLLM {version} does not have; remove it")
    others = methods_of(version, architecture, image)
    loads: Loads = loads_of(given.method, version, others) if given.method != "mtp" else "own"
    if loads == "own" and _has_assistant(architecture, version):
        loads = "assistant"
    method = _own_method(architecture, version) if loads == "own" else given.method
    if method == "suffix" and defaults.is_official(image):
        raise IllegalPin(
            FIELD,
            "suffix needs arctic-inference, which vLLM's own images do not hold; set "
            f"spec.engine.image to one that does, or {_instead(others)}",
        )
    if method == "eagle3" and not _shows_its_states(architecture, version):
        raise IllegalPin(
            FIELD, f"vLLM {version} has no eagle3 for {architecture.name}; {_instead(others)}"
        )
    if loads in ("nothing", "own") and given.model is not None:
        raise IllegalPin(MODEL_FIELD, f"is not loaded by {given.method}; remove it")
    loaded = loads in ("head", "model", "assistant")
    config, size = _draft_facts(given) if loaded else (None, None)
    drafted = with_draft(architecture, method, version, config=config, weight_bytes=size)
    own = len(architecture.draft)
    tokens = given.tokens or (own if loads == "own" else DEFAULT_TOKENS)
    if loads == "own" and tokens > own and tokens % own:
        raise IllegalPin(
            TOKENS_FIELD,
            f"is {tokens}, and the model's {own} multi-token-prediction layers draft multiples of "
            f"{own}; set it to {tokens // own * own} or {(tokens // own + 1) * own}",
        )
    return (
        _on_runner(drafted, first=not _second_runner(method, version)),
        Speculation(method, tokens, loads, given.model),
    )


def _shows_its_states(architecture: Architecture, version: Version) -> bool:
    """Whether the model gives an EAGLE-3 head the hidden states that it reads."""
    return any(row["architecture"] == architecture.name for row in rows_for("eagle3.csv", version))


def _second_runner(method: str, version: Version) -> bool:
    for row in rows(METHODS_TABLE):
        if row["method"] == method and row["second_runner_since"]:
            return version.release >= Version.parse(row["second_runner_since"]).release
    return False


def asynchronous_since(method: str) -> str:
    """The first vLLM that takes ``--async-scheduling`` with a method; empty where none does."""
    known = rows(METHODS_TABLE)
    return next((row["asynchronous_since"] for row in known if row["method"] == method), "")


def goes_asynchronously(method: str, version: Version) -> bool:
    """Whether ``version`` takes ``--async-scheduling`` with a method; 0.11.0 takes none."""
    since = asynchronous_since(method)
    return bool(since) and version.release >= Version.parse(since).release


@lru_cache(maxsize=256)
def _on_runner(architecture: Architecture, *, first: bool) -> Architecture:
    return replace(architecture, first_runner=True) if first else architecture


def draft_fingerprint(engine: Engine | None) -> str | None:
    """Hash of what the catalogue knows of a draft; None where nothing of it is used."""
    given = engine.speculative if engine is not None else None
    if given is None or given.model is None or given.config is not None:
        return None
    known = catalogue.find(given.model) or catalogue.drafter(given.model)
    return None if known is None else hashlib.sha256(repr(known).encode()).hexdigest()[:16]


def _draft_facts(given: Speculative) -> tuple[Mapping[str, Any], int | None]:
    """The draft's ``config.json`` and the bytes of its tensors, where somebody knows them."""
    if given.model is None:
        raise IllegalPin(MODEL_FIELD, f"is needed by {given.method}: the repository of the draft")
    if given.config is not None:
        return given.config, given.weight_bytes
    known = catalogue.find(given.model)
    drafter = catalogue.drafter(given.model)
    if known is None and drafter is not None:
        return drafter, given.weight_bytes
    if known is None:
        near = catalogue.nearest(given.model)
        hint = f" (the nearest that is catalogued is {near})" if near else ""
        raise UnknownModel(
            MODEL_FIELD,
            f"{given.model} is not catalogued{hint}; give its config.json in {CONFIG_FIELD}",
        )
    return known.config, given.weight_bytes or known.weight_bytes


def batch_problems(
    speculation: Speculation,
    seqs: int | None,
    tokens: int | None,
    *,
    concurrency: int,
    adapters: bool,
) -> Iterator[PlanningError]:
    """Why pinned limits of a batch leave no room for drafts.

    Where nobody pins the sequences, a step verifies the drafts of all that are expected. Sources:
    vllm 0.20.0 to 0.33.0 ``config/vllm.py``, ``_set_max_num_scheduled_tokens`` (a draft model takes
    a slot of each sequence; a step holds more than the drafts of one), and with LoRA
    ``lora/punica_wrapper/punica_gpu.py`` (a row for each token that is verified).
    """
    if tokens is None:
        return
    each = speculation.step_tokens
    needed = each + 1
    if seqs is not None:
        slots = 1 + (speculation.loads == "model")
        needed = max(needed, seqs * (each if adapters else slots) + (not adapters))
    else:
        needed = max(needed, concurrency * each)
    if tokens < needed:
        yield IllegalPin(
            "spec.engine.maxNumBatchedTokens",
            f"is {tokens}, and verifying {speculation.tokens} drafted tokens of "
            f"{seqs or max(1, concurrency)} sequences needs {needed} a step; "
            f"set it to at least {needed}",
        )


def rejection_bytes(
    speculation: Speculation,
    architecture: Architecture,
    version: Version,
    runner: Literal[1, 2],
    seqs: int,
    tokens: int,
) -> int:
    """Bytes that verifying the drafts of ``seqs`` sequences takes beside what is profiled."""
    rows = min(seqs * speculation.step_tokens, tokens)
    return defaults.rejection_bytes(version, runner, rows * architecture.vocabulary_size)
