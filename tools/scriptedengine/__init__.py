"""An engine that plays a part: run in vLLM's place, it starts in a moment and fails as it is told.

Its log, exit status and HTTP interface are vLLM's, as far as an operator looks at them. It runs
under the node agent (`images.py`), and in the image of a real container, which needs nothing but
Python 3.11, this folder and the operator's tables:

    /opt/tools/scriptedengine, /opt/operator/vllm_operator/engine/*.csv
    PYTHONPATH=/opt/tools python3 -S -m scriptedengine serve MODEL …

What it plays is said by variables of the container, `spec.engine.env` of a VLLMServer among others:

SCRIPTED_PLAY           a name in data/plays.toml; a model named `scripted/NAME` says the same
SCRIPTED_BOOT_SECONDS   how long it loads; 0.2
SCRIPTED_VERSION        the version that it is, whatever its image's tag says; only the agent tells
                        it the tag, so that a real image sets this, or it is 0.32.0
SCRIPTED_KV_TOKENS      tokens that its KV cache holds; a longer --max-model-len is
                        `kv-cache-too-small`; 200000
SCRIPTED_FREE_GIB       of 79.18 GiB; where --gpu-memory-utilization asks for more: `free-memory`
SCRIPTED_MAX_SEQS       a larger --max-num-seqs is `oom-sampler`
SCRIPTED_BAD_STARTS     a file and a number, `/cache/starts:2`: only the first two starts play
SCRIPTED_LOAD           a URL of `enginesimulator.live`: it counts what an engine of its flags would
                        under the load that is played there

An argument that its version does not have is refused as vLLM's parser refuses it. While it serves,
POST /scripted/NAME makes it do something: `hang` (health stays 200, requests run and nothing
moves), `deaf` (no answer to anything), `crash` (the engine core dies, /health is 503, exit after a
moment), `kill`.
"""
