"""The vision and audio towers of multimodal models, read from their ``config.json``.

What stands here is what vLLM 0.33.0 builds (``model_executor/models``), file by file beside each
family; a checkpoint can hold more (layers that no feature is taken from). Facts that a config
leaves out have the defaults of its configuration class in transformers.
"""

from __future__ import annotations

from .parts import AUDIO, VISION, Tower
from .reading import towers_of

__all__ = ["AUDIO", "VISION", "Tower", "towers_of"]
