"""Stories of how a server comes to be, or waits. The table of docs/stories.md has a row each."""

from __future__ import annotations

from typing import Any

from stories.life import A100, Life

MODEL = "Qwen/Qwen2.5-7B-Instruct"
CHAT = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}


def test_a_manifest_becomes_a_server_that_answers(life: Life) -> None:
    life.serve()
    life.ready()
    assert life.ask("/v1/chat/completions", CHAT)["usage"]["completion_tokens"] == 5
    life.ends_as_told()


def test_a_server_that_was_applied_before_the_operator_came_is_found(life: Life) -> None:
    life.operator_goes()
    life.serve()
    life.operator_comes()
    life.ready()
    life.ends_as_told()


def test_a_model_without_facts_is_named_and_its_correction_is_enough(life: Life) -> None:
    life.serve(model={"id": "Qwen/Qwen2.5-7B-Instrukt"})
    life.sees("Planned=False UnknownModel", MODEL)
    life.serve()
    life.ready()
    life.ends_as_told()


def test_a_wrong_image_is_named_and_its_correction_is_enough(life: Life) -> None:
    life.serve(engine={"image": "nowhere/vllm:v0.30.0"})
    life.sees("Progressing=True ImagePullFailed", "spec.engine.image")
    life.serve()
    life.ready()
    life.ends_as_told()


def test_a_missing_secret_is_waited_for(life: Life) -> None:
    life.serve(model={"id": MODEL, "tokenSecretRef": {"name": "hf-token", "key": "token"}})
    life.sees("Progressing=True SecretMissing", "there is no Secret hf-token")
    life.place.create("secrets", "hf-token", stringData={"token": "hf_x"})
    life.ready()
    life.ends_as_told()


def test_a_missing_model_volume_is_waited_for(life: Life) -> None:
    claim = {"claimName": "models", "path": "/qwen", "mode": "Model"}
    life.serve(model={"id": MODEL, "storage": {"persistentVolumeClaim": claim}})
    life.sees("Progressing=True VolumeClaimMissing", "there is no PersistentVolumeClaim models")
    life.place.claim("models")
    life.ready()
    life.ends_as_told()


def test_a_missing_secret_of_a_volume_is_named_and_waited_for(life: Life) -> None:
    volume = {"name": "authority", "secret": {"secretName": "company-ca"}}
    mount = {"name": "authority", "mountPath": "/authority", "readOnly": True}
    life.serve(pod={"volumes": [volume], "volumeMounts": [mount]})
    life.sees("Progressing=True SecretMissing", "there is no Secret company-ca, which volume")
    life.place.create("secrets", "company-ca", stringData={"ca.crt": "-"})
    life.ready()
    life.ends_as_told()


def test_a_gated_model_starts_once_its_licence_is_accepted(life: Life) -> None:
    life.serve(engine={"env": life.plays("gated-model")})
    life.sees("Progressing=True ModelAccessDenied", "spec.model.tokenSecretRef")
    life.plays("")
    life.ready()
    life.ends_as_told()


def test_a_server_without_a_free_gpu_waits_for_one(life: Life) -> None:
    life.serve(gpu={"product": A100})
    life.sees("Progressing=True WaitingForGPU")
    life.node(count=1, product=A100)
    life.ready()
    life.ends_as_told()


def test_of_two_servers_that_want_the_last_gpu_the_second_waits_for_the_first_to_go(
    life: Life,
) -> None:
    life.node(count=1)
    for name in ("first", "qwen"):
        life.serve(name, gpu={"product": "H100"}, pod={"nodeSelector": life.here})
        if name == "first":
            life.ready("first")
    life.sees("Progressing=True WaitingForGPU", "Insufficient nvidia.com/gpu")
    life.world.delete("VLLMServer", "first")
    life.ready()
    life.ends_as_told()


def test_two_servers_that_race_for_the_last_gpu_never_share_it(life: Life) -> None:
    life.node(count=1)
    for name in ("one", "qwen"):
        life.serve(name, gpu={"product": "H100"}, pod={"nodeSelector": life.here})

    def reasons() -> list[str]:
        return sorted(
            life.world.condition("Ready", name).get("reason", "") for name in ("one", "qwen")
        )

    life.world.wait(lambda: reasons() == ["Ready", "WaitingForGPU"], "one winner", 90)
    (loser,) = [n for n in ("one", "qwen") if life.world.condition("Ready", n)["status"] == "False"]
    life.ends_as_told({"one": "qwen", "qwen": "one"}[loser])


def test_a_replica_on_a_bad_node_stops_no_other_one(life: Life) -> None:
    life.node(count=1)
    life.node(count=1, play="unrecognized-argument")
    given: dict[str, Any] = {"gpu": {"product": "H100"}, "pod": {"nodeSelector": life.here}}
    life.serve(**given, play={"SCRIPTED_BOOT_SECONDS": "20"}, replicas=2)
    life.sees("Available=False ArgumentRefused")
    life.sees("Available=True SomeReplicasReady")
    life.ends_as_told()


def test_a_service_of_somebody_else_s_is_left_alone(life: Life) -> None:
    spec = {"selector": {"app": "theirs"}, "ports": [{"port": 80}]}
    life.place.create("services", "qwen", spec=spec)
    theirs = life.world.get("Service")
    life.serve()
    life.sees("Planned=False NameConflict", "Service qwen")
    assert life.world.get("Service") == theirs
    life.ends_as_told()


def test_a_quota_without_room_is_named_and_waited_for(life: Life) -> None:
    hard = {"requests.nvidia.com/gpu": "0"}
    life.place.create("resourcequotas", "gpus", spec={"hard": hard})
    path = f"{life.place.path}/resourcequotas/gpus"
    life.world.wait(
        lambda: life.cluster.api("GET", path).get("status", {}).get("hard") == hard, "the quota", 30
    )
    life.serve()
    life.sees("Progressing=True QuotaExceeded", "ResourceQuota gpus has no room")
    life.cluster.api("DELETE", path)
    life.ready()
    life.ends_as_told()


def test_a_slow_start_is_said_to_load_and_is_left_to_load(life: Life) -> None:
    # Longer than the operator takes to start again after each of the writes that come before.
    life.serve(play={"SCRIPTED_BOOT_SECONDS": "40"})
    life.sees("Progressing=True Loading")
    life.ready()
    life.ends_as_told()
