"""Where the weights lie, and what that forbids."""

from __future__ import annotations

from typing import Any

import pytest

from support.builders import make_server
from unit.sizing.examples import H100, QWEN_7B, inputs_for, only_problem, server
from vllm_operator.api.plan import Plan
from vllm_operator.sizing.asked.storage import (
    ClaimFacts,
    planned_storage,
    spread_problem,
    storage_problems,
    volume_of,
)
from vllm_operator.sizing.plan.planner import inputs_hash, make_plan

CLAIM = {"persistentVolumeClaim": {"claimName": "models", "path": "/qwen", "mode": "Model"}}


def spec(storage: dict[str, Any]) -> Any:
    return make_server(model={"id": "a/b", "storage": storage}).spec


def folder(path: str = "/mnt/models/qwen") -> Any:
    return spec({"hostPath": {"path": path, "mode": "Model"}})


def claim(*modes: str) -> ClaimFacts:
    return ClaimFacts("models", modes)


@pytest.mark.parametrize(
    ("storage", "path"),
    [
        (CLAIM, "/models/qwen"),
        ({"hostPath": {"path": "/mnt/qwen", "mode": "Model"}}, "/models"),
        ({"image": {"reference": "a/b", "path": "/weights/"}}, "/models/weights"),
        ({"image": {"reference": "a/b"}}, "/models"),
    ],
)
def test_the_engine_finds_the_checkpoint_below_one_folder(storage: Any, path: str) -> None:
    assert volume_of(spec(storage)).model_path == path


def test_a_folder_of_the_node_is_refused_unless_the_operator_s_settings_allow_it() -> None:
    (problem,) = storage_problems(folder(), ())
    assert problem.field == "spec.model.storage.hostPath.path"
    assert "chart value hostPathPrefixes" in problem.message


def test_a_refused_folder_is_told_the_folders_that_are_allowed() -> None:
    (problem,) = storage_problems(folder("/etc"), ("/mnt/models", "/data"))
    assert "use a folder under /mnt/models, /data" in problem.message


@pytest.mark.parametrize("path", ["/mnt/models", "/mnt/models/", "/mnt/models/a/b"])
def test_an_allowed_folder_allows_all_below_it(path: str) -> None:
    assert list(storage_problems(folder(path), ("/mnt/models/",))) == []


def test_a_folder_whose_name_only_begins_like_an_allowed_one_is_refused() -> None:
    assert list(storage_problems(folder("/mnt/models-of-others"), ("/mnt/models",)))


def test_the_command_line_knows_no_settings_and_allows_every_folder() -> None:
    assert list(storage_problems(folder(), None)) == []


def test_a_forbidden_folder_is_a_problem_of_the_plan() -> None:
    planned = server({"id": QWEN_7B, "storage": {"hostPath": {"path": "/x"}}}, gpu=H100)
    field, reason, _ = only_problem(make_plan(planned, inputs_for(planned, host_path_prefixes=())))
    assert (field, reason) == ("spec.model.storage.hostPath.path", "IllegalPin")


@pytest.mark.parametrize("modes", [("ReadWriteMany",), ("ReadWriteOnce", "ReadOnlyMany"), ()])
def test_a_volume_that_nodes_share_lets_a_new_pod_start_beside_the_old_one(modes: Any) -> None:
    planned = planned_storage(spec(CLAIM), claim(*modes), 0)
    assert (planned.surge, planned.note) == (True, None)


def test_a_volume_of_one_node_says_that_updates_go_in_place() -> None:
    planned = planned_storage(spec(CLAIM), claim("ReadWriteOnce"), 0)
    assert planned.surge is False
    assert planned.note == (
        "PersistentVolumeClaim models is ReadWriteOnce: updates go in place, and all replicas have "
        "to fit on the node that holds it"
    )


def test_a_volume_of_one_pod_says_that_only_one_replica_can_run() -> None:
    note = planned_storage(spec(CLAIM), claim("ReadWriteOncePod"), 0).note
    assert note is not None
    assert note.endswith("only one replica can run")


def test_a_claim_that_was_not_read_forbids_nothing() -> None:
    assert planned_storage(spec(CLAIM), None, 0).surge is True


def test_a_replica_on_several_nodes_cannot_share_a_volume_of_one() -> None:
    problem = spread_problem(spec(CLAIM), claim("ReadWriteOnce"), nodes=2)
    assert problem is not None
    assert "use a claim with ReadWriteMany or ReadOnlyMany" in problem.message
    assert spread_problem(spec(CLAIM), claim("ReadWriteOnce"), nodes=1) is None
    assert spread_problem(spec(CLAIM), claim("ReadWriteMany"), nodes=2) is None


def plan_with(storage: dict[str, Any] | None, **given: Any) -> Plan:
    planned = server({"id": QWEN_7B, "storage": storage}, gpu=H100, **given)
    return make_plan(planned, inputs_for(planned))


def variables(**values: str) -> dict[str, Any]:
    return {"env": [{"name": name, "value": value} for name, value in values.items()]}


@pytest.mark.parametrize("storage", [None, {"emptyDir": {}}, {"ephemeral": {}}])
@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_an_empty_cache_that_may_not_be_filled_is_refused(storage: Any, name: str) -> None:
    field, reason, message = only_problem(plan_with(storage, engine=variables(**{name: "true"})))
    assert (field, reason) == (f"spec.engine.env[{name}]", "IllegalPin")
    assert "name in spec.model.storage a persistentVolumeClaim or hostPath" in message


@pytest.mark.parametrize(
    "given",
    [
        {"HF_HUB_OFFLINE": "0"},
        {"TRANSFORMERS_OFFLINE": "false"},
        {"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "1"},
        {"HF_DATASETS_OFFLINE": "1"},
    ],
)
def test_variables_that_leave_the_hub_to_be_asked_are_taken(given: dict[str, str]) -> None:
    assert plan_with(None, engine=variables(**given)).feasible


@pytest.mark.parametrize("storage", [CLAIM, {"persistentVolumeClaim": {"claimName": "models"}}])
def test_a_volume_that_may_hold_the_model_may_be_served_without_the_hub(storage: Any) -> None:
    planned = server(
        {"id": QWEN_7B, "storage": storage}, gpu=H100, engine=variables(HF_HUB_OFFLINE="1")
    )
    plan = make_plan(planned, inputs_for(planned))
    assert plan.feasible
    assert "HF_HUB_OFFLINE" not in plan.engine.env  # the manifest's own is set


def limited(size: str) -> dict[str, Any]:
    return {"emptyDir": {"sizeLimit": size}}


def disk(size: str) -> dict[str, Any]:
    return {"resources": {"limits": {"ephemeral-storage": size}}}


@pytest.mark.parametrize(
    ("storage", "pod", "field"),
    [
        (limited("1Gi"), None, "spec.model.storage.emptyDir.sizeLimit"),
        (None, disk("8Gi"), "spec.pod.resources.limits[ephemeral-storage]"),
        ({"ephemeral": {"size": "10Gi"}}, None, "spec.model.storage.ephemeral.size"),
    ],
)
def test_a_cache_that_is_smaller_than_the_weights_is_refused(
    storage: Any, pod: Any, field: str
) -> None:
    where, _, message = only_problem(plan_with(storage, pod=pod))
    assert where == field
    assert "14.19 GiB of weights" in message
    assert "set it to 17Gi or more" in message


@pytest.mark.parametrize(
    ("storage", "given"),
    [
        (limited("17Gi"), {"pod": disk("17Gi")}),
        (limited("1Gi"), {"engine": {"extraArgs": ["--load-format", "dummy"]}}),
        ({"persistentVolumeClaim": {"claimName": "models"}}, {"pod": disk("1Gi")}),
        ({"ephemeral": {"size": "15Gi"}}, {"pod": disk("1Gi")}),
    ],
)
def test_a_cache_that_holds_what_is_downloaded_is_taken(storage: Any, given: Any) -> None:
    assert plan_with(storage, **given).feasible


def test_the_plan_says_how_much_of_the_node_s_disk_downloaded_weights_take() -> None:
    model = {"id": "meta-llama/Llama-3.3-70B-Instruct"}
    planned = server(model, gpu=H100)
    storage = make_plan(planned, inputs_for(planned)).storage
    assert storage.disk_bytes == (132 + 2) * 1024**3  # 131.42 GiB of weights, and caches


@pytest.mark.parametrize(
    ("given", "size"),
    [({}, 17 * 1024**3), ({"storageClassName": "fast", "size": "40G"}, 40 * 1000**3)],
    ids=["as large as the weights", "as large as it is told"],
)
def test_a_volume_of_each_pod_s_own_is_in_the_plan_with_its_class_and_size(
    given: dict[str, str], size: int
) -> None:
    storage = plan_with({"ephemeral": given}).storage
    assert (storage.kind, storage.mode, storage.surge) == ("Ephemeral", "Cache", True)
    assert (storage.source, storage.volume_bytes) == (given.get("storageClassName"), size)


@pytest.mark.parametrize(
    "storage",
    [
        CLAIM,
        {"hostPath": {"path": "/mnt/a"}},
        {"image": {"reference": "a/b"}},
        {"ephemeral": {"storageClassName": "fast"}},
    ],
)
def test_weights_on_a_volume_take_none_of_the_pod_s_disk(storage: Any) -> None:
    assert planned_storage(spec(storage), None, 10**11).disk_bytes is None


def test_weights_that_are_not_loaded_take_room_for_caches_alone() -> None:
    storage = plan_with(None, engine={"extraArgs": ["--load-format", "dummy"]}).storage
    assert storage.disk_bytes == 2 * 1024**3


def test_room_on_the_node_s_disk_is_an_input_of_the_plan() -> None:
    hashes = {
        inputs_hash(planned, inputs_for(planned))
        for planned in (server(QWEN_7B, pod=disk(size)) for size in ("20Gi", "30Gi"))
    }
    assert len(hashes) == 2
