"""What a real kubelet and runtime say when something fails, and what the server says then."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from e2e.support import (
    WAIT,
    Installation,
    eventually,
    name_of,
    place,
    ready,
    serve,
    standing,
    the_pod,
)
from localcluster import Cluster
from support.world import World

TINY = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 512,
    "max_position_embeddings": 2048,
    "torch_dtype": "bfloat16",
}


@pytest.fixture
def open_world(cluster: Cluster, installation: Installation) -> Iterator[World]:
    """A namespace that lets pods mount folders of the node."""
    with place(cluster, "open", labels={}) as found:
        yield found


def test_a_container_above_its_memory_limit_is_oom_killed_and_an_edit_mends_it(
    world: World,
) -> None:
    limited = {"resources": {"limits": {"memory": "160Mi"}, "requests": {"memory": "64Mi"}}}
    serve(world, variables={"SCRIPTED_PLAY": "oom-killed"}, pod=limited)
    world.wait_condition("Stalled", "True", "OOMKilled", timeout=180)
    assert "spec.pod.resources.limits.memory" in world.condition("Ready")["message"]
    serve(world)
    ready(world)


def test_an_image_without_vllm_is_named_with_the_runtimes_words(world: World) -> None:
    serve(world, engine={"image": "localhost/pause:1", "version": "0.30.0"})
    world.wait_condition("Stalled", "True", "ImageUnusable", timeout=180)
    told = world.condition("Ready")["message"]
    assert 'exec: "vllm": executable file not found' in told
    assert "while it served" not in told


def test_an_image_that_cannot_be_pulled_is_told_with_its_cause(world: World) -> None:
    serve(world, engine={"image": "registry.invalid/team/project/vllm-openai:v0.30.0"})
    told = world.wait_condition("Progressing", "True", "ImagePullFailed", timeout=60)
    assert "dial tcp" in told["message"] or "no such host" in told["message"]
    serve(world)
    ready(world)


def test_a_folder_that_the_node_lacks_keeps_the_pod_waiting_until_it_is_there(
    open_world: World, cluster: Cluster
) -> None:
    world = open_world
    serve(
        world, model={"id": "Qwen/Qwen2.5-7B-Instruct", "storage": {"hostPath": {"path": "/srv/m"}}}
    )
    told = world.wait_condition("Progressing", "True", "VolumeNotMounted", timeout=WAIT)
    assert "/srv/m" in told["message"]
    assert world.condition("Ready")["status"] == "False"
    for node in cluster.real_nodes:
        node.check("mkdir", "-m", "0777", "-p", "/srv/m")
    ready(world)


def test_a_key_that_a_secret_lacks_keeps_the_pod_waiting_until_it_is_there(
    world: World,
) -> None:
    path = f"/api/v1/namespaces/{world.namespace}/secrets"
    world.cluster.api("POST", path, {"metadata": {"name": "company-ca"}})
    items = [{"key": "ca.crt", "path": "ca.crt"}]
    volume = {"name": "authority", "secret": {"secretName": "company-ca", "items": items}}
    mount = {"name": "authority", "mountPath": "/authority", "readOnly": True}
    serve(world, pod={"volumes": [volume], "volumeMounts": [mount]})
    told = world.wait_condition("Progressing", "True", "SecretMissing", timeout=WAIT)
    assert "has no key ca.crt" in told["message"]
    data = {"stringData": {"ca.crt": "-"}}
    world.cluster.api("PATCH", f"{path}/company-ca", data, "application/merge-patch+json")
    ready(world)


FILL = "open('/cache/full', 'wb').write(bytes(64 << 20))"
STOP = """
import os, signal
for pid in {*filter(str.isdecimal, os.listdir('/proc'))} - {'1', str(os.getpid())}:
    if b'scriptedengine' in open(f'/proc/{pid}/cmdline', 'rb').read():
        os.kill(int(pid), signal.SIGSTOP)
"""


def evicted(world: World, script: str) -> str:
    """A pod whose cache the script fills beyond its limit, once its kubelet has evicted it."""
    cache = {"emptyDir": {"sizeLimit": "32Mi"}}
    serve(world, model={"id": "tiny/llama", "config": TINY, "storage": cache})
    ready(world)
    pod = name_of(the_pod(world))
    world.cluster.kubectl(
        *("exec", pod, "--namespace", world.namespace, "--", "python3", "-c", script)
    )
    events = f"/api/v1/namespaces/{world.namespace}/events"
    eventually(
        lambda: any(
            event["reason"] == "Evicted" and event["involvedObject"]["name"] == pod
            for event in world.cluster.api("GET", events)["items"]
        ),
        "the kubelet to evict the pod",
    )
    return pod


def test_a_pod_that_is_evicted_before_its_engine_can_end_is_told_and_replaced(
    world: World,
) -> None:
    first = evicted(world, f"{STOP}\n{FILL}")
    told = eventually(
        lambda: [e["note"] for e in world.list("Event") if e["reason"] == "PodEvicted"],
        "the operator to tell it",
    )
    assert 'Usage of EmptyDir volume "cache" exceeds the limit "32Mi"' in told[0]
    ready(world)
    assert name_of(the_pod(world)) != first


def test_an_evicted_pod_whose_engine_ends_in_order_is_replaced_without_a_word_of_a_crash(
    world: World,
) -> None:
    # A kubelet gives such a pod two seconds. Where the engine ends in them with status 0, it writes
    # Succeeded into the pod's status and the reason nowhere but into an event of its own; where the
    # node is too busy for that, it says Evicted, and so may the operator.
    first = evicted(world, FILL)
    eventually(
        lambda: [name_of(pod) for pod in standing(world)] not in ([], [first]), "another pod"
    )
    ready(world)
    assert not [
        event["note"]
        for event in world.list("Event")
        if event["type"] == "Warning"
        and event["regarding"]["kind"] == "VLLMServer"
        and "the node evicted a pod" not in event["note"]
    ]
