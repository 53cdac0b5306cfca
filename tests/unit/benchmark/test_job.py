"""The Job that measures: what it takes over from the server's pods, and what it must not."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from support.builders import OFFER, make_plan, make_server
from unit.benchmark.support import LOAD, measured
from vllm_operator import benchmark, datafiles
from vllm_operator.api.plan import Plan
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.benchmark.job import BENCHMARK_LABEL, about, job, job_name
from vllm_operator.benchmark.results import MARK, read_log
from vllm_operator.errors import InputError
from vllm_operator.manifests.labels import SERVER_LABEL
from vllm_operator.manifests.render import render

Object = dict[str, Any]
NAME = "20260101-000000"
PREDICTED = dict.fromkeys(
    ("output_throughput", "request_throughput", "mean_ttft_ms", "mean_tpot_ms"), 1234.56
)


def made(
    server: VLLMServer | None = None,
    plan: Plan | None = None,
    loads: int = 1,
    repeats: int = 3,
    **options: Any,
) -> Object:
    """The Job of a server whose workload is what the operator renders."""
    server, plan = server or make_server(), plan or make_plan()
    template = render(server, plan, OFFER)[0]["spec"]["template"]
    points = [replace(measured(concurrency=8 + one), predicted=PREDICTED) for one in range(loads)]
    begun = about(server, plan, NAME, "2026-01-01T00:00:00Z", LOAD, points)
    return job(server, plan, template, begun, repeats, **{"deadline_seconds": 600, **options})


def pod(body: Object) -> Object:
    found: Object = body["spec"]["template"]["spec"]
    return found


def container(body: Object) -> Object:
    (found,) = pod(body)["containers"]
    assert isinstance(found, dict)
    return found


def variables(body: Object) -> Object:
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container(body)["env"]}


def expanded(text: str, variables: dict[str, str]) -> str:
    """An argument as a process gets it (k8s.io/kubernetes, third_party/forked/golang/expansion)."""
    return re.sub(
        r"\$(\$|\(([^)]*)\))",
        lambda found: "$" if found[1] == "$" else variables.get(found[2], found[0]),
        text,
    )


def given(body: Object) -> Object:
    found: Object = json.loads(expanded(container(body)["command"][3], {}))
    return found


def test_it_runs_the_servers_own_image() -> None:
    assert container(made())["image"] == "vllm/vllm-openai:v0.30.0"


def test_it_asks_for_no_gpu_and_sees_none() -> None:
    body = made()
    resources = container(body)["resources"]
    assert not any("gpu" in name for kind in resources.values() for name in kind)
    assert variables(body)["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert variables(body)["CUDA_VISIBLE_DEVICES"] == ""


def test_no_variable_of_the_servers_gives_it_a_gpu_again() -> None:
    env = [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}]
    body = made(make_server(engine={"env": env}))
    assert variables(body)["NVIDIA_VISIBLE_DEVICES"] == "void"
    names = [one["name"] for one in container(body)["env"]]
    assert len(names) == len(set(names))


def test_it_is_restricted() -> None:
    body = made()
    assert container(body)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    who = pod(body)["securityContext"]
    assert who["runAsNonRoot"] is True
    assert who["runAsUser"] == 65532
    assert who["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod(body)["automountServiceAccountToken"] is False


def test_it_ends_by_itself_is_not_tried_again_and_goes() -> None:
    spec = made(deadline_seconds=600)["spec"]
    assert (spec["activeDeadlineSeconds"], spec["backoffLimit"]) == (600, 0)
    assert spec["ttlSecondsAfterFinished"] == 3600


def test_its_pod_is_none_of_the_servers() -> None:
    body = made()
    for labels in (body["metadata"]["labels"], body["spec"]["template"]["metadata"]["labels"]):
        assert SERVER_LABEL not in labels
        assert labels[BENCHMARK_LABEL] == "qwen"


def test_it_goes_with_its_server_and_asks_for_no_right_on_it() -> None:
    (owner,) = made()["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("VLLMServer", "qwen", "uid-1")
    assert (owner["controller"], owner["blockOwnerDeletion"]) == (False, False)


def test_it_reads_the_key_from_where_the_server_reads_it() -> None:
    reference = {"name": "keys", "key": "api"}
    body = made(make_server(engine={"apiKeySecretRef": reference}))
    assert variables(body)["OPENAI_API_KEY"] == {"secretKeyRef": reference}


def test_without_a_key_none_is_sent() -> None:
    assert "OPENAI_API_KEY" not in variables(made())


def test_it_reads_a_gated_tokenizer_with_the_servers_token() -> None:
    reference = {"name": "hub", "key": "token"}
    model = {"id": "org/gated", "tokenSecretRef": reference}
    assert variables(made(make_server(model=model)))["HF_TOKEN"] == {"secretKeyRef": reference}


def claimed(*modes: str, mode: str = "Cache") -> tuple[VLLMServer, Plan]:
    claim = {"claimName": "weights", "mode": mode}
    model = {"id": "Qwen/Qwen2.5-7B-Instruct", "storage": {"persistentVolumeClaim": claim}}
    storage = {
        "kind": "PersistentVolumeClaim",
        "source": "weights",
        "mode": mode,
        "accessModes": list(modes) or None,
        "surge": False,
    }
    return make_server(model=model), make_plan(storage=storage)


@pytest.mark.parametrize(
    ("modes", "must"),
    [(("ReadWriteOnce",), True), ((), True), (("ReadWriteMany",), False)],
)
def test_it_is_on_the_servers_node_where_the_claim_is(modes: tuple[str, ...], must: bool) -> None:
    body = made(*claimed(*modes))
    affinity = pod(body)["affinity"]["podAffinity"]
    assert ("requiredDuringSchedulingIgnoredDuringExecution" in affinity) is must
    (volume,) = (one for one in pod(body)["volumes"] if one["name"] == "cache")
    assert volume["persistentVolumeClaim"]["claimName"] == "weights"


def test_a_checkpoint_is_mounted_read_only() -> None:
    body = made(*claimed("ReadWriteMany", mode="Model"))
    (mount,) = (one for one in container(body)["volumeMounts"] if one["name"] == "model")
    assert mount["readOnly"] is True


def test_a_claim_of_one_pod_is_refused() -> None:
    with pytest.raises(InputError, match="weights is ReadWriteOncePod"):
        made(*claimed("ReadWriteOncePod"))


def test_it_prefers_a_node_that_has_the_image() -> None:
    preferred = pod(made())["affinity"]["podAffinity"]
    (one,) = preferred["preferredDuringSchedulingIgnoredDuringExecution"]
    assert one["podAffinityTerm"]["topologyKey"] == "kubernetes.io/hostname"


def test_it_writes_to_the_volumes_of_scratch_and_takes_no_shared_memory() -> None:
    body = made()
    paths = {one["name"]: one["mountPath"] for one in container(body)["volumeMounts"]}
    assert paths == {"cache": "/cache", "tmp": "/tmp"}
    assert {one["name"] for one in pod(body)["volumes"]} == {"cache", "tmp"}


def test_it_takes_the_users_certificates_and_not_their_claims() -> None:
    volumes = [
        {"name": "ca", "configMap": {"name": "ca"}},
        {"name": "mine", "persistentVolumeClaim": {"claimName": "mine"}},
    ]
    mounts = [
        {"name": "ca", "mountPath": "/etc/ca", "readOnly": True},
        {"name": "mine", "mountPath": "/mine"},
    ]
    body = made(make_server(pod={"volumes": volumes, "volumeMounts": mounts}))
    names = {one["name"] for one in pod(body)["volumes"]}
    assert "ca" in names
    assert "mine" not in names


def test_it_makes_no_volume_of_the_weights_size_where_each_pod_has_one_of_its_own() -> None:
    body = made(make_server(model={"id": "a/b", "storage": {"ephemeral": {}}}))
    assert {"name": "cache", "emptyDir": {}} in pod(body)["volumes"]


def test_it_is_pulled_and_tolerated_as_the_servers_pods() -> None:
    pod_spec = {"imagePullSecrets": [{"name": "registry"}], "serviceAccountName": "models"}
    body = pod(made(make_server(pod=pod_spec)))
    assert body["imagePullSecrets"] == [{"name": "registry"}]
    assert body["serviceAccountName"] == "models"
    assert any(one["key"] == "nvidia.com/gpu" for one in body["tolerations"])


@pytest.mark.parametrize(("loads", "repeats"), [(10, 20), (66, 3)])
def test_as_many_runs_as_a_result_holds_fit_into_one_argument(loads: int, repeats: int) -> None:
    told = container(made(loads=loads, repeats=repeats))["command"][3]
    assert len(told) < 100_000


def test_more_than_one_argument_holds_is_refused_with_what_makes_it_less() -> None:
    with pytest.raises(InputError, match=r"131071 on to a process; name fewer loads \(--sweep\)"):
        made(loads=400, repeats=1)


def test_requests_go_to_the_servers_service() -> None:
    arguments = given(made())["arguments"]
    assert arguments[arguments.index("--base-url") + 1] == "http://qwen.default.svc:8000"


@pytest.mark.parametrize("name", ["$(HOME)", "$$(HOME)", "$$", "$$$(HOME)", "a$b"])
def test_no_text_of_the_servers_is_taken_for_a_variable(name: str) -> None:
    plan = make_plan()
    engine = plan.engine.model_copy(
        update={"command": ["vllm", "serve", "org/model", "--served-model-name", name]}
    )
    command = container(made(plan=plan.model_copy(update={"engine": engine})))["command"]
    script, told = (expanded(one, {"HOME": "/tmp"}) for one in command[2:])
    arguments = json.loads(told)["arguments"]
    assert arguments[arguments.index("--model") + 1] == name
    assert script == datafiles.text(benchmark.__name__, "scripts/measure.py")


def test_its_log_alone_tells_what_was_measured() -> None:
    text = MARK + json.dumps({"begin": given(made())["about"]}) + "\n"
    found = read_log(text).result
    assert found is not None
    assert found.title == f"qwen/{NAME}"
    assert found.plan.engine.image == "vllm/vllm-openai:v0.30.0"


def test_a_long_name_is_cut_for_what_a_label_holds() -> None:
    long = job_name("s" * 60, NAME)
    assert len(long) <= 63
    assert long.endswith(f"-benchmark-{NAME}")
    assert long != job_name("s" * 59, NAME)
