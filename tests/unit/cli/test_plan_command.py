"""``vllm-operator plan`` prints one plan a document and says by its status whether all are good."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from vllm_operator.api.plan import Plan, Unplanned
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.cli.plan import plan_command
from vllm_operator.cli.render import render_command
from vllm_operator.manifests.planned import Planned, planned
from vllm_operator.models import catalogue
from vllm_operator.sizing.asked.inputs import PlanningInputs


def server(name: str, model: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "vllm-operator.io/v1alpha1",
        "kind": "VLLMServer",
        "metadata": {"name": name},
        "spec": {"model": model, **spec},
    }


LLAMA = {"id": "meta-llama/Llama-3.1-8B-Instruct"}
GOOD = server("good", LLAMA, gpu={"product": "H100"})
BAD = server("bad", LLAMA, gpu={"product": "H100"}, engine={"maxModelLen": 1_000_000})
MISSPELT = server("misspelt", {**LLAMA, "revison": "main"})
FACTS = dict(catalogue.find("Qwen/Qwen3-4B").config)


@pytest.fixture
def plan(tmp_path: Path):
    def run(*documents: dict[str, Any], options: tuple[str, ...] = ("-o", "json")) -> Result:
        path = tmp_path / "manifest.yaml"
        path.write_text(yaml.safe_dump_all(documents), encoding="utf-8")
        return CliRunner().invoke(plan_command, ["-f", str(path), "--offline", *options])

    return run


def test_json_is_an_array_with_one_plan_a_document_in_order(plan):
    result = plan(BAD, GOOD, MISSPELT)
    plans = json.loads(result.stdout)
    assert [entry["name"] for entry in plans] == ["bad", "good", "misspelt"]
    assert [entry["feasible"] for entry in plans] == [False, True, False]


def test_every_printed_plan_is_one_by_the_schema(plan):
    for entry in json.loads(plan(BAD, GOOD, MISSPELT).stdout):
        kind = Plan if entry["feasible"] else Unplanned
        assert kind.model_validate(entry).to_json_object() == entry


@pytest.mark.parametrize(
    ("documents", "status"), [([GOOD], 0), ([GOOD, BAD], 1), ([MISSPELT], 1), ([], 2)]
)
def test_the_exit_status_says_whether_all_can_be_planned(plan, documents: list, status: int):
    assert plan(*documents).exit_code == status


def test_unreadable_input_is_one_line_on_standard_error(plan):
    result = plan({"apiVersion": "v1", "kind": "Pod"})
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1


def test_an_unknown_field_is_a_problem_with_its_path(plan):
    (entry,) = json.loads(plan(MISSPELT).stdout)
    assert entry["problems"][0]["field"] == "spec.model.revison"


def test_json_is_indented_as_kubectl_does(plan):
    assert plan(GOOD).stdout.startswith('[\n  {\n    "')


def test_yaml_holds_the_same_as_json(plan):
    printed = yaml.safe_load(plan(GOOD, BAD, options=("-o", "yaml")).stdout)
    assert printed == json.loads(plan(GOOD, BAD).stdout)


def test_standard_input_is_read():
    result = CliRunner().invoke(plan_command, ["-f", "-", "-o", "json"], input=yaml.safe_dump(GOOD))
    assert json.loads(result.stdout)[0]["feasible"] is True


def test_a_gpu_on_the_command_line_replaces_the_manifests(plan):
    result = plan(GOOD, options=("-o", "json", "--gpu", "L4", "--gpus-per-node", "4"))
    placement = json.loads(result.stdout)[0]["placement"]
    assert (placement["gpu"], placement["gpusPerNode"]) == ("NVIDIA-L4", 4)


def test_the_number_of_gpus_alone_keeps_the_manifests_product(plan):
    result = plan(GOOD, options=("-o", "json", "--gpus-per-node", "2"))
    placement = json.loads(result.stdout)[0]["placement"]
    assert (placement["gpu"], placement["gpusPerNode"]) == ("H100", 2)


def among(folder: Path, labels: dict[str, str]) -> tuple[str, str]:
    """The option that names a file with one node of four GPUs."""
    nodes = folder / "nodes.json"
    status = {"allocatable": {"nvidia.com/gpu": "4"}}
    nodes.write_text(json.dumps([{"metadata": {"labels": labels}, "status": status}]))
    return "--nodes", str(nodes)


def test_gpus_are_chosen_among_given_nodes(plan, tmp_path: Path):
    labels = {"nvidia.com/gpu.product": "NVIDIA-L40S", "nvidia.com/gpu.memory": "46068"}
    result = plan(server("a", LLAMA), options=("-o", "json", *among(tmp_path, labels)))
    assert json.loads(result.stdout)[0]["placement"]["gpu"] == "NVIDIA-L40S"


def test_without_gpu_and_nodes_the_options_are_named(plan):
    (entry,) = json.loads(plan(server("a", LLAMA)).stdout)
    assert "--gpu or --nodes" in entry["problems"][0]["message"]


def test_facts_are_taken_from_a_config_map_of_the_same_file(plan):
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "facts"},
        "data": {"config.json": json.dumps(FACTS)},
    }
    reference = {"name": "facts", "key": "config.json"}
    document = server("a", {"id": "my/model", "configMapRef": reference}, gpu={"product": "L4"})
    (entry,) = json.loads(plan(document, config_map).stdout)
    assert (entry["feasible"], entry["model"]["source"]) == (True, "configMap")


def test_a_config_map_that_the_file_lacks_is_told(plan):
    reference = {"name": "facts", "key": "config.json"}
    document = server("a", {"id": "my/model", "configMapRef": reference}, gpu={"product": "L4"})
    (entry,) = json.loads(plan(document).stdout)
    assert entry["problems"][0]["field"] == "spec.model.configMapRef"


def test_inline_facts_come_before_the_catalogue(plan):
    document = server("a", {**LLAMA, "config": FACTS}, gpu={"product": "L4"})
    (entry,) = json.loads(plan(document).stdout)
    assert (entry["model"]["source"], entry["model"]["parameters"]) == ("inline", 4_022_468_096)


def test_offline_an_uncatalogued_model_is_told_with_what_to_give(plan):
    (entry,) = json.loads(plan(server("a", {"id": "my/model"}, gpu={"product": "L4"})).stdout)
    assert entry["problems"][0]["reason"] == "UnknownModel"
    assert "--offline" in entry["problems"][0]["message"]


def test_a_hub_that_is_away_is_a_problem_and_no_crash(
    plan, monkeypatch: pytest.MonkeyPatch, tmp_path
):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    path = tmp_path / "online.yaml"
    path.write_text(yaml.safe_dump(server("a", {"id": "my/model"}, gpu={"product": "L4"})))
    result = CliRunner().invoke(plan_command, ["-f", str(path), "-o", "json"])
    assert result.exit_code == 1
    assert "did not answer" in json.loads(result.stdout)[0]["problems"][0]["message"]


def test_the_table_shows_bytes_limits_reasons_and_rejections(plan):
    small = server("small", LLAMA, gpu={"product": "L4", "perNode": 8})
    shown = plan(small, options=("-o", "table")).stdout
    for text in (
        "default/small",
        "2 x NVIDIA-L4",
        "weights",
        "KV cache, sure",
        "131,072 tokens",
        "--gpu-memory-utilization",
        "Layouts that were not taken",
    ):
        assert text in shown


def test_the_table_shows_why_a_server_cannot_be_planned(plan):
    shown = plan(BAD, options=("-o", "table")).stdout
    assert "cannot be planned" in shown
    assert "spec.engine.maxModelLen" in shown


DEEPSEEK = server("r1", {"id": "deepseek-ai/DeepSeek-R1"}, gpu={"product": "H100", "perNode": 8})


def test_several_nodes_are_planned_where_one_is_not_enough(plan):
    (entry,) = json.loads(plan(DEEPSEEK).stdout)
    placement = entry["placement"]
    assert (placement["tensor"], placement["pipeline"], placement["nodes"]) == (8, 2, 2)


def test_the_number_of_nodes_can_be_bounded(plan):
    result = plan(DEEPSEEK, options=("-o", "json", "--max-nodes", "1"))
    assert result.exit_code == 1
    assert "TP8 x PP2 on 2 nodes" in json.loads(result.stdout)[0]["problems"][0]["message"]


def test_the_table_says_that_a_layout_needs_several_nodes(plan):
    shown = plan(DEEPSEEK, options=("-o", "table")).stdout
    assert "pipeline parallel 2, 2 nodes of 8" in shown
    assert "One replica takes 2 nodes." in shown
    assert "One replica takes" not in plan(GOOD, options=("-o", "table")).stdout


def test_the_table_shows_the_layouts_of_several_nodes_that_were_not_taken(plan):
    small = server("small", {"id": "deepseek-ai/DeepSeek-R1"}, gpu={"product": "L40S"})
    shown = plan(small, options=("-o", "table")).stdout
    assert "TP8 x PP2, 2 nodes" in shown


def test_the_table_states_the_expected_speed_and_the_napkin(plan):
    loaded = server("loaded", LLAMA, gpu={"product": "H100"}, workload={"concurrency": 12})
    shown = plan(loaded, options=("-o", "table")).stdout
    assert "12 requests of 1024 + 256 tokens" in " ".join(shown.split())
    assert "on a napkin" in shown


@pytest.mark.parametrize(("width", "beside"), [("80", False), ("120", True)])
def test_reasons_stand_beside_their_arguments_where_there_is_room(
    plan, width: str, beside: bool, monkeypatch
):
    monkeypatch.setenv("COLUMNS", width)
    lines = plan(GOOD, options=("-o", "table")).stdout.splitlines()
    (line,) = [line for line in lines if line.strip().startswith("--max-num-seqs")]
    assert ("default of vLLM" in line) is beside
    assert all(len(line) <= int(width) for line in lines)


@pytest.mark.parametrize("width", ["40", "80", "200"])
def test_the_bar_is_as_long_as_the_gpu_and_shows_every_part(plan, width: str, monkeypatch):
    monkeypatch.setenv("COLUMNS", width)
    assert plan(GOOD, options=("-o", "table")).exit_code == 0


def test_a_document_that_meets_a_defect_loses_no_other(plan, monkeypatch: pytest.MonkeyPatch):
    def broken(server: VLLMServer, inputs: PlanningInputs) -> Planned | Unplanned:
        if server.metadata.name == "bad":
            raise ZeroDivisionError("float division by zero")
        return planned(server, inputs)

    monkeypatch.setattr("vllm_operator.cli.plan.planned", broken)
    result = plan(BAD, GOOD)
    bad, good = json.loads(result.stdout)
    assert good["feasible"]
    assert bad["problems"][0]["field"] == "spec.model.config"
    assert "ZeroDivisionError" in bad["problems"][0]["message"]
    assert result.exit_code == 1


def test_nodes_with_only_time_sliced_gpus_are_told_as_the_operator_tells_them(plan, tmp_path: Path):
    labels = {"nvidia.com/gpu.product": "NVIDIA-L40S-SHARED", "nvidia.com/gpu.replicas": "4"}
    result = plan(server("a", LLAMA), options=("-o", "json", *among(tmp_path, labels)))
    (problem,) = json.loads(result.stdout)[0]["problems"]
    assert "share by time-slicing or MPS (NVIDIA-L40S-SHARED)" in problem["message"]


REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


@pytest.mark.parametrize(
    ("required", "below"),
    [("x", ""), ({"nodeSelectorTerms": [None]}, ".nodeSelectorTerms")],
)
def test_what_cannot_be_rendered_is_no_feasible_plan(
    plan, tmp_path: Path, required: Any, below: str
):
    pod = {"affinity": {"nodeAffinity": {REQUIRED: required}}}
    document = server("a", LLAMA, gpu={"product": "H100"}, pod=pod)
    result = plan(document)
    (entry,) = json.loads(result.stdout)
    assert (result.exit_code, entry["feasible"]) == (1, False)
    field = f"spec.pod.affinity.nodeAffinity.{REQUIRED}{below}"
    assert [problem["field"] for problem in entry["problems"]] == [field]
    path = tmp_path / "manifest.yaml"
    rendered = CliRunner().invoke(render_command, ["-f", str(path), "--offline"])
    assert (rendered.exit_code, rendered.stdout) == (1, "")
    assert rendered.stderr == f"a: {field}: {entry['problems'][0]['message']}\n"


def rendered(tmp_path: Path, document: dict[str, Any], *options: str) -> list[dict[str, Any]]:
    path = tmp_path / "manifest.yaml"
    path.write_text(yaml.safe_dump(document))
    ended = CliRunner().invoke(render_command, ["-f", str(path), "--offline", *options])
    assert ended.exit_code == 0, ended.output
    return list(yaml.safe_load_all(ended.stdout))


@pytest.mark.parametrize(
    ("options", "user"),
    [((), 65532), (("--pod-identity", "Fixed"), 65532), (("--pod-identity", "Platform"), None)],
)
def test_the_users_of_rendered_pods_are_the_operator_s_to_say(
    tmp_path: Path, options: tuple[str, ...], user: int | None
):
    deployment = rendered(tmp_path, GOOD, *options)[0]
    context = deployment["spec"]["template"]["spec"]["securityContext"]
    assert context.get("runAsUser") == user
    assert context.get("fsGroup") == user


def test_a_server_that_says_its_identity_is_rendered_so_whatever_the_operator_says(tmp_path: Path):
    own = server("own", LLAMA, gpu={"product": "H100"}, pod={"identity": "Fixed"})
    deployment = rendered(tmp_path, own, "--pod-identity", "Platform")[0]
    assert deployment["spec"]["template"]["spec"]["securityContext"]["runAsUser"] == 65532


def test_everything_that_would_be_applied_is_rendered(tmp_path: Path):
    routing = {"inferencePool": {"endpointPickerRef": {"name": "picker"}}}
    asked = server("asked", LLAMA, gpu={"product": "H100"}, replicas=2, routing=routing)
    kinds = [one["kind"] for one in rendered(tmp_path, asked)]
    assert kinds == ["Deployment", "Service", "PodDisruptionBudget", "InferencePool"]


PROXY = {"name": "HTTPS_PROXY", "value": "http://proxy:3128"}
PLATFORM = {
    "model": {"storage": {"persistentVolumeClaim": {"claimName": "models"}}},
    "engine": {"env": [PROXY]},
    "pod": {"tolerations": []},
}


def values(tmp_path: Path, content: Any) -> tuple[str, str]:
    """The option with a file of that content."""
    path = tmp_path / "values.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return "--defaults", str(path)


@pytest.mark.parametrize(
    "content",
    [PLATFORM, {"defaults": PLATFORM}, {"defaults": PLATFORM, "replicas": 2, "openshift": True}],
    ids=["the defaults alone", "as in the chart's values", "among the chart's values"],
)
def test_a_server_is_planned_with_the_platform_s_defaults(plan, tmp_path: Path, content: Any):
    options = ("-o", "json", *values(tmp_path, content))
    (entry,) = json.loads(plan(GOOD, options=options).stdout)
    assert entry["defaults"] == [
        {
            "field": "spec.model.storage",
            "value": '{"persistentVolumeClaim":{"claimName":"models"}}',
        },
        {"field": "spec.engine.env[HTTPS_PROXY]", "value": "http://proxy:3128"},
    ]
    assert entry["storage"]["source"] == "models"


def test_a_table_shows_what_the_platform_gave_and_nothing_where_it_gave_nothing(
    plan, tmp_path: Path
):
    shown = plan(GOOD, options=values(tmp_path, PLATFORM)).stdout
    assert "By the platform's defaults" in shown
    assert "spec.engine.env[HTTPS_PROXY]" in shown
    assert "By the platform's defaults" not in plan(GOOD, options=()).stdout


def test_objects_are_rendered_with_the_platform_s_defaults(tmp_path: Path):
    deployment = rendered(tmp_path, GOOD, *values(tmp_path, PLATFORM))[0]
    (engine,) = deployment["spec"]["template"]["spec"]["containers"]
    assert PROXY in engine["env"]


@pytest.mark.parametrize("content", [None, {}, {"defaults": None}, {"defaults": {"pod": {}}}])
def test_a_file_without_defaults_gives_none(plan, tmp_path: Path, content: Any):
    (entry,) = json.loads(plan(GOOD, options=("-o", "json", *values(tmp_path, content))).stdout)
    assert "defaults" not in entry


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"pod": {"tolerationz": [1]}}, "defaults.pod.tolerationz: unknown field"),
        ({"image": {"tag": "1"}}, "defaults.image: unknown field"),
        (
            {"defaults": {"engine": {"env": [{"name": "HF_HOME", "value": "/x"}]}}},
            "defaults.engine.env[HF_HOME]: may not be set here",
        ),
        ({"defaults": {"engine": {"env": "no"}, "pod": 1}}, "(1 more problem)"),
        ({"defaults": [1]}, "defaults: is no object"),
        ([1], "needs one object"),
    ],
)
def test_defaults_that_are_wrong_are_refused_by_file_and_field(
    plan, tmp_path: Path, content: Any, said: str
):
    option, path = values(tmp_path, content)
    result = plan(GOOD, options=(option, path))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"Error: {path}: ")
    assert said in result.stderr


@pytest.mark.parametrize(
    "values",
    [
        {"currency": "EUR", "perGPUHour": {"H100": 3}},
        {"workers": 3, "prices": {"currency": "EUR", "perGPUHour": {"H100": 3}}},
    ],
    ids=["alone", "among the chart's values"],
)
def test_prices_of_a_file_give_what_a_replica_costs(plan, tmp_path, values):
    path = tmp_path / "prices.yaml"
    path.write_text(yaml.safe_dump(values))
    (entry,) = json.loads(plan(GOOD, options=("-o", "json", "--prices", str(path))).stdout)
    assert (entry["cost"]["currency"], entry["cost"]["hour"]) == ("EUR", 3.0)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("perGPUHour: {H100: -1}", "prices.perGPUHour[H100]: is -1"),
        ("perHour: {H100: 1}", "prices.perHour: is no field; there are currency and perGPUHour"),
        ("- 1", "is no file of prices"),
    ],
)
def test_a_file_that_holds_no_prices_is_told_in_one_line(plan, tmp_path, text, told):
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    result = plan(GOOD, options=("--prices", str(path)))
    assert result.exit_code == 2
    assert told in result.stderr
    assert result.stderr.count("\n") == 1
