"""The scripted engine under the node agent: what stories about failures stand on."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from localcluster import Cluster
from localcluster.waiting import wait_until
from support.fixtures import StartOperator
from support.pods import PodPlace, pod_place
from support.world import World

HEALTH = {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 2}


@pytest.fixture
def place(engines: Cluster) -> Iterator[PodPlace]:
    with pod_place(engines) as found:
        yield found


def run(place: PodPlace, *flags: str, model: str = "org/model", **env: str) -> None:
    """A pod `engine` with the scripted engine."""
    place.run(
        "engine",
        *("vllm", "serve", model, *flags),
        image="scripted/vllm:v0.30.0",
        env=[{"name": name, "value": value} for name, value in env.items()],
        readinessProbe=HEALTH,
        terminationMessagePolicy="FallbackToLogsOnError",
        resources={"limits": {"memory": "512Mi"}},
    )


def ask(place: PodPlace, path: str, body: object = None) -> str:
    """What the pod `engine` answers."""
    address = place.pod("engine")["status"]["podIP"]
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(f"http://{address}:8000{path}", data, timeout=5) as answer:
        text: str = answer.read().decode()
    return text


def test_it_serves_as_the_version_in_its_images_tag(place: PodPlace) -> None:
    run(place, "--max-model-len", "8192", "--served-model-name", "small")
    place.wait_ready("engine")
    assert json.loads(ask(place, "/version")) == {"version": "0.30.0"}
    (model,) = json.loads(ask(place, "/v1/models"))["data"]
    assert (model["id"], model["max_model_len"]) == ("small", 8192)


def test_a_completion_moves_the_counters(place: PodPlace) -> None:
    run(place)
    place.wait_ready("engine")
    request: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 7}
    answer = json.loads(ask(place, "/v1/chat/completions", request))
    assert answer["usage"]["completion_tokens"] == 7
    labels = '{engine="0",model_name="org/model"}'
    assert f"vllm:generation_tokens_total{labels} 7.0" in ask(place, "/metrics")


def test_a_cache_that_is_too_small_is_a_crash_with_the_engines_log(place: PodPlace) -> None:
    run(place, "--max-model-len", "32768", SCRIPTED_KV_TOKENS="20000")
    ended = place.ended("engine")
    assert (ended["exitCode"], ended["reason"]) == (1, "Error")
    log = place.log("engine", "previous=true")
    assert "the estimated maximum model length is 20000." in log
    # As the engine's own: the cause stands far above the log's end, which is all that is kept.
    assert "estimated maximum" not in ended["message"]
    assert "Engine core initialization failed." in ended["message"]


def test_a_length_that_fits_serves(place: PodPlace) -> None:
    run(place, "--max-model-len", "16384", SCRIPTED_KV_TOKENS="20000")
    place.wait_ready("engine")
    assert "GPU KV cache size: 20,000 tokens" in place.log("engine")


def test_an_argument_that_its_version_lacks_is_refused(place: PodPlace) -> None:
    run(place, "--swap-space", "4")
    ended = place.ended("engine")
    assert ended["exitCode"] == 2
    assert ended["message"].endswith("vllm: error: unrecognized arguments: --swap-space 4\n")


def test_growing_memory_is_oom_killed(place: PodPlace) -> None:
    run(place, SCRIPTED_PLAY="oom-killed")
    assert place.ended("engine")["reason"] == "OOMKilled"


def test_a_model_may_name_the_play(place: PodPlace) -> None:
    run(place, model="scripted/gated-model")
    assert "You are trying to access a gated repo." in place.ended("engine")["message"]


def test_a_hung_engine_stays_healthy_with_requests_that_do_not_move(place: PodPlace) -> None:
    run(place)
    place.wait_ready("engine")
    ask(place, "/scripted/hang", {})
    url = f"http://{place.pod('engine')['status']['podIP']}:8000/v1/completions"
    with pytest.raises(TimeoutError):
        urllib.request.urlopen(url, b"{}", timeout=0.3)
    assert ask(place, "/health") == ""
    labels = '{engine="0",model_name="org/model"}'
    assert f"vllm:num_requests_running{labels} 1.0" in ask(place, "/metrics")


def test_an_engine_whose_core_dies_is_restarted(place: PodPlace) -> None:
    run(place)
    place.wait_ready("engine")
    ask(place, "/scripted/crash", {})
    with pytest.raises((urllib.error.HTTPError, OSError)):
        ask(place, "/health")
    wait_until(lambda: place.container("engine")["restartCount"] == 1, "a restart", 15)
    assert "EngineDeadError" in place.container("engine")["lastState"]["terminated"]["message"]


def test_bad_starts_are_followed_by_a_good_one(place: PodPlace) -> None:
    counter = place.cluster.directory / "starts"
    run(place, SCRIPTED_PLAY="oom-weights", SCRIPTED_BAD_STARTS=f"{counter}:1")
    place.wait_ready("engine")
    assert place.container("engine")["restartCount"] == 1


def test_a_server_of_the_operator_becomes_ready_and_answers(
    place: PodPlace, start_operator: StartOperator
) -> None:
    world = World(place.cluster, place.namespace)
    start_operator(world)
    world.apply(engine={"image": "scripted/vllm:v0.30.0"})
    server = world.wait_ready(timeout=30)
    assert server["status"]["readyReplicas"] == 1
    (pod,) = world.list("Pod")
    url = f"http://{pod['status']['podIP']}:8000/v1/models"
    with urllib.request.urlopen(url, timeout=5) as answer:
        (model,) = json.load(answer)["data"]
    assert model["max_model_len"] == server["status"]["plan"]["capacity"]["maxModelLen"]
