"""How fast a server is: a roofline of every matrix, and continuous batching on top of it.

A step of vLLM carries one token of each running request and, up to ``max_num_batched_tokens``,
pieces of prompts. Its time is the sum over the model's matrices of the longer of arithmetic and
memory traffic, plus attention, communication and the scheduler's work. What hardware reaches of
its datasheet stands in ``performance_coefficients.csv``, fitted by
``tools/fitting/fit_performance.py``. Times are in seconds, sizes in bytes.
"""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from importlib.resources import files
from typing import Final

from vllm_operator.engine.tables import holds
from vllm_operator.engine.versions import Version
from vllm_operator.hardware.performance import GPUPerformance
from vllm_operator.models.shapes import (
    Architecture,
    AttentionCache,
    LatentCache,
    Layer,
    Matrix,
    StateCache,
    padded_vocabulary,
)

ACTIVATION_BYTES: Final = 2
"""Bytes of an element between layers: bfloat16 or float16."""
LOGIT_PASSES: Final = 4
"""Times that the sampler reads or writes the float32 logits (vllm 0.33.0 ``v1/sample``): gather,
copy to float32, penalties or temperature, argmax or softmax."""
SPARSE_TOKENS: Final = 2048
"""``index_topk`` of DeepSeek-V3.2 and GLM-5: tokens that sparse attention attends to."""
ENDING: Final = 0.5
"""How long the batch runs out at a burst's end, as a share of the time that a request generates."""
ASYNCHRONOUS_SINCE: Final = (0, 14, 0)
"""First vLLM that schedules the next step while the GPU computes (``--async-scheduling``)."""


@dataclass(frozen=True, slots=True)
class Coefficients:
    """What hardware and vLLM reach; ``performance_coefficients.csv``."""

    compute: float
    """Share of the peak arithmetic in dense matrix multiplications."""
    narrow: float
    """Elements by which a matrix's narrower side is short of full arithmetic: a side of as many
    reaches half of ``compute``."""
    expert_compute: float
    """The same for grouped multiplications of routed experts, as a factor on ``compute``."""
    expert_padding: float
    """Rows that a grouped multiplication computes in vain for each expert: half a tile."""
    dequantized_compute: float
    """Factor where weights are stored in fewer bits than they are multiplied in."""
    bandwidth: float
    """Share of the peak memory bandwidth that reading weights reaches."""
    attention_compute: float
    """Share of the peak 16-bit arithmetic in the attention of prompts."""
    cache_bandwidth: float
    """Share of the peak memory bandwidth that reading the KV cache reaches."""
    elementwise_passes: float
    """Times that a layer reads or writes the hidden state outside its multiplications."""
    step_seconds: float
    """Of every step: kernel launches, input preparation, synchronisation."""
    sequence_seconds: float
    """The scheduler's and the tokeniser's work for each sequence of a step."""
    ranks_seconds: float
    """Of every step of several tensor-parallel ranks: handing out work between processes."""
    layer_seconds: float
    """Of every layer: what kernels take however little they have to do."""
    expert_layer_seconds: float
    """The same of a layer that routes: choosing experts, sorting tokens, adding results."""
    eager_layer_seconds: float
    """Launches of one layer's kernels without CUDA graphs."""
    all_reduce_seconds: float
    """Latency of one all-reduce."""
    link_efficiency: float
    """Share of the link's bandwidth that an all-reduce reaches."""
    recompute: float
    """Prompt tokens computed again after preemption, for each output token, when the KV cache is
    what limits concurrency."""
    preempted: float
    """Share of a request's tokens, per output token of its length, that it waits for again after
    preemption, when the KV cache is what limits concurrency."""
    request_seconds: float
    """The API server's work for each request; it takes one after the other."""


@dataclass(frozen=True, slots=True)
class PerformanceEstimate:
    """What a server does under a load."""

    time_to_first_token: float
    """Seconds until the first token of a request that finds a place in the batch at once; of a
    burst, the mean over all requests, with their waiting."""
    inter_token_latency: float
    """Mean seconds between a request's tokens, the prompts of others included (TPOT)."""
    output_tokens_per_second: float
    """Of the whole server."""
    requests_per_second: float
    batch: float
    """Mean number of requests that generate at once."""
    napkin_tokens_per_second: float
    """Upper bound for one request alone: bandwidth over the bytes read for a token."""


@dataclass(frozen=True, slots=True)
class _Multiplication:
    """Equal matrices of the model on one rank, all copies together."""

    flops: float
    """Operations for one token."""
    narrower: int
    """The lesser of its inputs and outputs."""
    weight_bytes: float
    activation_bytes: float
    """Bytes read and written for one token."""
    compute: str
    dequantized: bool
    experts: int = 0
    active: int = 0


@dataclass(frozen=True, slots=True)
class _Attention:
    """Equal layers' attention on one rank, all layers together."""

    prompt_flops: float
    """Operations for one token of a prompt and one token of its context."""
    decode_flops: float
    """The same for a generated token."""
    cache_bytes: float
    """Bytes read for one generated token and one token of its context."""
    window: int | None
    index_bytes: float
    """Bytes read for one token of the context beyond every window."""
    state_bytes: float
    """Bytes read and written for one token whatever the context."""


@dataclass(frozen=True, slots=True)
class _Rates:
    """Seconds per unit on a given GPU: what a step's time is made of."""

    linears: tuple[tuple[float, float, float], ...]
    """Seconds of arithmetic a token, seconds of weights, seconds of activations a token."""
    experts: tuple[tuple[float, float, float, float, float], ...]
    """As ``linears``, with the share of experts that a token does not visit, and the tokens' worth
    of arithmetic that padding adds when all experts are visited."""
    attention: tuple[tuple[float, float, float, int | None, float, float], ...]
    """As ``_Attention``, in seconds."""
    head: tuple[float, float, float]
    token_seconds: float
    """Of every token: elementwise operations and communication."""
    fixed_seconds: float
    """Of every step on the GPU's side: launches and latencies."""
    host_seconds: float
    """Of every sequence, on the host."""
    sample_seconds: float
    """Of every sampled token."""
    asynchronous: bool

    def step(self, decodes: float, context: float, prompt: float, prompt_context: float) -> float:
        """Seconds of a step with ``decodes`` generated tokens that attend to ``context`` tokens
        each, and ``prompt`` tokens of prompts that attend to ``prompt_context`` each."""
        tokens = decodes + prompt
        gpu = self.fixed_seconds + tokens * self.token_seconds
        for arithmetic, weights, activations in self.linears:
            gpu += max(arithmetic * tokens, weights + activations * tokens)
        for arithmetic, weights, activations, passed_by, padding in self.experts:
            touched = 1.0 - math.pow(passed_by, tokens)
            gpu += max(
                arithmetic * (tokens + padding * touched),
                weights * touched + activations * tokens,
            )
        for first, later, cache, window, index, state in self.attention:
            seen = context if window is None else min(context, window)
            prompt_seen = prompt_context if window is None else min(prompt_context, window)
            gpu += prompt * prompt_seen * first + decodes * (state + index * context)
            gpu += decodes * seen * max(later, cache)
        sampled = decodes + min(1.0, prompt)
        arithmetic, weights, activations = self.head
        gpu += max(arithmetic * sampled, weights + activations * sampled)
        gpu += sampled * self.sample_seconds
        host = sampled * self.host_seconds
        return max(gpu, host) if self.asynchronous else gpu + host


@lru_cache(maxsize=1)
def _text() -> str:
    return files(__package__).joinpath("performance_coefficients.csv").read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def fingerprint() -> str:
    """Hash of the coefficients: an estimate made with others may come out differently."""
    return hashlib.sha256(_text().encode()).hexdigest()[:16]


@lru_cache(maxsize=256)
def coefficients(version: Version, generation: str, link: str) -> Coefficients:
    """The figures for a version, a GPU generation and what joins the GPUs."""
    rows = csv.DictReader(_text().splitlines())
    return choose(
        (
            (row["name"], row["generation"], row["link"], float(row["value"]))
            for row in rows
            if holds(row, version)
        ),
        generation,
        link,
    )


def choose(rows: Iterable[tuple[str, str, str, float]], generation: str, link: str) -> Coefficients:
    """The coefficients of rows of name, generations, links and value that hold for a GPU.

    Where several rows name a coefficient, the one that says most about the hardware holds.
    """
    chosen: dict[str, tuple[int, float]] = {}
    for name, generations, links, value in rows:
        if generations and generation not in generations.split("|"):
            continue
        if links and link not in links.split("|"):
            continue
        rank = bool(generations) + bool(links)
        if rank >= chosen.get(name, (-1, 0.0))[0]:
            chosen[name] = (rank, value)
    return Coefficients(**{one.name: chosen[one.name][1] for one in fields(Coefficients)})


def experts_touched(experts: int, active: int, tokens: float) -> float:
    """Expected number of distinct experts that ``tokens`` tokens visit.

    E x (1 - (1 - k/E)^tokens) for a router that spreads tokens evenly.
    """
    return experts * (1.0 - math.pow(1.0 - active / experts, tokens))


@dataclass(frozen=True, slots=True)
class Work:
    """What a model asks of one tensor-parallel rank; ``work_of`` makes it."""

    multiplications: tuple[_Multiplication, ...]
    attention: tuple[_Attention, ...]
    head: _Multiplication
    layers: int
    expert_layers: int
    hidden_size: int
    vocabulary_size: int
    tensor: int
    pipeline: int

    def cache_bytes(self, context: float) -> float:
        """Bytes that the KV cache of a request of ``context`` tokens takes on one rank."""
        total = 0.0
        for kind in self.attention:
            seen = context if kind.window is None else min(context, kind.window)
            total += seen * kind.cache_bytes + context * kind.index_bytes + kind.state_bytes / 2
        return total / self.pipeline

    def napkin_bytes(self, context: float) -> float:
        """Bytes that one rank reads to generate one token of a request alone."""
        total = self.head.weight_bytes
        for one in self.multiplications:
            share = one.active / one.experts if one.experts else 1.0
            total += one.weight_bytes * share
        for kind in self.attention:
            seen = context if kind.window is None else min(context, kind.window)
            total += seen * kind.cache_bytes + context * kind.index_bytes + kind.state_bytes
        return total

    def rates(
        self, gpu: GPUPerformance, found: Coefficients, *, eager: bool, ahead: bool
    ) -> _Rates:
        """The times of a step's parts on ``gpu``.

        All-reduce: 2 a layer, each 2 (tp-1)/tp x tokens x hidden x 2 bytes over the link (ring);
        pipeline: (pp-1) hand-overs of tokens x hidden x 2 bytes.
        """
        memory = gpu.memory_bandwidth * found.bandwidth
        attention = gpu.flops_16bit * found.attention_compute
        cache = gpu.memory_bandwidth * found.cache_bandwidth
        linears = []
        experts = []
        for one in self.multiplications:
            times = _times(one, gpu, found, memory)
            if one.experts:
                share = one.active / one.experts
                experts.append((*times, 1.0 - share, found.expert_padding / share))
            else:
                linears.append(times)
        hidden = self.hidden_size * ACTIVATION_BYTES
        token = self.layers * found.elementwise_passes * hidden / memory
        fixed = found.step_seconds + eager * self.layers * found.eager_layer_seconds
        fixed += self.layers * found.layer_seconds
        fixed += self.expert_layers * found.expert_layer_seconds
        link = gpu.link_bandwidth * found.link_efficiency
        if self.tensor > 1:
            share = 2 * (self.tensor - 1) / self.tensor
            token += 2 * self.layers * share * hidden / link
            fixed += 2 * self.layers * found.all_reduce_seconds + found.ranks_seconds
        token += (self.pipeline - 1) * hidden / link
        fixed += (self.pipeline - 1) * found.all_reduce_seconds
        return _Rates(
            linears=tuple(linears),
            experts=tuple(experts),
            attention=tuple(
                (
                    kind.prompt_flops / attention,
                    kind.decode_flops / attention,
                    kind.cache_bytes / cache,
                    kind.window,
                    kind.index_bytes / cache,
                    kind.state_bytes / cache,
                )
                for kind in self.attention
            ),
            head=_times(self.head, gpu, found, memory),
            token_seconds=token,
            fixed_seconds=fixed,
            host_seconds=found.sequence_seconds,
            sample_seconds=LOGIT_PASSES * 4 * self.vocabulary_size / memory,
            asynchronous=ahead,
        )


def _times(
    one: _Multiplication, gpu: GPUPerformance, found: Coefficients, memory: float
) -> tuple[float, float, float]:
    speed = gpu.flops(one.compute) * found.compute
    speed *= one.narrower / (one.narrower + found.narrow)
    if one.experts:
        speed *= found.expert_compute
    if one.dequantized or (one.compute != "16bit" and gpu.flops(one.compute) <= gpu.flops_16bit):
        speed *= found.dequantized_compute
    return one.flops / speed, one.weight_bytes / memory, one.activation_bytes / memory


def work_of(
    architecture: Architecture,
    *,
    tensor: int,
    pipeline: int = 1,
    element_bytes: float = 2,
    kv_element_bytes: float = 2,
) -> Work:
    """Operations and bytes of every part of the model on the fullest of ``tensor`` ranks.

    A multiplication of M tokens with an N x K matrix takes 2 M N K operations, reads N K elements
    of weights and reads or writes M K + M N activations. The layers of all pipeline stages are
    counted: a token passes through each in turn.
    """
    multiplications: list[_Multiplication] = []
    attention: list[_Attention] = []
    seen: list[int] = []
    for number, (layer, count) in enumerate(architecture.counts):
        if not count:
            continue
        first = architecture.pattern.index(number)
        seen.append(first)
        for matrix in layer.matrices:
            if matrix.kind != "embedding":
                place = _middle(architecture.pattern, number, count, first)
                multiplications.append(
                    _multiplication(architecture, matrix, tensor, count, element_bytes, place)
                )
        attention.append(_attention(layer, count, tensor, kv_element_bytes))
    head = architecture.head or architecture.embedding
    return Work(
        multiplications=tuple(multiplications),
        attention=tuple(attention),
        head=_multiplication(architecture, head, tensor, 1, element_bytes, None),
        layers=architecture.layers,
        expert_layers=sum(
            count
            for layer, count in architecture.counts
            if any(matrix.experts for matrix in layer.matrices)
        ),
        hidden_size=architecture.hidden_size,
        vocabulary_size=padded_vocabulary(architecture.vocabulary_size),
        tensor=tensor,
        pipeline=pipeline,
    )


def _middle(pattern: tuple[int, ...], number: int, count: int, first: int) -> int:
    """A layer of this kind that is neither the first nor the last of its kind, if there is one:
    those are what quantisations spare."""
    if count < 3:
        return first
    place = first
    for _ in range(count // 2):
        place = pattern.index(number, place + 1)
    return place


def _multiplication(
    architecture: Architecture,
    matrix: Matrix,
    tensor: int,
    count: int,
    element_bytes: float,
    layer: int | None,
) -> _Multiplication:
    shard = matrix.on_rank(tensor, tensor)
    scheme = None
    if matrix.kind == "linear":
        scheme = architecture.quantization.scheme(matrix.name, layer, expert=bool(matrix.experts))
    elements = shard.inputs * shard.outputs
    one = elements * element_bytes if scheme is None else scheme.bytes(shard.inputs, shard.outputs)
    times = count * shard.copies
    visited = times * matrix.active / matrix.experts if matrix.experts else times
    compute = "16bit" if scheme is None else scheme.compute
    return _Multiplication(
        flops=2.0 * elements * visited,
        narrower=min(shard.inputs, shard.outputs),
        weight_bytes=float(one * times),
        activation_bytes=float(ACTIVATION_BYTES * (shard.inputs + shard.outputs) * visited),
        compute=compute,
        dequantized=scheme is not None and compute == "16bit",
        experts=matrix.experts,
        active=matrix.active,
    )


def _attention(layer: Layer, count: int, tensor: int, kv_bytes: float) -> _Attention:
    """The attention of ``count`` equal layers.

    4 x heads x dimension operations for a token and a token of its context (scores and their
    product with the values); multi-head latent attention generates in the latent space, where a
    head's dimension is the rank's.
    """
    heads = max(1, layer.query_heads // tensor) if layer.query_heads else 0
    flops = 2.0 * heads * (layer.query_dim + layer.value_dim) * count
    decode_flops, cache, window, index, state = flops, 0.0, None, 0.0, 0.0
    kept = layer.cache
    if isinstance(kept, AttentionCache):
        cache = max(1, kept.heads // tensor) * (kept.key_dim + kept.value_dim) * kv_bytes
        window = kept.window
    elif isinstance(kept, LatentCache):
        decode_flops = 2.0 * heads * (2 * kept.rank + kept.rope_dim) * count
        cache = (kept.rank + kept.rope_dim) * kv_bytes
        if kept.indexer_dim:
            index, window = float(kept.indexer_dim), SPARSE_TOKENS
    elif isinstance(kept, StateCache):
        state = 2.0 * kept.state * kept.state_bytes / tensor
    return _Attention(
        prompt_flops=flops,
        decode_flops=decode_flops,
        cache_bytes=cache * count,
        window=window,
        index_bytes=index * count,
        state_bytes=state * count,
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds a batch."""

    tokens: int
    """``--max-num-batched-tokens``."""
    sequences: float
    """``--max-num-seqs``, or what the KV cache holds where that is less."""
    cache_bound: bool = False
    """Whether the KV cache is what limits, so that requests are preempted."""


@dataclass(frozen=True, slots=True)
class Server:
    """A model on GPUs, ready to be asked for times."""

    work: Work
    rates: _Rates
    found: Coefficients
    limits: Limits
    bandwidth: float

    def _balanced(self, started: float, step: float) -> float:
        """Requests that start in a step when the API server takes in no more.

        The step, ``step`` seconds with ``started`` of them, is taken for linear in their number.
        """
        least = self.rates.step(0.0, 0.0, 1.0, 1.0)
        each = max(0.0, step - least) / started
        return least / max(self.found.request_seconds * self.work.pipeline - each, 1e-9)

    def steady(self, prompt: float, output: float, concurrency: float) -> PerformanceEstimate:
        """A load that keeps ``concurrency`` requests in flight.

        A request is in the batch for its prompt's steps and ``output - 1`` more. With x requests
        starting in a step, x (output - 1) generate and x prompt tokens are computed; x is bounded
        by the places in the batch, by the tokens of a step and by what the API server takes in.
        """
        stages = self.work.pipeline
        batch = max(1.0, min(concurrency, self.limits.sequences)) / stages
        budget = float(self.limits.tokens)
        later = max(output - 1.0, 0.0)
        bound = self.limits.cache_bound and concurrency > self.limits.sequences
        computed = prompt + (self.found.recompute * later if bound else 0.0)
        context = prompt + output / 2
        most = budget / (computed + later)
        taking = self.found.request_seconds * stages
        started, chunk, mixed, alone, share = most, min(computed, budget), 0.0, 0.0, 1.0
        for turn in range(4):
            started = min(most, batch / (later + max(1.0, computed / chunk)))
            decodes = started * later
            chunk = max(1.0, min(computed, budget - min(decodes, budget - 1.0)))
            prompts = started * computed
            share = min(1.0, prompts / chunk)
            mixed = self.rates.step(decodes, context, max(chunk, prompts), prompt / 2)
            alone = self.rates.step(max(decodes, min(1.0, batch)), context, 0.0, 0.0)
            step = share * mixed + (1.0 - share) * alone
            if started * taking <= step * 1.01:
                if turn:
                    break
                continue
            most = self._balanced(started, step)
        others = share * max(0.0, 1.0 - 1.0 / (batch * stages))
        latency = others * mixed + (1.0 - others) * alone
        first = max(1.0, computed / chunk) * mixed + self.found.request_seconds
        if started >= most:
            requests = started / (share * mixed + (1.0 - share) * alone) * stages
        else:
            requests = batch * stages / (first + later * latency)
        if bound:
            latency *= 1.0 + self.found.preempted * output / (prompt + output)
        return PerformanceEstimate(
            time_to_first_token=first,
            inter_token_latency=latency,
            output_tokens_per_second=requests * output,
            requests_per_second=requests,
            batch=started * later * stages,
            napkin_tokens_per_second=self.napkin(context),
        )

    def burst(
        self, prompt: float, output: float, requests: int, *, varied: bool = False
    ) -> PerformanceEstimate:
        """``requests`` that all arrive at once: throughput is that of the time until the last.

        The first to find a place are computed prompt after prompt, those that find none wait, and
        the batch is steady until it runs out. With ``varied`` the outputs' lengths are taken for
        exponentially distributed about ``output``: short ones generate among prompts only, and
        the longest, of about ln(batch) x ``output`` tokens, runs out alone.
        """
        stages = self.work.pipeline
        later = max(output - 1.0, 0.0)
        placed = min(float(requests), self.limits.sequences)
        batch = placed / stages
        context = prompt + output / 2
        tokens = float(min(self.limits.tokens, batch * prompt))
        filling = during = waits = 0.0
        steps = 1.0
        for _ in range(4):
            steps = max(1.0, batch * prompt / tokens)
            waits = (steps - 1) / 2 if steps <= later else later - later * later / (2 * steps)
            during = batch * waits / steps
            filling = self.rates.step(during, prompt, batch * prompt / steps, prompt / 2)
            begun = tokens / prompt
            if begun * self.found.request_seconds * stages <= filling * 1.01:
                break
            tokens = max(1.0, self._balanced(begun, filling) * prompt)
        alone = self.rates.step(min(1.0, batch), context, 0.0, 0.0)
        among = _share_among_prompts(waits, later, varied=varied)
        running_out = alone * output * max(0.0, math.log(batch) - 1.0) if varied else 0.0
        first = (steps + 1) / 2 * filling + self.found.request_seconds
        if requests > placed:
            steady = self.steady(prompt, output, float(requests))
            whole = requests / steady.requests_per_second
            latency = steady.inter_token_latency
            if varied:
                even = _share_among_prompts(waits, later, varied=False)
                latency += placed / requests * (among - even) * max(0.0, filling - latency)
                time = whole + running_out
            else:
                time = whole + ENDING * latency * later
            first = whole / 2
        else:
            together = self.rates.step(min(batch, batch * later / steps), context, 0.0, 0.0)
            latency = among * filling + (1.0 - among) * together
            time = steps * filling + later * together + running_out
        return PerformanceEstimate(
            time_to_first_token=first,
            inter_token_latency=latency,
            output_tokens_per_second=requests * output / time,
            requests_per_second=requests / time,
            batch=placed,
            napkin_tokens_per_second=self.napkin(context),
        )

    def arriving(self, prompt: float, output: float, rate: float) -> PerformanceEstimate:
        """Requests that arrive at ``rate`` a second, as many in flight as Little's law says.

        A rate that the server cannot keep up with gives its saturated figures.
        """
        full = self.steady(prompt, output, self.limits.sequences)
        if rate >= full.requests_per_second:
            return full
        low, high = 1.0, self.limits.sequences
        found = self.steady(prompt, output, low)
        while found.requests_per_second < rate and high / low > 1.02:
            middle = math.sqrt(low * high)
            tried = self.steady(prompt, output, middle)
            if tried.requests_per_second < rate:
                low = middle
            else:
                high, full = middle, tried
        found = found if found.requests_per_second >= rate else full
        return replace(found, requests_per_second=rate, output_tokens_per_second=rate * output)

    def napkin(self, context: float) -> float:
        """Bandwidth over the bytes read for a token of a request alone: no efficiency at all."""
        return self.bandwidth / self.work.napkin_bytes(context)


def _share_among_prompts(waits: float, later: float, *, varied: bool) -> float:
    """Share of a request's steps that fall into the ``waits`` steps with prompts of others.

    w/n for outputs of one length n; for exponentially distributed ones the mean of min(w, n)/n,
    which is 1 - e^-x + x E1(x) with x = w/n and E1 the exponential integral.
    """
    if later <= 0 or waits <= 0:
        return 0.0
    ratio = waits / later
    if not varied:
        return min(1.0, ratio)
    return min(1.0, 1.0 - math.exp(-ratio) + ratio * _exponential_integral(ratio))


def _exponential_integral(x: float) -> float:
    """E1(x), to one part in a thousand (Swamee and Ohija, 1985)."""
    small = math.log((0.56146 / x + 0.65) * (1 + x))
    return float((small**-7.7 + (x**4 * math.exp(7.7 * x) * (2 + x) ** 3.7)) ** -0.13)


def server(
    work: Work,
    gpu: GPUPerformance,
    *,
    version: Version,
    max_num_batched_tokens: int,
    max_num_seqs: int,
    kv_concurrency: float | None = None,
    enforce_eager: bool = False,
    async_scheduling: bool | None = None,
    found: Coefficients | None = None,
) -> Server:
    """A server ready to be asked; ``kv_concurrency`` is how many requests the KV cache holds.

    ``found`` replaces the fitted coefficients (for fitting them).
    """
    found = found or coefficients(version, gpu.generation, gpu.link)
    ahead = version.release >= ASYNCHRONOUS_SINCE if async_scheduling is None else async_scheduling
    sequences = float(max_num_seqs)
    bound = kv_concurrency is not None and kv_concurrency < sequences
    if kv_concurrency is not None:
        sequences = max(1.0, min(sequences, kv_concurrency))
    return Server(
        work=work,
        rates=work.rates(gpu, found, eager=enforce_eager, ahead=ahead),
        found=found,
        limits=Limits(max_num_batched_tokens, sequences, bound),
        bandwidth=gpu.memory_bandwidth,
    )


def estimate(
    architecture: Architecture,
    gpu: GPUPerformance,
    *,
    tensor: int,
    pipeline: int = 1,
    element_bytes: float = 2,
    kv_element_bytes: float = 2,
    version: Version,
    max_num_batched_tokens: int,
    max_num_seqs: int,
    enforce_eager: bool = False,
    async_scheduling: bool | None = None,
    prompt_tokens: int,
    output_tokens: int,
    concurrency: float,
    kv_concurrency: float | None = None,
) -> PerformanceEstimate:
    """The performance of a model under ``concurrency`` requests that are always in flight.

    ``element_bytes`` are those of matrices that no quantisation covers; ``kv_concurrency`` is how
    many such requests the KV cache holds, None for all.
    """
    work = work_of(
        architecture,
        tensor=tensor,
        pipeline=pipeline,
        element_bytes=element_bytes,
        kv_element_bytes=kv_element_bytes,
    )
    return server(
        work,
        gpu,
        version=version,
        max_num_batched_tokens=max_num_batched_tokens,
        max_num_seqs=max_num_seqs,
        kv_concurrency=kv_concurrency,
        enforce_eager=enforce_eager,
        async_scheduling=async_scheduling,
    ).steady(prompt_tokens, output_tokens, concurrency)
