"""Which data type a model is served in, and why one cannot be.

Three things have a say: the GPU (bfloat16 from compute capability 8.0 on), the architecture (some
are not served in float16) and the quantisation method (few take float32).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from vllm_operator.engine import defaults
from vllm_operator.engine.devices import read_capability
from vllm_operator.engine.quantization import DATA_TYPES, Demands, demands_of
from vllm_operator.engine.versions import Version
from vllm_operator.errors import IllegalPin, Infeasible, PlanningError
from vllm_operator.sizing.asked.gpu_candidates import GPUCandidate
from vllm_operator.sizing.asked.specification import Asked
from vllm_operator.sizing.memory.online_quantization import FIELD as QUANTIZATION_FIELD
from vllm_operator.sizing.memory.online_quantization import method_of

BFLOAT16_CAPABILITY: Final = (8, 0)
DTYPE_FIELD: Final = "spec.engine.dtype"
PRODUCT_FIELD: Final = "spec.gpu.product"
NEWER_GPU: Final = "take a GPU such as A10, L4 or H100"


def demands(asked: Asked, version: Version) -> Demands:
    """What a version demands of the checkpoint's quantisation, or of one made while loading.

    Raises ``IllegalPin`` where it does not know the latter. ``Quantization.min_capability`` is
    what the newest release demands of such a checkpoint; older ones demanded more of some.
    """
    stored, named = asked.checkpoint, asked.engine.quantization
    own = stored.quantization.method
    if own is None and named is not None:
        method = method_of(named, version)
        return Demands(read_capability(str(method.min_capability)), method.dtypes)
    found = demands_of(own, named, stored.linear_schemes, version)
    newest = read_capability(str(stored.quantization.min_capability or 0.0))
    return replace(found, oldest=max(found.oldest, newest))


def dtype_refused(asked: Asked, gpu: GPUCandidate) -> PlanningError | None:
    """Why the pinned data type, or the one that vLLM would take by itself, does not work."""
    taken = demands(asked, asked.version).dtypes
    stable = tuple(one for one in taken if one != "float16" or _half(asked))
    if not stable:
        why = f"{_method(asked)} of vLLM {asked.version} takes {_either(taken)} alone"
        return IllegalPin(QUANTIZATION_FIELD, f"{why}, and {_unstable(asked)}; leave it out")
    works = tuple(one for one in stable if one != "bfloat16" or not is_old(gpu))
    pinned = None if asked.engine.dtype == "auto" else asked.engine.dtype
    wanted = pinned or _automatic(asked, gpu)
    if wanted in works:
        return None
    if not works or (pinned is None and is_old(gpu)):
        return _gpu_refused(asked, gpu, taken, works)
    said = f"is {pinned}" if pinned else f"is not set, and the checkpoint says {wanted}"
    return IllegalPin(
        DTYPE_FIELD,
        f"{said}, and {_why(asked, gpu, wanted)}; set it to {_remedy(asked, gpu, works)}",
    )


def is_old(gpu: GPUCandidate) -> bool:
    """Whether the GPU has no bfloat16."""
    capability = gpu.offer.compute_capability
    return capability is not None and capability < BFLOAT16_CAPABILITY


def shown_capability(gpu: GPUCandidate) -> str:
    """The product and its compute capability, for messages."""
    major, minor = gpu.offer.compute_capability or (0, 0)
    return f"{gpu.offer.product} has compute capability {major}.{minor}"


def _automatic(asked: Asked, gpu: GPUCandidate) -> str:
    """What vLLM takes where nothing is pinned (0.33.0 ``config/model.py``, _resolve_auto_dtype).

    On a GPU without bfloat16 the operator says float16 itself.
    """
    if is_old(gpu):
        return "float16"
    own = asked.architecture.dtype
    halves = own == "float16" and _half(asked)
    return "float16" if halves else "bfloat16"


def _gpu_refused(
    asked: Asked, gpu: GPUCandidate, taken: tuple[str, ...], works: tuple[str, ...]
) -> Infeasible:
    """A GPU without bfloat16 where float16 does not work either."""
    text = f"{shown_capability(gpu)}, bfloat16 needs 8.0"
    if not _half(asked):
        text += f", and {_unstable(asked)}"
    if taken != DATA_TYPES:
        text += f", and {_method(asked)} takes {_either(taken)} alone"
    remedy = f", or set {DTYPE_FIELD} to {works[0]}" if works else ""
    return Infeasible(PRODUCT_FIELD, f"{text}; {NEWER_GPU}{remedy}")


def _why(asked: Asked, gpu: GPUCandidate, wanted: str) -> str:
    taken = demands(asked, asked.version).dtypes
    if wanted not in taken:
        return f"{_method(asked)} of vLLM {asked.version} takes {_either(taken)} alone"
    if wanted == "float16":
        return _unstable(asked)
    return f"{shown_capability(gpu)} and bfloat16 needs 8.0"


def _remedy(asked: Asked, gpu: GPUCandidate, works: tuple[str, ...]) -> str:
    """Data types that work; float32, which takes twice the memory, only where no other does."""
    named = [one for one in works if one != "float32"] or list(works)
    if _automatic(asked, gpu) in works:
        named.append("auto")
    return _either(named)


def _either(names: tuple[str, ...] | list[str]) -> str:
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _half(asked: Asked) -> bool:
    return defaults.has_half_precision(asked.architecture.name, asked.version)


def _unstable(asked: Asked) -> str:
    name = asked.architecture.name
    return f"vLLM {asked.version} does not serve {name} in float16 (it is numerically unstable)"


def _method(asked: Asked) -> str:
    """The quantisation as it is named, or as vLLM calls the checkpoint's."""
    return str(asked.engine.quantization or asked.checkpoint.quantization.method)
