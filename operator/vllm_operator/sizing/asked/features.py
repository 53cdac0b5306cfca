"""Features beyond plain generation: speculative decoding, LoRA, parsers, extra arguments, profile.

Read and checked together, as far as no GPU is needed: they depend on each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final

from vllm_operator.api.plan import Flag
from vllm_operator.api.v1alpha1 import Engine, VLLMServerSpec
from vllm_operator.engine import encoders, parsers
from vllm_operator.engine.tables import does
from vllm_operator.engine.versions import Version
from vllm_operator.errors import IllegalPin, PlanningError
from vllm_operator.models.architecture import Architecture
from vllm_operator.models.drafts import MODEL_FIELD
from vllm_operator.models.matrices import Split

from . import adapters as lora
from . import speculation as drafts
from .adapters import Adapters
from .extra_arguments import ASYNC, ExtraArguments, read_extra_arguments
from .extra_arguments import FIELD as EXTRA_FIELD
from .speculation import Speculation
from .storage import is_served_from_disk
from .workload_profiles import BALANCED, Profile, profile_of

CPU_SLOTS: Final = "--max-cpu-loras"
"""Adapters in the host's memory: no fewer than on the GPU (0.12.0 to 0.33.0 ``config/lora.py``)."""


@dataclass(frozen=True, slots=True)
class Features:
    """What is asked for beside plain generation."""

    extra_arguments: ExtraArguments = field(default_factory=ExtraArguments)
    speculation: Speculation | None = None
    adapters: Adapters | None = None
    profile: Profile = BALANCED
    undivided: bool = False
    """Whether an argument that is added refuses pipeline stages."""

    @property
    def step_tokens(self) -> int:
        """Tokens that a running sequence takes of a step."""
        return 1 if self.speculation is None else self.speculation.step_tokens

    @property
    def one_stage(self) -> bool:
        """Whether the model may not be divided into pipeline stages.

        A draft that is loaded lies on the last stage, and which drafts find what they share with
        the model there differs by version (0.26.0 ``v1/worker/gpu/model_runner.py`` refuses some).
        """
        loads = self.speculation is not None and self.speculation.loads != "nothing"
        return loads or self.undivided


def read_features(
    spec: VLLMServerSpec, architecture: Architecture | None, version: Version, image: str
) -> tuple[Architecture | None, Features, list[PlanningError]]:
    """The model with its draft, what else is asked for, and every problem of it."""
    engine = spec.engine or Engine()
    problems: list[PlanningError] = list(_parser_problems(engine, version))
    extra_arguments, found = read_extra_arguments(
        engine.extra_args or [],
        version,
        eager=engine.enforce_eager is True,
        batch=engine.max_num_batched_tokens,
    )
    problems += found
    adapters = None
    if architecture is not None and not extra_arguments.pictures:
        architecture = without_pictures(architecture)
    if architecture is not None and extra_arguments.value(encoders.FLAG) == encoders.DATA:
        try:
            architecture = with_whole_encoder(architecture, version)
        except PlanningError as problem:
            problems.append(problem)
    if engine.lora is not None and architecture is not None:
        offline = is_served_from_disk(spec)
        adapters, found = lora.read_adapters(
            engine.lora, architecture, version, spec.model.served_names, offline=offline
        )
        problems += found
    speculation = None
    if engine.speculative is not None and architecture is not None:
        try:
            architecture, speculation = drafts.speculation_of(
                engine.speculative, architecture, version, image
            )
        except PlanningError as problem:
            problems.append(problem)
    undivided = extra_arguments.asynchronous and not does(
        "takes-async-scheduling-with-stages", version
    )
    features = Features(
        extra_arguments, speculation, adapters, profile_of(spec.workload), undivided
    )
    problems += _together(spec, engine, features, version)
    return architecture, features, problems


@lru_cache(maxsize=256)
def without_pictures(architecture: Architecture) -> Architecture:
    """The model as it is profiled where no request may carry a picture, nor its encoder be made.

    One with deepstack features is profiled as it is: their buffer is taken all the same (0.33.0
    ``models/qwen3_vl.py``).
    """
    pictures = architecture.pictures
    if pictures is not None and pictures.output == architecture.hidden_size:
        pictures = None
    elif not architecture.encoder_heads:
        return architecture
    return replace(architecture, pictures=pictures, encoder_heads=0)


@lru_cache(maxsize=256)
def with_whole_encoder(architecture: Architecture, version: Version) -> Architecture:
    """The model whose encoder is whole on every rank (``--mm-encoder-tp-mode data``).

    Raises ``IllegalPin`` where the version is not known to lay it out so.
    """
    divided = encoders.divided_with_data(architecture.name, version)
    if divided is None:
        since = encoders.data_since(architecture.name)
        works = f"use vLLM {since} or newer, or remove it" if since else "remove it"
        raise IllegalPin(
            EXTRA_FIELD,
            f"{encoders.FLAG} {encoders.DATA} is not known of vLLM {version} for "
            f"{architecture.name}; {works}",
        )
    outside = tuple(
        one if one.name.partition(".")[0] in divided else replace(one, split=Split.WHOLE)
        for one in architecture.outside
    )
    pictures = architecture.pictures and replace(architecture.pictures, spread=True)
    return replace(architecture, outside=outside, pictures=pictures, encoder_heads=0)


def _parser_problems(engine: Engine, version: Version) -> Iterator[PlanningError]:
    for name, path, flag in (
        (engine.tool_call_parser, "toolCallParser", parsers.TOOL_CALLS),
        (engine.reasoning_parser, "reasoningParser", parsers.REASONING),
    ):
        refusal = parsers.refusal(flag, name, version) if name is not None else None
        if refusal is not None:
            yield IllegalPin(f"spec.engine.{path}", refusal)


def _together(
    spec: VLLMServerSpec, engine: Engine, features: Features, version: Version
) -> Iterator[PlanningError]:
    """What one asks for and another forbids."""
    split, speculation = spec.parallelism, features.speculation
    pipeline = split.pipeline if split else None
    asked = spec.workload.concurrency if spec.workload else None
    if speculation is not None:
        yield from drafts.batch_problems(
            speculation,
            engine.max_num_seqs,
            engine.max_num_batched_tokens,
            concurrency=-(-(asked or 0) // ((split.data if split else None) or 1)),
            adapters=features.adapters is not None,
        )
        if speculation.loads != "nothing" and (pipeline or 1) > 1:
            yield IllegalPin(
                "spec.parallelism.pipeline",
                f"is {pipeline}, and spec.engine.speculative {speculation.method} is planned on "
                "one stage; remove one of them",
            )
        path = speculation.model
        if path is not None and is_served_from_disk(spec) and not path.startswith("/"):
            yield IllegalPin(
                MODEL_FIELD,
                f"{path} is a repository, and a server of a checkpoint on disk does not ask "
                "the Hub; give the draft's folder in the container",
            )
    if split and split.expert and not lora.may_divide_experts(features.adapters, version):
        yield IllegalPin(
            "spec.parallelism.expert",
            f"is true, and LoRA of vLLM {version} works without it only; remove one of them",
        )
    kept = features.extra_arguments.value(CPU_SLOTS)
    if features.adapters is not None and kept is not None:
        slots = features.adapters.slots
        if int(kept) < slots:
            yield IllegalPin(
                EXTRA_FIELD,
                f"{CPU_SLOTS} is {kept}, less than the {slots} of spec.engine.lora.maxLoras; set "
                f"it to at least {slots}",
            )
    if features.extra_arguments.asynchronous:
        yield from _asynchronous_problems(features, pipeline or 1, version)


def _asynchronous_problems(
    features: Features, pipeline: int, version: Version
) -> Iterator[PlanningError]:
    """What ``--async-scheduling`` is refused with, or falls back from; see ``speculation.csv``."""
    speculation, text = features.speculation, f"{ASYNC} of vLLM {version} does not work with"
    if speculation is not None and not drafts.goes_asynchronously(speculation.method, version):
        since = drafts.asynchronous_since(speculation.method)
        newer = f", or use vLLM {since} or newer" if since else ""
        yield IllegalPin(
            EXTRA_FIELD,
            f"{text} spec.engine.speculative {speculation.method}; remove one of them{newer}",
        )
    if features.undivided and pipeline > 1:
        yield IllegalPin(
            EXTRA_FIELD, f"{text} spec.parallelism.pipeline {pipeline}; remove one of them"
        )


def feature_flags(engine: Engine, features: Features, adapter_bytes: int) -> list[Flag]:
    """The arguments of parsers, drafts and adapters; these take ``adapter_bytes`` on a GPU."""
    found = []
    if engine.tool_call_parser is not None:
        reason = "pinned in spec.engine.toolCallParser"
        found.append(Flag(name="--enable-auto-tool-choice", reason=reason))
        found.append(Flag(name=parsers.TOOL_CALLS, value=engine.tool_call_parser, reason=reason))
    if engine.reasoning_parser is not None:
        reason = "pinned in spec.engine.reasoningParser"
        found.append(Flag(name=parsers.REASONING, value=engine.reasoning_parser, reason=reason))
    if features.speculation is not None:
        reason = "pinned in spec.engine.speculative"
        found.append(Flag(name=drafts.FLAG, value=features.speculation.argument, reason=reason))
    if features.adapters is not None and engine.lora is not None:
        found += features.adapters.flags(engine.lora, adapter_bytes)
    return found
