"""Facts of a model from the Hugging Face Hub: ``config.json`` and the size of the tensors.

Two more files change what vLLM makes of a ``config.json`` and are read where the repository has
them: ``hf_quant_config.json`` (its quantisation) and ``modules.json`` (its runner).

Honours ``HF_ENDPOINT`` and ``HF_HUB_OFFLINE`` as they stand when it is called. Nothing is written
to a cache: the operator's root file system may be read-only.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from huggingface_hub import HfApi, ModelInfo, constants, hf_hub_url
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # re-exported lazily
    build_hf_headers,
    get_session,
    hf_raise_for_status,
)

from vllm_operator.errors import (
    ModelAccessDenied,
    PlanningError,
    TemporaryFailure,
    UnknownModel,
)

from . import catalogue
from .facts import ModelFacts, facts_from_json, pools
from .quantization import with_hf_quant_config
from .reader import RUNNER

TIMEOUT_SECONDS: Final = 10.0
CONFIG: Final = "config.json"
QUANTIZATION: Final = "hf_quant_config.json"
"""Where ModelOpt up to 0.29 says how it quantised, beside a ``config.json`` that does not."""
MODULES: Final = "modules.json"
"""The modules of a sentence-transformers checkpoint."""
CONFIG_BYTES_LIMIT: Final = 1_000_000
"""Largest file that is read; the largest known ``config.json`` has 60 kB."""
FIELD: Final = "spec.model.id"
REVISION_FIELD: Final = "spec.model.revision"

TOKEN_OF_ONE_S_OWN: Final = (
    "a token of the operator's own (hub.tokenSecret in the chart's values) has a limit of its own"
)
UNREACHED: Final = (
    (
        "CERTIFICATE_VERIFY_FAILED",
        "the operator does not trust that certificate, as behind a proxy that inspects TLS: mount "
        "its authority (extraVolumes and extraVolumeMounts in the chart's values) and name the "
        "file in SSL_CERT_FILE (extraEnv)",
    ),
    (
        "407",
        "the proxy wants a user and a password: give them in HTTPS_PROXY (extraEnv in the chart's "
        "values)",
    ),
)
"""Words of what the client raises, and what helps. httpx 0.28, and OpenSSL by Python's ssl."""

BITS: Final[Mapping[str, int]] = {
    **dict.fromkeys(("F64", "I64", "U64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("BF16", "F16", "I16", "U16"), 16),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "I8", "U8", "BOOL"), 8),
    "F4": 4,
}
"""Bits of an element by safetensors' name of its type (safetensors ``tensor.rs``, Dtype)."""


def fetch(model_id: str, revision: str | None, token: str | None = None) -> ModelFacts:
    """The facts of a repository at a revision (``main`` by default).

    Raises ``UnknownModel`` (no such repository, revision or ``config.json``; offline mode),
    ``ModelAccessDenied`` (gated or private) and ``TemporaryFailure`` (network, 5xx, 429).
    """
    if _offline():
        raise UnknownModel(
            FIELD,
            f"{model_id} is not catalogued and HF_HUB_OFFLINE is set; give its config.json in "
            f"spec.model.config or spec.model.configMapRef{_nearest(model_id)}",
        )
    endpoint = os.environ.get("HF_ENDPOINT", constants.ENDPOINT).rstrip("/")
    read = partial(_text, endpoint, model_id, revision, token)
    try:
        config = dict(facts_from_json(read(CONFIG), "hub").config)
        info = _info(endpoint, model_id, revision, token)
        names = {sibling.rfilename for sibling in info.siblings or ()}
        if QUANTIZATION in names:
            config = with_hf_quant_config(config, facts_from_json(read(QUANTIZATION), "hub").config)
        if MODULES in names and pools(read(MODULES)):
            config[RUNNER] = "pooling"
    except (HfHubHTTPError, HFValidationError) as problem:
        raise _explained(problem, model_id, revision) from problem
    except PlanningError:
        raise
    except Exception as problem:
        # The client lets its HTTP library's errors through, and which library that is has changed
        # from release to release: whatever is no answer of the Hub is a failure to reach it.
        raise TemporaryFailure(_unreached(endpoint, str(problem)), FIELD) from problem
    return ModelFacts(config=config, weight_bytes=_tensor_bytes(info), source="hub")


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").strip().casefold() in {"1", "on", "yes", "true"}


def _text(endpoint: str, model_id: str, revision: str | None, token: str | None, name: str) -> str:
    url = hf_hub_url(model_id, name, revision=revision, endpoint=endpoint)
    # Uncompressed and read by the piece: what a repository holds must not fill our memory.
    headers = {**build_hf_headers(token=token or False), "Accept-Encoding": "identity"}
    content = bytearray()
    with get_session().stream(
        "GET", url, headers=headers, timeout=TIMEOUT_SECONDS, follow_redirects=True
    ) as response:
        for piece in response.iter_bytes(chunk_size=64 * 1024):
            content += piece
            if len(content) > CONFIG_BYTES_LIMIT:
                raise UnknownModel(
                    FIELD, f"{name} has more than {CONFIG_BYTES_LIMIT} bytes, too many"
                )
        read = type(response)(
            response.status_code,
            headers=[(k, v) for k, v in response.headers.items() if k != "content-encoding"],
            content=bytes(content),
            request=response.request,
        )
    hf_raise_for_status(read)
    return read.text


def _info(endpoint: str, model_id: str, revision: str | None, token: str | None) -> ModelInfo:
    api = HfApi(endpoint=endpoint, token=token or False)
    return api.model_info(
        model_id, revision=revision, timeout=TIMEOUT_SECONDS, expand=["safetensors", "siblings"]
    )


def _tensor_bytes(info: ModelInfo) -> int | None:
    """Bytes of the tensors by the Hub's count of elements; None where a type is not known."""
    counts: Any = info.safetensors.parameters if info.safetensors else None
    if not counts or any(kind not in BITS for kind in counts):
        return None
    return sum(int(count) * BITS[kind] for kind, count in counts.items()) // 8


def _nearest(model_id: str) -> str:
    near = catalogue.nearest(model_id)
    return f"; the nearest that is catalogued is {near}" if near else ""


def _explained(
    problem: HfHubHTTPError | HFValidationError, model_id: str, revision: str | None
) -> PlanningError | TemporaryFailure:
    status = problem.response.status_code if isinstance(problem, HfHubHTTPError) else None
    if isinstance(problem, GatedRepoError):
        return ModelAccessDenied(
            FIELD,
            f"{model_id} is gated and the Hub refuses to show it; give its config.json in "
            "spec.model.config, and a token for the engine in spec.model.tokenSecretRef",
        )
    if isinstance(problem, RepositoryNotFoundError) or status is None:
        # The Hub answers 401 for private repositories and for names that do not exist.
        return UnknownModel(
            FIELD,
            f"the Hub has no public repository {model_id}{_nearest(model_id)}; correct the name, "
            "or give a private model's config.json in spec.model.config",
        )
    if isinstance(problem, RevisionNotFoundError):
        return UnknownModel(
            REVISION_FIELD, f"{model_id} has no revision {revision}; give a branch, tag or commit"
        )
    if isinstance(problem, EntryNotFoundError) or status == 404:
        return UnknownModel(
            FIELD, f"{model_id} has no config.json; give its facts in spec.model.config"
        )
    if status in (401, 403):
        return ModelAccessDenied(
            FIELD,
            f"the Hub refuses to show {model_id} (status {status}); "
            "give its config.json in spec.model.config",
        )
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return TemporaryFailure(
            f"the Hub answers 429 for {model_id}: too many requests from this address; it is asked "
            f"again by itself; {TOKEN_OF_ONE_S_OWN}, or give the facts in spec.model.config",
            FIELD,
        )
    return TemporaryFailure(f"the Hub answers {status} for {model_id}", FIELD)


def _unreached(endpoint: str, problem: str) -> str:
    """Why there is no answer of the Hub, and what to do where that is known."""
    known = (remedy for words, remedy in UNREACHED if words in problem)
    remedy = next(known, None)
    said = f"{endpoint} cannot be reached: {problem}"
    return f"{said}; {remedy}, or give the facts in spec.model.config" if remedy else said
