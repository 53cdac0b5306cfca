"""Plans that quantise a 16-bit checkpoint while it is loaded (``spec.engine.quantization``)."""

from unit.sizing.examples import plan_of

QWEN_7B = "Qwen/Qwen2.5-7B-Instruct"
ONLINE = "fp8_per_tensor"


def flags_of(plan):
    return {flag.name: flag for flag in plan.flags}


def test_quantising_while_loading_halves_the_weights():
    whole, halved = (plan_of(engine=engine).memory for engine in ({}, {"quantization": ONLINE}))
    assert 0.5 < halved.weights / whole.weights < 0.65


def test_the_method_stands_on_the_command_line_as_a_pin():
    flag = flags_of(plan_of(engine={"quantization": ONLINE}))["--quantization"]
    assert (flag.value, flag.reason) == (ONLINE, "pinned in spec.engine.quantization")


def test_the_checkpoint_keeps_its_own_size():
    plans = [plan_of(engine=engine) for engine in ({}, {"quantization": ONLINE})]
    assert len({plan.model.weight_bytes for plan in plans}) == 1


def test_an_unknown_method_is_refused_by_the_field_with_the_methods_of_the_version():
    plan = plan_of(engine={"quantization": "squeeze"})
    assert not plan.feasible
    problem = plan.problems[0]
    assert problem.field == "spec.engine.quantization"
    assert "fp8" in problem.message


def test_a_checkpoint_that_is_quantised_otherwise_is_refused():
    plan = plan_of("openai/gpt-oss-20b", engine={"quantization": ONLINE})
    assert [problem.field for problem in plan.problems] == ["spec.engine.quantization"]


def test_a_version_that_loads_all_of_it_first_needs_room_for_all_of_it():
    plan = plan_of(
        "Qwen/Qwen2.5-Coder-14B-Instruct",
        engine={"quantization": "fp8", "version": "0.9.0"},
        gpu={"product": "NVIDIA-L4", "perNode": 1},
    )
    assert not plan.feasible
    assert "while it quantises" in " ".join(one.reason for one in plan.rejected)
