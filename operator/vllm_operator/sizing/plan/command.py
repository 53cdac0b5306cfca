"""The container's command and environment, one reason for each argument."""

from __future__ import annotations

from typing import Final

from vllm_operator.api.base import PORT
from vllm_operator.api.plan import Flag, PlannedEngine, Startup
from vllm_operator.api.quantity import GIBIBYTE
from vllm_operator.api.v1alpha1 import DEFAULT_DRAIN_SECONDS
from vllm_operator.engine import defaults
from vllm_operator.engine.addresses import LOAD_FORMAT, MEMORY_LIMIT, STREAMER
from vllm_operator.engine.environment import OFFLINE
from vllm_operator.engine.flags import VALUES, serve_flags
from vllm_operator.engine.tables import rows_for
from vllm_operator.engine.versions import Version, version_note
from vllm_operator.errors import IllegalPin
from vllm_operator.models.reader import RUNNER
from vllm_operator.sizing.asked.extra_arguments import ASYNC
from vllm_operator.sizing.asked.extra_arguments import FIELD as EXTRA_FIELD
from vllm_operator.sizing.asked.features import feature_flags
from vllm_operator.sizing.asked.object_stores import streamed_bytes
from vllm_operator.sizing.asked.specification import ACTIVE_FLAG, SWITCHES, Asked
from vllm_operator.sizing.asked.storage import is_served_from_disk, volume_of
from vllm_operator.sizing.layout.knobs import Knob
from vllm_operator.sizing.layout.search import Layout
from vllm_operator.sizing.layout.speed import asks_to_schedule_ahead

from .node_flags import node_flags
from .parallel_flags import parallel_flags

CACHE_PATH: Final = "/cache"
RUNNER_FLAG: Final = "--runner"
TASK_FLAG: Final = "--task"
THRESHOLD: Final = "--long-prefill-token-threshold"
DEPRECATED: Final = "--allow-deprecated-quantization"
MODEL_ARGUMENT: Final = "model"
"""Name of the first entry of ``flags``: the positional argument."""


def model_argument(asked: Asked) -> Flag:
    """The positional argument: the model's id, or the folder of a checkpoint on a volume."""
    volume = volume_of(asked.spec)
    if volume.serves:
        reason = f"the checkpoint on {volume}"
        return Flag(name=MODEL_ARGUMENT, value=volume.model_path, reason=reason[:512])
    return Flag(name=MODEL_ARGUMENT, value=asked.spec.model.id, reason="spec.model.id")


def flags(asked: Asked, layout: Layout) -> list[Flag]:
    """Every argument after ``vllm serve``, in order, each with its reason."""
    return [
        model_argument(asked),
        *_naming(asked),
        *_streamed(asked, layout),
        *_sizes(asked, layout),
        *node_flags(asked, layout),
        *_kinds(asked, layout),
        *_runner(asked),
        *_switches(asked, layout),
        *feature_flags(asked.engine, asked.features, layout.adapters),
        *_serving(asked),
        *asked.features.extra_arguments.flags,
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


def planned_engine(asked: Asked, arguments: list[Flag], start: Startup) -> PlannedEngine:
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
    given = {variable.name for variable in asked.engine.env or []}
    if is_served_from_disk(asked.spec) and OFFLINE[0] not in given:
        environment[OFFLINE[0]] = "1"
    ready = "VLLM_ENGINE_READY_TIMEOUT_S"
    if defaults.has_environment(ready, asked.version):
        environment[ready] = str(int(start.budget_seconds))
    return PlannedEngine(
        image=asked.image,
        version=str(asked.version),
        command=argument_vector(arguments, asked.version),
        env=dict(sorted(environment.items())),
    )


def _naming(asked: Asked) -> list[Flag]:
    model = asked.spec.model
    named = model.served_name is not None
    name, *others = model.served_names
    flag = "--served-model-name"
    found = [
        Flag(
            name=flag,
            value=name,
            reason="pinned in spec.model.servedName" if named else "spec.model.id",
        ),
        *(
            Flag(name=flag, value=other, reason="pinned in spec.model.additionalServedNames")
            for other in others
        ),
    ]
    if model.revision is not None and not volume_of(asked.spec).serves:
        found.append(
            Flag(name="--revision", value=model.revision, reason="pinned in spec.model.revision")
        )
    return found


def buffer_bytes(asked: Asked, layout: Layout) -> int | None:
    """Bytes of a pod's memory that weights take while they are streamed; None where none are."""
    division = layout.division
    processes = division.gpus // division.nodes
    return streamed_bytes(asked.spec, asked.features, asked.weight_bytes, processes)


def _streamed(asked: Asked, layout: Layout) -> list[Flag]:
    if asked.spec.model.scheme is None or LOAD_FORMAT in asked.features.extra_arguments.names:
        return []
    held = (buffer_bytes(asked, layout) or 0) / GIBIBYTE
    reason = (
        "spec.model.id is in an object store, which Run:ai's streamer reads; its buffers take up "
        f"to {held:.1f} GiB of a pod's memory, less with {MEMORY_LIMIT} in spec.engine.env"
    )
    return [Flag(name=LOAD_FORMAT, value=STREAMER, reason=reason)]


def _sizes(asked: Asked, layout: Layout) -> list[Flag]:
    note = version_note(asked.version)
    suffix = f" ({note})" if note else ""
    knobs: tuple[tuple[str, Knob[int] | Knob[float] | None], ...] = (
        ("--max-model-len", layout.max_model_len),
        ("--max-num-seqs", layout.max_num_seqs),
        (ACTIVE_FLAG, layout.max_num_active_seqs),
        ("--max-num-batched-tokens", layout.max_num_batched_tokens),
        ("--gpu-memory-utilization", layout.utilization),
    )
    return [
        *parallel_flags(asked, layout),
        *(
            Flag(name=name, value=str(knob.value), reason=(knob.reason + suffix)[:512])
            for name, knob in knobs
            if knob is not None
        ),
    ]


def active_problem(layout: Layout) -> IllegalPin | None:
    """Why vLLM refuses a pinned ``max-num-active-seqs``: there are fewer sequences in all."""
    active, seqs = layout.max_num_active_seqs, layout.max_num_seqs
    if active is None or active.value <= seqs.value:
        return None
    return IllegalPin(
        "spec.engine.maxNumActiveSeqs",
        f"is {active.value}, and --max-num-seqs is {seqs.value}, {seqs.reason}; set it to at most "
        f"{seqs.value}",
    )


def threshold_problem(asked: Asked, layout: Layout) -> IllegalPin | None:
    """Why vLLM refuses a threshold of long prompts: no request is as long.

    Source: vllm 0.12.0 to 0.33.0 ``config/scheduler.py``.
    """
    given, longest = asked.features.extra_arguments.value(THRESHOLD), layout.max_model_len
    if given is None or int(given) <= longest.value:
        return None
    return IllegalPin(
        EXTRA_FIELD,
        f"{THRESHOLD} is {given}, and --max-model-len is {longest.value}, {longest.reason}; set "
        f"it to at most {longest.value}",
    )


def _kinds(asked: Asked, layout: Layout) -> list[Flag]:
    engine = asked.engine
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
    found += _deprecated(asked)
    if engine.kv_cache_dtype is not None and engine.kv_cache_dtype != "auto":
        found.append(
            Flag(
                name="--kv-cache-dtype",
                value=engine.kv_cache_dtype,
                reason="pinned in spec.engine.kvCacheDtype",
            )
        )
    elif engine.kv_cache_dtype is None and asked.architecture.compressed:
        reason = (
            f"the plan counts {asked.architecture.name}'s states in 8 bits, which vLLM "
            f"{asked.version} does not on every GPU unless it is told to"
        )
        found.append(Flag(name="--kv-cache-dtype", value="fp8", reason=reason))
    elif layout.small_cache:
        reason = f"spec.workload.profile {asked.features.profile.name}: twice the tokens"
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


def _deprecated(asked: Asked) -> list[Flag]:
    """What vLLM wants to hear before it loads a quantisation that it will give up."""
    method = asked.architecture.quantization.method
    known = {row["method"] for row in rows_for("deprecated_quantization.csv", asked.version)}
    if method not in known or DEPRECATED in asked.features.extra_arguments.names:
        return []
    reason = f"vLLM {asked.version} calls {method} deprecated and refuses it without this flag"
    return [Flag(name=DEPRECATED, reason=reason)]


def _switches(asked: Asked, layout: Layout) -> list[Flag]:
    engine = asked.engine
    found = []
    if engine.enforce_eager:
        found.append(Flag(name="--enforce-eager", reason="pinned in spec.engine.enforceEager"))
    for attribute, field, name in SWITCHES:
        value = getattr(engine, attribute)
        if value is not None:
            # --no-x is the negative form that every supported version takes.
            spelled = name if value else name.replace("--", "--no-", 1)
            found.append(Flag(name=spelled, reason=f"pinned in spec.engine.{field}"))
    if asks_to_schedule_ahead(asked, layout):
        reason = f"spec.workload.profile Latency: vLLM {asked.version} does not by itself"
        found.append(Flag(name=ASYNC, reason=reason))
    if asked.spec.model.trust_remote_code:
        found.append(
            Flag(name="--trust-remote-code", reason="pinned in spec.model.trustRemoteCode")
        )
    return found


def _runner(asked: Asked) -> list[Flag]:
    """The runner that the model's facts state.

    Where nobody says it, vLLM decides by the architecture's name and the repository's
    ``modules.json``; facts that are given inline may have neither. Before 0.10.1 the flag is
    ``--task`` (0.8.5 ``config.py``, ``_resolve_task``).
    """
    stated = asked.facts.config.get(RUNNER)
    if stated is None:
        return []
    reason = f"what the model's facts say ({RUNNER}: {stated})"
    if defaults.has_flag(RUNNER_FLAG, asked.version):
        return [Flag(name=RUNNER_FLAG, value=str(stated), reason=reason)]
    task = "embed" if asked.architecture.pooling else "generate"
    return [Flag(name=TASK_FLAG, value=task, reason=reason)]


def _serving(asked: Asked) -> list[Flag]:
    found = [Flag(name="--port", value=str(PORT), reason="the port of the Service and the probes")]
    if defaults.has_flag("--shutdown-timeout", asked.version):
        rollout = asked.spec.rollout
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
