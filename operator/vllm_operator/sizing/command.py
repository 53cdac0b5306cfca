"""The container's command and environment, one reason for each argument."""

from __future__ import annotations

from typing import Final

from vllm_operator.api.base import PORT
from vllm_operator.api.plan import Flag, PlannedEngine, Startup
from vllm_operator.api.v1alpha1 import DEFAULT_DRAIN_SECONDS
from vllm_operator.engine import defaults
from vllm_operator.engine.environment import OFFLINE
from vllm_operator.engine.flags import VALUES, serve_flags
from vllm_operator.engine.tables import does
from vllm_operator.engine.versions import Version, version_note
from vllm_operator.models.reader import RUNNER

from .extras import ASYNC
from .features import feature_flags
from .layout import Layout
from .request import SWITCHES, Request
from .several_nodes import node_flags
from .splitting import split_flags
from .storage import volume_of

CACHE_PATH: Final = "/cache"
RUNNER_FLAG: Final = "--runner"
TASK_FLAG: Final = "--task"
MODEL_ARGUMENT: Final = "model"
"""Name of the first entry of ``flags``: the positional argument."""


def model_argument(request: Request) -> Flag:
    """The positional argument: the repository, or the folder of a checkpoint on a volume."""
    volume = volume_of(request.spec)
    if volume.serves:
        reason = f"the checkpoint on {volume}"
        return Flag(name=MODEL_ARGUMENT, value=volume.model_path, reason=reason[:512])
    return Flag(name=MODEL_ARGUMENT, value=request.spec.model.id, reason="spec.model.id")


def flags(request: Request, layout: Layout) -> list[Flag]:
    """Every argument after ``vllm serve``, in order, each with its reason."""
    return [
        model_argument(request),
        *_naming(request),
        *_sizes(request, layout),
        *node_flags(request, layout),
        *_kinds(request, layout),
        *_runner(request),
        *_switches(request, layout),
        *feature_flags(request.engine, request.features, layout.adapters),
        *_serving(request),
        *request.features.extras.flags,
    ]


def argument_vector(arguments: list[Flag], version: Version) -> list[str]:
    """The command: ``vllm serve MODEL --flag value ...``.

    Flags of one name in a row are one argument where it takes several values: given again, it
    would forget the first.
    """
    vector = ["vllm", "serve"]
    known, before = serve_flags(version), ""
    for flag in arguments:
        several = flag.name in known and known[flag.name].takes == VALUES
        if flag.value is not None and flag.value.startswith("-"):
            vector.append(f"{flag.name}={flag.value}")  # else it reads as a flag
        else:
            if flag.name != MODEL_ARGUMENT and not (several and flag.name == before):
                vector.append(flag.name)
            if flag.value is not None:
                vector.append(flag.value)
        before = flag.name
    return vector


def planned_engine(request: Request, arguments: list[Flag], start: Startup) -> PlannedEngine:
    """Image, version, command and the environment that the operator sets."""
    environment = {
        # A restricted pod runs as a user without an entry in /etc/passwd: getpwuid fails for it
        # unless HOME and USER say what would have been looked up.
        "HOME": "/tmp",
        "USER": "vllm",
        "HF_HOME": f"{CACHE_PATH}/huggingface",
        "VLLM_CACHE_ROOT": f"{CACHE_PATH}/vllm",
        "VLLM_NO_USAGE_STATS": "1",
    }
    given = {variable.name for variable in request.engine.env or []}
    if volume_of(request.spec).serves and OFFLINE[0] not in given:
        environment[OFFLINE[0]] = "1"
    ready = "VLLM_ENGINE_READY_TIMEOUT_S"
    if defaults.has_environment(ready, request.version):
        environment[ready] = str(int(start.budget_seconds))
    return PlannedEngine(
        image=request.image,
        version=str(request.version),
        command=argument_vector(arguments, request.version),
        env=dict(sorted(environment.items())),
    )


def _naming(request: Request) -> list[Flag]:
    model = request.spec.model
    named = model.served_name is not None
    found = [
        Flag(
            name="--served-model-name",
            value=model.served_name or model.id,
            reason="pinned in spec.model.servedName" if named else "spec.model.id",
        )
    ]
    if model.revision is not None and not volume_of(request.spec).serves:
        found.append(
            Flag(name="--revision", value=model.revision, reason="pinned in spec.model.revision")
        )
    return found


def _sizes(request: Request, layout: Layout) -> list[Flag]:
    note = version_note(request.version)
    suffix = f" ({note})" if note else ""
    return [
        *split_flags(request, layout),
        *(
            Flag(name=name, value=str(knob.value), reason=(knob.reason + suffix)[:512])
            for name, knob in (
                ("--max-model-len", layout.max_model_len),
                ("--max-num-seqs", layout.max_num_seqs),
                ("--max-num-batched-tokens", layout.max_num_batched_tokens),
                ("--gpu-memory-utilization", layout.utilization),
            )
        ),
    ]


def _kinds(request: Request, layout: Layout) -> list[Flag]:
    engine = request.engine
    found = []
    if engine.dtype is not None and engine.dtype != "auto":
        found.append(Flag(name="--dtype", value=engine.dtype, reason="pinned in spec.engine.dtype"))
    elif layout.dtype is not None:
        found.append(Flag(name="--dtype", value="float16", reason=layout.dtype))
    if engine.quantization is not None:
        found.append(
            Flag(
                name="--quantization",
                value=engine.quantization,
                reason="pinned in spec.engine.quantization",
            )
        )
    if engine.kv_cache_dtype is not None and engine.kv_cache_dtype != "auto":
        found.append(
            Flag(
                name="--kv-cache-dtype",
                value=engine.kv_cache_dtype,
                reason="pinned in spec.engine.kvCacheDtype",
            )
        )
    elif layout.small_cache:
        reason = f"spec.workload.profile {request.features.profile.name}: twice the tokens"
        found.append(Flag(name="--kv-cache-dtype", value="fp8", reason=reason))
    if engine.block_size is not None:
        found.append(
            Flag(
                name="--block-size",
                value=str(engine.block_size),
                reason="pinned in spec.engine.blockSize",
            )
        )
    return found


def _switches(request: Request, layout: Layout) -> list[Flag]:
    engine = request.engine
    found = []
    if engine.enforce_eager:
        found.append(Flag(name="--enforce-eager", reason="pinned in spec.engine.enforceEager"))
    for attribute, field, name in SWITCHES:
        value = getattr(engine, attribute)
        if value is not None:
            # --no-x is the negative form that every supported version takes.
            spelled = name if value else name.replace("--", "--no-", 1)
            found.append(Flag(name=spelled, reason=f"pinned in spec.engine.{field}"))
    if _schedules_ahead(request, layout):
        reason = f"spec.workload.profile Latency: vLLM {request.version} does not by itself"
        found.append(Flag(name=ASYNC, reason=reason))
    if request.spec.model.trust_remote_code:
        found.append(
            Flag(name="--trust-remote-code", reason="pinned in spec.model.trustRemoteCode")
        )
    return found


def _runner(request: Request) -> list[Flag]:
    """The runner that the model's facts state.

    Where nobody says it, vLLM decides by the architecture's name and the repository's
    ``modules.json``; facts that are given inline may have neither. Before 0.10.1 the flag is
    ``--task`` (0.8.5 ``config.py``, ``_resolve_task``).
    """
    stated = request.facts.config.get(RUNNER)
    if stated is None:
        return []
    reason = f"what the model's facts say ({RUNNER}: {stated})"
    if defaults.has_flag(RUNNER_FLAG, request.version):
        return [Flag(name=RUNNER_FLAG, value=str(stated), reason=reason)]
    task = "embed" if request.architecture.pooling else "generate"
    return [Flag(name=TASK_FLAG, value=task, reason=reason)]


def _schedules_ahead(request: Request, layout: Layout) -> bool:
    """Whether the next step is scheduled while one runs, where vLLM would not by itself."""
    features = request.features
    return (
        features.profile.fast
        and does("schedules-ahead-when-asked", request.version)
        and features.speculation is None
        and layout.parallelism.pipeline == 1
        and not request.architecture.pooling
        and ASYNC not in features.extras.names
    )


def _serving(request: Request) -> list[Flag]:
    found = [Flag(name="--port", value=str(PORT), reason="the port of the Service and the probes")]
    if defaults.has_flag("--shutdown-timeout", request.version):
        rollout = request.spec.rollout
        pinned = rollout.drain_seconds if rollout else None
        found.append(
            Flag(
                name="--shutdown-timeout",
                value=str(DEFAULT_DRAIN_SECONDS if pinned is None else pinned),
                reason="time for running requests to end when the pod stops"
                if pinned is None
                else "pinned in spec.rollout.drainSeconds",
            )
        )
    return found
