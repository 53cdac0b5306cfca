"""``VLLMServer``, version ``v1alpha1``: the specification as a user writes it.

Types, bounds and descriptions stand here once: ``api.crd`` generates the
CustomResourceDefinition from them, and ``kubectl explain`` shows the descriptions.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from . import rules
from .autotune import Autotune
from .base import ResourceModel, validations
from .features import LoRA, Speculative
from .fields import FREE_FORM, field, required
from .patterns import (
    ENGINE_VERSION,
    EXTENDED_RESOURCE,
    IMAGE,
    MODEL_ID,
    MODEL_NAME,
    PARSER,
    PRODUCT,
    QUANTIZATION,
    REVISION,
)
from .pod import EnvironmentVariable, KeyReference, PodSpec
from .routing import Routing
from .storage import Storage
from .workload import Workload

DEFAULT_DRAIN_SECONDS = 60

ServedName = Annotated[str, Field(min_length=1, max_length=200, pattern=MODEL_NAME)]
Argument = Annotated[str, Field(max_length=4096)]


class Model(ResourceModel):
    """What is served, and where its facts and weights come from."""

    id: str = required(
        "Hugging Face repository of the model, organisation/name; or the name to serve it under "
        "where the weights lie on a volume; or where they are: s3://bucket/folder, gs:// or az:// "
        "alike, which the engine streams from there, or a folder of the engine's container.",
        min_length=1,
        max_length=200,
        pattern=MODEL_ID,
    )
    revision: str | None = field(
        "Branch, tag or commit of the repository; a commit makes starts reproducible.",
        min_length=1,
        max_length=128,
        pattern=REVISION,
    )
    served_name: str | None = field(
        "Name that clients ask for; the id by default.",
        min_length=1,
        max_length=200,
        pattern=MODEL_NAME,
    )
    additional_served_names: list[ServedName] | None = field(
        "Further names that clients may ask for. Metrics and answers have the first name.",
        max_length=16,
        schema={"x-kubernetes-list-type": "atomic"},
    )
    token_secret_ref: KeyReference | None = field(
        "Secret key with a Hugging Face token, for the engine's pods. The operator cannot read it: "
        "for a gated model that is not catalogued, give spec.model.config as well."
    )
    trust_remote_code: bool | None = field(
        "Let the engine run Python code that comes with the checkpoint. Never set by the operator."
    )
    config: dict[str, Any] | None = field(
        "Facts of the model's config.json, inline; takes precedence over every other source.",
        schema={**FREE_FORM, "maxProperties": 256},
    )
    config_map_ref: KeyReference | None = field("ConfigMap key that holds the model's config.json.")
    weight_bytes: int | None = field(
        "Size of the checkpoint's tensors in bytes, where it is known; "
        "else it comes from the catalogue or the Hub, or is computed from the config.",
        ge=1_000_000,
        le=16_000_000_000_000,
    )
    storage: Storage | None = field(
        "Where the weights live or are cached.", schema=validations(rules.ONE_STORAGE)
    )

    @property
    def scheme(self) -> str | None:
        """Scheme of the address in an object store: ``s3``, ``gs`` or ``az``."""
        scheme, is_address, _ = self.id.partition("://")
        return scheme if is_address else None

    @property
    def is_folder(self) -> bool:
        """Whether the id is a folder of the engine's container."""
        return self.id.startswith("/")

    @property
    def is_repository(self) -> bool:
        """Whether the id is a name, which the Hub knows where no volume has the weights."""
        return self.scheme is None and not self.is_folder

    @property
    def served_names(self) -> tuple[str, ...]:
        """Every name that clients may ask for, the model's own first."""
        return (self.served_name or self.id, *(self.additional_served_names or ()))


class Engine(ResourceModel):
    """The vLLM to run and the pinned flags. A pinned flag is used as it is, never tuned."""

    image: str | None = field(
        "Container image. The operator's own default is a pinned vllm/vllm-openai release.",
        min_length=1,
        max_length=500,
        pattern=IMAGE,
    )
    version: str | None = field(
        "Version of vLLM inside the image; needed where the tag does not say it "
        "(latest, a digest alone, private tags).",
        max_length=64,
        pattern=ENGINE_VERSION,
    )
    max_model_len: int | None = field(
        "Longest request in tokens, prompt and output together (--max-model-len). "
        "By default the model's own limit, or the longest that fits.",
        ge=16,
        le=16_777_216,
    )
    max_num_seqs: int | None = field(
        "Largest number of requests that run at once (--max-num-seqs).", ge=1, le=16_384
    )
    max_num_active_seqs: int | None = field(
        "Largest number of requests that are admitted at once (--max-num-active-seqs, vLLM 0.31 "
        "and newer), where that is to be fewer than memory and CUDA graphs are laid out for.",
        ge=1,
        le=16_384,
    )
    max_num_batched_tokens: int | None = field(
        "Largest number of tokens in one step (--max-num-batched-tokens).", ge=16, le=1_048_576
    )
    gpu_memory_utilization: float | None = field(
        "Fraction of each GPU's memory that the engine may take (--gpu-memory-utilization).",
        ge=0.05,
        le=0.99,
        schema=validations(rules.UTILIZATION_IS_A_FRACTION),
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] | None = field(
        "Data type of weights that are not quantised, and of activations (--dtype)."
    )
    quantization: str | None = field(
        "Quantisation of a 16-bit checkpoint while it is loaded (--quantization), for example "
        "fp8_per_tensor; leave it out for a checkpoint that is quantised already.",
        max_length=64,
        pattern=QUANTIZATION,
    )
    kv_cache_dtype: str | None = field(
        "Data type of the KV cache (--kv-cache-dtype): auto, fp8, fp8_e4m3 or fp8_e5m2.",
        max_length=32,
        pattern=r"^(auto|fp8|fp8_e4m3|fp8_e5m2)$",
        schema={"enum": ["auto", "fp8", "fp8_e4m3", "fp8_e5m2"]},  # named in a refusal
    )
    block_size: int | None = field(
        "Tokens in a KV-cache block (--block-size); best left to vLLM.", ge=1, le=4096
    )
    enforce_eager: bool | None = field(
        "Run without torch.compile and CUDA graphs (--enforce-eager): starts sooner, serves slower."
    )
    prefix_caching: bool | None = field(
        "Reuse the KV cache of equal prompt prefixes (--enable-prefix-caching)."
    )
    chunked_prefill: bool | None = field(
        "Split long prompts over several steps (--enable-chunked-prefill)."
    )
    speculative: Speculative | None = field(
        "Speculative decoding (--speculative-config).", schema=validations(rules.DRAFT_IS_NAMED)
    )
    lora: LoRA | None = field("LoRA adapters (--enable-lora).")
    tool_call_parser: str | None = field(
        "Parser of tool calls (--tool-call-parser, with --enable-auto-tool-choice): hermes, "
        "llama3_json, qwen3_coder and others, by version. Never set unasked.",
        max_length=64,
        pattern=PARSER,
    )
    reasoning_parser: str | None = field(
        "Parser of reasoning content (--reasoning-parser): deepseek_r1, qwen3, openai_gptoss and "
        "others, by version. Never set unasked.",
        max_length=64,
        pattern=PARSER,
    )
    api_key_secret_ref: KeyReference | None = field(
        "Secret key with the API key that clients must send. It reaches the engine as an "
        "environment variable and never stands on the command line."
    )
    extra_args: list[Argument] | None = field(
        "Further arguments of vllm serve, one entry for each word of the command line: "
        '"--seed=1", or "--seed" and "1". Flags that repeat a field, that the operator sets '
        "itself, or that would change memory or ports behind its back, are refused.",
        max_length=64,
        schema={"x-kubernetes-list-type": "atomic"},
    )
    env: list[EnvironmentVariable] | None = field(
        "Environment variables of the engine's container. Names that the operator sets, and those "
        "that would change memory or ports behind its back, are refused.",
        max_length=64,
        schema={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )


class GPU(ResourceModel):
    """Which GPU to run on. By default the operator chooses among those that the nodes offer."""

    product: str | None = field(
        "The node label's value (NVIDIA-H100-80GB-HBM3) or a catalogue alias (H100, RTX 4090).",
        min_length=1,
        max_length=63,
        pattern=PRODUCT,
    )
    memory_gib: float | None = field(
        "Memory of one GPU in GiB as the device reports it, for products that the catalogue does "
        "not know.",
        alias="memoryGiB",
        ge=1,
        le=2048,
    )
    per_node: int | None = field(
        "GPUs in one node, for planning without nodes to look at.", ge=1, le=64
    )
    resource_name: str | None = field(
        "Extended resource that the pods ask for; nvidia.com/gpu by default, amd.com/gpu for AMD.",
        max_length=317,
        pattern=EXTENDED_RESOURCE,
    )


class Parallelism(ResourceModel):
    """Pins of how the model is split. What is left out, the operator computes."""

    tensor: int | None = field("Tensor-parallel size (--tensor-parallel-size).", ge=1, le=64)
    pipeline: int | None = field(
        "Pipeline-parallel size (--pipeline-parallel-size): stages of consecutive layers.",
        ge=1,
        le=64,
    )
    data: int | None = field(
        "Data-parallel size inside one server (--data-parallel-size): so many engines behind one "
        "address, each with a KV cache of its own, which share routed experts. 1 by default; for "
        "models without experts, spec.replicas does the same and scales.",
        ge=1,
        le=64,
    )
    expert: bool | None = field(
        "Expert parallelism (--enable-expert-parallel): whole experts on each GPU instead of a "
        "part of each. By default only where nothing else makes a tensor-parallel size legal."
    )


class Rollout(ResourceModel):
    """How changes reach the pods."""

    strategy: Literal["Auto", "Surge", "InPlace"] | None = field(
        "Auto (default): start the new pod beside the old one, and if no GPU is free for it, "
        "replace in place. Surge: always beside. InPlace: always replace."
    )
    surge_timeout_seconds: int | None = field(
        "How many seconds something may keep a surge pod from starting before Auto replaces in "
        "place; 120 by default.",
        ge=0,
        le=86_400,
    )
    startup_budget_seconds: int | None = field(
        "How many seconds a pod may take to start before it is restarted; "
        "by default it follows from the weights' size.",
        ge=30,
        le=86_400,
    )
    liveness_budget_seconds: int | None = field(
        "How many seconds a pod that has started may leave its port unanswered, or have requests "
        "running of which none moves, before it is restarted; 360 by default.",
        ge=10,
        le=86_400,
    )
    drain_seconds: int | None = field(
        "How many seconds a stopping pod may go on with the requests that it runs; "
        f"{DEFAULT_DRAIN_SECONDS} by default.",
        ge=0,
        le=3600,
    )


class VLLMServerSpec(ResourceModel):
    """The desired model server. Only spec.model.id is required."""

    model: Model = required(
        "What is served, and where its facts and weights come from.",
        schema=validations(
            rules.ONE_SOURCE_OF_FACTS,
            rules.NO_REVISION_OF_A_VOLUME,
            rules.NO_REVISION_OF_AN_ADDRESS,
            rules.ONE_PLACE_OF_WEIGHTS,
        ),
    )
    engine: Engine | None = field(
        "The vLLM to run and its pinned flags.",
        schema=validations(
            rules.KNOWN_ENGINE_VERSION,
            rules.ACTIVE_AMONG_SEQUENCES,
            rules.BATCH_HOLDS_SEQUENCES,
            rules.BATCH_HOLDS_PROMPT,
        ),
    )
    gpu: GPU | None = field("Which GPU to run on.")
    parallelism: Parallelism | None = field("How the model is split over GPUs.")
    workload: Workload | None = field("The expected traffic of one replica.")
    replicas: int = field(
        "Copies of the server. 0 stops it. Autoscalers set it through the scale subresource.",
        default=1,
        ge=0,
        le=1000,
    )
    rollout: Rollout | None = field("How changes reach the pods.")
    pod: PodSpec | None = field("Scheduling, labels and resources of the pods.")
    routing: Routing | None = field("How a gateway finds the pods.")
    autotune: Autotune | None = field("Tuning by the server's own metrics.")
    paused: bool | None = field(
        "Stop acting on this server: nothing is rolled, scaled or repaired until it is false again."
    )


class ObjectMeta(ResourceModel):
    """The part of the metadata that the operator reads."""

    name: str
    namespace: str = "default"
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    annotations: dict[str, str] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)
    deletion_timestamp: str | None = None


class VLLMServer(ResourceModel):
    """A model server, as it is read from the API server or a file."""

    api_version: str
    kind: str
    metadata: ObjectMeta
    spec: VLLMServerSpec
