"""What a server may do beyond plain generation: speculative decoding and LoRA adapters."""

from __future__ import annotations

from typing import Any, Literal

from .base import ResourceModel
from .fields import FREE_FORM, field, required
from .patterns import MODEL_NAME, REPOSITORY_OR_FOLDER


class Speculative(ResourceModel):
    """Speculative decoding (--speculative-config): tokens are drafted and then verified at once."""

    method: Literal["ngram", "suffix", "draft_model", "eagle", "eagle3", "mtp"] = required(
        "How tokens are drafted. ngram: from the prompt, without a model. suffix: from earlier "
        "answers, needs arctic-inference in the image. draft_model: by a smaller model of the same "
        "vocabulary. eagle, eagle3: by a head that was trained for this model. mtp: by the model's "
        "own multi-token-prediction layers, or by Gemma 4's assistant that model names."
    )
    tokens: int | None = field(
        "Tokens that are drafted before they are verified; 3 by default.", ge=1, le=32
    )
    model: str | None = field(
        "Hugging Face repository of the draft (draft_model, eagle, eagle3; mtp with Gemma 4), "
        "or its folder in the container.",
        min_length=1,
        max_length=200,
        pattern=REPOSITORY_OR_FOLDER,
    )
    config: dict[str, Any] | None = field(
        "Facts of the draft's config.json, inline; needed where the catalogue does not know it.",
        schema={**FREE_FORM, "maxProperties": 256},
    )
    weight_bytes: int | None = field(
        "Size of the draft's tensors in bytes, where it is known; else computed from its config.",
        ge=1_000_000,
        le=16_000_000_000_000,
    )


class LoRAAdapter(ResourceModel):
    """An adapter that is loaded at the start and asked for by its name."""

    name: str = required(
        "Name that clients ask for as the model.",
        min_length=1,
        max_length=200,
        pattern=MODEL_NAME,
    )
    path: str = required(
        "Hugging Face repository of the adapter, or its folder in the container.",
        min_length=1,
        max_length=500,
        pattern=REPOSITORY_OR_FOLDER,
    )


class LoRA(ResourceModel):
    """LoRA adapters (--enable-lora): each GPU has room for maxLoras of them from the start."""

    max_loras: int | None = field(
        "Adapters that may be used in one step (--max-loras); 1 by default.", ge=1, le=256
    )
    max_rank: int | None = field(
        "Largest rank of an adapter (--max-lora-rank), 16 by default; vLLM takes 1 (from 0.11.1 "
        "on), 8, 16, 32, 64, 128, 256, 320 and 512.",
        ge=1,
        le=512,
    )
    adapters: list[LoRAAdapter] | None = field(
        "Adapters that are loaded at the start (--lora-modules).",
        max_length=64,
        schema={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
