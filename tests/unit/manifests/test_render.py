"""The objects of a plan."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.builders import OFFER, make_plan, make_server
from unit.sizing.examples import H100, inputs_for
from vllm_operator.api.canonical import digest
from vllm_operator.api.pod import Identity
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.engine.versions import NEWEST_KNOWN
from vllm_operator.errors import IllegalPin
from vllm_operator.hardware.nodes import GPUOffer
from vllm_operator.manifests import labels, render
from vllm_operator.manifests.checks import check_pod
from vllm_operator.manifests.render import SURGE, with_live_fields
from vllm_operator.sizing.plan.planner import make_plan as make_real_plan

TEMPLATES = Path(render.__file__).parent / "templates"


def rendered(**spec: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    deployment, service = render.render(make_server(**spec), make_plan(), OFFER)
    return deployment, service


def pod(**spec: Any) -> dict[str, Any]:
    return dict(rendered(**spec)[0]["spec"]["template"]["spec"])


def engine(**spec: Any) -> dict[str, Any]:
    return dict(pod(**spec)["containers"][0])


def env(**spec: Any) -> dict[str, Any]:
    return {variable["name"]: variable for variable in engine(**spec)["env"]}


@pytest.mark.parametrize("template", sorted(TEMPLATES.iterdir()), ids=lambda path: path.name)
def test_every_value_of_a_template_passes_the_json_filter(template: Path) -> None:
    expressions = re.findall(r"{{(.*?)}}", template.read_text())
    assert expressions
    assert [e for e in expressions if not re.fullmatch(r" \w+ \| json ", e)] == []


hostile = st.text(min_size=1, max_size=60).filter(lambda text: text.strip() != "")


@given(text=hostile)
def test_no_text_of_a_user_leaves_its_place(text: str) -> None:
    plan = make_plan()
    command = ["vllm", "serve", text]
    hostile_plan = plan.model_copy(
        update={"engine": plan.engine.model_copy(update={"command": command, "image": text})}
    )
    server = make_server(pod={"annotations": {"note": text}})
    deployment, _ = render.render(server, hostile_plan, OFFER)
    template = deployment["spec"]["template"]
    container = template["spec"]["containers"][0]
    assert (container["command"], container["image"]) == (command, text)
    assert template["metadata"]["annotations"]["note"] == text
    assert set(deployment) == {"apiVersion", "kind", "metadata", "spec"}


def test_gpus_are_asked_for_once_as_limit_and_request() -> None:
    resources = engine()["resources"]
    assert resources["limits"] == {"nvidia.com/gpu": "2"}
    assert resources["requests"]["nvidia.com/gpu"] == "2"


def test_a_computed_request_never_exceeds_a_limit_of_the_user_s() -> None:
    resources = engine(pod={"resources": {"limits": {"memory": "20Gi"}}})["resources"]
    assert resources["requests"]["memory"] == "20Gi"


DISK = {"kind": "EmptyDir", "mode": "Cache", "surge": True, "diskBytes": 17 << 30}


@pytest.mark.parametrize(
    ("given", "requested"),
    [
        ({}, "17Gi"),
        ({"limits": {"ephemeral-storage": "40Gi"}}, "40Gi"),
        ({"requests": {"ephemeral-storage": "0"}}, "0"),
    ],
)
def test_weights_that_are_downloaded_are_asked_of_the_node_s_disk_unless_a_server_says_it(
    given: dict[str, Any], requested: str
) -> None:
    server = make_server(pod={"resources": given})
    deployment, _ = render.render(server, make_plan(storage=DISK), OFFER)
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["requests"]["ephemeral-storage"] == requested


def test_the_pod_gets_no_token_no_links_and_no_privilege() -> None:
    spec = pod()
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert engine()["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_pods_run_as_a_user_and_groups_that_no_image_defines_unless_it_is_said_otherwise() -> None:
    context = pod()["securityContext"]
    assert [context[name] for name in ("runAsUser", "runAsGroup", "fsGroup")] == [65532] * 3
    said = {"runAsUser": 1000, "runAsGroup": 0, "fsGroup": 2000, "supplementalGroups": [44, 109]}
    context = pod(pod={"securityContext": said})["securityContext"]
    assert {name: context[name] for name in said} == said


@pytest.mark.parametrize(
    ("of_the_server", "of_the_operator", "user"),
    [
        (None, "Platform", None),
        ("Platform", "Fixed", None),
        ("Fixed", "Platform", 65532),
    ],
)
def test_a_platform_that_says_users_and_groups_finds_none_in_the_pod(
    of_the_server: str | None, of_the_operator: Identity, user: int | None
) -> None:
    server = make_server(pod={"identity": of_the_server})
    deployment, _ = render.render(server, make_plan(), OFFER, of_the_operator)
    context = deployment["spec"]["template"]["spec"]["securityContext"]
    assert {context.get(name) for name in ("runAsUser", "runAsGroup", "fsGroup")} == {user}
    assert context["runAsNonRoot"] is True


def test_what_a_server_says_of_its_user_stands_where_the_platform_says_the_rest() -> None:
    said = {"identity": "Platform", "securityContext": {"fsGroup": 2000}}
    context = pod(pod=said)["securityContext"]
    assert (context.get("runAsUser"), context["fsGroup"]) == (None, 2000)


def test_an_account_comes_without_its_token_unless_it_is_asked_for() -> None:
    spec = pod(pod={"serviceAccountName": "reader"})
    assert (spec["serviceAccountName"], spec["automountServiceAccountToken"]) == ("reader", False)
    assert spec["serviceAccount"] == "reader"  # or the API server keeps it when it is unset
    asked = {"serviceAccountName": "reader", "automountServiceAccountToken": True}
    assert pod(pod=asked)["automountServiceAccountToken"] is True


def test_a_scheduler_is_named_only_where_the_server_names_one() -> None:
    assert "schedulerName" not in pod()
    assert pod(pod={"schedulerName": "volcano"})["schedulerName"] == "volcano"


def test_the_engine_s_root_file_system_is_read_only_unless_it_is_said_otherwise() -> None:
    assert engine()["securityContext"]["readOnlyRootFilesystem"] is True
    allowed = engine(pod={"securityContext": {"readOnlyRootFilesystem": False}})
    assert allowed["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": False,
    }


def test_all_that_vllm_and_its_libraries_write_by_default_lies_in_a_writable_volume() -> None:
    # Torch and Ray write to the temporary folder; Triton, FlashInfer, XDG's caches and settings
    # below the home; nobody is told another place.
    server = make_server(gpu=H100)
    plan = make_real_plan(server, inputs_for(server))
    container = render.render(server, plan, OFFER)[0]["spec"]["template"]["spec"]["containers"][0]
    written = {one["name"]: one["value"] for one in container["env"]}
    assert (written["HOME"], written["VLLM_CACHE_ROOT"]) == ("/tmp", "/cache/vllm")
    assert written["HF_HOME"] == "/cache/huggingface"
    writable = {one["mountPath"] for one in container["volumeMounts"] if not one.get("readOnly")}
    assert writable == {"/cache", "/dev/shm", "/tmp"}


def test_the_startup_budget_covers_the_plan_s() -> None:
    probe = engine()["startupProbe"]
    assert 900 <= probe["periodSeconds"] * probe["failureThreshold"] < 905


@pytest.mark.parametrize(
    ("rollout", "seconds"),
    [
        ({}, 900 + 60 + 120 + 300),
        ({"drainSeconds": 0, "surgeTimeoutSeconds": 0}, 900 + 300),
        ({"drainSeconds": 3600}, 900 + 3600 + 120 + 300),
        ({"surgeTimeoutSeconds": 3600}, 900 + 60 + 3600 + 300),
    ],
)
def test_a_rollout_is_stuck_only_after_a_drain_the_surge_timeout_a_start_and_five_minutes(
    rollout: dict[str, int], seconds: int
) -> None:
    assert rendered(rollout=rollout)[0]["spec"]["progressDeadlineSeconds"] == seconds


def test_the_grace_period_holds_the_drain_and_what_comes_around_it() -> None:
    spec = pod(rollout={"drainSeconds": 300})
    pre_stop = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert spec["terminationGracePeriodSeconds"] > 300 + pre_stop


@pytest.mark.parametrize("version", ["0.17.0", "0.18.0", str(NEWEST_KNOWN)])
@pytest.mark.parametrize("drain", [0, 60, 3600])
def test_pause_drain_and_margin_add_up_to_the_grace_period(version: str, drain: int) -> None:
    server = make_server(rollout={"drainSeconds": drain}, engine={"version": version}, gpu=H100)
    plan = make_real_plan(server, inputs_for(server))
    spec = render.render(server, plan, OFFER)[0]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    hook, command = container["lifecycle"]["preStop"], container["command"]
    if "exec" in hook:
        told = json.loads(hook["exec"]["command"][-1])
        pause, waited = told["pause"], told["seconds"]
        assert "--shutdown-timeout" not in command
    else:
        pause, waited = hook["sleep"]["seconds"], 0
    if "--shutdown-timeout" in command:
        waited = int(command[command.index("--shutdown-timeout") + 1])
    assert waited == drain
    assert spec["terminationGracePeriodSeconds"] == pause + waited + 15


def test_a_budget_keeps_all_replicas_but_one_and_no_broken_one_and_a_single_one_has_none() -> None:
    (budget,) = render.live_objects(make_server(replicas=2))
    assert budget["spec"]["maxUnavailable"] == 1
    assert budget["spec"]["selector"]["matchLabels"] == labels.selector("qwen")
    assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    assert render.live_objects(make_server(replicas=1)) == ()
    assert render.live_objects(make_server(replicas=0)) == ()


def test_secrets_reach_the_engine_by_reference_only() -> None:
    reference = {"name": "s", "key": "k"}
    variables = env(
        model={"id": "a/b", "tokenSecretRef": reference}, engine={"apiKeySecretRef": reference}
    )
    for name in ("HF_TOKEN", "VLLM_API_KEY"):
        assert variables[name] == {"name": name, "valueFrom": {"secretKeyRef": reference}}


def test_a_variable_that_is_set_twice_is_refused_with_its_field() -> None:
    with pytest.raises(IllegalPin, match=r"spec\.engine\.env\[HOME\]"):
        rendered(engine={"env": [{"name": "HOME", "value": "/x"}]})


def test_a_cache_volume_is_the_claim_s_folder() -> None:
    claim = {"claimName": "models", "path": "/qwen"}
    spec = pod(model={"id": "a/b", "storage": {"persistentVolumeClaim": claim}})
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    mounts = {mount["name"]: mount for mount in spec["containers"][0]["volumeMounts"]}
    assert volumes["cache"]["persistentVolumeClaim"] == {"claimName": "models"}
    assert mounts["cache"]["subPath"] == "qwen"


def test_a_checkpoint_on_a_volume_is_mounted_read_only() -> None:
    claim = {"claimName": "models", "path": "/qwen", "mode": "Model"}
    spec = pod(model={"id": "a/b", "storage": {"persistentVolumeClaim": claim}})
    mounts = {mount["name"]: mount for mount in spec["containers"][0]["volumeMounts"]}
    assert mounts["model"]["readOnly"] is True
    assert (mounts["model"]["subPath"], mounts["model"]["mountPath"]) == ("qwen", "/models/qwen")


def test_a_checkpoint_is_mounted_where_the_command_looks_for_it() -> None:
    storage = {"persistentVolumeClaim": {"claimName": "m", "path": "/a/b", "mode": "Model"}}
    server = make_server(model={"id": "Qwen/Qwen2.5-7B-Instruct", "storage": storage}, gpu=H100)
    plan = make_real_plan(server, inputs_for(server))
    deployment = render.render(server, plan, OFFER)[0]
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    assert container["command"][2] in {m["mountPath"] for m in container["volumeMounts"]}


def test_a_folder_of_the_node_must_exist_and_is_read_only_where_it_holds_the_checkpoint() -> None:
    storage = {"hostPath": {"path": "/mnt/qwen", "mode": "Model"}}
    spec = pod(model={"id": "a/b", "storage": storage})
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    mounts = {mount["name"]: mount for mount in spec["containers"][0]["volumeMounts"]}
    assert volumes["model"]["hostPath"] == {"path": "/mnt/qwen", "type": "Directory"}
    assert mounts["model"] == {"name": "model", "mountPath": "/models", "readOnly": True}
    assert volumes["cache"] == {"name": "cache", "emptyDir": {}}


def test_a_folder_of_the_node_as_cache_takes_the_place_of_the_pod_s_own() -> None:
    spec = pod(model={"id": "a/b", "storage": {"hostPath": {"path": "/mnt/cache"}}})
    (cache,) = [volume for volume in spec["volumes"] if volume["name"] == "cache"]
    assert cache["hostPath"]["path"] == "/mnt/cache"


@pytest.mark.parametrize(
    ("size", "quantity"), [(17 << 30, "17Gi"), (1536 << 20, "1536Mi"), (10**10, "10000000000")]
)
def test_a_volume_of_each_pod_s_own_is_made_of_the_class_and_in_the_size_of_the_plan(
    size: int, quantity: str
) -> None:
    planned = {"kind": "Ephemeral", "mode": "Cache", "surge": True, "volumeBytes": size}
    server = make_server(model={"id": "a/b", "storage": {"ephemeral": {"storageClassName": "x"}}})
    deployment, _ = render.render(server, make_plan(storage=planned), OFFER)
    spec = deployment["spec"]["template"]["spec"]
    (cache,) = [volume for volume in spec["volumes"] if volume["name"] == "cache"]
    assert cache["ephemeral"]["volumeClaimTemplate"]["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "x",
        "resources": {"requests": {"storage": quantity}},
    }
    assert "ephemeral-storage" not in spec["containers"][0]["resources"]["requests"]


def test_a_volume_of_the_cluster_s_default_class_names_none() -> None:
    spec = pod(model={"id": "a/b", "storage": {"ephemeral": {}}})
    (cache,) = [volume for volume in spec["volumes"] if volume["name"] == "cache"]
    assert "storageClassName" not in cache["ephemeral"]["volumeClaimTemplate"]["spec"]


def test_an_image_with_the_checkpoint_is_mounted_whole() -> None:
    storage = {"image": {"reference": "a/b:1", "path": "/qwen", "pullPolicy": "Never"}}
    spec = pod(model={"id": "a/b", "storage": storage})
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    mounts = {mount["name"]: mount for mount in spec["containers"][0]["volumeMounts"]}
    assert volumes["model"]["image"] == {"reference": "a/b:1", "pullPolicy": "Never"}
    assert mounts["model"] == {"name": "model", "mountPath": "/models", "readOnly": True}


def test_volumes_of_the_user_s_come_after_the_operator_s_in_kubernetes_own_shapes() -> None:
    volumes: list[dict[str, Any]] = [
        {"name": "files", "configMap": {"name": "files", "defaultMode": 288}},
        {"name": "scratch", "emptyDir": {}},
    ]
    mounts = [
        {"name": "files", "mountPath": "/files", "readOnly": True},
        {"name": "scratch", "mountPath": "/tmp/scratch"},
    ]
    spec = pod(pod={"volumes": volumes, "volumeMounts": mounts})
    assert [volume["name"] for volume in spec["volumes"][:3]] == ["cache", "shm", "tmp"]
    assert spec["volumes"][3:] == volumes
    assert spec["containers"][0]["volumeMounts"][3:] == mounts


def test_a_folder_of_the_node_that_nobody_asked_for_is_never_rendered() -> None:
    deployment, _ = rendered()
    template = deployment["spec"]["template"]
    template["spec"]["volumes"].append({"name": "etc", "hostPath": {"path": "/etc"}})
    with pytest.raises(AssertionError, match="a folder of the node"):
        check_pod(template, make_server().spec)


def test_the_gpu_s_nodes_are_required_in_every_alternative_of_the_user_s() -> None:
    terms = [
        {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]},
        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]},
    ]
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    affinity = {"nodeAffinity": {required: {"nodeSelectorTerms": terms}}}
    found = pod(pod={"affinity": affinity})["affinity"]["nodeAffinity"][required]
    gpu = {"key": "nvidia.com/gpu.product", "operator": "In", "values": ["A", "B"]}
    assert [term["matchExpressions"][-1] for term in found["nodeSelectorTerms"]] == [gpu, gpu]
    assert found["nodeSelectorTerms"][0]["matchExpressions"][0]["key"] == "zone"


def node_terms(offer: GPUOffer, **spec: Any) -> list[Any]:
    server = make_server(**spec)
    deployment, *_ = render.render(server, make_plan(), offer)
    affinity = deployment["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    return list(affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"])


def absent(*labels: str) -> list[dict[str, str]]:
    return [{"key": label, "operator": "DoesNotExist"} for label in labels]


GKE = "cloud.google.com/gke-accelerator"
PRODUCT = {"key": "nvidia.com/gpu.product", "operator": "In", "values": ["NVIDIA-L4"]}
L4 = replace(OFFER, node_labels={"nvidia.com/gpu.product": ("NVIDIA-L4",), GKE: ("nvidia-l4",)})


def test_nodes_are_selected_by_feature_discovery_or_by_their_cloud_where_that_is_silent() -> None:
    assert node_terms(L4) == [
        {"matchExpressions": [PRODUCT]},
        {
            "matchExpressions": [
                {"key": GKE, "operator": "In", "values": ["nvidia-l4"]},
                *absent(
                    "nvidia.com/gpu.product",
                    "cloud.google.com/gke-gpu-partition-size",
                    "cloud.google.com/gke-gpu-sharing-strategy",
                ),
            ]
        },
    ]


SHARED = "NVIDIA-L4-SHARED"
SHARE = replace(OFFER, product=SHARED, node_labels={"nvidia.com/gpu.product": (SHARED,)})


def test_a_share_of_a_gpu_is_taken_on_pools_that_their_cloud_says_are_shared() -> None:
    _, gke = node_terms(SHARE)
    sharing = {"key": "cloud.google.com/gke-gpu-sharing-strategy", "operator": "Exists"}
    assert gke["matchExpressions"] == [
        {"key": GKE, "operator": "In", "values": ["nvidia-l4"]},
        *absent("nvidia.com/gpu.product"),
        sharing,
    ]


def test_a_share_of_a_gpu_is_taken_on_the_nodes_that_the_user_selects_by_the_card_s_name() -> None:
    named = {"gpu": {"product": SHARED}, "pod": {"nodeSelector": {GKE: "nvidia-l4"}}}
    (*_, last) = node_terms(SHARE, **named)
    (gke,) = [one for one in last["matchExpressions"] if one["key"] == GKE]
    assert "nvidia-l4" not in gke["values"]


def test_a_selection_of_the_user_s_own_is_enough_on_nodes_that_name_no_gpu() -> None:
    named = {"gpu": {"product": "L4"}, "pod": {"nodeSelector": {"example.com/pool": "l4"}}}
    (*_, last) = node_terms(L4, **named)
    (own, *others) = last["matchExpressions"]
    assert [own] == absent("nvidia.com/gpu.product")
    assert {one["operator"] for one in others} == {"NotIn"}  # which a missing label is too
    assert "node.kubernetes.io/instance-type" not in [one["key"] for one in others]


def test_a_selection_of_the_user_s_own_is_enough_where_the_cloud_s_name_is_unknown_to_us() -> None:
    named = {"gpu": {"product": "L4"}, "pod": {"nodeSelector": {"example.com/pool": "l4"}}}
    (*_, last) = node_terms(L4, **named)
    (gke,) = [one for one in last["matchExpressions"] if one["key"] == GKE]
    assert "nvidia-tesla-t4" in gke["values"]
    assert not {"nvidia-l4", "nvidia-l4-vws"} & set(gke["values"])


@pytest.mark.parametrize(
    "spec",
    [
        {"gpu": {"product": "L4"}},
        {"pod": {"nodeSelector": {"example.com/pool": "l4"}}},
        {"gpu": {"product": "L4"}, "pod": {"nodeSelector": {"topology.kubernetes.io/zone": "a"}}},
    ],
)
def test_a_selection_that_does_not_decide_takes_no_node_of_an_unknown_gpu(spec: Any) -> None:
    assert all("values" in term["matchExpressions"][0] for term in node_terms(L4, **spec))


@pytest.mark.parametrize("terms", [["zone"], [{"matchExpressions": "zone"}], {"a": "b"}])
def test_an_affinity_that_is_not_shaped_like_one_is_refused_also_beside_one_that_is(
    terms: Any,
) -> None:
    good = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
    given = [good, *terms] if isinstance(terms, list) else terms
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    affinity = {"nodeAffinity": {required: {"nodeSelectorTerms": given}}}
    with pytest.raises(IllegalPin):
        pod(pod={"affinity": affinity})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda pod: pod["containers"][0]["command"].append(8), "is not a string"),
        (lambda pod: pod.update(automountServiceAccountToken=True), "a token or service links"),
        (lambda pod: pod.update(enableServiceLinks=True), "a token or service links"),
        (
            lambda pod: pod.update(
                initContainers=[
                    {"securityContext": {"allowPrivilegeEscalation": True, "capabilities": {}}}
                ]
            ),
            "would be privileged",
        ),
        (lambda pod: pod.update(serviceAccountName="x"), "an account"),
        (
            lambda pod: pod["containers"][0]["resources"]["requests"].update(
                {"nvidia.com/gpu": "1"}
            ),
            "requests and limits of nvidia.com/gpu differ",
        ),
    ],
)
def test_a_template_that_would_break_a_promise_is_never_applied(change: Any, message: str) -> None:
    template = rendered()[0]["spec"]["template"]
    check_pod(template, make_server().spec)
    change(template["spec"])
    with pytest.raises(AssertionError, match=message):
        check_pod(template, make_server().spec)


def test_buffers_of_streamed_weights_are_requested_of_the_node_s_memory_besides() -> None:
    plan = make_plan()
    held = plan.storage.model_copy(update={"buffer_bytes": 40_000_000_000})
    streamed = plan.model_copy(update={"storage": held})
    deployment, *_ = render.render(make_server(), streamed, OFFER)
    (engine,) = deployment["spec"]["template"]["spec"]["containers"]
    assert engine["resources"]["requests"]["memory"] == "62Gi"  # 24 and 38


def test_kubectl_means_the_engine_where_a_pod_has_several_containers() -> None:
    template = rendered(pod={"annotations": {"a": "b"}})[0]["spec"]["template"]
    named = {"kubectl.kubernetes.io/default-container": "engine", "a": "b"}
    assert template["metadata"]["annotations"] == named


def test_containers_of_the_user_s_run_beside_the_engine_and_may_no_more_than_it() -> None:
    first = {"name": "first", "image": "a/b:1", "restartPolicy": "Always", "args": ["x"]}
    second = {
        "name": "second",
        "image": "a/b:2",
        "env": [{"name": "KEY", "secretKeyRef": {"name": "s", "key": "k"}}],
        "ports": [{"containerPort": 9000}],
        "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
        "resources": {"limits": {"memory": "1Gi"}},
    }
    spec = pod(pod={"initContainers": [first], "containers": [second]})
    own, beside = spec["containers"]
    context = {"securityContext": own["securityContext"]}
    assert own["name"] == "engine"
    assert spec["initContainers"] == [{**first, **context}]
    source = {"secretKeyRef": {"name": "s", "key": "k"}}
    assert beside == {
        **second,
        **context,
        "env": [{"name": "KEY", "valueFrom": source}],
        "ports": [{"containerPort": 9000, "protocol": "TCP"}],
    }


def test_a_container_of_the_user_s_that_writes_into_its_image_is_allowed_to_as_the_engine_is() -> (
    None
):
    allowed = {"readOnlyRootFilesystem": False}
    spec = pod(
        pod={"containers": [{"name": "a", "image": "a/b"}], "securityContext": allowed},
    )
    contexts = [one["securityContext"] for one in spec["containers"]]
    assert [context["readOnlyRootFilesystem"] for context in contexts] == [False, False]


def test_labels_and_annotations_of_the_workload_stand_on_it_alone_and_change_no_pod() -> None:
    queue, note = {"kueue.x-k8s.io/queue-name": "tenant"}, {"example.com/note": "any text"}
    asked = {"workloadLabels": queue, "workloadAnnotations": note}
    (deployment, service), (plain, _) = rendered(pod=asked), rendered()
    assert deployment["metadata"]["labels"] == {**labels.object_labels("qwen"), **queue}
    assert deployment["metadata"]["annotations"] == {**plain["metadata"]["annotations"], **note}
    assert deployment["spec"] == plain["spec"]
    assert not queue.keys() & service["metadata"]["labels"].keys()


def test_labels_of_the_user_never_replace_the_operator_s() -> None:
    server = VLLMServer.model_construct(**dict(make_server()))
    deployment, _ = render.render(server, make_plan(), OFFER)
    found = deployment["spec"]["template"]["metadata"]["labels"]
    assert found.items() >= labels.object_labels("qwen").items()


def test_every_object_is_owned_by_the_server() -> None:
    for item in rendered():
        (owner,) = item["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["controller"]) == ("uid-1", True)


def test_no_object_holds_a_null() -> None:
    for item in rendered():
        assert render.without_nulls(item) == item


def test_replicas_and_strategy_are_those_of_the_moment() -> None:
    deployment, service = rendered(replicas=1)
    live = with_live_fields(deployment, make_server(replicas=5).spec, SURGE)
    assert live["spec"]["replicas"] == 5
    assert live["spec"]["template"] == deployment["spec"]["template"]
    assert with_live_fields(service, make_server().spec, SURGE) == service


def test_the_template_hash_says_its_version_and_follows_the_template_alone() -> None:
    def template_hash(**spec: Any) -> str:
        return str(rendered(**spec)[0]["metadata"]["annotations"][labels.TEMPLATE_HASH])

    assert re.fullmatch(r"1-[0-9a-f]{16}", template_hash())
    assert template_hash(replicas=3) == template_hash()
    assert template_hash(pod={"labels": {"a": "b"}}) != template_hash()


def test_pods_carry_the_template_hash_as_a_label_which_it_does_not_count() -> None:
    deployment = rendered()[0]
    template = deployment["spec"]["template"]
    label = template["metadata"]["labels"].pop("vllm-operator.io/template")
    annotations = deployment["metadata"]["annotations"]
    assert annotations == {"vllm-operator.io/template-hash": label}
    assert label == f"1-{digest(template)}"
    assert re.fullmatch(r"[0-9a-z]([-0-9a-z]{0,61}[0-9a-z])?", label)
    assert deployment["spec"]["selector"] == {"matchLabels": {"vllm-operator.io/server": "qwen"}}


@pytest.mark.parametrize(
    "affinity",
    [
        {"nodeAffinity": []},
        {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": "x"}},
        {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [1]}
            }
        },
    ],
)
def test_an_affinity_that_is_none_is_refused_with_its_field(affinity: dict[str, Any]) -> None:
    with pytest.raises(IllegalPin, match=r"spec\.pod\.affinity\.nodeAffinity"):
        rendered(pod={"affinity": affinity})


def test_a_pool_selects_what_the_service_selects_and_says_no_more_than_was_asked() -> None:
    routing = {"inferencePool": {"endpointPickerRef": {"name": "picker"}}}
    asking = make_server(routing=routing)
    pool = render.inference_pool(asking)
    assert pool is not None
    service = render.render(asking, make_plan(), OFFER)[1]
    assert pool["spec"]["selector"] == {"matchLabels": service["spec"]["selector"]}
    picker = {"name": "picker", "port": {"number": 9002}}
    assert pool["spec"]["endpointPickerRef"] == picker
    assert pool["metadata"]["ownerReferences"][0]["uid"] == "uid-1"


def test_a_server_that_asks_for_no_pool_has_none() -> None:
    assert render.inference_pool(make_server()) is None
    assert render.inference_pool(make_server(routing={})) is None


COMMON = {
    "app.kubernetes.io/component": "engine",
    "app.kubernetes.io/instance": "qwen",
    "app.kubernetes.io/managed-by": "vllm-operator",
    "app.kubernetes.io/name": "vllm",
    "vllm-operator.io/server": "qwen",
}
OWNED = {
    "name": "qwen",
    "namespace": "default",
    "labels": COMMON,
    "ownerReferences": [
        {
            "apiVersion": "vllm-operator.io/v1alpha1",
            "kind": "VLLMServer",
            "name": "qwen",
            "uid": "uid-1",
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ],
}


def test_a_service_is_as_it_stands_here() -> None:
    assert rendered()[1] == {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": OWNED,
        "spec": {
            "type": "ClusterIP",
            "selector": {
                "app.kubernetes.io/component": "engine",
                "vllm-operator.io/server": "qwen",
            },
            "ports": [{"name": "http", "port": 8000, "targetPort": "http", "protocol": "TCP"}],
        },
    }


def test_a_deployment_is_as_it_stands_here_around_its_pods() -> None:
    deployment = rendered()[0]
    template = deployment["spec"].pop("template")
    mark = deployment["metadata"].pop("annotations")["vllm-operator.io/template-hash"]
    assert deployment == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": OWNED,
        "spec": {
            "replicas": 1,
            "revisionHistoryLimit": 2,
            "progressDeadlineSeconds": 900 + 60 + 120 + 300,
            "selector": {"matchLabels": {"vllm-operator.io/server": "qwen"}},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
            },
        },
    }
    assert template["metadata"] == {
        "annotations": {"kubectl.kubernetes.io/default-container": "engine"},
        "labels": {**COMMON, "vllm-operator.io/template": mark},
    }


def test_a_pod_is_as_it_stands_here_around_its_engine() -> None:
    found = pod()
    assert [one["name"] for one in found.pop("containers")] == ["engine"]
    nodes = [{"key": "nvidia.com/gpu.product", "operator": "In", "values": ["A", "B"]}]
    required = {"nodeSelectorTerms": [{"matchExpressions": nodes}]}
    assert found == {
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}},
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "fsGroup": 65532,
            "fsGroupChangePolicy": "OnRootMismatch",
            "runAsGroup": 65532,
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": 80,
        "tolerations": [{"effect": "NoSchedule", "key": "nvidia.com/gpu", "operator": "Exists"}],
        "volumes": [
            {"name": "cache", "emptyDir": {}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "4Gi"}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }


def test_an_engine_is_as_it_stands_here_beside_how_it_is_asked_whether_it_lives() -> None:
    found = engine()
    liveness = found.pop("livenessProbe")
    asked = liveness.pop("exec")["command"]
    assert asked[:3] == ["python3", "-IS", "-c"]
    assert liveness == {
        "failureThreshold": 4,
        "periodSeconds": 15,
        "terminationGracePeriodSeconds": 30,
        "timeoutSeconds": 20,
    }
    health = {
        "httpGet": {"path": "/health", "port": "http"},
        "periodSeconds": 5,
        "timeoutSeconds": 5,
    }
    assert found == {
        "name": "engine",
        "image": "vllm/vllm-openai:v0.30.0",
        "command": ["vllm", "serve", "Qwen/Qwen2.5-7B-Instruct", "--max-num-seqs", "256"],
        "env": [
            {"name": "HF_HOME", "value": "/cache/huggingface"},
            {"name": "HOME", "value": "/cache/home"},
        ],
        "ports": [{"name": "http", "containerPort": 8000, "protocol": "TCP"}],
        "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
        "startupProbe": {**health, "failureThreshold": 180},
        "readinessProbe": {**health, "failureThreshold": 3},
        "resources": {
            "limits": {"nvidia.com/gpu": "2"},
            "requests": {"cpu": "6", "memory": "24Gi", "nvidia.com/gpu": "2"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [
            {"name": "cache", "mountPath": "/cache"},
            {"name": "shm", "mountPath": "/dev/shm"},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }


def test_what_a_server_says_of_its_pods_stands_in_them() -> None:
    spread = {
        "maxSkew": 1,
        "topologyKey": "zone",
        "whenUnsatisfiable": "DoNotSchedule",
    }
    tolerates = {"key": "spot", "operator": "Exists"}
    said = {
        "nodeSelector": {"pool": "a"},
        "priorityClassName": "high",
        "runtimeClassName": "nvidia",
        "imagePullSecrets": [{"name": "registry"}],
        "tolerations": [tolerates],
        "topologySpreadConstraints": [spread],
        "resources": {"limits": {"cpu": "4"}, "requests": {"memory": "9Gi"}},
    }
    found = pod(pod=said)
    for name in ("nodeSelector", "priorityClassName", "runtimeClassName", "imagePullSecrets"):
        assert found[name] == said[name]
    assert found["tolerations"][1:] == [tolerates]
    selects = {"labelSelector": {"matchLabels": {"vllm-operator.io/server": "qwen"}}}
    assert found["topologySpreadConstraints"] == [{**spread, **selects}]
    assert found["containers"][0]["resources"] == {
        "limits": {"cpu": "4", "nvidia.com/gpu": "2"},
        "requests": {"cpu": "4", "memory": "9Gi", "nvidia.com/gpu": "2"},
    }


def test_secrets_come_after_the_plan_s_variables_and_before_the_user_s_own() -> None:
    found = engine(
        model={"id": "a/b", "tokenSecretRef": {"name": "hub", "key": "t"}},
        engine={
            "apiKeySecretRef": {"name": "api", "key": "k"},
            "env": [{"name": "MINE", "value": "1"}],
        },
    )["env"]
    assert found[2:] == [
        {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "t"}}},
        {"name": "VLLM_API_KEY", "valueFrom": {"secretKeyRef": {"name": "api", "key": "k"}}},
        {"name": "MINE", "value": "1"},
    ]
