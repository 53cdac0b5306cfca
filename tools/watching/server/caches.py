"""What a server finds again: its KV cache, prefixes and accepted drafts."""

from watching.panels import TOKENS, TOKENS_A_SECOND, Panel, Query, Row
from watching.queries import ratio, total

from .asked import ENGINES, PODS, SERVER, said

CACHE = Row(
    "KV cache",
    [
        Panel(
            "Used",
            "Of each engine.",
            "percentunit",
            [
                Query(total(ENGINES.now("kvCacheUsage"), PODS, "max"), "{{pod}}"),
                Query("vector($cache_usage)", "target"),
            ],
        ),
        Panel(
            "Preempted",
            "Requests that lost their place in a full cache and are computed again, of those that "
            "end.",
            "percentunit",
            [
                Query(
                    ratio(ENGINES.rate("preemptions"), ENGINES.rate("finishedRequests")),
                    "preempted",
                ),
                Query("vector($preemptions)", "target"),
            ],
        ),
        Panel(
            "Measured over planned",
            "Blocks that an engine has over those that the plan expected, less 1.",
            "percentunit",
            [Query(f"vllm_operator_kv_cache_error_ratio{{{SERVER}}}", "off by")],
            width=4,
        ),
        Panel(
            "Planned",
            "Tokens that the KV cache of one engine is expected to hold.",
            TOKENS,
            [Query(said("plan_kv_cache_tokens"), "expected")],
            "number",
            4,
        ),
    ],
)
PREFIXES = Row(
    "Prefix cache",
    [
        Panel(
            "Hit rate",
            "Prompt tokens that were found in the cache, of all that were looked for.",
            "percentunit",
            [
                Query(
                    ratio(ENGINES.rate("prefixCacheHits"), ENGINES.rate("prefixCacheQueries")),
                    "found",
                ),
                Query("vector($hit_ratio)", "target"),
            ],
            width=12,
        ),
        Panel(
            "Prompt tokens looked for",
            "What is found is not computed again.",
            TOKENS_A_SECOND,
            [
                Query(total(ENGINES.rate("prefixCacheHits")), "found"),
                Query(
                    f"{total(ENGINES.rate('prefixCacheQueries'))} - "
                    f"{total(ENGINES.rate('prefixCacheHits'))}",
                    "computed",
                ),
            ],
            width=12,
        ),
    ],
)
SPECULATION = Row(
    "Speculative decoding",
    [
        Panel(
            "Acceptance",
            "Drafted tokens that the model would have said too. Empty without "
            "spec.engine.speculative.",
            "percentunit",
            [
                Query(
                    ratio(
                        ENGINES.rate("specDecodeAcceptedTokens"),
                        ENGINES.rate("specDecodeDraftTokens"),
                    ),
                    "accepted",
                )
            ],
            width=12,
        ),
        Panel(
            "Tokens of a step of one request",
            "1 without drafts; what it costs to draft and to verify is not in it.",
            TOKENS,
            [
                Query(
                    "1 + "
                    + ratio(
                        ENGINES.rate("specDecodeAcceptedTokens"), ENGINES.rate("specDecodeDrafts")
                    ),
                    "mean",
                )
            ],
            width=12,
        ),
    ],
)
