"""Stories of what happens to a server that serves. The table of docs/stories.md has a row each."""

from __future__ import annotations

import threading
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from localcluster.waiting import wait_until
from stories.life import A100, PATIENCE, Life

ASK = {"prompt": "one two three", "max_tokens": 4}


@contextmanager
def load(life: Life) -> Iterator[None]:
    """Requests that never stop coming, whatever becomes of them."""
    enough = threading.Event()
    pod = life.pod()

    def ask() -> None:
        while not enough.is_set():
            with suppress(urllib.error.URLError, OSError):
                life.ask("/v1/completions", ASK, pod)
            enough.wait(0.02)

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        enough.set()
        for thread in threads:
            thread.join(30)


def restarts(life: Life) -> int:
    (status,) = life.pod()["status"]["containerStatuses"]
    return int(status["restartCount"])


def test_an_engine_that_crashes_under_load_serves_again(life: Life) -> None:
    life.serve(play={"SCRIPTED_BOOT_SECONDS": "4"})
    life.ready()
    pod = life.pod()["metadata"]["uid"]
    with load(life):
        life.ask("/scripted/crash", {})
        life.sees("Available=False EngineCrashed")
    life.ready()
    assert life.pod()["metadata"]["uid"] == pod
    life.ends_as_told()


def test_an_engine_that_hangs_is_restarted(life: Life) -> None:
    life.serve(play={"SCRIPTED_BOOT_SECONDS": "4"}, rollout={"livenessBudgetSeconds": 10})
    life.ready()
    life.ask("/scripted/hang", {})
    with pytest.raises(TimeoutError):  # the request stays, though nobody waits for it any more
        life.ask("/v1/completions", ASK)
    life.sees("Available=False EngineCrashed")
    assert restarts(life) == 1
    life.ready()
    life.ends_as_told()


def test_an_engine_that_no_longer_answers_is_restarted(life: Life) -> None:
    life.serve(play={"SCRIPTED_BOOT_SECONDS": "4"}, rollout={"livenessBudgetSeconds": 10})
    life.ready()
    life.ask("/scripted/deaf", {})
    life.sees("Available=False EngineCrashed")
    assert restarts(life) == 1
    life.ready()
    life.ends_as_told()


def test_an_evicted_pod_s_reason_is_told_while_the_next_one_loads(life: Life) -> None:
    life.serve(play={"SCRIPTED_BOOT_SECONDS": "20"})
    life.ready()
    name = life.pod()["metadata"]["name"]
    why = 'Usage of EmptyDir volume "cache" exceeds the limit "1Gi". '
    status = {"status": {"phase": "Failed", "reason": "Evicted", "message": why}}
    path = f"{life.place.path}/pods/{name}/status"
    life.cluster.api("PATCH", path, status, "application/merge-patch+json")
    life.sees("Available=False PodEvicted", 'exceeds the limit "1Gi"', "raise that limit")
    life.ready()
    assert life.pod()["metadata"]["name"] != name
    life.ends_as_told()


def test_a_server_that_has_served_is_not_given_up_when_it_no_longer_starts(life: Life) -> None:
    life.serve(engine={"env": life.plays("")})
    life.ready()
    life.plays("no-kv-cache")
    life.world.delete("Pod", life.pod()["metadata"]["name"])
    life.sees("Available=False KVCacheTooSmall", "3 repairs of the plan have not helped")
    life.plays("")
    life.ready()
    life.ends_as_told()


def test_a_drained_node_s_server_moves(life: Life) -> None:
    first, _ = life.node(count=1), life.node(count=1)
    life.serve(gpu={"product": "H100"}, pod={"nodeSelector": life.here})
    life.ready()
    pod = life.pod()
    held = pod["spec"]["nodeName"]
    life.cluster.kubectl("drain", held, "--ignore-daemonsets", "--delete-emptydir-data")
    life.world.wait(
        lambda: [p["spec"].get("nodeName") for p in life.pods()] not in ([held], []),
        "another pod",
        60,
    )
    life.ready()
    assert life.pod()["spec"]["nodeName"] != held
    assert first
    life.ends_as_told()


def test_a_lost_gpu_node_s_server_starts_on_another(life: Life) -> None:
    for _ in range(2):
        life.node(count=1)
    life.serve(gpu={"product": "H100"}, pod={"nodeSelector": life.here})
    life.ready()
    held = life.pod()["spec"]["nodeName"]
    life.cluster.agents.stop(held)

    def elsewhere() -> bool:
        nodes = [pod["spec"].get("nodeName") for pod in life.pods()]
        return bool(nodes) and held not in nodes

    life.world.wait(elsewhere, "a pod on the other node", PATIENCE)
    life.ready()
    life.ends_as_told()


def test_a_lost_gpu_node_without_another_is_waited_for(life: Life) -> None:
    held = life.node(count=1, product=A100)
    life.serve(gpu={"product": A100})
    life.ready()
    life.cluster.agents.stop(held)
    life.sees("Progressing=True WaitingForGPU")
    life.cluster.agents.start(held)
    life.ready()
    life.ends_as_told()


def test_a_restarted_api_server_is_gone_on_with(life: Life) -> None:
    life.serve()
    life.ready()
    pod = life.pod()["metadata"]["uid"]
    life.cluster.restart_api_server(kill=True)
    life.serve(replicas=2)
    life.ready()
    assert pod in [one["metadata"]["uid"] for one in life.pods()]
    life.ends_as_told()


def test_a_restarted_operator_writes_nothing(life: Life) -> None:
    life.serve()
    life.ready()
    before = life.world.versions()
    life.operator_goes()
    life.operator_comes()
    wait_until(
        lambda: life.operator.metric("vllm_operator_reconciles_total") >= 1, "its first visit", 30
    )
    after = life.world.versions()
    assert {k: v for k, v in after.items() if not k.startswith("Event/")} == {
        k: v for k, v in before.items() if not k.startswith("Event/")
    }
    life.ends_as_told()
