"""The commands ask the Hub as whoever runs them."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_operator.api.v1alpha1 import Model
from vllm_operator.cli import plan
from vllm_operator.models import hub
from vllm_operator.models.facts import ModelFacts


@pytest.mark.parametrize(("variable", "token"), [("hf_mine", "hf_mine"), ("", None), (None, None)])
def test_the_hub_is_asked_with_the_token_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, variable: str | None, token: str | None
) -> None:
    asked: list[tuple[Any, ...]] = []
    facts = ModelFacts({}, None, "hub")
    monkeypatch.setattr(hub, "fetch", lambda *given: asked.append(given) or facts)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    if variable is not None:
        monkeypatch.setenv("HF_TOKEN", variable)
    model = Model.model_validate({"id": "org/model", "revision": "main"})
    assert plan._from_hub(model) is facts
    assert asked == [("org/model", "main", token)]
