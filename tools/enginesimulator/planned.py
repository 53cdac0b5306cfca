"""What the planner gives for a setting of a server: its KV cache and how long it starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from vllm_operator.api.plan import Plan
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.engine.graphs import largest_graph
from vllm_operator.engine.tables import does
from vllm_operator.engine.versions import Version
from vllm_operator.hardware import catalogue as gpus
from vllm_operator.hardware import performance
from vllm_operator.hardware.nodes import GPUOffer
from vllm_operator.hardware.performance import GPUPerformance
from vllm_operator.models import catalogue
from vllm_operator.sizing.asked.gpu_candidates import gpu_candidates
from vllm_operator.sizing.asked.inputs import PlanningInputs
from vllm_operator.sizing.asked.specification import Asked, read_specification
from vllm_operator.sizing.layout.choice import choose
from vllm_operator.sizing.layout.search import Layout
from vllm_operator.sizing.performance.coefficients import coefficients
from vllm_operator.sizing.performance.server import Server as Shipped
from vllm_operator.sizing.performance.server import pads_sparse_attention, server
from vllm_operator.sizing.performance.step import times_of
from vllm_operator.sizing.performance.work import Work, work_of
from vllm_operator.sizing.plan.planner import make_plan
from vllm_operator.sizing.plan.startup import figures
from vllm_operator.tuning.knobs import Knobs

from .steps import Hardware


@dataclass(frozen=True, slots=True)
class Planned:
    """What the planner says of a setting."""

    blocks: int
    """KV-cache blocks that requests can have."""
    block_size: int
    cold: float
    """Seconds of a start that compiles."""
    warm: float
    """Seconds of one that finds what it compiled."""


class Server:
    """A server as a workload's ``server`` describes it."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        self.told = told
        self.version = Version.parse(told["version"])
        self.tensor = int(told.get("tensor", 1))
        self._planned: dict[Knobs, Planned | None] = {}
        plan = self._plan(self._pins(told.get("start")), None)
        if not isinstance(plan, Plan):
            raise ValueError(f"{told['model']} on {told['gpu']}: {plan.problems[0].message}")
        self.max_model_len = plan.capacity.max_model_len
        self.start = Knobs(
            plan.capacity.max_num_seqs,
            plan.capacity.max_num_batched_tokens,
            plan.memory.utilization,
            (told.get("start") or {}).get("maxNumActiveSeqs"),
        )

    def planned(self, knobs: Knobs) -> Planned | None:
        """What a setting gives, or None where the planner refuses it."""
        knobs = Knobs(
            knobs.max_num_seqs, knobs.max_num_batched_tokens, knobs.gpu_memory_utilization
        )
        if knobs not in self._planned:
            self._planned[knobs] = self._found(knobs)
        return self._planned[knobs]

    @property
    def ceiling(self) -> float:
        """The largest utilization that the planner calls safe; at least the start's."""
        return max(self.start.gpu_memory_utilization, self._laid_out[1].safe_utilization)

    @cached_property
    def hardware(self) -> Hardware:
        """How long its steps take by what the operator knows."""
        work, gpu = self._work
        found = coefficients(self.version, gpu.generation, gpu.link)
        ahead = does("schedules-ahead", self.version)
        padded = pads_sparse_attention(self.version, gpu)
        graphs, eager = (
            times_of(work, gpu, found, eager=one, ahead=ahead, padded=padded)
            for one in (False, True)
        )
        largest = largest_graph(self.version, gpu.compute_capability)
        return Hardware(graphs, eager, found.request_seconds, largest)

    @cached_property
    def _work(self) -> tuple[Work, GPUPerformance]:
        asked, layout = self._laid_out
        gpu = performance.find(self.told["gpu"])
        if gpu is None:
            raise ValueError(f"nothing is known of the performance of {self.told['gpu']}")
        work = work_of(
            asked.architecture,
            layout.parallelism,
            element_bytes=layout.element_bytes,
            kv_element_bytes=layout.kv_element_bits / 8,
        )
        return work, gpu

    def shipped(self, knobs: Knobs) -> Shipped:
        """What the operator knows of its speed with a setting."""
        work, gpu = self._work
        return server(
            work,
            gpu,
            version=self.version,
            max_num_batched_tokens=knobs.max_num_batched_tokens,
            max_num_seqs=knobs.cap,
        )

    def _found(self, knobs: Knobs) -> Planned | None:
        pins = self._pins(
            {
                "maxNumSeqs": knobs.max_num_seqs,
                "maxNumBatchedTokens": knobs.max_num_batched_tokens,
                "gpuMemoryUtilization": knobs.gpu_memory_utilization,
            }
        )
        plan = self._plan(pins, self.max_model_len)
        if not isinstance(plan, Plan):
            return None
        layers = self._laid_out[0].architecture.layers
        compiling = layers * figures(self.version)["compile"]
        tokens, size = plan.capacity.kv_tokens.expected, plan.capacity.block_size
        cold = plan.startup.seconds
        return Planned(tokens // size - 1, size, cold, cold - compiling)

    @cached_property
    def _laid_out(self) -> tuple[Asked, Layout]:
        server, inputs = self._server(self._pins(self.told.get("start")), None), self._inputs()
        asked, problems = read_specification(server, inputs)
        if asked is None:
            raise ValueError(problems[0].message)
        layout = choose(asked, gpu_candidates(server.spec.gpu, inputs), None, 1).taken
        if not isinstance(layout, Layout):
            raise ValueError(layout.message)
        return asked, layout

    def _pins(self, start: Mapping[str, Any] | None) -> dict[str, Any]:
        names = ("maxNumSeqs", "maxNumBatchedTokens", "gpuMemoryUtilization")
        return {name: start[name] for name in names if name in (start or {})} if start else {}

    def _plan(self, pins: Mapping[str, Any], length: int | None) -> Any:
        return make_plan(self._server(pins, length), self._inputs())

    def _server(self, pins: Mapping[str, Any], length: int | None) -> VLLMServer:
        engine = {**pins, "image": self._image, "version": self.told["version"]}
        if length is not None:
            engine["maxModelLen"] = length
        return VLLMServer.model_validate(
            {
                "apiVersion": "vllm-operator.io/v1alpha1",
                "kind": "VLLMServer",
                "metadata": {"name": "simulated"},
                "spec": {
                    "model": {"id": self.told["model"]},
                    "gpu": {"product": self.told["gpu"]},
                    "parallelism": {"tensor": self.tensor, "pipeline": 1},
                    "engine": engine,
                },
            }
        )

    @property
    def _image(self) -> str:
        suffix = "-rocm" if self.told["gpu"].startswith("AMD") else ""
        return f"vllm/vllm-openai{suffix}:v{self.told['version']}"

    def _inputs(self) -> PlanningInputs:
        product = gpus.find(self.told["gpu"])
        if product is None:
            raise ValueError(f"{self.told['gpu']} is not in the catalogue")
        offer = GPUOffer(
            product=product.name,
            memory_bytes=product.memory_bytes,
            per_node=8,
            nodes=4,
            resource_name=product.resource_name,
            node_labels=product.node_labels,
            compute_capability=product.compute_capability,
        )
        return PlanningInputs(
            model=catalogue.find(self.told["model"]),
            default_image=self._image,
            offers=(offer,),
            max_nodes=1,
        )
