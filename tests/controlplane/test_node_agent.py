"""The local cluster's node agent: what a kubelet does with pods, done with real processes."""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from collections.abc import Iterator

import pytest

from localcluster import Cluster
from localcluster.agent.images import Image
from localcluster.waiting import wait_until
from support.pods import PodPlace, pod_place, reached_by_services

IMAGES = [Image("test/python:*", programs={"python3": [sys.executable, "-I", "-S"]})]
SERVE = ["python3", "-m", "http.server", "--bind", "0.0.0.0", "8000"]
HTTP = {"httpGet": {"path": "/", "port": "http"}}

pytestmark = pytest.mark.xdist_group("node-agent")


@pytest.fixture(scope="module")
def agents() -> Iterator[Cluster]:
    """A cluster whose only node is an agent, twenty times as fast as a kubelet."""
    with Cluster(kwok=False, node_loss_seconds=6) as running:
        labels = {"localcluster.vllm-operator.io/kind": "agent"}
        running.add_agent_node("real-0", IMAGES, speed=20, labels=labels)
        yield running


@pytest.fixture
def place(agents: Cluster) -> Iterator[PodPlace]:
    with pod_place(agents) as found:
        yield found


# It runs


def test_a_pod_runs_and_becomes_ready(place: PodPlace) -> None:
    place.run("web", *SERVE, readinessProbe=HTTP)
    place.wait_ready("web")
    address = place.pod("web")["status"]["podIP"]
    with urllib.request.urlopen(f"http://{address}:8000/", timeout=5) as answer:
        assert answer.status == 200


def test_pods_with_the_same_port_have_addresses_of_their_own(place: PodPlace) -> None:
    for name in ("one", "two"):
        place.run(name, *SERVE, readinessProbe=HTTP)
    for name in ("one", "two"):
        place.wait_ready(name)
    assert place.pod("one")["status"]["podIP"] != place.pod("two")["status"]["podIP"]


def test_a_service_leads_to_the_pod(place: PodPlace) -> None:
    spec = {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}
    place.create("services", "web", spec=spec)
    place.run("web", *SERVE, readinessProbe=HTTP)
    place.wait_ready("web")
    address = reached_by_services(place.pod("web")["status"]["podIP"])
    slices = f"/apis/discovery.k8s.io/v1/namespaces/{place.namespace}/endpointslices"

    def endpoints() -> list[str]:
        items = place.cluster.api("GET", slices)["items"]
        return [a for item in items for e in item["endpoints"] or [] for a in e["addresses"]]

    wait_until(lambda: endpoints() == [address], f"{address} to be the Service's endpoint")


def test_the_log_is_read_through_the_api_server(place: PodPlace) -> None:
    place.run("talker", "sh", "-c", "echo first; echo second; exec sleep 1000")
    wait_until(lambda: place.container("talker").get("ready"), "talker to run")
    wait_until(lambda: place.log("talker") == "first\nsecond\n", "its log")
    assert place.log("talker", "tailLines=1") == "second\n"


def test_variables_come_from_secrets_and_the_pod_itself(place: PodPlace) -> None:
    place.create("secrets", "token", stringData={"key": "s3cret /tmp"})
    env = [
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "token", "key": "key"}}},
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "BOTH", "value": "$(POD) $(TOKEN) $(NOBODY)"},
    ]
    place.run("env", "sh", "-c", 'echo "$BOTH"; exec sleep 1000', env=env)
    wait_until(lambda: place.container("env").get("ready"), "env to run")
    wait_until(lambda: place.log("env") == "env s3cret /tmp $(NOBODY)\n", "its log")


def test_a_missing_secret_is_waited_for(place: PodPlace) -> None:
    env = [{"name": "T", "valueFrom": {"secretKeyRef": {"name": "late", "key": "key"}}}]
    place.run("env", "sh", "-c", "exec sleep 1000", env=env)
    wait_until(lambda: place.waiting("env") == "CreateContainerConfigError", "it to wait")
    place.create("secrets", "late", stringData={"key": "value"})
    wait_until(lambda: place.container("env").get("ready"), "env to run")


def test_mount_paths_in_commands_and_variables_are_the_volumes(place: PodPlace) -> None:
    place.create("configmaps", "facts", data={"config.json": '{"a": 1}'})
    volumes = [
        {"name": "facts", "configMap": {"name": "facts"}},
        {"name": "cache", "emptyDir": {}},
    ]
    place.run(
        "mounts",
        *("sh", "-c", "cp /facts/config.json $CACHE/x && cat /cache/x; exec sleep 1000"),
        pod={"volumes": volumes},
        env=[{"name": "CACHE", "value": "/cache"}],
        volumeMounts=[
            {"name": "facts", "mountPath": "/facts"},
            {"name": "cache", "mountPath": "/cache"},
        ],
    )
    wait_until(lambda: place.container("mounts").get("ready"), "mounts to run")
    # The client reads JSON where it finds it.
    path = f"{place.path}/pods/mounts/log"
    wait_until(lambda: place.cluster.api("GET", path) == {"a": 1}, "the file in the log")


def test_what_lies_on_a_claim_outlives_the_pod(place: PodPlace) -> None:
    place.claim("models")
    volumes = [{"name": "m", "persistentVolumeClaim": {"claimName": "models"}}]
    for name, script in (("first", "echo kept > /models/file"), ("second", "cat /models/file")):
        place.run(
            name,
            *("sh", "-c", script),
            pod={"volumes": volumes, "restartPolicy": "Never"},
            volumeMounts=[{"name": "m", "mountPath": "/models", "subPath": "below"}],
        )
        assert place.ended(name)["exitCode"] == 0
    assert place.log("second") == "kept\n"


def test_a_missing_config_map_is_an_event(place: PodPlace) -> None:
    place.run(
        "mounts",
        *("sh", "-c", "exec sleep 1000"),
        pod={"volumes": [{"name": "facts", "configMap": {"name": "nothing"}}]},
    )
    place.wait_event("mounts", "FailedMount", 'configmaps "nothing" not found')
    wait_until(lambda: place.waiting("mounts") == "ContainerCreating", "mounts to wait")


# It fails


def test_a_crash_is_restarted_with_back_off(place: PodPlace) -> None:
    place.run("crash", "sh", "-c", "echo gone wrong >&2; exit 3")
    wait_until(lambda: place.waiting("crash") == "CrashLoopBackOff", "the back-off", 15)
    container = place.container("crash")
    ended = container["lastState"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (3, "Error")
    assert container["state"]["waiting"]["message"].startswith("back-off 10s restarting failed")
    wait_until(lambda: place.container("crash")["restartCount"] >= 2, "another restart", 15)


def test_the_log_of_the_crashed_container_stays_readable(place: PodPlace) -> None:
    place.run("crash", "sh", "-c", "echo gone wrong >&2; exit 3")
    wait_until(lambda: place.waiting("crash") == "CrashLoopBackOff", "the back-off", 15)
    assert place.log("crash", "previous=true") == "gone wrong\n"


def test_the_end_of_the_log_is_the_termination_message(place: PodPlace) -> None:
    policy = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    place.run("crash", "sh", "-c", "echo gone wrong >&2; exit 3", **policy)
    assert place.ended("crash")["message"] == "gone wrong\n"


def test_the_termination_log_is_the_termination_message(place: PodPlace) -> None:
    place.run("crash", "sh", "-c", "echo why > /dev/termination-log; exit 3")
    assert place.ended("crash")["message"] == "why\n"


def test_a_program_that_the_image_lacks_cannot_start(place: PodPlace) -> None:
    since = place.cluster.api("GET", f"{place.path}/pods")["metadata"]["resourceVersion"]
    place.run("typo", "vlllm", "serve")
    ended = place.ended("typo")
    assert (ended["exitCode"], ended["reason"]) == (128, "StartError")
    assert '"vlllm": executable file not found' in ended["message"]
    assert ended["startedAt"] == "1970-01-01T00:00:00Z"

    def waited() -> dict[str, str]:
        """The words of each reason that it has waited for so far."""
        query = f"watch=true&timeoutSeconds=1&resourceVersion={since}"
        changes = place.cluster.api("GET", f"{place.path}/pods?{query}")["text"].splitlines()
        pods = [json.loads(change)["object"] for change in changes]
        engines = [one for pod in pods for one in pod["status"].get("containerStatuses", [])]
        states = [one["state"]["waiting"] for one in engines]
        return {state["reason"]: state.get("message", "") for state in states}

    wait_until(lambda: {"RunContainerError", "CrashLoopBackOff"} <= waited().keys(), "both reasons")
    assert waited()["RunContainerError"] == ended["message"]


def test_a_container_above_its_memory_limit_is_oom_killed(place: PodPlace) -> None:
    limits = {"limits": {"memory": "64Mi"}}
    grow = "x = bytearray(128 << 20); import time; time.sleep(1000)"
    place.run("big", "python3", "-c", grow, resources=limits)
    ended = place.ended("big")
    assert (ended["exitCode"], ended["reason"]) == (137, "OOMKilled")


def test_an_unknown_image_cannot_be_pulled(place: PodPlace) -> None:
    place.run("typo", "true", image="vllm/vlm:v9")
    wait_until(lambda: place.waiting("typo") == "ImagePullBackOff", "the back-off")
    message = place.container("typo")["state"]["waiting"]["message"]
    assert message.startswith('Back-off pulling image "vllm/vlm:v9": ErrImagePull: rpc error:')
    assert place.pod("typo")["status"]["phase"] == "Pending"
    place.wait_event("typo", "Failed", "docker.io/vllm/vlm:v9: not found")


def test_a_pod_that_is_not_restarted_succeeds_or_fails(place: PodPlace) -> None:
    for name, command in (("good", "exit 0"), ("bad", "exit 1")):
        place.run(name, "sh", "-c", command, pod={"restartPolicy": "Never"})

    def phases() -> list[str]:
        return [place.pod(name)["status"]["phase"] for name in ("good", "bad")]

    wait_until(lambda: phases() == ["Succeeded", "Failed"], "both to end")


# Probes


def test_a_process_that_hangs_is_killed_by_its_liveness_probe(place: PodPlace) -> None:
    script = (
        "import http.server as h, threading, time\n"
        "class H(h.BaseHTTPRequestHandler):\n"
        "    count = 0\n"
        "    def do_GET(self):\n"
        "        H.count += 1\n"
        "        if H.count > 2: time.sleep(1000)\n"
        "        self.send_response(200); self.end_headers()\n"
        "h.HTTPServer(('0.0.0.0', 8000), H).serve_forever()\n"
    )
    probe = {**HTTP, "periodSeconds": 2, "failureThreshold": 2, "timeoutSeconds": 1}
    startup = {**HTTP, "periodSeconds": 2, "failureThreshold": 200}
    place.run("hang", "python3", "-c", script, livenessProbe=probe, startupProbe=startup)
    wait_until(lambda: place.container("hang").get("restartCount") == 1, "a restart", 20)
    place.wait_event("hang", "Unhealthy", "context deadline exceeded")
    place.wait_event("hang", "Killing", "failed liveness probe, will be restarted")


def test_a_start_that_takes_too_long_is_killed_by_its_startup_probe(place: PodPlace) -> None:
    probe = {**HTTP, "periodSeconds": 2, "failureThreshold": 3}
    place.run("slow", "sh", "-c", "exec sleep 1000", startupProbe=probe)
    ended = place.ended("slow")
    assert ended["exitCode"] == 143
    place.wait_event("slow", "Killing", "failed startup probe, will be restarted")


def test_a_pod_that_is_no_longer_ready_goes_on_running(place: PodPlace) -> None:
    probe = {"exec": {"command": ["sh", "-c", "test -e /flags/up"]}, "periodSeconds": 2}
    place.run(
        "flag",
        *("sh", "-c", "touch /flags/up; sleep 1.5; rm /flags/up; exec sleep 1000"),
        readinessProbe=probe,
        volumeMounts=[{"name": "flags", "mountPath": "/flags"}],
        pod={"volumes": [{"name": "flags", "emptyDir": {}}]},
    )
    place.wait_ready("flag")
    wait_until(lambda: not place.is_ready("flag"), "it to be not Ready")
    assert "running" in place.container("flag")["state"]


# It ends


def test_deletion_runs_the_hook_and_then_asks_the_process_to_end(place: PodPlace) -> None:
    place.create("configmaps", "done", data={})
    script = "trap 'echo asked; exit 0' TERM; while :; do sleep 0.05; done"
    hook = {"preStop": {"exec": {"command": ["sh", "-c", "echo hook > /out/hook; sleep 0.3"]}}}
    place.run(
        "bye",
        *("sh", "-c", script),
        lifecycle=hook,
        volumeMounts=[{"name": "out", "mountPath": "/out"}],
        pod={"volumes": [{"name": "out", "hostPath": {"path": str(place.cluster.directory)}}]},
    )
    wait_until(lambda: place.container("bye").get("ready"), "bye to run")
    uid = place.pod("bye")["metadata"]["uid"]
    place.cluster.api("DELETE", f"{place.path}/pods/bye")
    wait_until(lambda: place.is_gone("bye"), "bye to go")
    assert (place.cluster.directory / "hook").read_text() == "hook\n"
    logs = place.cluster.log("pods").with_suffix("")
    log = logs / f"{place.namespace}_bye_{uid}" / "engine" / "0.log"
    assert log.read_text() == "asked\n"


def test_a_process_that_does_not_end_is_killed_after_its_grace_period(place: PodPlace) -> None:
    place.run(
        "deaf",
        *("sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done"),
        pod={"terminationGracePeriodSeconds": 40},
    )
    wait_until(lambda: place.container("deaf").get("ready"), "deaf to run")
    wait_until(lambda: place.log("deaf") == "up\n", "deaf to be deaf")
    began = time.monotonic()
    place.cluster.api("DELETE", f"{place.path}/pods/deaf")
    wait_until(lambda: place.is_gone("deaf"), "deaf to go")
    # 40 s on a clock that is 20 times as fast.
    assert time.monotonic() - began >= 2


def test_a_pod_that_waits_is_gone_at_once(place: PodPlace) -> None:
    place.run("typo", "true", image="vllm/vlm:v9")
    wait_until(lambda: place.waiting("typo") == "ImagePullBackOff", "the back-off")
    place.cluster.api("DELETE", f"{place.path}/pods/typo")
    wait_until(lambda: place.is_gone("typo"), "typo to go", 5)


# The node itself


def node_is_ready(cluster: Cluster, name: str) -> bool:
    conditions = cluster.api("GET", f"/api/v1/nodes/{name}")["status"]["conditions"]
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


@pytest.fixture
def second(agents: Cluster) -> Iterator[str]:
    """A node that a test may break, and the pod that runs there."""
    name = f"broken-{time.time_ns()}"
    agents.add_agent_node(name, IMAGES, speed=20)
    yield name
    agents.agents.stop(name)
    agents.remove_node(name, delete_pods=True)


def test_a_node_that_is_gone_loses_its_pods(place: PodPlace, second: str) -> None:
    place.run("lost", *SERVE, readinessProbe=HTTP, pod={"nodeSelector": None, "nodeName": second})
    place.wait_ready("lost")
    place.cluster.agents.stop(second)
    wait_until(lambda: not node_is_ready(place.cluster, second), "the node to be lost", 20)
    wait_until(lambda: "deletionTimestamp" in place.pod("lost")["metadata"], "the eviction", 20)


def test_a_machine_that_comes_back_starts_its_pods_again(place: PodPlace, second: str) -> None:
    place.run("back", *SERVE, readinessProbe=HTTP, pod={"nodeSelector": None, "nodeName": second})
    place.wait_ready("back")
    place.cluster.agents.stop(second)
    place.cluster.agents.start(second)
    wait_until(lambda: place.container("back")["restartCount"] == 1, "a restart", 15)
    place.wait_ready("back")
    assert place.container("back")["lastState"]["terminated"]["reason"] == "Unknown"


def test_a_paused_agent_leaves_its_processes_running(place: PodPlace, second: str) -> None:
    place.run("web", *SERVE, readinessProbe=HTTP, pod={"nodeSelector": None, "nodeName": second})
    place.wait_ready("web")
    place.cluster.agents.pause(second)
    wait_until(lambda: not node_is_ready(place.cluster, second), "the node to be lost", 20)
    address = place.pod("web")["status"]["podIP"]
    with urllib.request.urlopen(f"http://{address}:8000/", timeout=5) as answer:
        assert answer.status == 200
    place.cluster.agents.resume(second)
    wait_until(lambda: node_is_ready(place.cluster, second), "the node to be back", 20)
    place.wait_ready("web")


def test_a_restarted_api_server_finds_the_pods_as_they_were(place: PodPlace) -> None:
    place.run("before", *SERVE, readinessProbe=HTTP)
    place.wait_ready("before")
    place.cluster.restart_api_server(kill=True)
    place.run("after", *SERVE, readinessProbe=HTTP)
    place.wait_ready("after")
    assert place.container("before")["restartCount"] == 0


def test_nothing_that_an_agent_started_outlives_the_cluster() -> None:
    with Cluster(kwok=False) as own:
        own.add_agent_node("real-0", IMAGES, speed=20)
        here = PodPlace(own, "default")
        here.run("web", *SERVE, readinessProbe=HTTP, pod={"nodeSelector": None})
        here.wait_ready("web")
        address = here.pod("web")["status"]["podIP"]

    def answers() -> bool:
        try:
            urllib.request.urlopen(f"http://{address}:8000/", timeout=5).close()
        except OSError:
            return False
        return True

    wait_until(lambda: not answers(), "the pod's process to be gone", 10)
