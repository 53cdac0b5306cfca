"""Continuous batching: what a server does under a load, from the times of its steps.

A step of vLLM carries one token of each running request and, up to ``max_num_batched_tokens``,
pieces of prompts. Times are in seconds, lengths in tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from vllm_operator.engine.graphs import Graphs, graphs
from vllm_operator.engine.tables import does
from vllm_operator.engine.versions import Version
from vllm_operator.hardware.performance import GPUPerformance

from .batch import Limits, Load, Mixture, PerformanceEstimate
from .coefficients import Coefficients, coefficients
from .drafting import Drafted, Drafting
from .lengths import running_out_alone, share_among_prompts, waiting_in_waves
from .multipliers import Multipliers, scaled
from .step import Times, times_of
from .work import Work

ENDING: Final = 0.5
"""How long the batch runs out at a burst's end, as a share of the time that a request generates."""

INTAKE_ROUNDS: Final = 14
"""Bisections: to a thousandth of what was started from."""


@dataclass(frozen=True, slots=True)
class Server:
    """A model on GPUs, ready to be asked for times."""

    work: Work
    times: Times
    found: Coefficients
    limits: Limits
    bandwidth: float
    graphs: Graphs
    drafting: Drafting | None = None
    """How tokens are drafted; None where each step makes one token of a request."""

    @property
    def width(self) -> float:
        """Tokens that a generating request has in a step."""
        return 1.0 if self.drafting is None else self.drafting.width

    def scaled(self, multipliers: Multipliers) -> Server:
        """This server with steps whose parts take as much longer."""
        return replace(self, times=scaled(self.times, multipliers))

    def _placed(self, requests: float) -> tuple[float, float]:
        """Micro-batches in flight and requests in each, of ``requests`` on one rank.

        vLLM's scheduler puts whatever waits into the next micro-batch, so that they fill evenly in
        the long run.
        """
        placed = max(1.0, min(requests, self.limits.sequences))
        in_flight = min(float(self.work.split.pipeline), placed)
        return in_flight, placed / in_flight

    def _taking(self, in_flight: float) -> float:
        """Seconds in which the API server takes in a request for every micro-batch.

        vLLM starts one API server for each data-parallel rank (0.33.0 ``entrypoints/cli/serve.py``,
        ``api_server_count``).
        """
        return self.found.request_seconds * in_flight

    def _mixture(self, load: Load, *, chunk: float, alone: float, in_flight: float) -> Mixture:
        """Steps with ``load`` on average, prompts in pieces of ``chunk``; those without a piece
        have ``alone`` generating requests."""
        share = min(1.0, load.prompts / chunk)
        ranks = self.times.ranks
        elsewhere = 1.0 - (1.0 - share) ** (ranks - 1)
        any_rank = share + (1.0 - share) * elsewhere
        piece = max(chunk, load.prompts)
        prompting = ranks * share / any_rank if share else 1.0
        return Mixture(
            mixed=self._among(
                load.decodes, load.context, piece, load.prompt_context, in_flight, prompting
            ),
            alone=self._among(alone, load.context, 0.0, 0.0, in_flight),
            share=share,
            elsewhere=elsewhere,
            chunk=chunk,
        )

    def _among(
        self,
        decodes: float,
        context: float,
        prompt: float,
        prompt_context: float,
        in_flight: float,
        prompting: float = 1.0,
    ) -> float:
        """Seconds of a step (``Times.step``) and of the drafts for the next."""
        seconds = self.times.step(
            decodes,
            context,
            prompt,
            prompt_context,
            in_flight=in_flight,
            prompting=prompting,
            width=self.width,
        )
        if self.drafting is None:
            return seconds
        return seconds + self.drafting.seconds(decodes, context, prompt, prompt_context)

    def steady(
        self, prompt: float, output: float, concurrency: float, cached: float = 0.0
    ) -> PerformanceEstimate:
        """A load that keeps ``concurrency`` requests in flight, shared by data-parallel ranks.

        A request is in the batch for its prompt's steps and ``output - 1`` more. With x requests
        starting in a step, x (output - 1) generate and x prompt tokens are computed; x is bounded
        by the places in the batch, by the tokens of a step and by what the API server takes in.
        Pieces of one prompt follow one another through the stages of a pipeline.

        The first ``cached`` tokens of each prompt lie in the prefix cache: they are attended to and
        not computed. With drafts a request generates in (output - 1) / (1 + a) steps, where a
        drafted tokens are accepted in each on average, and has all drafts in each of them.
        """
        ranks = min(float(self.work.split.data), max(1.0, concurrency))
        concurrency /= ranks
        in_flight, batch = self._placed(concurrency)
        budget = float(self.limits.tokens)
        made = 1.0 if self.drafting is None else self.drafting.made
        later = max(output - 1.0, 0.0) / made
        bound = self.limits.cache_bound and concurrency > self.limits.sequences
        computed = prompt - cached + (self.found.recompute * later if bound else 0.0)
        context, seen = prompt + output / 2, (cached + prompt) / 2
        most = budget / (computed + later * self.width)
        started = min(most, self._starting(batch, computed, later))

        def mixture(started: float) -> Mixture:
            decodes = started * later
            taken = min(decodes * self.width, budget - 1.0)
            return self._mixture(
                Load(decodes, context, started * computed, seen),
                chunk=max(1.0, min(computed, budget - taken)),
                alone=max(decodes, min(1.0, batch)),
                in_flight=in_flight,
            )

        steps = mixture(started)
        if started * self._taking(in_flight) > steps.step:
            started = _intake(lambda some: mixture(some).step, started, self._taking(in_flight))
            steps = mixture(started)
        others = max(0.0, 1.0 - 1.0 / (batch * in_flight))
        latency = steps.among_others(others)
        first = self._prompt_seconds(steps.mixed, computed, steps.chunk, seen)
        # Until the step that it arrives in is over, and the next where that is scheduled already.
        first += others * latency * (1.5 if self.times.asynchronous else 0.5)
        first += self.found.request_seconds
        # Little's law, and what the tokens of a step and the API server let through at best.
        full = steps if started >= most else mixture(most)
        requests = min(
            batch * in_flight / (first + later * latency),
            most * in_flight / full.step,
            1.0 / max(self.found.request_seconds, 1e-9),
        )
        if bound:
            latency *= 1.0 + self.found.preempted * output / (prompt + output)
        return PerformanceEstimate(
            time_to_first_token=first,
            inter_token_latency=latency / made,
            output_tokens_per_second=requests * output,
            requests_per_second=requests,
            batch=started * later * in_flight,
            napkin_tokens_per_second=self.napkin(context),
        ).of_ranks(ranks)

    def _starting(self, batch: float, computed: float, later: float) -> float:
        """Requests x that start in a step, so that ``batch`` of them are in it.

        Each stays for ``later`` steps and those of its prompt's pieces. A piece is what ``later``
        x of generated tokens (each with its drafts) leave of a step's tokens b, and the next piece
        goes into the next of s micro-batches (vllm 0.33.0 ``v1/core/sched/scheduler.py``: tokens
        count as computed once they are scheduled). So, without drafts,
        x (later + 1 - 1/s + computed / (s (b - later x))) = batch, of which the smaller root is
        taken; x (later + 1) = batch where a whole prompt is a piece.
        """
        budget, wide = float(self.limits.tokens), later * self.width
        started = batch / (later + 1.0)
        if started * wide + computed <= budget:
            return started
        stages = self.work.split.pipeline
        stays = later + 1.0 - 1.0 / stages
        linear = stays * budget + computed / stages + batch * wide
        root = math.sqrt(max(0.0, linear * linear - 4.0 * stays * wide * batch * budget))
        return 2.0 * batch * budget / (linear + root)

    def _prompt_seconds(self, step: float, computed: float, chunk: float, seen: float) -> float:
        """Seconds of a prompt's steps, ``step`` being those of its first piece, whose tokens attend
        to ``seen`` tokens on average."""
        stages, pieces = self.work.split.pipeline, computed / chunk
        if stages == 1:
            return max(1.0, pieces) * step
        following = max(step / stages, self.times.chunk(chunk, seen))
        return step + max(0.0, pieces - 1.0) * following

    def burst(
        self, prompt: float, output: float, requests: float, *, varied: bool = False
    ) -> PerformanceEstimate:
        """``requests`` that all arrive at once: throughput is that of the time until the last.

        The first to find a place are computed prompt after prompt, those that find none wait, and
        the batch is steady until it runs out. With ``varied`` the outputs' lengths are taken for
        exponentially distributed about ``output``: short ones generate among prompts only, and
        the longest, of about ln(batch) x ``output`` tokens, runs out alone.
        """
        ranks = min(float(self.work.split.data), max(1.0, requests))
        requests /= ranks
        later = max(output - 1.0, 0.0)
        placed = min(requests, self.limits.sequences)
        in_flight, batch = self._placed(placed)
        context = prompt + output / 2

        def fill(tokens: float) -> tuple[float, float, float]:
            """Steps of prompts, with ``tokens`` tokens of them each; how many of them a request
            waits for; and seconds of one."""
            steps = max(1.0, batch * prompt / tokens)
            waits = (steps - 1) / 2 if steps <= later else later - later * later / (2 * steps)
            load = (batch * waits / steps, prompt, batch * prompt / steps, prompt / 2)
            return steps, waits, self._step(*load, in_flight)

        tokens = float(min(self.limits.tokens, batch * prompt))
        taking = self._taking(in_flight) / prompt
        if tokens * taking > fill(tokens)[2]:
            tokens = _intake(lambda some: fill(some)[2], tokens, taking)
        steps, waits, filling = fill(tokens)
        alone = self._step(min(1.0, batch), context, 0.0, 0.0, 1.0)
        among = share_among_prompts(waits, later, varied=varied)
        running_out = running_out_alone(batch, output) * alone if varied else 0.0
        first = (steps + 1) / 2 * filling + self.found.request_seconds
        if requests > placed:
            steady = self.steady(prompt, output, requests * ranks)
            whole = ranks * requests / steady.requests_per_second
            latency = steady.inter_token_latency
            if varied:
                even = share_among_prompts(waits, later, varied=False)
                latency += placed / requests * (among - even) * max(0.0, filling - latency)
                time = whole + running_out
            else:
                time = whole + ENDING * latency * later
            first = whole / 2 if varied else first + waiting_in_waves(requests, placed) * whole
        else:
            together = self._step(min(batch, batch * later / steps), context, 0.0, 0.0, in_flight)
            latency = among * filling + (1.0 - among) * together
            time = steps * filling + later * together + running_out
        return PerformanceEstimate(
            time_to_first_token=first,
            inter_token_latency=latency,
            output_tokens_per_second=requests * output / time,
            requests_per_second=requests / time,
            batch=placed,
            napkin_tokens_per_second=self.napkin(context),
        ).of_ranks(ranks)

    def _step(
        self, decodes: float, context: float, prompt: float, prompt_context: float, in_flight: float
    ) -> float:
        """A step in which all ranks do the same."""
        return self.times.step(
            decodes,
            context,
            prompt,
            prompt_context,
            in_flight=in_flight,
            prompting=float(self.times.ranks),
        )

    def arriving(self, prompt: float, output: float, rate: float) -> PerformanceEstimate:
        """Requests that arrive at ``rate`` a second, as many in flight as Little's law says.

        A rate that the server cannot keep up with gives its saturated figures.
        """
        most = self.limits.sequences * self.work.split.data
        full = self.steady(prompt, output, most)
        if rate >= full.requests_per_second:
            return full
        low, high = 1.0, most
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


def _intake(step: Callable[[float], float], most: float, taking: float) -> float:
    """The most x, at most ``most``, that is taken in at ``taking`` seconds each in ``step(x)``."""
    low, high = math.log(most * 1e-6), math.log(most)
    for _ in range(INTAKE_ROUNDS):
        middle = (low + high) / 2
        some = math.exp(middle)
        if some * taking > step(some):
            high = middle
        else:
            low = middle
    return math.exp(low)


def pads_sparse_attention(version: Version, gpu: GPUPerformance) -> bool:
    """Whether a kernel of sparse attention computes all tokens that its index may choose. Known of
    FlashMLA's on Hopper: Blackwell has several kernels, and which of them do so is not known."""
    return gpu.generation == "hopper" and not does("skips-what-is-not-chosen", version)


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
    nodes: int = 1,
    found: Coefficients | None = None,
    drafted: Drafted | None = None,
    stated_graph: int | None = None,
) -> Server:
    """A server ready to be asked.

    Limits are those of one engine (one data-parallel rank), and so is ``kv_concurrency``, how many
    requests its KV cache holds. ``nodes`` are the nodes that its ranks fill evenly. ``found``
    replaces the fitted coefficients (for fitting them). ``drafted`` says how tokens are drafted.
    ``stated_graph``: tokens of the largest CUDA graph where the command says it.
    """
    found = found or coefficients(version, gpu.generation, gpu.link)
    alone = work.split.pipeline == 1
    ahead = does("schedules-ahead" if alone else "schedules-ahead-in-pipelines", version)
    ahead = ahead if async_scheduling is None else async_scheduling
    largest = graphs(version, gpu.compute_capability, stated_graph)
    sequences = float(max_num_seqs)
    bound = kv_concurrency is not None and kv_concurrency < sequences
    if kv_concurrency is not None:
        sequences = max(1.0, min(sequences, kv_concurrency))
    drafting = None if drafted is None else drafted.on(gpu, found, eager=enforce_eager)
    width = drafting.width if drafting is not None and does("captures-drafts", version) else 1
    return Server(
        work=work,
        times=times_of(
            work,
            gpu,
            found,
            nodes=nodes,
            eager=enforce_eager,
            ahead=ahead,
            captured=largest.captured(max_num_seqs, int(width)),
            padded=pads_sparse_attention(version, gpu),
        ),
        found=found,
        limits=Limits(max_num_batched_tokens, sequences, bound),
        bandwidth=gpu.memory_bandwidth,
        graphs=largest,
        drafting=drafting,
    )
