"""The table of a plan shows what drafts and adapters take of a GPU."""

import io

from rich.console import Console

from unit.sizing.examples import LLAMA_8B, QWEN_0_6B, plan_of
from vllm_operator.api.plan import Plan
from vllm_operator.cli.table import show_plans


def shown(plan: Plan) -> str:
    written = io.StringIO()
    show_plans(Console(file=written, width=120), [plan])
    return written.getvalue()


def test_adapters_have_a_row_of_their_own():
    plan = plan_of(LLAMA_8B, engine={"lora": {"maxLoras": 4, "maxRank": 64}})
    assert plan.memory.adapters is not None
    (row,) = [line for line in shown(plan).splitlines() if "LoRA adapters" in line]
    assert f"{plan.memory.adapters / 2**30:.2f} GiB" in row


def test_a_draft_has_a_row_of_its_own():
    speculative = {"method": "draft_model", "model": QWEN_0_6B}
    text = shown(plan_of("Qwen/Qwen3-32B", engine={"speculative": speculative}))
    assert "draft, to speculate" in text


def test_a_plain_plan_has_neither():
    text = shown(plan_of(LLAMA_8B))
    assert "LoRA" not in text
    assert "draft" not in text
