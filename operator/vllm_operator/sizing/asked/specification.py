"""What a specification asks for, checked as far as no GPU is needed to check it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from vllm_operator.api.v1alpha1 import Engine, VLLMServer, VLLMServerSpec
from vllm_operator.engine import defaults
from vllm_operator.engine.addresses import LOAD_FORMAT
from vllm_operator.engine.environment import OFFLINE, offline_variable, refused_because
from vllm_operator.engine.refusals import refused
from vllm_operator.engine.tables import does
from vllm_operator.engine.versions import Version, engine_image, engine_version
from vllm_operator.errors import IllegalPin, PlanningError, UnknownModel
from vllm_operator.hardware.measured import MeasuredGPU
from vllm_operator.hardware.prices import NO_PRICES, Prices
from vllm_operator.models import catalogue
from vllm_operator.models.architecture import Architecture, architecture_from_config
from vllm_operator.models.facts import ModelFacts
from vllm_operator.sizing.memory.calibration import Calibration
from vllm_operator.sizing.memory.online_quantization import quantized_online
from vllm_operator.sizing.memory.weights import checkpoint_bytes
from vllm_operator.sizing.performance.learned import MeasuredSpeed
from vllm_operator.sizing.split.divisions import Pins
from vllm_operator.sizing.split.stages import illegal_stages_because

from .adapters import may_divide_experts
from .features import Features, read_features
from .inputs import PlanningInputs
from .object_stores import store_problems
from .repairs import Repair
from .storage import is_served_from_disk, room_problems, storage_problems, volume_of
from .tuned import UNTUNED, Tuned
from .version_support import (
    case_of,
    constraint_problem,
    model_problems,
    value_problems,
    with_length_of,
)
from .workload import ExpectedLoad, expected_load, load_problems

SWITCHES: Final = (
    ("prefix_caching", "prefixCaching", "--enable-prefix-caching"),
    ("chunked_prefill", "chunkedPrefill", "--enable-chunked-prefill"),
)
"""Pins that are written as ``--x`` or ``--no-x``: attribute, field, flag."""

NOT_LOADED: Final = "dummy"
"""The format with which no weights are downloaded (0.33.0 ``model_loader/dummy_loader.py``)."""
DATA_FLAG: Final = "--data-parallel-size"
EXPERT_FLAG: Final = "--enable-expert-parallel"
ACTIVE_FLAG: Final = "--max-num-active-seqs"
"""How many requests are admitted at once (0.32.0 ``config/scheduler.py``)."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Asked:
    """A specification whose parts are known and do not contradict each other."""

    server: VLLMServer
    facts: ModelFacts
    architecture: Architecture
    """As the engine keeps it: quantised, where that happens while loading."""
    checkpoint: Architecture
    """As it is stored."""
    weight_bytes: int
    unexplained_bytes: int
    image: str
    version: Version
    engine: Engine
    """The pins; empty where there are none."""
    pins: Pins
    """What is pinned of the parallelism."""
    load: ExpectedLoad
    """The expected requests on one engine."""
    repairs: tuple[Repair, ...] = ()
    """Bounds of what is not pinned, from engines that did not start."""
    calibrations: tuple[Calibration, ...] = ()
    """What running engines of this model have measured."""
    measured_gpus: tuple[MeasuredGPU, ...] = ()
    """GPU products that were measured, in place of their datasheets."""
    measured_speeds: tuple[MeasuredSpeed, ...] = ()
    """How fast servers of this model were measured to be."""
    prices: Prices = NO_PRICES
    """What an hour of a GPU costs, as far as it is said."""
    tuned: Tuned = UNTUNED
    """What a trial has proven of what is not pinned."""
    features: Features = dataclasses.field(default_factory=Features)
    """What is asked for beside plain generation; ``architecture`` has its draft."""

    @property
    def spec(self) -> VLLMServerSpec:
        """The specification."""
        return self.server.spec

    @property
    def whole_experts(self) -> bool:
        """Whether expert parallelism may be chosen where nobody pinned it.

        Before 0.9.2 some quantised experts refuse it (0.8.5 ``compressed_tensors_moe.py``).
        """
        known = does("divides-all-experts", self.version)
        return known and may_divide_experts(self.features.adapters, self.version)

    @property
    def download_bytes(self) -> int:
        """Bytes of weights that a start loads into a cache that is empty."""
        return self.weight_bytes if _downloads(self.spec, self.features) else 0

    @property
    def captures_graphs(self) -> bool:
        """Whether CUDA graphs are captured."""
        return self.engine.enforce_eager is not True and self.features.extra_arguments.graphs


def read_specification(
    server: VLLMServer, inputs: PlanningInputs
) -> tuple[Asked | None, list[PlanningError]]:
    """What is asked, or every independent problem that stops a plan of it."""
    spec = server.spec
    engine = spec.engine or Engine()
    problems: list[PlanningError] = []
    problems.extend(_environment_problems(spec))
    problems.extend(storage_problems(spec, inputs.host_path_prefixes))
    version, image = None, engine.image or inputs.default_image
    try:
        image = engine_image(engine.image, engine.version, inputs.default_image)
        version = engine_version(image, engine.version)
    except PlanningError as problem:
        problems.append(problem)
    checkpoint = _collected(problems, lambda: _architecture(spec, inputs))
    if checkpoint is not None and version is not None:
        checkpoint = with_length_of(checkpoint, version, engine.max_model_len)
    architecture = checkpoint
    if checkpoint is not None and version is not None and engine.quantization is not None:
        stored, method, release = checkpoint, engine.quantization, version
        architecture = _collected(problems, lambda: quantized_online(stored, method, release))
    features = Features()
    if version is not None:
        architecture, features, found = read_features(spec, architecture, version, image)
        problems.extend(found)
        problems.extend(store_problems(spec, version, architecture, features))
    if checkpoint is not None and version is not None:
        problems.extend(model_problems(engine, version, checkpoint))
    problems.extend(_pin_problems(engine, version, architecture))
    pins = _parallelism_pins(spec)
    if features.one_stage or (pins.pipeline is None and _undivided(engine, architecture, version)):
        pins = replace(pins, pipeline=1)
    problems.extend(_parallelism_problems(pins, version, architecture))
    if architecture is not None and version is not None:
        case = case_of(engine, architecture, features, pipeline=pins.pipeline or 1)
        constraint = constraint_problem(case, version)
        problems += [constraint] if constraint is not None else []
    load = None
    if architecture is not None:
        context = architecture.context_length
        limit = min(engine.max_model_len or context, context)
        load = expected_load(spec.workload, limit, pins.ranks)
        problems.extend(load_problems(load, spec.workload, engine, context, pins.ranks))
    facts = inputs.model
    weights = None
    if checkpoint is not None and facts is not None:
        known, pinned = facts, spec.model.weight_bytes
        described = checkpoint
        weights = _collected(problems, lambda: checkpoint_bytes(described, known, pinned))
    if weights is not None and _downloads(spec, features):
        problems.extend(room_problems(spec, weights[0]))
    if problems or version is None or facts is None or weights is None:
        return None, problems
    assert architecture is not None
    assert checkpoint is not None
    assert load is not None
    asked = Asked(
        server=server,
        facts=facts,
        architecture=architecture,
        checkpoint=checkpoint,
        weight_bytes=weights[0],
        unexplained_bytes=weights[1],
        image=image,
        version=version,
        engine=engine,
        pins=pins,
        load=load,
        features=features,
        repairs=inputs.repairs,
        calibrations=inputs.calibrations,
        measured_gpus=inputs.measured_gpus,
        measured_speeds=inputs.measured_speeds,
        prices=inputs.prices,
        tuned=inputs.tuned or UNTUNED,
    )
    return asked, []


def _downloads(spec: VLLMServerSpec, features: Features) -> bool:
    """Whether weights go into an empty cache: those of an object store stream past it."""
    loaded = features.extra_arguments.value(LOAD_FORMAT) != NOT_LOADED
    return loaded and spec.model.is_repository


def _longer(architecture: Architecture) -> str:
    """How a yarn-scaled model is served at its scaled length by a version that takes it as stated
    (``config/model.py`` of 0.30: "YaRN variants leave max_position_embeddings already scaled")."""
    if architecture.stated_length != architecture.context_length:
        return ""
    return (
        ", or to more with a config.json whose max_position_embeddings is the scaled length: vLLM "
        "0.30 and newer no longer multiply it by yarn's factor"
    )


def _collected(problems: list[PlanningError], read: Callable[[], Result]) -> Result | None:
    try:
        return read()
    except PlanningError as problem:
        problems.append(problem)
        return None


def _architecture(spec: VLLMServerSpec, inputs: PlanningInputs) -> Architecture:
    if inputs.model_problem is not None:
        raise inputs.model_problem
    if inputs.model is None:
        near = catalogue.nearest(spec.model.id)
        hint = f"; the nearest that is catalogued is {near}" if near else ""
        raise UnknownModel(
            "spec.model.id",
            f"nothing is known of {spec.model.id}{hint}. Give its config.json in "
            "spec.model.config or spec.model.configMapRef",
        )
    return architecture_from_config(inputs.model.config)


def _environment_problems(spec: VLLMServerSpec) -> Iterator[PlanningError]:
    variables, volume = (spec.engine or Engine()).env or [], volume_of(spec)
    seen: set[str] = set()
    offline = offline_variable(variables)
    begins_empty = {"EmptyDir": "emptyDir", "Ephemeral": "volume of the pod's own"}
    if offline is not None and volume.kind in begins_empty and spec.model.is_repository:
        yield IllegalPin(
            f"spec.engine.env[{offline.name}]",
            f"is {offline.value}, and the {begins_empty[volume.kind]} in which the engine looks "
            "for the model is empty at the start of every pod; remove it, or name in "
            "spec.model.storage a persistentVolumeClaim or hostPath that holds the model",
        )
    for variable in variables:
        field = f"spec.engine.env[{variable.name}]"
        remedy = refused_because(variable.name)
        served = is_served_from_disk(spec)
        if served and variable.name == OFFLINE[0] and variable is not offline:
            remedy = "remove it: a checkpoint on disk is served without the Hub anyway"
        if remedy is not None:
            yield IllegalPin(field, f"may not be set here; {remedy}")
        if variable.name in seen:
            yield IllegalPin(field, "stands there twice; keep one")
        seen.add(variable.name)
        sources = (variable.value, variable.secret_key_ref, variable.config_map_key_ref)
        given = sum(source is not None for source in sources)
        if given != 1:
            yield IllegalPin(
                field,
                f"has {given} of value, secretKeyRef and configMapKeyRef; give exactly one",
            )


def _pin_problems(
    engine: Engine, version: Version | None, architecture: Architecture | None
) -> Iterator[PlanningError]:
    seqs, tokens, length = (
        engine.max_num_seqs,
        engine.max_num_batched_tokens,
        engine.max_model_len,
    )
    if seqs is not None and tokens is not None and tokens < seqs:
        yield IllegalPin(
            "spec.engine.maxNumBatchedTokens",
            f"is {tokens}, less than spec.engine.maxNumSeqs {seqs}: vLLM schedules one token a "
            f"sequence in each step; set it to at least {seqs}",
        )
    if engine.chunked_prefill is False and tokens is not None and (length or 0) > tokens:
        yield IllegalPin(
            "spec.engine.maxNumBatchedTokens",
            f"is {tokens}, less than spec.engine.maxModelLen {length}: without chunkedPrefill a "
            f"prompt is one step; set it to at least {length}",
        )
    if architecture is not None and length is not None and length > architecture.context_length:
        yield IllegalPin(
            "spec.engine.maxModelLen",
            f"is {length}, and the model's own limit is {architecture.context_length}; "
            f"set it to at most {architecture.context_length}{_longer(architecture)}",
        )
    if version is None:
        return
    yield from value_problems(engine, version, architecture)
    active = engine.max_num_active_seqs
    if active is not None and not defaults.has_flag(ACTIVE_FLAG, version):
        yield IllegalPin(
            "spec.engine.maxNumActiveSeqs",
            f"needs {ACTIVE_FLAG}, which vLLM {version} does not have; set spec.engine.maxNumSeqs",
        )
    if active is not None and seqs is not None and active > seqs:
        yield IllegalPin(
            "spec.engine.maxNumActiveSeqs",
            f"is {active}, more than spec.engine.maxNumSeqs {seqs}, of which it is a part; set it "
            f"to at most {seqs}",
        )
    for attribute, field, flag in SWITCHES:
        value = getattr(engine, attribute)
        name = flag if value else flag.replace("--", "--no-", 1)
        if value is not None and not defaults.has_flag(name, version):
            yield IllegalPin(
                f"spec.engine.{field}",
                f"needs {name}, which vLLM {version} does not have; remove it",
            )


def _undivided(engine: Engine, architecture: Architecture | None, version: Version | None) -> bool:
    """Whether the version does not divide the model into stages."""
    if architecture is None or version is None:
        return False
    found = refused(case_of(engine, architecture, Features(), pipeline=2), version)
    return found is not None and found.field == "spec.parallelism.pipeline"


def _parallelism_pins(spec: VLLMServerSpec) -> Pins:
    given = spec.parallelism
    if given is None:
        return Pins()
    return Pins(given.tensor, given.pipeline, given.data, given.expert)


def _parallelism_problems(
    pins: Pins, version: Version | None, architecture: Architecture | None
) -> Iterator[PlanningError]:
    """What no GPU makes right; whether a tensor size is legal is the layout's business."""
    if architecture is not None and (pins.pipeline or 1) > architecture.layers:
        yield IllegalPin(
            "spec.parallelism.pipeline",
            f"is {pins.pipeline}, and {architecture.layers} layers make at most "
            f"{architecture.layers} stages; set it to at most {architecture.layers}",
        )
    elif architecture is not None:
        yield from _stage_problems(pins.pipeline or 1, architecture)
    if pins.expert and architecture is not None and not architecture.has_experts:
        yield IllegalPin(
            "spec.parallelism.expert", "is true, and the model has no experts; remove it"
        )
    if version is None:
        return
    for field, flag, wanted in (
        ("data", DATA_FLAG, pins.ranks > 1),
        ("expert", EXPERT_FLAG, pins.expert is True),
    ):
        if wanted and not defaults.has_flag(flag, version):
            yield IllegalPin(
                f"spec.parallelism.{field}",
                f"needs {flag}, which vLLM {version} does not have; remove it",
            )


def _stage_problems(stages: int, architecture: Architecture) -> Iterator[PlanningError]:
    why = illegal_stages_because(architecture, stages)
    if why is None:
        return
    works = max(n for n in range(1, stages) if illegal_stages_because(architecture, n) is None)
    yield IllegalPin("spec.parallelism.pipeline", f"is {stages}: {why}; set it to {works}")
