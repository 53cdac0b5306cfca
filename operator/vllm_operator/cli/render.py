"""``vllm-operator render``: the objects that the operator would apply."""

from __future__ import annotations

import click
