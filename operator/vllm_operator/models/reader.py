"""Reads facts out of a ``config.json``: whole numbers, switches and lists, refused by their name.

A config is understood whole or refused by the name of the fact that is not understood: a wrong
guess about a layer becomes an out-of-memory error on somebody's GPUs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from vllm_operator.errors import UnknownModel

FIELD: Final = "spec.model.config"
RUNNER: Final = "runner"
"""The one fact that is no key of ``config.json``: ``pooling`` where the repository's other files
(sentence-transformers' ``modules.json``) make vLLM serve the model with its pooling runner."""

LIMITS: Final[Mapping[str, int]] = {
    "hidden_size": 2**18,
    "intermediate_size": 2**20,
    "ffn_dim": 2**20,
    "num_hidden_layers": 4096,
    "num_attention_heads": 2**14,
    "num_key_value_heads": 2**14,
    "head_dim": 4096,
    "vocab_size": 2**26,
    "max_position_embeddings": 2**30,
    "word_embed_proj_dim": 2**18,
    "num_attention_heads_per_layer": 2**14,
    "num_nextn_predict_layers": 64,
    "mtp_num_hidden_layers": 64,
}
OTHER_LIMIT: Final = 2**20
"""Largest value of facts: far above any model, and small enough that all byte figures fit the
64-bit integers of the Kubernetes API."""


def shown(value: object) -> str:
    """A value for a message, cut to 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


LAYER_DIGITS: Final = 6


def layer_number(text: str) -> int | None:
    """The number of a layer or an expert as names spell it; None for anything else."""
    if len(text) > LAYER_DIGITS or not text.isascii() or not text.isdecimal():
        return None
    return int(text)


class Facts:
    """A ``config.json``, or the part of it under ``path``."""

    def __init__(
        self,
        config: Mapping[str, Any],
        path: str = FIELD,
        spellings: Mapping[str, str] | None = None,
    ) -> None:
        self.config = config
        self.path = path
        self.spellings = spellings or {}
        """What a family calls a fact, by the name that most families have for it."""
        self.read: set[str] = set()
        """Facts that were asked for by their number."""

    def refusal(self, fact: str, message: str) -> UnknownModel:
        """What to raise about a fact."""
        return UnknownModel(f"{self.path}.{fact}"[:200], message)

    def spelt(self, fact: str) -> str:
        """The key that holds a fact: the family's own where it is given, or where neither is."""
        own = self.spellings.get(fact, fact)
        given = own if self.config.get(own) is not None else fact
        return given if self.config.get(given) is not None else own

    def has(self, fact: str) -> bool:
        """Whether the fact is given; null counts as absent."""
        return self.config.get(self.spelt(fact)) is not None

    def first(self, *facts: str) -> str:
        """The first of several spellings that is given, else the first one."""
        return next((fact for fact in facts if self.has(fact)), facts[0])

    def count(self, fact: str, default: int | None = None, *, least: int = 1) -> int:
        """A whole number from ``least`` on; raises UnknownModel by the fact's name."""
        limit = LIMITS.get(fact, OTHER_LIMIT)
        fact = self.spelt(fact)
        self.read.add(fact)
        value = self.config.get(fact)
        if value is None:
            if default is None:
                raise self.refusal(fact, "is missing; give the model's config.json as it is")
            return default
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= limit:
            raise self.refusal(
                fact, f"must be a whole number from {least} to {limit}, and is {shown(value)}"
            )
        return value

    def flag(self, fact: str, default: bool = False) -> bool:
        """True or false."""
        value = self.config.get(fact)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.refusal(fact, f"must be true or false, and is {shown(value)}")
        return value

    def fraction(self, fact: str, default: float) -> float:
        """A number in (0, 1]."""
        fact = self.spelt(fact)
        value = self.config.get(fact)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1:
            raise self.refusal(fact, f"must lie in (0, 1], and is {shown(value)}")
        return float(value)

    def number(self, fact: str, default: float) -> float:
        """A positive number."""
        value = self.config.get(fact)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 2**30:
            raise self.refusal(fact, f"must be a positive number, and is {shown(value)}")
        return float(value)

    def list_of(self, fact: str, length: int) -> Sequence[Any]:
        """A list with one entry a layer (longer ones carry entries of draft layers)."""
        value = self.config.get(fact)
        if not isinstance(value, (list, tuple)) or len(value) < length:
            raise self.refusal(fact, f"must be a list of {length} entries, and is {shown(value)}")
        return value[:length]

    def numbers(self, fact: str, length: int = 0, *, least: int = 1) -> Sequence[int]:
        """A list of whole numbers, of the first ``length`` entries where that is given.

        Without ``length`` the list is whole, and empty where it is absent.
        """
        if not length and not self.has(fact):
            return ()
        found = self.list_of(fact, length)
        found = found if length else self.config[fact]
        limit = LIMITS.get(fact, OTHER_LIMIT)
        if not all(isinstance(one, int) and least <= one <= limit for one in found):
            raise self.refusal(
                fact, f"must hold whole numbers from {least} to {limit}, and is {shown(found)}"
            )
        return found

    def part(self, fact: str) -> Facts | None:
        """A nested object, None where it is absent."""
        value = self.config.get(fact)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise self.refusal(fact, f"must be an object, and is {shown(value)}")
        return Facts(value, f"{self.path}.{fact}")
