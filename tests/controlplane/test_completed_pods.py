"""What a pod needs on other people's clusters, beside what follows from the plan.

The namespace enforces restricted Pod Security throughout: what completes a pod does not weaken it.
"""

from __future__ import annotations

from typing import Any

import pytest

from localcluster.client import ApiError
from support.builders import server_manifest
from support.fixtures import StartOperator
from support.operating import OperatorProcess
from support.world import World, container, flag

POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
LLAMA_1B = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 2048,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "intermediate_size": 8192,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
    "tie_word_embeddings": True,
}
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


@pytest.fixture(autouse=True)
def restricted(world: World) -> None:
    labels = {"metadata": {"labels": RESTRICTED}}
    path = f"/api/v1/namespaces/{world.namespace}"
    world.cluster.api("PATCH", path, labels, "application/merge-patch+json")


def enforce(world: World, expression: str, message: str, refused: dict[str, Any]) -> None:
    """Refuse the namespace's pods for which ``expression`` is false, as ``refused`` is."""
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"]}
    name = f"policy-{world.namespace}"
    policy = {
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": [{**rule, "resources": ["pods"]}]},
            "validations": [{"expression": expression, "message": message}],
        },
    }
    place = {"matchLabels": {"kubernetes.io/metadata.name": world.namespace}}
    binding = {
        "metadata": {"name": name},
        "spec": {
            "policyName": name,
            "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": place},
        },
    }
    world.cluster.api("POST", POLICIES, policy)
    world.cluster.api("POST", POLICIES.replace("policies", "policybindings"), binding)
    world.wait(lambda: message in refusal(world, refused), "the policy to be in force")


def refusal(world: World, spec: dict[str, Any]) -> str:
    """Why the API server refuses such a pod; empty where it does not."""
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "tried"}, "spec": spec}
    try:
        world.cluster.api("POST", f"{world.path('Pod')}?dryRun=All", body)
    except ApiError as error:
        return error.message
    return ""


def pod_of(world: World) -> dict[str, Any]:
    (found,) = world.list("Pod")
    return dict(found["spec"])


def hardened(**context: Any) -> dict[str, Any]:
    """A pod that passes restricted Pod Security, with that security context of its container."""
    inside = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, **context}
    return {
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "a", "image": "a", "securityContext": inside}],
    }


def test_where_root_file_systems_must_be_read_only_a_server_serves_as_it_is(
    world: World, operator: OperatorProcess
) -> None:
    enforce(
        world,
        "object.spec.containers.all(c, has(c.securityContext.readOnlyRootFilesystem) && "
        "c.securityContext.readOnlyRootFilesystem)",
        "root file systems must be read-only",
        hardened(),
    )
    world.apply()
    world.wait_ready()


def test_an_image_that_writes_into_itself_gets_a_root_file_system_that_may_be_written(
    world: World, operator: OperatorProcess
) -> None:
    world.apply(pod={"securityContext": {"readOnlyRootFilesystem": False}})
    world.wait_ready()
    context = container(world.get("Deployment"))["securityContext"]
    assert context["readOnlyRootFilesystem"] is False


def refuse_chosen_users(world: World) -> None:
    """As OpenShift's restricted-v2 does: no user and no group outside the namespace's range."""
    expressions = (
        f"!has(object.spec.securityContext.{name}) || object.spec.securityContext.{name} >= {low}"
        for name, low in (("runAsUser", 1000790000), ("fsGroup", 1000790000))
    )
    refused = hardened()
    refused["securityContext"]["runAsUser"] = 65532
    message = "unable to validate against any security context constraint"
    enforce(world, " && ".join(f"({one})" for one in expressions), message, refused)


def test_on_openshift_an_operator_of_its_chart_value_leaves_users_and_groups_to_the_platform(
    world: World, start_operator: StartOperator
) -> None:
    refuse_chosen_users(world)
    start_operator(world, chart={"openshift": True}, pod_identity="Platform")
    world.apply()
    world.wait_ready()
    assert pod_of(world)["securityContext"]["runAsNonRoot"] is True


def test_one_server_s_users_and_groups_are_left_to_the_platform_by_its_own_field(
    world: World, operator: OperatorProcess
) -> None:
    refuse_chosen_users(world)
    world.apply(pod={"identity": "Platform"})
    world.wait_ready()


def test_a_server_that_the_platform_s_rule_refuses_is_told_which_field_leaves_the_user_out(
    world: World, operator: OperatorProcess
) -> None:
    refuse_chosen_users(world)
    world.apply()
    refused = world.wait_condition("Ready", "False", "PodRefused")
    assert "spec.pod.identity" in refused["message"]


def test_a_server_of_a_claim_s_owner_runs_as_the_user_that_it_names(
    world: World, operator: OperatorProcess
) -> None:
    world.apply(pod={"securityContext": {"runAsUser": 1000, "runAsGroup": 0, "fsGroup": 2000}})
    world.wait_ready()
    context = pod_of(world)["securityContext"]
    assert [context[name] for name in ("runAsUser", "runAsGroup", "fsGroup")] == [1000, 0, 2000]


def test_on_amd_nodes_the_engine_is_in_the_group_that_may_open_the_gpus(
    world: World, operator: OperatorProcess
) -> None:
    world.apply(
        gpu={"product": "MI300X", "perNode": 8},
        engine={"image": "vllm/vllm-openai-rocm:v0.30.0"},
        pod={"securityContext": {"supplementalGroups": [109]}},
    )
    world.wait_condition("Planned", "True")
    (pod,) = world.wait(lambda: world.list("Pod"), "its pod")
    assert pod["spec"]["securityContext"]["supplementalGroups"] == [109]
    assert container(world.get("Deployment"))["resources"]["limits"] == {"amd.com/gpu": "1"}


def make_account(world: World) -> None:
    account = {"metadata": {"name": "model-reader"}}
    path = f"/api/v1/namespaces/{world.namespace}/serviceaccounts"
    world.cluster.api("POST", path, account)


def test_weights_in_a_bucket_are_streamed_with_the_account_s_rights_once_their_facts_are_given(
    world: World, operator: OperatorProcess
) -> None:
    make_account(world)
    reader = {"serviceAccountName": "model-reader"}
    streamed = {"extraArgs": ["--load-format=runai_streamer"]}
    bucket = {"id": "s3://models/our-llama"}
    world.apply(model=bucket, engine=streamed, pod=reader)
    told = world.wait_condition("Planned", "False", "UnknownModel")["message"]
    assert "spec.model.config" in told
    world.apply(model={**bucket, "config": LLAMA_1B}, engine=streamed, pod=reader)
    world.wait_ready()
    assert world.args()[:3] == ["vllm", "serve", "s3://models/our-llama"]
    assert flag(world.args(), "--load-format") == "runai_streamer"
    assert pod_of(world)["serviceAccountName"] == "model-reader"


def test_a_pod_has_the_rights_of_its_service_account_without_a_token_for_the_api_server(
    world: World, operator: OperatorProcess
) -> None:
    make_account(world)
    world.apply(pod={"serviceAccountName": "model-reader"})
    world.wait_ready()
    assert pod_of(world)["serviceAccountName"] == "model-reader"
    assert pod_of(world)["automountServiceAccountToken"] is False


def test_another_scheduler_is_left_the_pod_and_a_queue_stands_on_the_workload(
    world: World, operator: OperatorProcess
) -> None:
    queue = {"kueue.x-k8s.io/queue-name": "tenant"}
    world.apply(pod={"schedulerName": "volcano", "workloadLabels": queue})
    (pod,) = world.wait(lambda: world.list("Pod"), "its pod")
    assert pod["spec"]["schedulerName"] == "volcano"
    assert "nodeName" not in pod["spec"]
    assert world.get("Deployment")["metadata"]["labels"].items() >= queue.items()


def test_a_queue_that_is_put_on_the_workload_later_restarts_no_pod(
    world: World, operator: OperatorProcess
) -> None:
    world.apply()
    world.wait_ready()
    before = [pod["metadata"]["uid"] for pod in world.list("Pod")]
    queue = {"kueue.x-k8s.io/queue-name": "tenant"}
    world.apply(pod={"workloadLabels": queue})
    world.wait(
        lambda: queue.items() <= world.get("Deployment")["metadata"]["labels"].items(), "the queue"
    )
    world.wait_ready()
    assert [pod["metadata"]["uid"] for pod in world.list("Pod")] == before


def test_an_engine_has_the_company_s_authority_a_chat_template_logging_and_adapters_as_files(
    world: World, operator: OperatorProcess
) -> None:
    world.apply(
        engine={
            "extraArgs": ["--chat-template=/files/chat.jinja"],
            "env": [
                {"name": "SSL_CERT_FILE", "value": "/authority/ca.crt"},
                {"name": "VLLM_LOGGING_CONFIG_PATH", "value": "/files/logging.json"},
            ],
            "lora": {"adapters": [{"name": "sql", "path": "/adapters/sql"}]},
        },
        pod={
            "volumes": [
                {"name": "files", "configMap": {"name": "files"}},
                {"name": "authority", "secret": {"secretName": "authority"}},
                {"name": "adapters", "persistentVolumeClaim": {"claimName": "adapters"}},
            ],
            "volumeMounts": [
                {"name": "files", "mountPath": "/files"},
                {"name": "authority", "mountPath": "/authority", "readOnly": True},
                {"name": "adapters", "mountPath": "/adapters", "readOnly": True},
            ],
        },
    )
    world.wait_condition("Planned", "True")
    (pod,) = world.wait(lambda: world.list("Pod"), "its pod")
    mounts = pod["spec"]["containers"][0]["volumeMounts"]
    folders = {mount["mountPath"]: mount["name"] for mount in mounts}
    found = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert found[folders["/files"]]["configMap"]["name"] == "files"
    assert found[folders["/authority"]]["secret"]["secretName"] == "authority"
    assert found[folders["/adapters"]]["persistentVolumeClaim"]["claimName"] == "adapters"


def test_a_changed_volume_rolls_the_server_with_its_plan_kept(
    world: World, operator: OperatorProcess
) -> None:
    world.apply()
    world.wait_ready()
    before = world.args()
    scratch = {"name": "scratch", "emptyDir": {}}
    mount = {"name": "scratch", "mountPath": "/scratch"}
    world.apply(pod={"volumes": [scratch], "volumeMounts": [mount]})
    world.wait_ready()
    assert mount in container(world.get("Deployment"))["volumeMounts"]
    assert world.args() == before


def test_a_folder_of_the_node_is_no_volume_of_a_pod_s_own(world: World) -> None:
    with pytest.raises(ApiError, match="takes exactly one of configMap, secret"):
        world.apply(pod={"volumes": [{"name": "etc", "hostPath": {"path": "/etc"}}]})


def test_containers_of_the_user_s_run_before_and_beside_the_engine(
    world: World, operator: OperatorProcess
) -> None:
    world.apply(
        pod={
            "volumes": [{"name": "exchange", "emptyDir": {}}],
            "initContainers": [
                {
                    "name": "fetch",
                    "image": "example/fetch:1",
                    "args": ["--into=/cache"],
                    "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
                },
                {"name": "log", "image": "example/log:1", "restartPolicy": "Always"},
            ],
            "containers": [
                {
                    "name": "proxy",
                    "image": "example/proxy:1",
                    "ports": [{"containerPort": 9000}],
                    "volumeMounts": [{"name": "exchange", "mountPath": "/exchange"}],
                }
            ],
        }
    )
    world.wait_ready()
    spec = pod_of(world)
    assert [one["name"] for one in spec["initContainers"]] == ["fetch", "log"]
    assert [one["name"] for one in spec["containers"]] == ["engine", "proxy"]
    (pod,) = world.list("Pod")
    assert pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"] == "engine"


def test_a_container_that_asks_for_privileges_is_refused_by_its_field(world: World) -> None:
    asked = {"name": "a", "image": "a/b:1", "securityContext": {"privileged": True}}
    manifest = server_manifest("qwen", world.namespace, pod={"containers": [asked]})
    path = f"{world.path('VLLMServer')}?fieldValidation=Strict"
    with pytest.raises(ApiError, match=r"unknown field .*spec\.pod\.containers\[0\]\.securityC"):
        world.cluster.api("POST", path, manifest)


def test_weights_that_each_pod_downloads_are_asked_of_the_node_s_disk_and_told(
    world: World, operator: OperatorProcess
) -> None:
    world.apply(model={"id": "meta-llama/Llama-3.3-70B-Instruct"})
    world.wait_ready()
    requested = pod_of(world)["containers"][0]["resources"]["requests"]
    assert requested["ephemeral-storage"] == "134Gi"
    assert world.status()["plan"]["storage"]["diskBytes"] == 134 * 2**30
