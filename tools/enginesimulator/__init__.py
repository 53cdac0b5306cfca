"""vLLM's scheduler and its metrics in virtual time, to tune against.

``steps`` and ``seconds`` say how long a step takes, ``kernel`` which step comes next, ``blocks``
who holds the KV cache, ``requests`` what becomes of a request, ``engine`` holds one engine,
``counting`` counts and ``metrics`` shows it as Prometheus would have scraped it, ``load`` draws
arrivals, ``service`` puts several pods behind one Service, ``planned`` asks the planner what a
setting gives, ``session`` lets a tuner act on such a server, ``live`` plays it in real time behind
engines that are processes.

It shares no code with ``vllm_operator.tuning`` but ``sizing.performance``, and its steps have what
that does not know: padding to the sizes of CUDA graphs, steps too large for any of them, factors on
each part of a step's time, a bend, jitter and disturbances.

What it leaves out: pipeline and data parallelism, speculative decoding, adapters, the priority
policy, and asynchronous scheduling's look ahead (a request that arrives in a step is scheduled in
the next, where vLLM on a GPU takes the one after).
"""
