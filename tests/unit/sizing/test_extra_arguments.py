"""``spec.engine.extraArgs``: what may be added, what is refused, and what the plan counts."""

import pytest

from unit.sizing.examples import (
    DEFAULT_VERSION,
    EAGLE3,
    H100,
    LLAMA_8B,
    has,
    inputs_for,
    only_problem,
    plan_of,
    reason_of,
    server,
    value_of,
)
from vllm_operator.models import catalogue
from vllm_operator.models.facts import facts_from_inline
from vllm_operator.sizing.plan.planner import make_plan

GIBIBYTE = 1024**3
PICTURES = "Qwen/Qwen2-VL-7B-Instruct"


def refused(*words: str, **engine: object) -> tuple[str, str]:
    plan = plan_of(LLAMA_8B, engine={"extraArgs": list(words), **engine})
    field, reason, message = only_problem(plan)
    assert reason == "IllegalPin"
    return field, message


def test_they_come_after_our_own_with_their_place_as_reason():
    plan = plan_of(LLAMA_8B, engine={"extraArgs": ["--seed", "1", "--scheduling_policy=priority"]})
    assert plan.engine.command[-4:] == ["--seed", "1", "--scheduling-policy", "priority"]
    assert reason_of(plan, "--seed") == "spec.engine.extraArgs[0]"
    assert reason_of(plan, "--scheduling-policy") == "spec.engine.extraArgs[2]"


def test_a_value_that_begins_with_a_dash_stays_a_value():
    plan = plan_of(LLAMA_8B, engine={"extraArgs": ["--seed=-1"]})
    assert plan.engine.command[-1] == "--seed=-1"


def test_several_values_of_one_flag_are_one_argument():
    words = ["--allowed-media-domains", "a.example", "b.example"]
    plan = plan_of(LLAMA_8B, engine={"extraArgs": words})
    assert plan.engine.command[-3:] == words


def test_a_flag_that_adds_up_may_be_repeated():
    plan = plan_of(LLAMA_8B, engine={"extraArgs": ["--middleware", "a", "--middleware=b"]})
    assert plan.engine.command[-4:] == ["--middleware", "a", "--middleware", "b"]


@pytest.mark.parametrize(
    ("word", "field"),
    [
        ("--max-model-len=4096", "spec.engine.maxModelLen"),
        ("--max_num_seqs=4", "spec.engine.maxNumSeqs"),
        ("--max-num-b=4", "spec.engine.maxNumBatchedTokens"),
        ("-tp=2", "spec.parallelism.tensor"),
        ("-q=fp8", "spec.engine.quantization"),
        ("--no-enable-prefix-caching", "spec.engine.prefixCaching"),
        ("--trust-remote-code", "spec.model.trustRemoteCode"),
        ("--served-model-name=x", "spec.model.servedName"),
        ("--hf-token=secret", "spec.model.tokenSecretRef"),
        ("--api-key=secret", "spec.engine.apiKeySecretRef"),
        ("--enable-lora", "spec.engine.lora"),
        ('--speculative-config={"method":"ngram"}', "spec.engine.speculative"),
        ("--tool-call-parser=hermes", "spec.engine.toolCallParser"),
        ("--shutdown-timeout=9", "spec.rollout.drainSeconds"),
        ("--kv-cache-memory-bytes=1G", "spec.engine.gpuMemoryUtilization"),
        ("--performance-mode=throughput", "spec.workload.profile"),
    ],
)
def test_a_flag_that_a_field_gives_is_refused_with_the_field(word: str, field: str):
    where, message = refused(word)
    assert where == "spec.engine.extraArgs[0]"
    assert f"use {field}" in message
    assert "secret" not in message


@pytest.mark.parametrize(
    "word",
    [
        "--host=0.0.0.0",
        "--port=1",
        "--uds=/x",
        "--ssl-keyfile=/x",
        "--headless",
        "--disable-log-stats",
        "--config=x.yaml",
        "--help",
        "--distributed-executor-backend=ray",
    ],
)
def test_what_the_operator_sets_itself_is_refused(word: str):
    _, message = refused(word)
    assert "may not be set here" in message


@pytest.mark.parametrize(
    "word",
    [
        "--cpu-offload-gb=4",
        "--skip-mm-profiling",
        '--mm-processor-kwargs={"max_pixels":1}',
        '--attention-config={"backend":"FLASHINFER"}',
        "--num-gpu-blocks-override=9",
        '--hf-overrides={"num_hidden_layers":1}',
        "--enable-eplb",
    ],
)
def test_what_changes_memory_behind_the_plans_back_is_refused(word: str):
    _, message = refused(word)
    assert "may not be set here; " in message


def test_a_dead_flag_is_refused_with_what_took_its_place():
    assert refused("--disable-cuda-graph") == (
        "spec.engine.extraArgs[0]",
        f"vLLM {DEFAULT_VERSION} does not have --disable-cuda-graph; use spec.engine.enforceEager",
    )


def test_a_flag_that_comes_later_is_refused_with_its_version():
    _, message = refused("--max-num-queued-reqs=9", version="0.20.0")
    assert "which came with 0.29.0" in message


def test_a_flag_that_falls_back_to_the_engine_before_v1_is_refused():
    _, message = refused("--scheduling-policy=priority", version="0.9.1")
    assert "fall back to the engine before V1; remove it, or take 0.9.2 or newer" in message


def test_every_wrong_word_is_told():
    plan = plan_of(LLAMA_8B, engine={"extraArgs": ["--port=1", "--seed=x", "--nothing"]})
    assert [problem.field for problem in plan.problems] == [
        "spec.engine.extraArgs[0]",
        "spec.engine.extraArgs[1]",
        "spec.engine.extraArgs[2]",
    ]


def test_a_whole_value_and_a_key_of_it_are_given_twice():
    where, message = refused('--compilation-config={"mode": 3}', "--compilation-config.mode=3")
    assert where == "spec.engine.extraArgs[1]"
    assert "--compilation-config is given more than once" in message


def test_a_flag_that_is_given_twice_is_refused():
    where, message = refused("--seed=1", "--no-async-scheduling", "--seed=2")
    assert where == "spec.engine.extraArgs[2]"
    assert "given more than once" in message


@pytest.mark.parametrize(
    "words",
    [
        ["-cc.cudagraph_mode=NONE"],
        ["--compilation-config", '{"cudagraph_mode":"none"}'],
        ["-O0"],
    ],
)
def test_without_cuda_graphs_the_plan_counts_none(words: list[str]):
    plan = plan_of(LLAMA_8B, engine={"extraArgs": words})
    assert plan.memory.cuda_graphs == 0


def test_fewer_and_smaller_graphs_leave_the_plan_as_cautious_as_it_is():
    plan = plan_of(LLAMA_8B, engine={"extraArgs": ["--cudagraph-capture-sizes", "1", "256"]})
    assert plan.memory == plan_of(LLAMA_8B).memory


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--cudagraph-capture-sizes", "1", "1024"], "graphs of 1024 requests"),
        (["--max-cudagraph-capture-size=1024"], "graphs of 1024 requests"),
        (["--cudagraph-capture-sizes", *map(str, range(1, 60))], "asks for 59 graphs"),
        (["-cc.cudagraph_capture_sizes=[1,1024]"], "graphs of 1024 requests"),
        (["-cc.cudagraph_mode=SOME"], "cudagraph_mode must be one of NONE"),
        (["-cc.level=3"], f"has no key level in vLLM {DEFAULT_VERSION}; use mode"),
        (["-cc.pass_config.enable_sp=true"], "pass_config may not be set here"),
        (["-cc", "7"], "7 is none of 0, 1, 2, 3"),
        (["-cc", '{"mode":"3"}'], "mode must be one of 0, 1, 2, 3, and is '3'"),
    ],
)
def test_a_compilation_that_takes_more_than_is_counted_is_refused(words: list[str], text: str):
    _, message = refused(*words)
    assert text in message


def test_dotted_keys_are_passed_on_as_one_json_value():
    words = ["-cc.mode", "3", "-cc.cudagraph_mode=PIECEWISE"]
    plan = plan_of(LLAMA_8B, engine={"extraArgs": words})
    assert value_of(plan, "--compilation-config") == '{"mode":3,"cudagraph_mode":"PIECEWISE"}'
    assert reason_of(plan, "--compilation-config") == (
        "spec.engine.extraArgs[0], spec.engine.extraArgs[2]"
    )


def test_a_level_of_an_older_version_is_passed_on_as_its_key():
    plan = plan_of(LLAMA_8B, engine={"extraArgs": ["-O3"], "version": "0.9.2"})
    assert value_of(plan, "--compilation-config") == '{"level":3}'


@pytest.mark.parametrize(
    ("version", "key"),
    [("0.8.5", "level"), ("0.11.0", "level"), ("0.11.1", "mode"), ("0.18.0", "mode")],
)
@pytest.mark.parametrize("text", ["3", " 3"])
def test_a_number_alone_is_passed_on_under_the_versions_key(version: str, key: str, text: str):
    words = ["--compilation-config", text]
    plan = plan_of(LLAMA_8B, engine={"extraArgs": words, "version": version})
    assert value_of(plan, "--compilation-config") == f'{{"{key}":3}}'


def test_switches_of_a_version_that_reads_python_are_passed_on_as_numbers():
    words = ["--compilation-config", '{"use_cudagraph":false}']
    plan = plan_of(LLAMA_8B, engine={"extraArgs": words, "version": "0.8.5"})
    assert value_of(plan, "--compilation-config") == '{"use_cudagraph":0}'
    assert plan.memory.cuda_graphs == 0


def test_a_level_that_no_version_has_is_refused_by_the_first_ones_too():
    _, message = refused("--compilation-config", "7", version="0.8.5")
    assert "7 is none of 0, 1, 2, 3" in message


def test_logged_answers_need_logged_requests():
    _, message = refused("--enable-log-outputs", "--no-enable-log-requests")
    assert "--enable-log-outputs needs --enable-log-requests beside it; add it" in message


@pytest.mark.parametrize(
    ("words", "needed"),
    [
        (["--collect-detailed-traces", "all"], "--otlp-traces-endpoint"),
        (["--mm-shm-cache-max-object-size-mb", "64"], "--mm-processor-cache-type shm"),
        (
            ["--mm-shm-cache-max-object-size-mb", "64", "--mm-processor-cache-type", "lru"],
            "--mm-processor-cache-type shm",
        ),
    ],
)
def test_what_the_configuration_wants_beside_a_flag_is_named(words: list[str], needed: str):
    _, message = refused(*words)
    assert f"needs {needed} beside it; add it" in message


def test_a_flag_with_what_it_needs_beside_it_is_passed_on():
    words = ["--mm-shm-cache-max-object-size-mb", "64", "--mm-processor-cache-type", "shm"]
    plan = plan_of(LLAMA_8B, engine={"extraArgs": words})
    assert plan.engine.command[-4:] == words


def test_a_profiler_without_a_folder_is_refused():
    _, message = refused("--profiler-config", '{"profiler":"torch"}')
    assert "is refused without torch_profiler_dir" in message


def test_answers_that_are_not_logged_need_nothing():
    plan = plan_of(LLAMA_8B, engine={"extraArgs": ["--no-enable-log-outputs"]})
    assert plan.engine.command[-1] == "--no-enable-log-outputs"


def test_a_dotted_short_form_is_passed_on_spelt_out():
    plan = plan_of(LLAMA_8B, engine={"extraArgs": ["-O.mode=3"]})
    assert plan.engine.command[-2:] == ["--compilation-config", '{"mode":3}']


@pytest.mark.parametrize("word", ["--api-key hunter2", "--hf-token hunter2"])
def test_a_secret_in_one_entry_with_its_flag_is_not_repeated(word: str):
    _, message = refused(word)
    assert "hunter2" not in message


@pytest.mark.parametrize(
    "words", [["--limit-mm-per-prompt", '{"image":0,"video":0}'], ["--language-model-only"]]
)
def test_a_server_without_pictures_profiles_none(words: list[str]):
    engine = {"maxModelLen": 8192, "version": "0.20.0"}
    seeing = plan_of(PICTURES, engine=engine)
    blind = plan_of(PICTURES, engine={**engine, "extraArgs": words})
    assert blind.memory.activation_peak < seeing.memory.activation_peak
    assert blind.memory.weights == seeing.memory.weights


def test_an_encoder_that_is_whole_on_each_rank_takes_more_weights_there():
    engine = {"maxModelLen": 8192, "version": "0.33.0"}
    split = {"parallelism": {"tensor": 2}, "engine": engine}
    divided = plan_of(PICTURES, **split)
    engine["extraArgs"] = ["--mm-encoder-tp-mode", "data"]
    whole = plan_of(PICTURES, **split)
    # Half of the tower's 675,759,104 elements but for norms and the patches' convolution.
    assert 0.6 < (whole.memory.weights - divided.memory.weights) / GIBIBYTE < 0.65
    assert whole.engine.command[-2:] == ["--mm-encoder-tp-mode", "data"]


def test_an_encoder_that_is_divided_as_ever_changes_nothing():
    engine = {"extraArgs": ["--mm-encoder-tp-mode", "weights"]}
    split = {"tensor": 2}
    plain = plan_of(PICTURES, parallelism=split)
    told = plan_of(PICTURES, parallelism=split, engine=engine)
    assert told.memory == plain.memory


@pytest.mark.parametrize(
    ("model", "version", "works"),
    [
        (PICTURES, "0.11.0", "use vLLM 0.12.0 or newer, or remove it"),
        ("gaunernst/gemma-3-12b-it-qat-autoawq", "0.33.0", "remove it"),
    ],
)
def test_a_whole_encoder_that_no_release_is_known_to_have_is_refused(
    model: str, version: str, works: str
):
    words = ["--mm-encoder-tp-mode", "data"]
    field, _, message = only_problem(
        plan_of(model, engine={"extraArgs": words, "version": version})
    )
    assert field == "spec.engine.extraArgs"
    assert f"is not known of vLLM {version} for " in message
    assert message.endswith(works)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("VLLM_ATTENTION_BACKEND", "which the plan counts"),
        ("VLLM_FUSED_MOE_CHUNK_SIZE", "changes the memory"),
        ("VLLM_DP_SIZE", "use spec.parallelism.data"),
        ("HF_HUB_OFFLINE", "a checkpoint on disk is served without the Hub anyway"),
    ],
)
def test_variables_are_checked_likewise(name: str, text: str):
    claim = {"persistentVolumeClaim": {"claimName": "models", "mode": "Model"}}
    plan = plan_of(
        {"id": LLAMA_8B, "storage": claim}, engine={"env": [{"name": name, "value": "0"}]}
    )
    field, reason, message = only_problem(plan)
    assert (field, reason) == (f"spec.engine.env[{name}]", "IllegalPin")
    assert text in message


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("0.9.2", ["--task", "embed"]),
        ("0.10.0", ["--task", "embed"]),
        ("0.10.2", ["--runner", "pooling"]),
        ("0.33.0", ["--runner", "pooling"]),
    ],
)
def test_what_is_offered_for_the_runner_makes_the_engine_pool(version: str, said: list[str]):
    _, message = refused(said[0], said[1], version=version)
    assert "its whole config.json in spec.model.config with the key runner: pooling" in message
    config = {**catalogue.find(LLAMA_8B).config, "runner": "pooling"}
    planned = server({"id": LLAMA_8B, "config": config}, engine={"version": version}, gpu=H100)
    plan = make_plan(planned, inputs_for(planned, model=facts_from_inline(planned.spec.model)))
    command = plan.engine.command
    assert command[command.index(said[0]) + 1] == said[1]


def test_a_model_whose_facts_say_nothing_of_a_runner_gets_none():
    assert not has(plan_of(LLAMA_8B), "--runner")


SPECULATING = {"method": "eagle3", "model": "a/b", "config": EAGLE3}


@pytest.mark.parametrize(
    ("method", "version"),
    [("ngram", "0.12.0"), ("ngram", "0.14.0"), ("ngram", "0.32.0"), ("suffix", "0.33.0")],
)
def test_async_scheduling_is_refused_with_drafts_that_vllm_refuses_it_with(
    method: str, version: str
):
    image = {"image": f"example/vllm:v{version}"}
    field, message = refused("--async-scheduling", speculative={"method": method}, **image)
    assert field == "spec.engine.extraArgs"
    assert f"does not work with spec.engine.speculative {method}" in message
    assert ("use vLLM 0.33.0 or newer" in message) == (method == "ngram")


@pytest.mark.parametrize(
    ("speculative", "version"),
    [
        (SPECULATING, "0.11.2"),
        (SPECULATING, "0.14.0"),
        ({"method": "ngram"}, "0.33.0"),
    ],
)
def test_async_scheduling_goes_with_drafts_that_vllm_takes_it_with(speculative, version: str):
    engine = {"version": version, "speculative": speculative}
    assert plan_of(LLAMA_8B, engine={**engine, "extraArgs": ["--async-scheduling"]}).feasible


def test_async_scheduling_that_is_switched_off_goes_with_every_draft():
    engine = {"version": "0.12.0", "speculative": {"method": "ngram"}}
    assert plan_of(LLAMA_8B, engine={**engine, "extraArgs": ["--no-async-scheduling"]}).feasible


@pytest.mark.parametrize(("version", "taken"), [("0.14.0", False), ("0.16.0", True)])
def test_async_scheduling_goes_with_pipeline_stages_from_0_15_on(version: str, taken: bool):
    engine = {"version": version, "extraArgs": ["--async-scheduling"]}
    plan = plan_of(LLAMA_8B, engine=engine, parallelism={"pipeline": 2})
    assert plan.feasible == taken
    if not taken:
        assert "does not work with spec.parallelism.pipeline 2" in only_problem(plan)[2]


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        (
            ["--max-cudagraph-capture-size", "512", "--cudagraph-capture-sizes", "1", "2", "4"],
            ("512", "is 4"),
        ),
        (
            ["-cc.max_cudagraph_capture_size=64", "-cc.cudagraph_capture_sizes=[1,2]"],
            ("64", "is 2"),
        ),
        (
            [
                '--compilation-config={"cudagraph_capture_sizes":[1,2]}',
                "--max-cudagraph-capture-size=1",
            ],
            ("1", "is 2"),
        ),
    ],
)
def test_a_largest_graph_that_is_not_the_largest_of_the_sizes_is_refused(words, numbers):
    _, message = refused(*words)
    given, largest = numbers
    assert f"max_cudagraph_capture_size is {given}," in message.replace("-", "_")
    assert f"{largest}; set it to {largest.removeprefix('is ')}, or remove it" in message


@pytest.mark.parametrize(
    "words",
    [
        [
            '--compilation-config={"max_cudagraph_capture_size":64}',
            "--max-cudagraph-capture-size=64",
        ],
        ["-cc.cudagraph_capture_sizes=[1,2]", "--cudagraph-capture-sizes", "1", "2"],
    ],
)
def test_graph_sizes_that_are_set_twice_are_refused(words: list[str]):
    _, message = refused(*words)
    assert message.endswith("keep one of them")


def test_the_tokens_of_a_step_bound_the_largest_graph():
    words = ["--max-cudagraph-capture-size=512", "--cudagraph-capture-sizes", "1", "256", "512"]
    _, message = refused(*words, maxNumBatchedTokens=300, maxNumSeqs=64)
    assert "up to spec.engine.maxNumBatchedTokens 300 is 256; set it to 256" in message


@pytest.mark.parametrize(
    ("words", "engine"),
    [
        (["--max-cudagraph-capture-size=4", "--cudagraph-capture-sizes", "4", "1", "2"], {}),
        (
            ["--max-cudagraph-capture-size=8", "--cudagraph-capture-sizes", "1"],
            {"enforceEager": True},
        ),
        (
            ["-cc.max_cudagraph_capture_size=8", "-cc.cudagraph_capture_sizes=[1]", "-O0"],
            {},
        ),
        (
            ["--cuda-graph-sizes", "1", "2", '-O={"cudagraph_capture_sizes":[1]}'],
            {"version": "0.11.0"},
        ),
    ],
)
def test_graph_sizes_that_vllm_does_not_compare_are_taken(words: list[str], engine):
    assert plan_of(LLAMA_8B, engine={"extraArgs": words, **engine}).feasible


@pytest.mark.parametrize(
    "word", ["--max-cudagraph-capture-size=0", "-cc.cudagraph_capture_sizes=[]"]
)
def test_graphs_of_no_size_are_asked_for_by_the_field_that_means_it(word: str):
    _, message = refused(word)
    assert "asks for no graph" in message
    assert "spec.engine.enforceEager: true" in message


def test_a_replaced_setting_of_graphs_is_refused_beside_the_new_one():
    word = '--compilation-config={"full_cuda_graph":true,"cudagraph_mode":"FULL"}'
    _, message = refused(word, version="0.11.0")
    assert message.endswith("keep cudagraph_mode")


@pytest.mark.parametrize(
    ("version", "flag", "faster"),
    [("0.11.0", "--async-scheduling", True), ("0.30.0", "--no-async-scheduling", False)],
)
def test_the_speed_is_that_of_the_scheduling_that_is_asked_for(version, flag, faster):
    engine = {"image": f"vllm/vllm-openai:v{version}"}
    alone = {"concurrency": 1}
    plain, asked = (
        plan_of(LLAMA_8B, engine={**engine, "extraArgs": words}, workload=alone).performance
        for words in ([], [flag])
    )
    assert (asked.inter_token_latency < plain.inter_token_latency) is faster
    assert asked.inter_token_latency != plain.inter_token_latency


@pytest.mark.parametrize(
    ("key", "version", "hint"),
    [
        ("level", "0.30.0", "use mode"),
        ("mode", "0.11.0", "use level"),
        ("use_cudagraph", "0.11.1", "use cudagraph_mode"),
        ("use_inductor", "0.12.0", "remove it"),
        ("full_cuda_graph", "0.11.1", "remove it"),
    ],
)
def test_a_key_that_the_version_does_not_have_names_the_one_that_took_its_place(
    key: str, version: str, hint: str
):
    _, message = refused("--compilation-config", f'{{"{key}": 3}}', version=version)
    assert f"has no key {key} in vLLM {version}; {hint}" in message


@pytest.mark.parametrize(
    ("words", "graphs"),
    [
        (["-O0"], False),
        (["-O3"], True),
        (["-cc.cudagraph_mode=none"], False),
        (["-cc.cudagraph_mode=NONE"], False),
        (["-cc.cudagraph_mode=FULL"], True),
    ],
)
def test_graphs_are_counted_unless_a_level_or_a_mode_in_any_spelling_has_none(
    words: list[str], graphs: bool
):
    plan = plan_of(LLAMA_8B, engine={"extraArgs": words})
    assert plan.feasible, plan.problems
    assert (plan.memory.cuda_graphs > 0) is graphs
