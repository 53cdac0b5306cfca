"""A published benchmark run of vLLM, and what the performance model says of it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

from vllm_operator.engine.versions import Version
from vllm_operator.hardware.performance import GPUPerformance
from vllm_operator.sizing.performance.batch import PerformanceEstimate
from vllm_operator.sizing.performance.coefficients import Coefficients
from vllm_operator.sizing.performance.intervals import Kind
from vllm_operator.sizing.performance.server import server
from vllm_operator.sizing.performance.work import Work
from vllm_operator.sizing.split.parallelism import Parallelism


@dataclass(frozen=True, slots=True)
class Run:
    """A published run, ready to be predicted."""

    number: int
    """Line of the file, the first run being 1."""
    model: str
    gpu_name: str
    gpu: GPUPerformance
    kind: Kind
    """What its intervals depend on."""
    families: tuple[str, ...]
    """What it stands for in tables: its attention, its experts, its quantisation."""
    work: Work
    version: Version
    split: Parallelism
    prompt: float
    output: float
    requests: int
    concurrency: float
    rate: float
    """Requests a second; infinite where all come at once or a number is kept in flight."""
    batched_tokens: int
    sequences: int
    kv_concurrency: float
    asynchronous: bool | None
    eager: bool
    varied: bool
    """Whether outputs differ in length (ShareGPT)."""
    tpot: float | None
    """Measured mean seconds between tokens."""
    throughput: float | None
    """Measured output tokens a second, from when the first request was served."""
    first: float | None
    """Measured mean seconds to the first token, waiting in the server included; None where prompts
    were cached."""
    idle: float
    """Seconds in which the client and the API server took requests in and nothing was served."""
    source: str

    @property
    def tensor(self) -> int:
        """Tensor-parallel ranks."""
        return self.split.tensor

    @property
    def waits(self) -> bool:
        """Whether requests wait for a place in the batch."""
        places = self.split.data * min(self.sequences, self.kv_concurrency)
        return min(self.requests, self.concurrency) > places

    @property
    def file(self) -> str:
        """The document that the run stands in: its address without the line."""
        return self.source.partition("#")[0]

    @property
    def base(self) -> str:
        """The model without its quantisation: siblings are held out together."""
        return re.sub(r"-(FP8|AWQ|GPTQ|INT4|INT8|NVFP4|AWQ-4bit)(-dynamic)?$", "", self.model)

    @property
    def publisher(self) -> str:
        """Who published the run: the account in the source's address."""
        return "/".join(self.source.split("/")[2:4])

    @property
    def napkin_seconds(self) -> float:
        """Seconds between tokens on a napkin: what a full batch reads, at the peak bandwidth.

        The weights once (of routed experts no more than the batch visits) and every request's KV
        cache; no prompts, no arithmetic, no overhead.
        """
        placed = self._placed
        read = placed * self.work.cache_bytes(self.prompt + self.output / 2)
        for stage, count in self.work.stages:
            for one in stage.multiplications:
                share = min(1.0, placed * one.active / one.experts) if one.experts else 1.0
                read += one.weight_bytes * share * count
            read += stage.head.weight_bytes if stage.head else 0.0
        return read / self.gpu.memory_bandwidth

    @property
    def napkin_throughput(self) -> float:
        """Output tokens a second on a napkin: one of each request of the batch in that time."""
        return min(self._placed / self.napkin_seconds, self.rate * self.output)

    @property
    def _placed(self) -> float:
        return min(self.requests, self.concurrency, self.sequences, self.kv_concurrency)

    def predict(self, found: Coefficients | None = None) -> PerformanceEstimate:
        """What the model says."""
        engine = server(
            self.work,
            self.gpu,
            version=self.version,
            max_num_batched_tokens=self.batched_tokens,
            max_num_seqs=int(min(self.sequences, self.concurrency)),
            kv_concurrency=self.kv_concurrency,
            enforce_eager=self.eager,
            async_scheduling=self.asynchronous,
            found=found,
        )
        burst = engine.burst(self.prompt, self.output, self.requests, varied=self.varied)
        if self.concurrency < self.requests:
            held = min(self.concurrency, self.sequences)
            # Requests of one length end together, and the next begin together.
            together = engine.burst(self.prompt, self.output, held)
            alone = engine.steady(self.prompt, self.output, held)
            first = together.time_to_first_token
            if self.varied:
                # Those that begin a run come at once, all others where one has ended.
                begin = held / self.requests
                first = begin * first + (1.0 - begin) * alone.time_to_first_token
            return replace(burst, time_to_first_token=first)
        if math.isinf(self.rate) or self.requests / self.rate < 0.5 * (
            self.requests / burst.requests_per_second
        ):
            return burst
        return engine.arriving(self.prompt, self.output, self.rate)
