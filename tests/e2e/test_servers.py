"""Servers whose engine is scripted: everything else about their pods is real."""

from __future__ import annotations

import json

from e2e.support import SCRIPTED, ask, eventually, lives, name_of, ready, serve, serving, the_pod
from support.world import World, flag

SMALL = {"requests": {"cpu": "100m", "memory": "64Mi"}}


def url(world: World, path: str = "/v1/models", name: str = "qwen") -> str:
    return f"http://{name}.{world.namespace}.svc:8000{path}"


def test_a_server_answers_at_its_services_name(world: World) -> None:
    serve(world)
    ready(world)
    models = ask(world, url(world))["data"]
    assert [model["id"] for model in models] == ["Qwen/Qwen2.5-7B-Instruct"]


def test_an_engine_runs_under_restricted_pod_security_with_the_gpu_that_it_asked_for(
    world: World,
) -> None:
    serve(world)
    ready(world)
    look = (
        "import os; print(os.getuid(), os.environ['NVIDIA_VISIBLE_DEVICES'].count(',') + 1,"
        "*[l.split()[1] for l in open('/proc/1/status') if l[:8] in ('CapEff:\\t', 'NoNewPri')"
        " or l[:8] == 'Seccomp:'])"
    )
    pod = name_of(the_pod(world))
    found = world.cluster.kubectl(
        *("exec", pod, "--namespace", world.namespace, "--", "python3", "-c", look)
    ).stdout.split()
    assert found == ["65532", "1", "0000000000000000", "1", "2"]


def test_an_edit_rolls_to_a_new_pod_while_the_old_one_serves(world: World) -> None:
    serve(world)
    ready(world)
    before = name_of(the_pod(world))
    serve(world, engine={"maxNumSeqs": 64})

    def replaced() -> bool:
        assert serving(world) >= 1
        return before not in [name_of(pod) for pod in world.list("Pod")]

    eventually(replaced, "the old pod to be gone")
    ready(world)
    assert flag(world.args(), "--max-num-seqs") == "64"
    assert ask(world, url(world))["data"]


def test_an_edit_that_does_not_start_is_taken_back_and_the_old_pod_serves_on(
    world: World,
) -> None:
    serve(world)
    ready(world)
    before = lives(world)
    serve(world, variables={"SCRIPTED_PLAY": "quantization-unsupported"})
    refused = world.wait_condition("Planned", "False", timeout=120)
    assert refused["reason"] == "QuantizationUnsupported"
    eventually(lambda: lives(world) == before, "only the pod of before to be there")
    assert ask(world, url(world))["data"]


def test_kubectl_diff_of_what_was_applied_is_empty(world: World) -> None:
    manifest = {
        "apiVersion": "vllm-operator.io/v1alpha1",
        "kind": "VLLMServer",
        "metadata": {"name": "qwen", "namespace": world.namespace},
        "spec": {"model": {"id": "Qwen/Qwen2.5-7B-Instruct"}, "engine": {"image": SCRIPTED}},
    }
    text = json.dumps(manifest)
    world.cluster.kubectl("apply", "-f", "-", input=text)
    ready(world)
    assert world.cluster.kubectl("diff", "-f", "-", input=text, check=False).returncode == 0
