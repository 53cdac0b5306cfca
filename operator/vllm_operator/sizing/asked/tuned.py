"""What a trial on a running server has proven: values of what nobody pinned. Pure.

They stand where vLLM's defaults or the profile's would: memory, a stated concurrency and a repair
still bound them, and a pin takes its knob.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Tuned:
    """Values that replace a plan's own; None leaves a knob as it is planned."""

    reason: str
    """Why, for the ledger of the plan."""
    max_num_seqs: int | None = None
    max_num_active_seqs: int | None = None
    """Taken where the version has ``--max-num-active-seqs``."""
    max_num_batched_tokens: int | None = None
    gpu_memory_utilization: float | None = None
    max_model_len: int | None = None
    """The longest request of the plan that was tuned, in tokens: room that tuning finds is for more
    requests, and a trial differs in nothing but its knobs."""

    def to_json_object(self) -> dict[str, Any]:
        """The values as plain JSON, for pinning."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json_object(cls, document: Mapping[str, Any]) -> Tuned:
        """The inverse of ``to_json_object``."""
        return cls(**{name: document[name] for name in cls.__slots__ if name in document})


UNTUNED = Tuned("")
"""What a plan without tuned values has."""
