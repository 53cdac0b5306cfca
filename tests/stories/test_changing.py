"""Stories of changes to a server that serves. The table of docs/stories.md has a row each."""

from __future__ import annotations

from typing import Any

from stories.life import NEW, PATIENCE, Life
from support.world import flag


def test_another_image_rolls_to_another_vllm(life: Life) -> None:
    life.serve()
    life.ready()
    assert life.ask("/version") == {"version": "0.30.0"}
    life.serve(engine={"image": NEW})
    life.ready()
    assert life.ask("/version") == {"version": "0.31.0"}
    assert life.world.status()["summary"]["version"] == "0.31.0"
    life.ends_as_told()


def test_an_image_that_holds_another_vllm_than_its_tag_says_is_told(life: Life) -> None:
    life.operator_goes()
    life.operator_comes(calibration=True, lease_namespace=life.place.namespace)
    life.serve()
    life.ready()
    life.serve(engine={"image": NEW}, play={"SCRIPTED_VERSION": "0.32.0"})
    life.sees("Planned=True VersionDiffers", "0.31.0", 'set spec.engine.version to "0.32.0"')
    life.ready()
    play = {"SCRIPTED_VERSION": "0.32.0"}
    life.serve(engine={"image": NEW, "version": "0.32.0"}, play=play)
    life.ready()
    life.ends_as_told()


def test_a_pin_that_is_added_is_used_and_one_that_is_removed_is_forgotten(life: Life) -> None:
    life.serve()
    life.ready()
    chosen = flag(life.world.args(), "--max-num-seqs")
    life.serve(engine={"maxNumSeqs": 32})
    life.ready()
    assert flag(life.world.args(), "--max-num-seqs") == "32"
    life.serve()
    life.ready()
    assert flag(life.world.args(), "--max-num-seqs") == chosen
    life.ends_as_told()


def test_an_edit_that_cannot_be_planned_leaves_the_server_serving(life: Life) -> None:
    life.serve()
    life.ready()
    pod = life.pod()["metadata"]["uid"]
    life.serve(engine={"maxModelLen": 1_000_000})
    life.sees("Planned=False IllegalPin", "spec.engine.maxModelLen")
    assert life.pod()["metadata"]["uid"] == pod
    life.ends_as_told()


def test_an_edit_whose_engine_does_not_start_leaves_the_old_pod_serving(life: Life) -> None:
    life.serve()
    life.ready()
    pod = life.pod()["metadata"]["uid"]
    life.serve(play={"SCRIPTED_PLAY": "quantization-unsupported"})
    life.sees("Planned=False QuantizationUnsupported", "the plan before it serves")
    life.sees("Progressing=False QuantizationUnsupported")
    life.sees("Available=True ReplicasReady")
    assert life.pod()["metadata"]["uid"] == pod
    life.serve()
    life.ready()
    assert life.pod()["metadata"]["uid"] == pod
    life.ends_as_told()


def test_an_edit_that_replaced_the_only_pod_and_does_not_start_is_taken_back(life: Life) -> None:
    life.node(count=1)
    given: dict[str, Any] = {"gpu": {"product": "H100"}, "pod": {"nodeSelector": life.here}}
    given["rollout"] = {"surgeTimeoutSeconds": 0}
    life.serve(**given)
    life.ready()
    first = life.pod()["metadata"]["uid"]
    life.serve(**given, play={"SCRIPTED_PLAY": "quantization-unsupported"})
    life.sees("Planned=False QuantizationUnsupported", "the plan before it serves")
    life.sees("Available=True ReplicasReady")
    assert life.pod()["metadata"]["uid"] != first
    life.ends_as_told()


def test_an_edit_that_was_taken_back_is_tried_again_when_it_is_made_again(life: Life) -> None:
    edited = {"env": life.plays("quantization-unsupported")}
    life.serve()
    life.ready()
    life.serve(engine=edited)
    life.sees("Planned=False QuantizationUnsupported")
    life.serve()
    life.ready()
    life.plays("")
    life.serve(engine=edited)
    life.ready()
    life.ends_as_told()


def test_an_edit_that_no_node_would_take_leaves_the_old_pod_serving(life: Life) -> None:
    life.serve(rollout={"surgeTimeoutSeconds": 0})
    life.ready()
    pod = life.pod()["metadata"]["uid"]
    model = {
        "id": "Qwen/Qwen2.5-7B-Instruct",
        "storage": {"persistentVolumeClaim": {"claimName": "typo"}},
    }
    life.serve(model=model, rollout={"surgeTimeoutSeconds": 0})
    life.sees("Progressing=True VolumeClaimMissing", "there is no PersistentVolumeClaim typo")
    life.sees("Available=True ReplicasReady")
    life.serve(rollout={"surgeTimeoutSeconds": 0})
    life.ready()
    assert life.pod()["metadata"]["uid"] == pod
    life.ends_as_told()


def test_a_rollout_without_a_free_gpu_replaces_the_pod(life: Life) -> None:
    life.node(count=1)
    given: dict[str, Any] = {"gpu": {"product": "H100"}, "pod": {"nodeSelector": life.here}}
    life.serve(**given, rollout={"surgeTimeoutSeconds": 0})
    life.ready()
    life.serve(**given, rollout={"surgeTimeoutSeconds": 0}, engine={"maxNumSeqs": 32})
    life.ready()
    assert flag(life.world.args(), "--max-num-seqs") == "32"
    life.ends_as_told()


def test_a_rotated_secret_rolls_nothing(life: Life) -> None:
    life.place.create("secrets", "hf-token", stringData={"token": "hf_old"})
    model = {
        "id": "Qwen/Qwen2.5-7B-Instruct",
        "tokenSecretRef": {"name": "hf-token", "key": "token"},
    }
    life.serve(model=model)
    life.ready()
    before = life.world.versions()
    pod = life.pod()["metadata"]["uid"]
    path = f"{life.place.path}/secrets/hf-token"
    patch = {"stringData": {"token": "hf_new"}}
    life.cluster.api("PATCH", path, patch, "application/merge-patch+json")
    life.serve("later")  # the operator has been at work since
    life.ready("later")
    life.world.delete("VLLMServer", "later")
    assert life.pod()["metadata"]["uid"] == pod
    now = life.world.versions()
    mine = ("VLLMServer/qwen", "Deployment/qwen", "Service/qwen")
    assert [now[name] for name in mine] == [before[name] for name in mine]
    life.ends_as_told()


def test_a_server_scales_to_zero_and_back(life: Life) -> None:
    life.serve()
    life.ready()
    life.world.patch("VLLMServer", "qwen", {"spec": {"replicas": 0}}, "scale")
    life.sees("Ready=True ScaledToZero")
    life.world.wait(lambda: not life.pods(), "no pods", PATIENCE)
    life.world.patch("VLLMServer", "qwen", {"spec": {"replicas": 1}}, "scale")
    life.sees("Ready=True Ready")
    life.ends_as_told()


def test_two_replicas_have_a_budget_for_disruptions(life: Life) -> None:
    life.serve()
    life.ready()
    life.serve(replicas=2)
    life.ready()
    life.ends_as_told()


def test_a_paused_server_is_left_alone_until_it_is_resumed(life: Life) -> None:
    life.serve()
    life.ready()
    life.serve(paused=True, engine={"maxNumSeqs": 32})
    life.sees("Planned=Unknown Paused")
    assert flag(life.world.args(), "--max-num-seqs") != "32"
    life.serve(engine={"maxNumSeqs": 32})
    life.ready()
    assert flag(life.world.args(), "--max-num-seqs") == "32"
    life.ends_as_told()


def test_what_somebody_else_changes_is_put_right(life: Life) -> None:
    life.serve()
    life.ready()
    template = life.world.get("Deployment")["spec"]["template"]
    image = "/spec/template/spec/containers/0/image"
    life.world.patch("Deployment", "qwen", [{"op": "replace", "path": image, "value": NEW}])
    life.world.wait(
        lambda: life.world.get("Deployment")["spec"]["template"] == template, "the repair", PATIENCE
    )
    life.ready()
    life.ends_as_told()


def test_what_somebody_deletes_is_made_again(life: Life) -> None:
    life.serve()
    life.ready()
    for kind in ("Service", "Deployment"):
        life.world.delete(kind)
        life.world.wait(lambda kind=kind: life.world.find(kind, "qwen"), f"a new {kind}", PATIENCE)
    life.ready()
    life.ends_as_told()


def test_a_release_with_another_default_rolls_nothing_until_it_is_asked_to(life: Life) -> None:
    life.operator_goes()
    life.operator_comes(default_image="scripted/vllm:v0.30.0")
    life.world.apply(rollout={"drainSeconds": 1})
    life.ready()
    pod = life.pod()["metadata"]["uid"]
    life.operator_goes()
    life.operator_comes(default_image=NEW)
    life.sees("UpdateAvailable=True PlanDiffers", NEW)
    assert life.pod()["metadata"]["uid"] == pod
    annotation = {"metadata": {"annotations": {"vllm-operator.io/replan": "now"}}}
    life.world.patch("VLLMServer", "qwen", annotation)
    life.world.wait(
        lambda: life.world.status()["plan"]["engine"]["image"] == NEW, "the new image", PATIENCE
    )
    life.ready()
    life.ends_as_told()


def test_an_edit_that_was_made_while_the_operator_was_away_is_carried_out(life: Life) -> None:
    life.serve()
    life.ready()
    life.operator_goes()
    life.serve(engine={"maxNumSeqs": 32})
    life.operator_comes()
    life.ready()
    assert flag(life.world.args(), "--max-num-seqs") == "32"
    life.ends_as_told()


def test_a_server_that_is_deleted_goes_with_all_that_it_owned(life: Life) -> None:
    life.serve(replicas=2)
    life.ready()
    life.world.delete("VLLMServer")
    life.world.wait(lambda: not life.world.list("Pod"), "its pods to go", PATIENCE)
    life.ends_as_told()


def test_a_server_that_is_made_anew_under_its_name_is_another_one(life: Life) -> None:
    life.serve(engine={"maxNumSeqs": 32})
    life.ready()
    before = life.world.get("VLLMServer")["metadata"]["uid"]
    life.world.delete("VLLMServer")
    life.world.wait(lambda: life.world.find("VLLMServer", "qwen") is None, "it to go", PATIENCE)
    life.serve()
    life.ready()
    assert life.world.get("VLLMServer")["metadata"]["uid"] != before
    (owner,) = life.world.get("Deployment")["metadata"]["ownerReferences"]
    assert owner["uid"] != before
    assert flag(life.world.args(), "--max-num-seqs") != "32"
    life.ends_as_told()
