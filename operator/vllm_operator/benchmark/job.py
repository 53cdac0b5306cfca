"""The Job that measures a server: its image, its tokenizer and its key, and none of its GPUs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from vllm_operator import datafiles
from vllm_operator.api.canonical import digest
from vllm_operator.api.plan import Plan
from vllm_operator.api.pod_rules import ENGINE
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.errors import InputError
from vllm_operator.manifests import labels as names
from vllm_operator.sizing.asked.storage import ONE_POD, SHARED_MODES

from .arguments import refuse_pooling, runs_of, shared, tokenizer_of
from .jobs import CONTAINER, as_job, plain
from .kept import owner_of
from .load import Load, Point
from .results import Measured, Result, lean

BENCHMARK_LABEL: Final = "vllm-operator.io/benchmark"
"""On the Job and its pod, with the server's name: never the label that makes a pod the server's."""
LONGEST_NAME: Final = 63
LONGEST_ARGUMENT: Final = 131_071
"""Bytes of one argument of a process: 32 pages of 4 KiB, with the NUL at its end (Linux 2.6.23 and
newer, execve(2))."""
REQUESTS: Final = {"cpu": "1", "memory": "3Gi"}
LIMITS: Final = {"memory": "12Gi"}
"""The process is one; torch's import alone takes 1 GiB. No limit of processors: it would be in
what is measured."""
DROPPED_MOUNTS: Final = ("shm",)
SMALL_SOURCES: Final = ("configMap", "secret", "projected", "emptyDir", "downwardAPI", "csi")
"""Volumes of the user's that loading a tokenizer may need (certificates): never their claims."""
NO_GPU: Final = (
    # Images of CUDA ask for all GPUs of the node where the runtime is NVIDIA's by default.
    {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"},
    {"name": "CUDA_VISIBLE_DEVICES", "value": ""},
)
HOSTNAME: Final = "kubernetes.io/hostname"

Object = dict[str, Any]


def job_name(server: str, name: str) -> str:
    """Of the Job, in what a label may hold."""
    whole = f"{server}-benchmark-{name}"
    if len(whole) <= LONGEST_NAME:
        return whole
    short = f"-{digest([server], 6)}-benchmark-{name}"
    return server[: LONGEST_NAME - len(short)].rstrip("-.") + short


def about(
    server: VLLMServer, plan: Plan, name: str, at: str, load: Load, measured: Sequence[Measured]
) -> Result:
    """The result before its first run."""
    return Result(
        name=name,
        namespace=server.metadata.namespace,
        server=server.metadata.name,
        at=at,
        replicas=server.spec.replicas,
        load=load,
        plan=lean(plan),
        points=tuple(measured),
    )


def job(
    server: VLLMServer,
    plan: Plan,
    template: Mapping[str, Any],
    result: Result,
    repeats: int,
    *,
    deadline_seconds: int,
    tokenizer: str | None = None,
) -> Object:
    """The Job of a benchmark.

    ``template`` is the pod template of the server's workload as it is live: what its engine is
    given (variables, Secrets, the cache, certificates, pull secrets, tolerations), the Job is given
    too. Raises ``InputError`` where the server cannot be measured so, ``UnsupportedEngineVersion``
    where its vLLM has no ``vllm bench serve``.
    """
    refuse_pooling(plan)
    _refuse_single_pod(plan)
    pod, engine = template["spec"], _engine(template)
    metadata = server.metadata
    base_url = names.endpoint(metadata.name, metadata.namespace).removesuffix("/v1")
    points: list[Point] = [one.point for one in result.points]
    arguments, runs = shared(runs_of(plan, base_url, result.load, points, repeats, result.name))
    given = {
        "about": result.to_json_object(),
        "tokenizer": tokenizer_of(plan, tokenizer),
        "arguments": arguments,
        "runs": runs,
    }
    labels = {
        BENCHMARK_LABEL: metadata.name,
        "app.kubernetes.io/name": "vllm",
        "app.kubernetes.io/instance": metadata.name,
        "app.kubernetes.io/component": CONTAINER,
        "app.kubernetes.io/managed-by": names.FIELD_MANAGER,
    }
    mounts = list(_mounts(pod, engine))
    script = datafiles.text(__package__, "scripts/measure.py")
    container = {
        "name": CONTAINER,
        "image": engine["image"],
        "command": ["python3", "-c", plain(script), plain(_one_argument(given))],
        "env": _environment(engine),
        "resources": {"requests": dict(REQUESTS), "limits": dict(LIMITS)},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": mounts,
    }
    used = {mount["name"] for mount in mounts}
    spec: Object = {
        "securityContext": _who(pod),
        "affinity": _affinity(server, plan),
        "containers": [container],
        "volumes": [_volume(one) for one in pod.get("volumes") or [] if one["name"] in used],
    }
    for field in ("serviceAccountName", "imagePullSecrets", "tolerations"):
        if pod.get(field):
            spec[field] = pod[field]
    owner = [owner_of(metadata.name, metadata.uid)] if metadata.uid else None
    name = job_name(metadata.name, result.name)
    return as_job(name, metadata.namespace, labels, spec, deadline_seconds, owner)


def _one_argument(given: Mapping[str, Any]) -> str:
    text = json.dumps(given, sort_keys=True)
    if len(text) > LONGEST_ARGUMENT:
        raise InputError(
            f"what the Job is to do takes {len(text)} bytes, and Linux hands {LONGEST_ARGUMENT} on "
            "to a process; name fewer loads (--sweep), or measure them less often (--repeats)"
        )
    return text


def _engine(template: Mapping[str, Any]) -> Mapping[str, Any]:
    containers = template["spec"]["containers"]
    found: Mapping[str, Any] = next(one for one in containers if one["name"] == ENGINE)
    return found


def _environment(engine: Mapping[str, Any]) -> list[Object]:
    """The engine's variables; its key also by the name under which the load sends it; no GPU."""
    ours = {one["name"] for one in NO_GPU}
    given = [dict(one) for one in engine.get("env") or [] if one["name"] not in ours]
    key = [{**one, "name": "OPENAI_API_KEY"} for one in given if one["name"] == "VLLM_API_KEY"]
    taken = {one["name"] for one in key}
    return [*(one for one in given if one["name"] not in taken), *key, *map(dict, NO_GPU)]


def _who(pod: Mapping[str, Any]) -> Object:
    """The user and the groups of the server's pods: the cache is theirs."""
    found = {**(pod.get("securityContext") or {})}
    found.update(runAsNonRoot=True, seccompProfile={"type": "RuntimeDefault"})
    return found


def _mounts(pod: Mapping[str, Any], engine: Mapping[str, Any]) -> Iterator[Object]:
    volumes = {one["name"]: one for one in pod.get("volumes") or []}
    own = ("cache", "model", "tmp")
    for mount in engine.get("volumeMounts") or []:
        name = mount["name"]
        if name in DROPPED_MOUNTS:
            continue
        small = any(source in volumes.get(name, {}) for source in SMALL_SOURCES)
        if name in own or small:
            yield dict(mount)


def _volume(given: Object) -> Object:
    """A volume of the server's pods. Of one that each pod has of its own the Job gets none: it
    needs a tokenizer, and no room for weights."""
    return {"name": given["name"], "emptyDir": {}} if "ephemeral" in given else given


def _refuse_single_pod(plan: Plan) -> None:
    if ONE_POD in (plan.storage.access_modes or ()):
        raise InputError(
            f"PersistentVolumeClaim {plan.storage.source} is {ONE_POD}: the server's pod has it, "
            "and no other may read the tokenizer from it; use a claim with ReadWriteOnce or "
            "ReadWriteMany"
        )


def _affinity(server: VLLMServer, plan: Plan) -> Object:
    """Beside a pod of the server: its image is there. It must be where the volume is that node's.

    By the pods' labels, so that nobody needs the right to read them.
    """
    term = {
        "topologyKey": HOSTNAME,
        "labelSelector": {"matchLabels": names.serving(server.metadata.name)},
    }
    if _is_of_one_node(plan):
        return {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    preferred = [{"weight": 100, "podAffinityTerm": term}]
    return {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}


def _is_of_one_node(plan: Plan) -> bool:
    """Whether the volume of tokenizer and cache is on one node; a claim of unknown modes may be."""
    kind = plan.storage.kind
    if kind == "PersistentVolumeClaim":
        return not SHARED_MODES & set(plan.storage.access_modes or ())
    return kind == "HostPath"
