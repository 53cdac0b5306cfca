"""Manifests and schema walks that the tests of the types and of admission share."""

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from vllm_operator.api.base import API_VERSION, KIND
from vllm_operator.api.offline import spec_schema


def server(spec: Mapping[str, Any], name: str = "qwen") -> dict[str, Any]:
    """A manifest with that specification."""
    metadata = {"name": name}
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": dict(spec)}


MODEL = {"id": "Qwen/Qwen2.5-7B-Instruct"}
MINIMAL = server({"model": MODEL})

FULL = server(
    {
        "model": {
            **MODEL,
            "revision": "a09a35458c702b33eeacc393d103063234e8bc28",
            "servedName": "qwen2.5-7b",
            "additionalServedNames": ["chat", "qwen:7b"],
            "tokenSecretRef": {"name": "hf-token", "key": "token"},
            "trustRemoteCode": False,
            "config": {"hidden_size": 3584, "rope_scaling": None, "architectures": ["Qwen2"]},
            "weightBytes": 15231233024,
            "storage": {
                "persistentVolumeClaim": {"claimName": "models", "path": "/qwen", "mode": "Cache"}
            },
        },
        "engine": {
            "image": "vllm/vllm-openai:v0.30.0",
            "version": "0.30.0",
            "maxModelLen": 32768,
            "maxNumSeqs": 256,
            "maxNumActiveSeqs": 128,
            "maxNumBatchedTokens": 8192,
            "gpuMemoryUtilization": 0.29,
            "dtype": "auto",
            "quantization": "fp8",
            "kvCacheDtype": "fp8",
            "blockSize": 16,
            "enforceEager": False,
            "prefixCaching": True,
            "chunkedPrefill": True,
            "speculative": {
                "method": "eagle3",
                "tokens": 4,
                "model": "example/EAGLE3-Qwen2.5-7B",
                "config": {"architectures": ["LlamaForCausalLMEagle3"], "hidden_size": 3584},
                "weightBytes": 1000000000,
            },
            "lora": {
                "maxLoras": 4,
                "maxRank": 16,
                "adapters": [{"name": "sql", "path": "example/sql-lora"}],
            },
            "toolCallParser": "hermes",
            "reasoningParser": "qwen3",
            "extraArgs": ["--seed", "1"],
            "apiKeySecretRef": {"name": "api-key", "key": "key"},
            "env": [
                {"name": "PLAIN", "value": ""},
                {"name": "SECRET", "secretKeyRef": {"name": "some", "key": "thing"}},
                {"name": "CONFIGURED", "configMapKeyRef": {"name": "some", "key": "thing"}},
            ],
        },
        "gpu": {
            "product": "NVIDIA-H100-80GB-HBM3",
            "memoryGiB": 79.1,
            "perNode": 8,
            "resourceName": "nvidia.com/gpu",
        },
        "parallelism": {"tensor": 2, "pipeline": 1, "data": 1, "expert": False},
        "workload": {
            "profile": "Balanced",
            "promptTokens": 1024,
            "sharedPrefixTokens": 512,
            "outputTokens": 256,
            "concurrency": 64,
            "draftAcceptance": 0.6,
            "slo": {
                "timeToFirstTokenMilliseconds": 500,
                "interTokenLatencyMilliseconds": 50,
                "percentile": 95,
            },
        },
        "replicas": 2,
        "rollout": {
            "strategy": "Auto",
            "surgeTimeoutSeconds": 120,
            "startupBudgetSeconds": 900,
            "livenessBudgetSeconds": 600,
            "drainSeconds": 60,
        },
        "pod": {
            "labels": {"team": "search"},
            "annotations": {"example.com/note": "any text: \u00e9"},
            "workloadLabels": {"kueue.x-k8s.io/queue-name": "tenant"},
            "workloadAnnotations": {"example.com/note": "any text"},
            "nodeSelector": {"topology.kubernetes.io/zone": "a"},
            "tolerations": [
                {"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoSchedule"},
                {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
            ],
            "affinity": {
                "nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []},
                "podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []},
                "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []},
            },
            "topologySpreadConstraints": [
                {
                    "maxSkew": 1,
                    "topologyKey": "kubernetes.io/hostname",
                    "whenUnsatisfiable": "ScheduleAnyway",
                }
            ],
            "resources": {
                "requests": {"cpu": 8, "memory": "64Gi"},
                "limits": {"cpu": "8000m", "memory": "64Gi"},
            },
            "identity": "Fixed",
            "securityContext": {
                "runAsUser": 1000,
                "runAsGroup": 1000,
                "fsGroup": 1000,
                "supplementalGroups": [109],
                "readOnlyRootFilesystem": False,
            },
            "serviceAccountName": "reader",
            "automountServiceAccountToken": False,
            "schedulerName": "volcano",
            "volumes": [
                {
                    "name": "files",
                    "configMap": {
                        "name": "files",
                        "items": [{"key": "chat.jinja", "path": "chat.jinja", "mode": 288}],
                        "defaultMode": 420,
                        "optional": False,
                    },
                },
                {
                    "name": "authority",
                    "secret": {
                        "secretName": "authority",
                        "items": [{"key": "ca.crt", "path": "company/ca.crt", "mode": 288}],
                        "defaultMode": 288,
                        "optional": True,
                    },
                },
                {
                    "name": "adapters",
                    "persistentVolumeClaim": {"claimName": "adapters", "readOnly": True},
                },
                {"name": "scratch", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
            ],
            "volumeMounts": [
                {
                    "name": "files",
                    "mountPath": "/files/chat.jinja",
                    "subPath": "chat.jinja",
                    "readOnly": True,
                },
                {"name": "scratch", "mountPath": "/tmp/scratch"},
            ],
            "initContainers": [
                {
                    "name": "fetch",
                    "image": "example/fetch:1",
                    "command": ["fetch"],
                    "args": ["--into=/cache"],
                    "env": [
                        {"name": "FROM", "value": "s3://models"},
                        {"name": "KEY", "secretKeyRef": {"name": "some", "key": "thing"}},
                        {"name": "MAP", "configMapKeyRef": {"name": "some", "key": "thing"}},
                    ],
                    "resources": {"requests": {"cpu": 1}, "limits": {"memory": "1Gi"}},
                    "volumeMounts": [
                        {
                            "name": "cache",
                            "mountPath": "/cache",
                            "subPath": "huggingface",
                            "readOnly": False,
                        }
                    ],
                    "ports": [{"containerPort": 9000, "name": "metrics", "protocol": "TCP"}],
                    "restartPolicy": "Always",
                }
            ],
            "containers": [
                {
                    "name": "proxy",
                    "image": "example/proxy:1",
                    "command": ["proxy"],
                    "args": ["--verbose"],
                    "env": [
                        {"name": "TO", "value": "localhost:8000"},
                        {"name": "KEY", "secretKeyRef": {"name": "some", "key": "thing"}},
                        {"name": "MAP", "configMapKeyRef": {"name": "some", "key": "thing"}},
                    ],
                    "resources": {"requests": {"cpu": 1}, "limits": {"memory": "1Gi"}},
                    "volumeMounts": [
                        {
                            "name": "files",
                            "mountPath": "/etc/proxy",
                            "subPath": "proxy",
                            "readOnly": True,
                        }
                    ],
                    "ports": [{"containerPort": 9001, "name": "proxy", "protocol": "TCP"}],
                }
            ],
            "priorityClassName": "serving",
            "runtimeClassName": "nvidia",
            "imagePullSecrets": [{"name": "registry"}],
            "shmSize": "16Gi",
        },
        "autotune": {
            "mode": "Disabled",
            "disruption": "Forbid",
            "maxTrialsPerDay": 2,
            "window": {
                "schedule": "0 2 * * *",
                "durationMinutes": 240,
                "timeZone": "Europe/Berlin",
            },
            "bounds": {
                "maxNumSeqs": {"min": 16, "max": 512},
                "maxNumBatchedTokens": {"min": 2048, "max": 16384},
                "gpuMemoryUtilization": {"min": 0.8, "max": 0.95},
            },
        },
        "routing": {
            "inferencePool": {
                "endpointPickerRef": {"name": "picker", "port": 9002, "failureMode": "FailOpen"}
            }
        },
        "paused": False,
    },
    name="full",
)
"""Every field that this release acts on, but for those that exclude one of these."""

FULL_OTHERWISE = server(
    {
        "model": {
            **MODEL,
            "configMapRef": {"name": "facts", "key": "config.json"},
            "storage": {"emptyDir": {"sizeLimit": "100Gi"}},
        }
    },
    name="otherwise",
)
"""Fields that ``FULL`` cannot hold."""

FULL_OF_A_CLASS: Final = server(
    {
        "model": {**MODEL, "storage": {"ephemeral": {"storageClassName": "fast", "size": "1Ti"}}},
    },
    name="class",
)
FULL_OF_A_NODE: Final = server(
    {"model": {**MODEL, "storage": {"hostPath": {"path": "/mnt/models", "mode": "Model"}}}},
    name="of-a-node",
)
FULL_OF_AN_IMAGE: Final = server(
    {
        "model": {
            **MODEL,
            "storage": {
                "image": {
                    "reference": "registry.local/qwen:1",
                    "path": "/models/qwen",
                    "pullPolicy": "IfNotPresent",
                }
            },
        }
    },
    name="of-an-image",
)
OTHERS: Final = (FULL_OTHERWISE, FULL_OF_A_CLASS, FULL_OF_A_NODE, FULL_OF_AN_IMAGE)
"""Together with ``FULL``, every field that this release acts on."""


@dataclass(frozen=True)
class Example:
    """A specification, and the fields that a rule refuses in it (none: it is admitted)."""

    sentence: str
    spec: Mapping[str, Any]
    refused: tuple[str, ...] = ()
    name: str = "qwen"

    @property
    def manifest(self) -> dict[str, Any]:
        return server({"model": MODEL, **self.spec}, self.name)


def _pod(**pod: Any) -> dict[str, Any]:
    return {"pod": pod}


def _model(**model: Any) -> dict[str, Any]:
    return {"model": {**MODEL, **model}}


def _engine(**engine: Any) -> dict[str, Any]:
    return {"engine": engine}


def _autotune(**autotune: Any) -> dict[str, Any]:
    return {"autotune": autotune}


def _mounted(*paths: str) -> dict[str, Any]:
    return _pod(
        volumes=[{"name": "a", "emptyDir": {}}],
        volumeMounts=[{"name": "a", "mountPath": path} for path in paths],
    )


def _container(name: str, *mounts: str) -> dict[str, Any]:
    mounted = [{"name": volume, "mountPath": "/there"} for volume in mounts]
    return {"name": name, "image": "example/image:1", "volumeMounts": mounted}


_VOLUME = {"persistentVolumeClaim": {"claimName": "models", "mode": "Model"}}
_KEY = {"name": "some", "key": "thing"}
_TOO_LONG_FOR_A_LABEL = "a" * 64

RULE_EXAMPLES = (
    Example("a name of 52 characters", {}, name="a" * 52),
    Example("a name of 53 characters", {}, ("metadata.name",), name="a" * 53),
    Example("a name with dots", {}, ("metadata.name",), name="qwen2.5"),
    Example("a name that starts with a digit", {}, ("metadata.name",), name="7b"),
    Example("facts from two sources", _model(config={}, configMapRef=_KEY), ("spec.model",)),
    Example("a null source of facts beside another", _model(config=None, configMapRef=_KEY)),
    Example("a revision of the Hub with a cache", _model(
        revision="main", storage={"persistentVolumeClaim": {"claimName": "models"}}
    )),
    Example("a revision of what lies on a volume", _model(revision="main", storage=_VOLUME),
            ("spec.model.revision",)),
    Example("a revision of what an address names", _model(id="s3://models/qwen", revision="main"),
            ("spec.model.revision",)),
    Example("a revision of a folder of the container", _model(id="/opt/qwen", revision="main"),
            ("spec.model.revision",)),
    Example("an address beside a cache", _model(
        id="gs://models/qwen", storage={"persistentVolumeClaim": {"claimName": "models"}}
    )),
    Example("an address beside weights on a volume", _model(id="az://models/q", storage=_VOLUME),
            ("spec.model.storage",)),
    Example("a folder of the container beside an image", _model(
        id="/opt/qwen", storage={"image": {"reference": "a/b:c"}}
    ), ("spec.model.storage",)),
    Example("weights on a volume", _model(storage=_VOLUME)),
    Example("an empty storage", _model(storage={})),
    Example("a volume of each pod's own", _model(storage={"ephemeral": {}})),
    Example("a volume of each pod's own beside an emptyDir", _model(
        storage={"ephemeral": {}, "emptyDir": {}}
    ), ("spec.model.storage",)),
    Example("a storage class that no class can be called", _model(
        storage={"ephemeral": {"storageClassName": "Fast Disk"}}
    ), ("spec.model.storage.ephemeral.storageClassName",)),
    Example("two storages", _model(storage={**_VOLUME, "emptyDir": {}}), ("spec.model.storage",)),
    Example("a folder of the node, which is the operator's settings' to refuse", _model(
        revision="main", storage={"hostPath": {"path": "/models"}}
    )),
    Example("a revision of what lies in a folder of the node", _model(
        revision="main", storage={"hostPath": {"path": "/models", "mode": "Model"}}
    ), ("spec.model.revision",)),
    Example("a folder of the node below a hidden one", _model(
        storage={"hostPath": {"path": "/home/.cache/v1.2/models"}}
    )),
    Example("a checkpoint in an image", _model(storage={"image": {"reference": "a/b:c"}})),
    Example("a revision of what lies in an image", _model(
        revision="main", storage={"image": {"reference": "a/b:c"}}
    ), ("spec.model.revision",)),
    Example("an image whose tag says the version", _engine(image="vllm/vllm-openai:v0.30.0-cu13")),
    Example("an image whose tag says nothing", _engine(image="vllm/vllm-openai:latest"),
            ("spec.engine.image",)),
    Example("an image without a tag on a port", _engine(image="registry:5000/vllm"),
            ("spec.engine.image",)),
    Example("an image whose version is given", _engine(image="vllm:latest", version="0.30.0")),
    Example("a batch as large as the sequences", _engine(maxNumBatchedTokens=64, maxNumSeqs=64)),
    Example("a batch smaller than the sequences", _engine(maxNumBatchedTokens=63, maxNumSeqs=64),
            ("spec.engine.maxNumBatchedTokens",)),
    Example("a prompt in chunks", _engine(maxNumBatchedTokens=2048, maxModelLen=4096)),
    Example("a prompt that is no step", _engine(
        maxNumBatchedTokens=2048, maxModelLen=4096, chunkedPrefill=False
    ), ("spec.engine.maxNumBatchedTokens",)),
    Example("a prompt that is one step", _engine(
        maxNumBatchedTokens=4096, maxModelLen=4096, chunkedPrefill=False
    )),
    Example("no chunks and no length", _engine(maxNumBatchedTokens=64, chunkedPrefill=False)),
    Example("a variable of each source", _engine(env=[
        {"name": "A", "value": ""},
        {"name": "B", "secretKeyRef": _KEY},
        {"name": "C", "configMapKeyRef": _KEY, "value": None},
    ])),
    Example("variables without a source and with two", _engine(env=[
        {"name": "A"},
        {"name": "B", "value": "", "secretKeyRef": _KEY},
        {"name": "C", "value": "c"},
    ]), ("spec.engine.env[0]", "spec.engine.env[1]")),
    Example("drafting from the prompt", _engine(speculative={"method": "ngram"})),
    Example("a draft that nobody names", _engine(speculative={"method": "draft_model"}),
            ("spec.engine.speculative.method",)),
    Example("no adapters and no arguments", _engine(lora={"adapters": []}, extraArgs=[])),
    Example("every kind of parallelism", {
        "parallelism": {"tensor": 4, "pipeline": 2, "data": 2, "expert": True}
    }),
    Example("an expected workload", {
        "workload": {"profile": "Balanced", "promptTokens": 1024, "outputTokens": 256,
                     "concurrency": 64}
    }),
    Example("a shared prefix, and drafts that are accepted", {
        "engine": {"speculative": {"method": "ngram"}},
        "workload": {"sharedPrefixTokens": 0, "draftAcceptance": 1}
    }),
    Example("more drafts accepted than there are", {"workload": {"draftAcceptance": 1.1}},
            ("spec.workload.draftAcceptance",)),
    Example("an objective of one latency", {
        "workload": {"profile": "Latency", "slo": {"timeToFirstTokenMilliseconds": 500}}
    }),
    Example("an objective without a latency", {"workload": {"slo": {"percentile": 95}}},
            ("spec.workload.slo",)),
    Example("fewer admitted than there is room for", _engine(maxNumActiveSeqs=64, maxNumSeqs=64)),
    Example("more admitted than there is room for", _engine(maxNumActiveSeqs=65, maxNumSeqs=64),
            ("spec.engine.maxNumActiveSeqs",)),
    Example("tuning within bounds", _autotune(mode="Auto", disruption="Allow", maxTrialsPerDay=0,
        window={"schedule": "*/15,30 0-6/2 * * 1-5", "durationMinutes": 240,
                "timeZone": "America/Argentina/Buenos_Aires"},
        bounds={"maxNumSeqs": {"min": 8, "max": 8}, "maxNumBatchedTokens": {"max": 8192},
                "gpuMemoryUtilization": {"min": 0.5, "max": 0.5}},
    )),
    Example("bounds that leave nothing between them", _autotune(bounds={
        "maxNumSeqs": {"min": 9, "max": 8}, "maxNumBatchedTokens": {"min": 4097, "max": 4096},
        "gpuMemoryUtilization": {"min": 0.91, "max": 0.9},
    }), tuple(f"spec.autotune.bounds.{name}.min" for name in (
        "maxNumSeqs", "maxNumBatchedTokens", "gpuMemoryUtilization"
    ))),
    Example("bounds of a batch that holds the sequences", _autotune(bounds={
        "maxNumSeqs": {"min": 512}, "maxNumBatchedTokens": {"max": 512}
    })),
    Example("bounds of a batch that holds fewer than the sequences", _autotune(bounds={
        "maxNumSeqs": {"min": 513}, "maxNumBatchedTokens": {"max": 512}
    }), ("spec.autotune.bounds.maxNumBatchedTokens",)),
    Example("more ranks than a node has GPUs, which is the planner's to refuse", {
        "gpu": {"perNode": 4}, "parallelism": {"tensor": 8}
    }),
    Example("labels under the operator's prefixes", _pod(
        labels={"app.kubernetes.io/name": "x"}, annotations={"vllm-operator.io/x": "y"}
    ), ("spec.pod.labels", "spec.pod.annotations")),
    Example("labels of the workload under the operator's prefixes, and its controller's", _pod(
        workloadLabels={"app.kubernetes.io/name": "x"},
        workloadAnnotations={"deployment.kubernetes.io/revision": "7"},
    ), ("spec.pod.workloadLabels", "spec.pod.workloadAnnotations")),
    Example("a queue on the workload", _pod(
        workloadLabels={"kueue.x-k8s.io/queue-name": "tenant"},
        workloadAnnotations={"leaderworkerset.sigs.k8s.io/exclusive-topology": "rack"},
    )),
    Example("labels of the user's own", _pod(
        labels={"team": "search", "example.com/x": "", "gone": None},
        annotations={"Example": "any text"},
        nodeSelector={"kubernetes.io/os": "linux"},
    )),
    Example("keys that are no label names", _pod(
        labels={"a b": "x"}, annotations={"a/b/c": "x"}, nodeSelector={_TOO_LONG_FOR_A_LABEL: "x"}
    ), ("spec.pod.labels", "spec.pod.annotations", "spec.pod.nodeSelector")),
    Example("GPUs among the resources", _pod(resources={
        "requests": {"nvidia.com/gpu": 1}, "limits": {"nvidia.com/gpu": 1}
    }), ("spec.pod.resources.requests", "spec.pod.resources.limits")),
    Example("a request above its limit", _pod(resources={
        "requests": {"memory": "1Gi"}, "limits": {"memory": "1024M"}
    }), ("spec.pod.resources",)),
    Example("requests equal to their limits in other units", _pod(resources={
        "requests": {"cpu": 2, "memory": "1Gi", "ephemeral-storage": "1e9"},
        "limits": {"cpu": "2000m", "memory": "1024Mi", "ephemeral-storage": "1G"},
    })),
    Example("a request and a limit of different resources", _pod(resources={
        "requests": {"cpu": 2}, "limits": {"memory": 1}
    })),
    Example("tolerations that Kubernetes takes", _pod(tolerations=[
        {"operator": "Exists"}, {"key": "gpu"}, {"key": "", "operator": "Exists", "value": ""},
        {"key": "a.b/c", "effect": "NoExecute", "tolerationSeconds": 0},
    ])),
    Example("tolerations that Kubernetes refuses", _pod(tolerations=[
        {}, {"operator": "Exists", "value": "x"}, {"key": "gpu", "tolerationSeconds": 5},
        {"key": "gpu", "effect": "NoSchedule", "tolerationSeconds": 5},
    ]), tuple(f"spec.pod.tolerations[{index}]" for index in range(4))),
    Example("volumes of each source, with null ones beside them", _pod(volumes=[
        {"name": "a", "configMap": {"name": "files"}, "secret": None},
        {"name": "b", "secret": {"secretName": "files"}},
        {"name": "c", "persistentVolumeClaim": {"claimName": "files"}},
        {"name": "d", "emptyDir": {}},
    ])),
    Example("volumes without a source and with two", _pod(volumes=[
        {"name": "a"}, {"name": "b", "emptyDir": {}, "configMap": {"name": "files"}},
        {"name": "c", "emptyDir": {}},
    ]), ("spec.pod.volumes[0]", "spec.pod.volumes[1]")),
    Example("volumes of the operator's names", _pod(volumes=[
        {"name": name, "emptyDir": {}} for name in ("cache", "model", "shm", "tmp", "caches")
    ]), tuple(f"spec.pod.volumes[{index}].name" for index in range(4))),
    Example("mounts beside and below the operator's", _mounted(
        "/files", "/cache/more", "/tmp/x", "/cached", "/modelsets", "/etc/ssl/certs", "/opt/.a"
    )),
    Example("mounts on the operator's, over them, and on the system's", _mounted(
        "/cache", "/tmp", "/dev/shm", "/dev", "/models", "/models/x", "/proc/1", "/sys"
    ), tuple(f"spec.pod.volumeMounts[{index}].mountPath" for index in range(8))),
    Example("a mount of a volume that is not there", _pod(
        volumes=[{"name": "a", "emptyDir": {}}],
        volumeMounts=[{"name": "b", "mountPath": "/files"}],
    ), ("spec.pod.volumeMounts",)),
    Example("a mount without any volume", _pod(
        volumeMounts=[{"name": "cache", "mountPath": "/files"}]
    ), ("spec.pod.volumeMounts",)),
    Example("containers before and beside the engine", _pod(
        volumes=[{"name": "a", "emptyDir": {}}],
        initContainers=[_container("first", "cache")],
        containers=[_container("second", "a"), _container("third")],
    )),
    Example("containers that mount what is not there", _pod(
        initContainers=[_container("first", "tmp")], containers=[_container("second", "a")]
    ), ("spec.pod.initContainers", "spec.pod.containers")),
    Example("containers of one name before and beside the engine", _pod(
        initContainers=[_container("first")], containers=[_container("first")]
    ), ("spec.pod.containers",)),
    Example("containers of the engine's name", _pod(
        initContainers=[_container("engine")], containers=[_container("engines")]
    ), ("spec.pod.initContainers[0].name",)),
    Example("containers on the engine's port and of its name", _pod(containers=[
        {**_container("first"), "ports": [{"containerPort": 8000, "name": "http"}]},
        {**_container("second"), "ports": [{"containerPort": 8001, "name": "https"}]},
    ]), tuple(f"spec.pod.containers[0].ports[0].{field}" for field in ("containerPort", "name"))),
    Example("a container that asks for a GPU and one that asks for more than its limit", _pod(
        initContainers=[{**_container("first"), "resources": {"limits": {"nvidia.com/gpu": 1}}}],
        containers=[{**_container("second"), "resources": {
            "requests": {"memory": "1Gi"}, "limits": {"memory": "1024M"}
        }}],
    ), ("spec.pod.initContainers[0].resources.limits", "spec.pod.containers[0].resources")),
)  # fmt: skip
"""Every rule of the schema, with what it refuses and what it lets pass."""


def nodes(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every node of a schema with its path; ``[]`` is an item and ``.*`` a value of a map."""
    yield path, schema
    for name, member in schema.get("properties", {}).items():
        yield from nodes(member, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")
    if "additionalProperties" in schema:
        yield from nodes(schema["additionalProperties"], f"{path}.*")


NAMES = {"reference": "a/b:c", "name": "a", "key": "b"}
"""Good values of fields that others require beside them."""


@dataclass(frozen=True)
class Violation:
    """A manifest that breaks one bound of one field."""

    path: str
    bound: str
    manifest: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.path} breaks {self.bound}"


def _violations() -> Iterator[Violation]:
    known = dict(nodes(spec_schema(), "spec"))
    for path, node in known.items():
        for bound, value in _bad_values(node, path):
            manifest = copy.deepcopy(FULL)
            if bound == "pattern":  # a rule, which is asked where nothing that is required lacks
                parent = path.rpartition(".")[0]
                for name in known[parent].get("required", ()):
                    if name in NAMES:
                        _put(manifest, f"{parent}.{name}", NAMES[name])
            here = _put(manifest, path, value)
            yield Violation(here, bound, manifest)
        for name in node.get("required", []):
            manifest = copy.deepcopy(FULL)
            here = _put(manifest, f"{path}.{name}", None)
            yield Violation(here, "required", manifest)


def _bad_values(node: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    step = 1 if node.get("type") != "number" else 0.01
    if "minimum" in node:
        yield "minimum", node["minimum"] - step
        if node["minimum"] % 1:
            yield "minimum with a whole number", 0
    if "maximum" in node:
        yield "maximum", node["maximum"] + step
    if "enum" in node:
        yield "enum", "NoSuchValue"
    if "minLength" in node:
        yield "minLength", ""
    if "maxLength" in node:
        yield "maxLength", "a" * (node["maxLength"] + 1)
    if "pattern" in node:
        assert re.fullmatch(node["pattern"], "!") is None, path
        yield "pattern", "!"
    if "maxItems" in node:
        item = _first_item(path, node)
        yield "maxItems", [item] * (node["maxItems"] + 1)
    if "maxProperties" in node:
        yield "maxProperties", {f"key{index}": "1" for index in range(node["maxProperties"] + 1)}
    if "x-kubernetes-int-or-string" in node:
        yield "int or string", 0.5
    elif node["type"] == "string":
        yield "type", 1
    else:
        yield "type", "text"


def _first_item(path: str, node: Mapping[str, Any]) -> Any:
    value: Any = FULL
    for step in path.split("."):
        value = value.get(step, {})
    return value[0] if value else ("x" if node["items"]["type"] == "string" else {})


def _put(manifest: dict[str, Any], path: str, value: Any) -> str:
    """Sets the field at a schema path; the real path.

    In the first item of a list that has what the path names, and at a made-up key.
    """
    if path == "spec":
        manifest["spec"] = value
        return path
    steps = re.findall(r"[^.\[\]]+|\[\]", path)[1:]
    here, at = "spec", manifest["spec"]
    for number, step in enumerate(steps):
        after = steps[number + 1 :]
        key: Any = "cpu" if step == "*" else step
        if step == "[]":
            key = next((i for i, item in enumerate(at) if _holds(item, after[:-1])), 0)
        here += f"[{key}]" if step == "[]" else f".{key}"
        if not after:
            if step == "[]" and not at:
                at.append(value)
            else:
                at[key] = value
        else:
            at = at[key] if step == "[]" else at.setdefault(key, [] if after[0] == "[]" else {})
    return here


def _holds(value: Any, steps: list[str]) -> bool:
    for step in steps:
        if step == "[]":
            if not value:
                return False
            value = value[0]
        elif step not in value:
            return False
        else:
            value = value[step]
    return True


VIOLATIONS = tuple(_violations())
"""One manifest for each bound of each field of the specification."""


ODD_VALUES = (
    *(None, True, False, 0, 1, -1, 2, 64, 10**6, 10**10, 2**53, 2**63, 2**64, 0.5, 4.0, 1.5, 1e20),
    *("", "a", "A", "1", "true", "0.5", "1Gi", "1e3", "1e99", "a/b", "/a", "/a/b/", "/../a"),
    *("a..b", "-a", "a-", "\u00e9", "a\n", "a b", "x" * 64, "x" * 300, "latest", "vllm:1.2.3"),
    *("vllm/vllm-openai", "auto", "Model", "Exists", "NoExecute", "0.30", "v0.30.0", "0.30.0rc1"),
    *([], {}, [None], [1], ["a"], [{}], {"a": 1}, {"a": None}, {"name": "a"}, {"": "x"}),
    *({"name": "a", "key": "b"}, {"cpu": "1"}, {"a/b": "c"}, {"kubernetes.io/a": "1"}),
)
"""What may stand where something else belongs."""


def members(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) below a value."""
    steps = list(value.items() if isinstance(value, dict) else enumerate(value))
    for key, member in steps:
        yield value, key
        if isinstance(member, dict | list):
            yield from members(member)


def largest(schema: Mapping[str, Any]) -> Any:
    """A value with every field set to the largest that the schema admits, lists with one item."""
    if "enum" in schema:
        return schema["enum"][0]
    match schema["type"]:
        case "object":
            return {name: largest(member) for name, member in schema.get("properties", {}).items()}
        case "array":
            return [largest(schema["items"])]
        case "string" if schema.get("format") == "date-time":
            return "2026-01-01T00:00:00Z"
        case "string":
            return "x" * schema["maxLength"]
        case "boolean":
            return True
    return schema["maximum"]
