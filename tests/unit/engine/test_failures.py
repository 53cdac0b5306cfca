"""A log in vLLM's own words is known for what it is, with its numbers and what to do."""

import re
from typing import NamedTuple

import pytest

from unit.engine.event_texts import EVENTS
from unit.engine.launch_texts import LAUNCH, NODES
from unit.engine.network_texts import NETWORK, UNREACHED
from vllm_operator.api.conditions import START_FAILURES
from vllm_operator.engine.failures import (
    Failure,
    Seen,
    ended,
    known_failure,
    last_error,
    unknown_failure,
)
from vllm_operator.engine.tables import rows
from vllm_operator.engine.versions import NEWEST_KNOWN, Version


class Said(NamedTuple):
    """A text, the version that wrote it, and what it is to be known for."""

    seen: Seen
    version: str
    text: str
    reason: str
    message: str
    """A part of the message."""
    repair: str = "none"


CORE = "(EngineCore pid=24803) ERROR 11-21 16:58:02 [core.py:1510] "
TRIED = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.02 GiB. GPU 0 has a total "
    "capacity of 15.47 GiB of which 857.31 MiB is free."
)


def traceback(function: str, error: str = TRIED) -> str:
    """The end of a log whose last call of ours is ``function``."""
    return (
        f'{CORE}  File "/vllm/v1/worker/gpu_worker.py", line 332, in {function}\n'
        f'{CORE}  File "/vllm/v1/worker/gpu_model_runner.py", line 1, in _dummy_run\n'
        f"{CORE}{error}\n"
        "RuntimeError: Engine core initialization failed. See root cause above. "
        "Failed core proc(s): {'EngineCore': 1}\n"
    )


HUB_RETRY = (
    "WARNING 11-21 16:58:02 [_http.py:320] '(MaxRetryError(\"HTTPSConnectionPool("
    "host='huggingface.co', port=443): Max retries exceeded with url: /Qwen/Qwen3-8B/resolve/main/"
    "config.json (Caused by NameResolutionError(\\\"Failed to resolve 'huggingface.co' ([Errno -3] "
    "Temporary failure in name resolution)\\\"))\"), '(Request ID: 1)')' thrown while requesting "
    "HEAD https://huggingface.co/Qwen/Qwen3-8B/resolve/main/config.json\n"
)
TRACEBACK = "Traceback (most recent call last):\n"
AUTOTUNER = (
    "WARNING 11-21 16:58:02 [autotuner.py:520] [Autotuner]: Skipping tactic, due to failure while "
    "profiling: CUDA out of memory. Tried to allocate 1.02 GiB. GPU 0 has a total capacity\n"
)
NCCL = (
    "torch.distributed.DistBackendError: NCCL error in: /pytorch/torch/csrc/distributed/c10d/"
    "NCCLUtils.cpp:77, remote process exited or there was a network error, NCCL version 2.27.3"
)


def repair_of(reason: str) -> str:
    return "lowerUtilization" if reason == "GPUOutOfMemory" else "none"


TEXTS = [
    Said(
        "log",
        "0.32.0",
        f"{CORE}ValueError: To serve at least one request with the model's max seq len (131072), "
        "(16.0 GiB KV cache is needed, which is larger than the available KV cache memory "
        "(12.26 GiB). Based on the available memory, the estimated maximum model length is 100416. "
        "Try increasing `gpu_memory_utilization` (which also controls CPU memory on the CPU "
        "backend) or decreasing `max_model_len` when initializing the engine.",
        "KVCacheTooSmall",
        "131072 tokens needs 16.0 GiB of KV cache and 12.26 GiB are left; set "
        "spec.engine.maxModelLen to at most 100416",
        "shorterMaxModelLen",
    ),
    Said(
        "log",
        "0.10.2",
        "ValueError: To serve at least one request with the models's max seq len (2048), (1.00 GiB "
        "KV cache is needed, which is larger than the available KV cache memory (0.26 GiB). Based "
        "on the available memory, the estimated maximum model length is 512. Try increasing "
        "`gpu_memory_utilization` or decreasing `max_model_len` when initializing the engine.",
        "KVCacheTooSmall",
        "at most 512",
        "shorterMaxModelLen",
    ),
    Said(
        "log",
        "0.8.5",
        "ValueError: To serve at least one request with the models's max seq len (40960), (5.00 "
        "GiB KV cache is needed, which is larger than the available KV cache memory (4.10 GiB)."
        " Based on the available memory,  the estimated maximum model length is 33584. "
        " Try increasing `gpu_memory_utilization` or decreasing `max_model_len`",
        "KVCacheTooSmall",
        "at most 33584",
        "shorterMaxModelLen",
    ),
    Said(
        "log",
        "0.8.0",
        "ValueError: To serve at least one request with the models's max seq len (131072), "
        "(16.00 GB KV cache is needed, which is larger than the available KV cache memory "
        "(3.10 GB). Try increasing `gpu_memory_utilization`",
        "KVCacheTooSmall",
        "needs 16.00 GiB of KV cache and 3.10 GiB are left; lower spec.engine.maxModelLen",
    ),
    Said(
        "log",
        "0.8.0",
        "ValueError: The model's max seq len (29000) is larger than the maximum number of tokens "
        "that can be stored in KV cache (23648). Try increasing `gpu_memory_utilization`",
        "KVCacheTooSmall",
        "at most 23648",
        "shorterMaxModelLen",
    ),
    Said(
        "log",
        "0.22.0",
        f"{CORE}ValueError: No available memory for the cache blocks. Try increasing "
        "`gpu_memory_utilization` when initializing the engine.",
        "KVCacheTooSmall",
        "leave no memory for the KV cache",
        "fewerSequences",
    ),
    Said(
        "log",
        "0.25.0",
        "ValueError: max_num_seqs (1024) exceeds available Mamba cache blocks (939). Each decode "
        "sequence requires one Mamba cache block",
        "TooManySequences",
        "set spec.engine.maxNumSeqs to at most 939",
        "fewerSequences",
    ),
    Said(
        "log",
        "0.33.0",
        f"{CORE}ValueError: Free memory on device cuda:0 (60.11/79.18 GiB) on startup is less than "
        "desired GPU memory utilization (0.92, 72.85 GiB). Decrease GPU memory utilization or "
        "reduce GPU memory used by other processes.",
        "GPUMemoryTaken",
        "60.11 of 79.18 GiB are free on the GPU, and a utilization of 0.92 takes 72.85 GiB",
        "lowerUtilization",
    ),
    Said(
        "log",
        "0.10.2",
        "ValueError: Free memory on device (30.27/31.4 GiB) on startup is less than desired GPU "
        "memory utilization (0.97, 30.46 GiB). Decrease GPU memory",
        "GPUMemoryTaken",
        "30.27 of 31.4 GiB",
        "lowerUtilization",
    ),
    Said(
        "log",
        "0.33.0",
        "AssertionError: Error in memory profiling. Initial free memory 70.1 GiB, current free "
        "memory 75.0 GiB. This happens when other processes",
        "GPUMemoryTaken",
        "grew from 70.1 to 75.0",
    ),
    Said(
        "log",
        "0.33.0",
        "RuntimeError: CUDA out of memory occurred when warming up sampler with 1024 dummy "
        "requests. Please try lowering `max_num_seqs` or `gpu_memory_utilization`",
        "GPUOutOfMemory",
        "sampling 1024 sequences",
        "fewerSequences",
    ),
    Said(
        "log",
        "0.20.0",
        traceback("capture_model"),
        "GPUOutOfMemory",
        "CUDA graphs needs 1.02 GiB more",
        "lowerUtilization",
    ),
    Said(
        "log",
        "0.14.0",
        traceback("initialize_kv_cache"),
        "GPUOutOfMemory",
        "allocating the KV cache needs 1.02 GiB more",
        "lowerUtilization",
    ),
    Said(
        "log",
        "0.14.0",
        traceback("determine_available_memory"),
        "GPUOutOfMemory",
        "the profiling run needs 1.02 GiB more",
        "fewerSequences",
    ),
    Said(
        "log",
        "0.14.0",
        traceback("load_model"),
        "GPUOutOfMemory",
        "loading the weights needs 1.02 GiB more",
    ),
    Said(
        "log",
        "0.13.0",
        "RuntimeError: Failed to run autotuning code block: CUDA out of memory. Tried to allocate "
        "1.02 GiB. GPU 0 has a total capacity of 15.47 GiB of which 857.31 MiB is free.",
        "GPUOutOfMemory",
        "no 1.02 GiB more",
        "lowerUtilization",
    ),
    Said(
        "log",
        "0.19.0",
        "torch.AcceleratorError: CUDA error: out of memory",
        "GPUOutOfMemory",
        "out of memory",
        "lowerUtilization",
    ),
    Said(
        "log",
        "0.32.0",
        "usage: vllm [-h] [-v]\n            {chat,complete,serve,launch} ...\n"
        "vllm: error: unrecognized arguments: --swap-space 4",
        "ArgumentRefused",
        "vLLM 0.32.0 does not know the arguments --swap-space 4",
    ),
    Said(
        "log",
        "0.32.0",
        "api_server.py: error: argument --dtype: invalid choice: 'int4' (choose from auto, half)",
        "ArgumentRefused",
        "refuses --dtype: invalid choice: 'int4'",
    ),
    Said(
        "log",
        "0.32.0",
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for VllmConfig\n"
        "  Value error, Total number of attention heads (8) must be divisible by tensor parallel "
        "size (3). [type=value_error, input_value=ArgsKwargs((), {'model_co... })]",
        "IllegalParallelism",
        "a divisor of 8",
    ),
    Said(
        "log",
        "0.33.0",
        "ValueError: The output_size of gate's and up's weight = 192 is not divisible by weight "
        "quantization block_n = 128.",
        "IllegalParallelism",
        "quantisation block of 128",
    ),
    Said(
        "log",
        "0.9.2",
        "AssertionError: 28 is not divisible by 8",
        "IllegalParallelism",
        "28 cannot be divided over 8 GPUs",
    ),
    Said(
        "log",
        "0.20.0",
        "NotImplementedError: Pipeline parallelism is not supported for this model. Supported "
        "models implement the `SupportsPP` interface.",
        "IllegalParallelism",
        "remove spec.parallelism.pipeline",
    ),
    Said(
        "log",
        "0.20.0",
        "  Value error, Number of experts in the model must be greater than 0 when expert "
        "parallelism is enabled. [type=value_error",
        "IllegalParallelism",
        "remove spec.parallelism.expert",
    ),
    Said(
        "log",
        "0.33.0",
        "  Value error, World size (8) is larger than the number of available GPUs (4) in this "
        "node. If this is intentional and you are using:",
        "TooFewGPUs",
        "needs 8 GPUs and the container sees 4",
    ),
    Said(
        "log",
        "0.8.5",
        "RuntimeError: please set tensor_parallel_size (8) to less than max local gpu count (4)",
        "TooFewGPUs",
        "needs 8 GPUs and the container sees 4",
    ),
    Said(
        "log",
        "0.20.0",
        "OSError: You are trying to access a gated repo.\nMake sure to have access to it at "
        "https://huggingface.co/meta-llama/Llama-3.1-8B.\n401 Client Error.",
        "ModelAccessDenied",
        "accept its licence",
    ),
    Said(
        "log",
        "0.20.0",
        "huggingface_hub.errors.GatedRepoError: 401 Client Error. (Request ID: Root=1)\n\nCannot "
        "access gated repo for url https://huggingface.co/meta-llama/Llama-3.1-8B/resolve/main/x.",
        "ModelAccessDenied",
        "accept its licence",
    ),
    Said(
        "log",
        "0.20.0",
        "huggingface_hub.errors.HfHubHTTPError: 403 Client Error. (Request ID: Root=1)",
        "ModelAccessDenied",
        "the Hub answers 403",
    ),
    Said(
        "log",
        "0.20.0",
        "RevisionNotFoundError: 404 Client Error.\n\nRevision Not Found for url: "
        "https://huggingface.co/api/models/Qwen/Qwen3-8B/revision/nope.",
        "ModelNotFound",
        "correct spec.model.revision",
    ),
    Said(
        "log",
        "0.20.0",
        "OSError: nope is not a valid git identifier (branch name, tag name or commit id) that "
        "exists for this model name. Check the model page at 'https://huggingface.co/Qwen/Qwen3-8B'",
        "ModelNotFound",
        "correct spec.model.revision",
    ),
    Said(
        "log",
        "0.20.0",
        "RepositoryNotFoundError: 401 Client Error. (Request ID: Root=1)\n\nRepository Not Found "
        "for url: https://huggingface.co/api/models/no/such.\nPlease make sure you specified",
        "ModelNotFound",
        "correct spec.model.id",
    ),
    Said(
        "log",
        "0.20.0",
        "OSError: no/such is not a local folder and is not a valid model identifier listed on "
        "'https://huggingface.co/models'",
        "ModelNotFound",
        "correct spec.model.id",
    ),
    Said(
        "log",
        "0.32.0",
        "  Value error, Invalid repository ID or local directory specified: 'no/such'.\nPlease "
        "verify the following requirements:\n1. Provide a valid Hugging Face repository ID.",
        "ModelNotFound",
        "correct spec.model.id",
    ),
    Said(
        "log",
        "0.32.0",
        "huggingface_hub.errors.LocalEntryNotFoundError: Cannot find an appropriate cached "
        "snapshot folder for the specified revision on the local disk and outgoing traffic has "
        "been disabled. To enable repo look-ups and downloads online, pass",
        "ModelNotFound",
        "HF_HUB_OFFLINE",
    ),
    Said(
        "log",
        "0.20.0",
        "RuntimeError: Cannot find any model weights with `/models/qwen`",
        "ModelNotFound",
        "no weights in /models/qwen",
    ),
    Said(
        "log",
        "0.20.0",
        "OSError: We couldn't connect to 'https://huggingface.co' to load the files, and couldn't "
        "find them in the cached files.",
        "HubUnreachable",
        "HF_ENDPOINT",
    ),
    Said(
        "log",
        "0.32.0",
        "The above exception was the direct cause of the following exception:\n\n"
        f"{TRACEBACK}httpx2.ConnectError: [Errno -2] Name or service not known\n",
        "HubUnreachable",
        "HF_ENDPOINT",
    ),
    Said(
        "log",
        "0.14.0",
        "  Value error, The quantization method modelopt is not supported for the current GPU. "
        "Minimum capability: 80. Current capability: 75. [type=value_error",
        "QuantizationUnsupported",
        "modelopt needs compute capability 80, and the GPU has 75",
    ),
    Said(
        "log",
        "0.14.0",
        "ValueError: torch.float16 is not supported for quantization method mxfp4. Supported "
        "dtypes: [torch.bfloat16]",
        "QuantizationUnsupported",
        "[torch.bfloat16]",
    ),
    Said(
        "log",
        "0.14.0",
        "  Value error, Quantization method specified in the model config (awq) does not match the "
        "quantization method specified in the `quantization` argument (fp8). [type=value_error",
        "QuantizationUnsupported",
        "quantised with awq, and fp8 is asked for",
    ),
    Said(
        "log",
        "0.33.0",
        "  Value error, Unknown quantization method: aqlm. Must be one of ['awq', 'fp8']. [type",
        "QuantizationUnsupported",
        "does not know the quantisation aqlm",
    ),
    Said(
        "log",
        "0.20.0",
        "ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0. "
        "Your Tesla T4 GPU has compute capability 7.5. You can use float16 instead",
        "DtypeUnsupported",
        "the Tesla T4 has compute capability 7.5; set spec.engine.dtype to float16",
    ),
    Said(
        "log",
        "0.20.0",
        "  Value error, The model type 'gemma3' does not support float16. Reason: Numerical "
        "instability. Please use bfloat16 or float32 instead. [type=value_error",
        "DtypeUnsupported",
        "gemma3 does not work in float16",
    ),
    Said(
        "log",
        "0.20.0",
        "RuntimeError: Failed to load the model config. If the model is a custom model not yet "
        "available in the HuggingFace transformers library, consider setting "
        "`trust_remote_code=True` in LLM or using the `--trust-remote-code` flag in the CLI.",
        "RemoteCodeRefused",
        "spec.model.trustRemoteCode",
    ),
    Said(
        "log",
        "0.14.0",
        "  Value error, Model architectures ['NewForCausalLM'] are not supported for now. Supported"
        " architectures: dict_keys(['ArceeForCausalLM'])",
        "ModelUnsupported",
        "vLLM 0.14.0 cannot run ['NewForCausalLM']",
    ),
    Said(
        "log",
        "0.14.0",
        "The checkpoint you are trying to load has model type `newest` but Transformers does not "
        "recognize this architecture.",
        "ModelUnsupported",
        "does not know newest",
    ),
    Said(
        "log",
        "0.20.0",
        "RuntimeError: The NVIDIA driver on your system is too old (found version 12040). Please "
        "update your GPU driver",
        "DriverTooOld",
        "update the driver",
    ),
    Said(
        "termination",
        "0.20.0",
        ended(
            128,
            "StartError",
            "failed to create containerd task: nvidia-container-cli: requirement error: "
            "unsatisfied condition: cuda>=12.9, please update your driver to a newer version",
        ),
        "DriverTooOld",
        "the image's condition cuda>=12.9",
    ),
    Said(
        "log",
        "0.20.0",
        "RuntimeError: CUDA error: no kernel image is available for execution on the device",
        "GPUUnsupported",
        "no code for this GPU",
    ),
    Said(
        "log",
        "0.20.0",
        "UserWarning: NVIDIA B200 with CUDA capability sm_100 is not compatible with the current "
        "PyTorch installation.",
        "GPUUnsupported",
        "no code for this GPU",
    ),
    Said(
        "log",
        "0.20.0",
        "RuntimeError: No CUDA GPUs are available",
        "GPUFailed",
        "the container sees no GPU",
    ),
    Said(
        "log",
        "0.20.0",
        "torch.AcceleratorError: CUDA error: uncorrectable ECC error encountered",
        "GPUFailed",
        "uncorrectable ECC error encountered",
    ),
    Said(
        "log",
        "0.20.0",
        "ERROR: Unexpected bus error encountered in worker. This might be caused by insufficient "
        "shared memory (shm).",
        "SharedMemoryTooSmall",
        "spec.pod.shmSize",
    ),
    Said(
        "termination",
        "0.20.0",
        ended(135, "Error", ""),
        "SharedMemoryTooSmall",
        "SIGBUS",
    ),
    Said(
        "log",
        "0.20.0",
        "OSError: [Errno 28] No space left on device: '/cache/huggingface/hub/blobs/1'",
        "VolumeFull",
        "spec.model.storage",
    ),
    Said(
        "log",
        "0.20.0",
        "PermissionError: [Errno 13] Permission denied: '/cache/huggingface'",
        "PermissionDenied",
        "may not use /cache/huggingface",
    ),
    Said(
        "log",
        "0.20.0",
        "OSError: [Errno 30] Read-only file system: '/cache/vllm'",
        "PermissionDenied",
        "/cache/vllm is on a read-only volume",
    ),
    *(
        Said(
            "log",
            "0.32.0",
            text,
            "PermissionDenied",
            "/app/cache is in the container's root file system, which is read-only; mount an "
            "emptyDir over its folder (spec.pod.volumes and spec.pod.volumeMounts), or set "
            "spec.pod.securityContext.readOnlyRootFilesystem to false",
        )
        for text in (
            "OSError: [Errno 30] Read-only file system: '/app/cache'",
            "filesystem error: cannot create directories: Read-only file system [/app/cache]",
            "mkdir: cannot create directory '/app/cache': Read-only file system",
            "sh: 1: cannot create /app/cache: Read-only file system",
        )
    ),
    Said(
        "log",
        "0.20.0",
        "OSError: [Errno 98] Address already in use",
        "PortInUse",
        "port 8000",
    ),
    Said(
        "log",
        "0.32.0",
        "  Value error, User-specified max_model_len (999999) is greater than the derived "
        "max_model_len (max_position_embeddings=8192.0 or model_max_length=None in model's "
        "config.json). To allow overriding this maximum",
        "MaxModelLenTooLong",
        "set spec.engine.maxModelLen to at most 8192",
    ),
    Said(
        "log",
        "0.20.0",
        "  Value error, max_num_batched_tokens (2048) is smaller than max_model_len (32768). This",
        "ArgumentRefused",
        "set spec.engine.maxNumBatchedTokens to at least 32768",
    ),
    Said(
        "log",
        "0.33.0",
        "TimeoutError: Timed out waiting for engine core processes to start. This is often caused "
        "by slow weight loading for large models. Waited 600s",
        "StartedTooSlowly",
        "spec.rollout.startupBudgetSeconds",
    ),
    Said(
        "log",
        "0.14.0",
        "KeyboardInterrupt: terminated",
        "StartedTooSlowly",
        "was stopped while it started",
    ),
    Said(
        "termination",
        "0.20.0",
        ended(137, "OOMKilled", ""),
        "OOMKilled",
        "spec.pod.resources.limits.memory",
    ),
    Said(
        "log",
        "0.20.0",
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for SchedulerConfig\n"
        "  Value error, something new must hold. [type=value_error, input_value=1]",
        "EngineRefused",
        "something new must hold",
    ),
    Said(
        "termination",
        "0.20.0",
        ended(
            127,
            "StartError",
            'runc create failed: exec: "vllm": executable file not found in $PATH: unknown',
        ),
        "ImageUnusable",
        "spec.engine.image",
    ),
    Said(
        "termination",
        "0.20.0",
        ended(128, "ContainerCannotRun", "error mounting the volume"),
        "ContainerNotStarted",
        "error mounting the volume",
    ),
    Said(
        "waiting",
        "0.20.0",
        'ImagePullBackOff: Back-off pulling image "vllm/vllm-openai:v9": ErrImagePull: failed to '
        "resolve reference: docker.io/vllm/vllm-openai:v9: not found",
        "ImagePullFailed",
        "correct spec.engine.image",
    ),
    Said(
        "waiting",
        "0.20.0",
        'ErrImagePull: failed to pull image "registry/private": pull access denied, repository '
        "does not exist or may require authorization",
        "ImagePullFailed",
        "spec.pod.imagePullSecrets",
    ),
    Said(
        "waiting",
        "0.20.0",
        'ImagePullBackOff: Back-off pulling image "vllm/vllm-openai:v9": ErrImagePull: '
        "toomanyrequests: You have reached your unauthenticated pull rate limit",
        "ImagePullFailed",
        "no more for now (toomanyrequests); name an account of the registry",
    ),
    Said(
        "waiting",
        "0.20.0",
        "ErrImagePull: failed to pull and unpack image: failed to extract layer: write "
        "/var/lib/containerd/a: no space left on device",
        "ImagePullFailed",
        "the node's disk has no room for the image",
    ),
    Said(
        "waiting",
        "0.20.0",
        "ErrImagePull: tls: failed to verify certificate: x509: certificate signed by unknown "
        "authority",
        "ImagePullFailed",
        "does not trust the registry's certificate (x509: certificate signed by unknown authority)",
    ),
    Said(
        "waiting",
        "0.20.0",
        "ErrImagePull: no match for platform in manifest sha256:ab: not found",
        "ImagePullFailed",
        "the image has no variant for the node's processor",
    ),
    Said(
        "waiting",
        "0.20.0",
        "ErrImagePull: dial tcp: i/o timeout",
        "ImagePullFailed",
        "dial tcp: i/o timeout",
    ),
    Said(
        "waiting",
        "0.20.0",
        'CreateContainerConfigError: secret "hf-token" not found',
        "SecretMissing",
        "there is no Secret hf-token",
    ),
    Said(
        "waiting",
        "0.20.0",
        "CreateContainerConfigError: couldn't find key token in Secret ai/hf-token",
        "SecretMissing",
        "Secret hf-token has no key token",
    ),
    Said(
        "waiting",
        "0.20.0",
        'CreateContainerConfigError: configmap "settings" not found',
        "ConfigMapMissing",
        "there is no ConfigMap settings",
    ),
    Said(
        "waiting",
        "0.20.0",
        "CreateContainerConfigError: couldn't find key a in ConfigMap ai/settings",
        "ConfigMapMissing",
        "ConfigMap settings has no key a",
    ),
    Said(
        "waiting",
        "0.20.0",
        "CreateContainerError: context deadline exceeded",
        "ContainerNotStarted",
        "context deadline exceeded",
    ),
    Said(
        "scheduling",
        "0.20.0",
        '0/3 nodes are available: persistentvolumeclaim "models" not found. preemption: 0/3',
        "VolumeClaimMissing",
        "there is no PersistentVolumeClaim models",
    ),
    Said(
        "scheduling",
        "0.20.0",
        '0/3 nodes are available: persistentvolumeclaim "models" is being deleted.',
        "VolumeClaimMissing",
        "is about to go",
    ),
    Said(
        "deployment",
        "0.20.0",
        'pods "qwen-7d-x" is forbidden: exceeded quota: gpus, requested: '
        "requests.nvidia.com/gpu=2, used: requests.nvidia.com/gpu=7, limited: "
        "requests.nvidia.com/gpu=8",
        "QuotaExceeded",
        "used requests.nvidia.com/gpu=7, limited to requests.nvidia.com/gpu=8",
    ),
    Said(
        "log",
        "0.30.0",
        f"{TRACEBACK}huggingface_hub.errors.HfHubHTTPError: 429 Client Error: Too Many Requests "
        "for url: https://huggingface.co/api/models/Qwen/Qwen3-8B/tree/main",
        "HubRateLimited",
        "give a token in spec.model.tokenSecretRef",
    ),
    Said(
        "log",
        "0.30.0",
        f"{TRACEBACK}httpx.ConnectError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify "
        "failed: unable to get local issuer certificate (_ssl.c:1017)\nOSError: We couldn't "
        "connect to 'https://huggingface.co' to load the files, and couldn't find them in the "
        "cached files.",
        "HubCertificateUntrusted",
        "SSL_CERT_FILE and REQUESTS_CA_BUNDLE in spec.engine.env",
    ),
    Said(
        "log",
        "0.10.0",
        f'{TRACEBACK}requests.exceptions.ProxyError: (MaxRetryError("HTTPSConnectionPool('
        "host='huggingface.co', port=443): Max retries exceeded with url: /api/models/a/b (Caused "
        "by ProxyError('Unable to connect to proxy', OSError('Tunnel connection failed: 407 Proxy "
        "Authentication Required')))\"), '(Request ID: 1)')",
        "ProxyDenied",
        "set HTTPS_PROXY in spec.engine.env",
    ),
    Said(
        "log",
        "0.30.0",
        f"{TRACEBACK}httpx.ProxyError: 403 Forbidden\nOSError: We couldn't connect to "
        "'https://huggingface.co' to load the files, and couldn't find them in the cached files.",
        "ProxyDenied",
        "have the proxy let the pods through",
    ),
    Said(
        "log",
        "0.30.0",
        f"{TRACEBACK}RuntimeError: Data processing error: CAS service error : ReqwestMiddleware "
        "Error: Request failed after 5 retries",
        "XetFailed",
        "set HF_HUB_DISABLE_XET=1 in spec.engine.env",
    ),
    Said(
        "log",
        "0.30.0",
        f"{TRACEBACK}botocore.exceptions.NoCredentialsError: Unable to locate credentials",
        "ModelAccessDenied",
        "name in spec.pod.serviceAccountName an account",
    ),
    Said(
        "log",
        "0.30.0",
        f"{TRACEBACK}google.auth.exceptions.DefaultCredentialsError: Your default credentials were "
        "not found. To set up Application Default Credentials, see",
        "ModelAccessDenied",
        "no rights on the bucket of spec.model.id",
    ),
    Said(
        "log",
        "0.30.0",
        f"{TRACEBACK}azure.core.exceptions.ClientAuthenticationError: DefaultAzureCredential "
        "failed to retrieve a token from the included credentials.",
        "ModelAccessDenied",
        "no rights on the bucket of spec.model.id",
    ),
    Said(
        "log",
        "0.30.0",
        f"{TRACEBACK}botocore.exceptions.ClientError: An error occurred (AccessDenied) when "
        "calling the ListObjectsV2 operation: User: arn:aws:sts::1:assumed-role/a is not "
        "authorized to perform: s3:ListBucket",
        "ModelAccessDenied",
        "answers AccessDenied; give the account of spec.pod.serviceAccountName the right",
    ),
    Said(
        "log",
        "0.30.0",
        f"{TRACEBACK}google.api_core.exceptions.Forbidden: 403 GET https://storage.googleapis.com/"
        "storage/v1/b/models/o: reader@team.iam.gserviceaccount.com does not have "
        "storage.objects.list access to the Google Cloud Storage bucket.",
        "ModelAccessDenied",
        "no right storage.objects.list on the bucket",
    ),
    Said(
        "log",
        "0.30.0",
        f"{TRACEBACK}ValueError: Could not send runai_request to libstreamer due to: b'File access "
        "error'",
        "ModelAccessDenied",
        "cannot read the weights of spec.model.id: File access error",
    ),
    Said(
        "log",
        "0.30.0",
        f"{TRACEBACK}Exception: Could not send runai_request to libstreamer due to: b'S3 not "
        "supported'",
        "EngineRefused",
        "the image has no library that reads the bucket",
    ),
    Said(
        "log",
        "0.30.0",
        f"{TRACEBACK}botocore.exceptions.EndpointConnectionError: Could not connect to the "
        'endpoint URL: "https://models.s3.eu-west-1.amazonaws.com/"',
        "HubUnreachable",
        "does not reach https://models.s3.eu-west-1.amazonaws.com/, where the bucket",
    ),
    Said(
        "log",
        "0.30.0",
        f"{TRACEBACK}botocore.exceptions.ClientError: An error occurred (PermanentRedirect) when "
        "calling the ListObjectsV2 operation: The bucket you are attempting to access must be "
        "addressed using the specified endpoint.",
        "ModelNotFound",
        "another region than the pod asks (PermanentRedirect); set AWS_REGION in spec.engine.env",
    ),
    Said(
        "log",
        "0.30.0",
        f"{TRACEBACK}botocore.errorfactory.NoSuchBucket: An error occurred (NoSuchBucket) when "
        "calling the ListObjectsV2 operation: The specified bucket does not exist",
        "ModelNotFound",
        "no such bucket or folder as spec.model.id names; correct spec.model.id",
    ),
    Said(
        "log",
        "0.30.0",
        f"{TRACEBACK}RuntimeError: Cannot find any safetensors model weights with "
        "`s3://models/qwen`",
        "ModelNotFound",
        "there are no *.safetensors in s3://models/qwen; correct spec.model.id",
    ),
    Said(
        "log",
        "0.30.0",
        f"{TRACEBACK}OSError: [Errno 116] Stale file handle: '/cache/hub/models--a--b/refs/main'",
        "StaleFileHandle",
        "let one replica fill the cache first",
    ),
    Said(
        "deployment",
        "0.20.0",
        'Pod "qwen-7d-x" is invalid: [spec.containers[0].resources.requests: Invalid value: "4": '
        "must be less than or equal to cpu limit of 1, spec.containers[0].resources.requests: "
        'Invalid value: "16Gi": must be less than or equal to memory limit of 512Mi]',
        "LimitRangeExceeded",
        "default limit of 1 cpu, and 4 are requested; set spec.pod.resources.limits.cpu",
    ),
    Said(
        "deployment",
        "0.20.0",
        'pods "qwen-7d-x" is forbidden: [maximum memory usage per Container is 8Gi, but limit is '
        "16Gi, maximum cpu usage per Container is 2, but limit is 4]",
        "LimitRangeExceeded",
        "refuses the pod: maximum memory usage per Container is 8Gi, but limit is 16Gi; set spec",
    ),
    Said(
        "deployment",
        "0.20.0",
        'pods "qwen-7d-" is forbidden: unable to validate against any security context constraint: '
        '[provider "restricted-v2": .spec.securityContext.fsGroup: Invalid value: []int64{65532}: '
        "65532 is not an allowed group]",
        "PodRefused",
        "leave them to the platform with spec.pod.identity: Platform",
    ),
    Said(
        "deployment",
        "0.20.0",
        'pods "qwen-7d-x" is forbidden: violates PodSecurity "restricted:latest": seccompProfile',
        "PodRefused",
        "seccompProfile",
    ),
    Said(
        "deployment",
        "0.20.0",
        'admission webhook "policy.example.com" denied the request: no limits',
        "PodRefused",
        "no limits",
    ),
    Said(
        "failed",
        "0.20.0",
        'Evicted: Usage of EmptyDir volume "cache" exceeds the limit "1Gi". ',
        "PodEvicted",
        'Usage of EmptyDir volume "cache" exceeds the limit "1Gi"; raise that limit',
    ),
    Said(
        "failed",
        "0.20.0",
        "Evicted: Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. ",
        "PodEvicted",
        "limit of containers 1Gi; raise that limit",
    ),
    Said(
        "failed",
        "0.20.0",
        "Evicted: The node was low on resource: memory. Threshold quantity: 100Mi, available: 9Mi. "
        "Container engine was using 17Gi, request is 16Gi, has larger consumption of memory. ",
        "PodEvicted",
        "low on resource: memory",
    ),
    Said(
        "failed",
        "0.20.0",
        "UnexpectedAdmissionError: Pod was rejected: Allocate failed due to no healthy devices "
        "present; cannot allocate unhealthy devices nvidia.com/gpu, which is unexpected",
        "PodRejected",
        "no healthy devices",
    ),
    Said(
        "deployment",
        "0.30.0",
        'pods "qwen-7d-" is forbidden: error looking up service account ai/typo: serviceaccount '
        '"typo" not found',
        "PodRefused",
        "there is no ServiceAccount typo",
    ),
    Said(
        "deployment",
        "0.30.0",
        'pods "qwen-7d-x" is forbidden: no PriorityClass with name typo was found',
        "PodRefused",
        "there is no PriorityClass typo",
    ),
    Said(
        "deployment",
        "0.30.0",
        'pods "qwen-7d-x" is forbidden: pod rejected: RuntimeClass "typo" not found',
        "PodRefused",
        "there is no RuntimeClass typo",
    ),
    Said(
        "deployment",
        "0.30.0",
        'Internal error occurred: failed calling webhook "pods.example.com": failed to call '
        'webhook: Post "https://hook.ai.svc:443/?timeout=10s": dial tcp: connection refused',
        "PodRefused",
        "the webhook pods.example.com, which is asked about every pod, does not answer",
    ),
    *(
        Said("event", "0.30.0", f"{reason}: {note}", told, means)
        for reason, note, means, told in EVENTS
    ),
    *(
        Said("log", "0.30.0", f"{TRACEBACK}{end}", reason, part, repair_of(reason))
        for end, reason, part in (*NETWORK, *LAUNCH)
    ),
    *(Said(seen, "0.30.0", text, reason, part) for seen, text, reason, part in NODES),
    Said(
        "deployment",
        "0.30.0",
        'pods "qwen-1" is forbidden: failed quota: all: must specify limits.cpu for: engine; '
        "limits.memory for: engine,mesh-init",
        "PodRefused",
        "ResourceQuota all counts what the pod does not say: limits.cpu for: engine; limits.memory "
        "for: engine,mesh-init; set it in spec.pod.resources",
    ),
    Said(
        "deployment",
        "0.30.0",
        'pods "qwen-1" is forbidden: insufficient quota to match these scopes: [{PriorityClass In '
        "[system-cluster-critical]}]",
        "PodRefused",
        "take back spec.pod.priorityClassName",
    ),
]


def known(said: Said) -> Failure:
    failure = known_failure(said.seen, said.text, Version.parse(said.version))
    assert failure is not None
    return failure


@pytest.mark.parametrize("said", TEXTS, ids=lambda said: f"{said.reason}: {said.message}"[:60])
def test_a_text_is_known_with_its_numbers_and_remedy(said: Said) -> None:
    failure = known(said)
    assert failure.reason == said.reason
    assert said.message in failure.message
    assert failure.repair == said.repair


@pytest.mark.parametrize("row", rows("failures.csv"), ids=lambda row: row["fragment"][:50])
def test_every_row_of_the_table_knows_a_text(row: dict[str, str]) -> None:
    texts = [said.text for said in TEXTS if said.seen in row["seen"].split(";")]
    assert any(re.search(row["fragment"], text) for text in texts)


def test_every_reason_of_the_table_is_a_condition_reason_and_no_other() -> None:
    own = {"EngineFailed", "EngineCrashed", "ContainerFailed"}
    assert {row["reason"] for row in rows("failures.csv")} | own == set(START_FAILURES)


def test_a_serving_log_is_no_failure() -> None:
    text = (
        "INFO 11-21 16:58:02 [gpu_worker.py:300] Available KV cache memory: 12.26 GiB\n"
        "WARNING Address already in use. Retrying with a new port.\n"
        "WARNING 11-21 16:58:02 [system_utils.py:330] Found ulimit of 1024 and failed to "
        "automatically increase with error current limit exceeds maximum limit. This can cause fd "
        "limit errors like `OSError: [Errno 24] Too many open files`. Consider increasing\n"
        "INFO Application startup complete.\n"
        "INFO Engine 000: Avg prompt throughput: 1.0 tokens/s, GPU KV cache usage: 1.0%\n"
    )
    assert known_failure("log", text, NEWEST_KNOWN) is None


def test_a_cause_is_reported_and_not_its_consequence() -> None:
    text = f"{CORE}ValueError: nobody knows this\nRuntimeError: Engine core initialization failed."
    assert last_error(text) == "ValueError: nobody knows this"
    assert last_error("RuntimeError: Engine core initialization failed.") is not None


def test_an_unknown_failure_says_how_the_engine_ended_and_its_last_error() -> None:
    failure = unknown_failure("module.OddError: strange", ended(1, "Error", ""))
    assert failure.reason == "EngineFailed"
    assert "exit code 1" in failure.message
    assert "module.OddError: strange" in failure.message
    assert failure.passes


def test_a_token_in_a_log_never_gets_into_a_message() -> None:
    failure = unknown_failure("ValueError: bad token hf_abcdefghijklmnop", "exit code 1")
    assert "hf_abcdefghijklmnop" not in failure.message


def test_a_long_line_is_cut() -> None:
    failure = unknown_failure("ValueError: " + "x" * 5000, "exit code 1")
    assert len(failure.message) < 500


def reason_of(log: str, version: str = "0.30.0") -> str | None:
    failure = known_failure("log", log, Version.parse(version))
    return None if failure is None else failure.reason


@pytest.mark.parametrize(
    ("warning", "error", "reason"),
    [
        (
            HUB_RETRY,
            "  Value error, The quantization method fp8 is not supported for the current GPU. "
            "Minimum capability: 75. Current capability: 70. [type=value_error",
            "QuantizationUnsupported",
        ),
        (
            "ERROR Error retrieving file list: 403 Client Error. (Request ID: 1), retrying 1 of "
            "2\n",
            "  Value error, Model architectures ['NewForCausalLM'] are not supported for now. "
            "Supported architectures: dict_keys(['ArceeForCausalLM'])",
            "ModelUnsupported",
        ),
        (
            "ERROR Error retrieving file list: 404 Client Error.\n\nRepository Not Found for url: "
            "https://huggingface.co/api/models/a/b., retrying 1 of 2\n",
            "RuntimeError: CUDA error: an illegal memory access was encountered",
            "GPUFailed",
        ),
        (
            "UserWarning: Not enough free disk space to download the file. The expected size\n",
            "  Value error, something new must hold. [type=value_error, input_value=1]",
            "EngineRefused",
        ),
        (
            "WARNING User-specified max_model_len (65536) is greater than the derived "
            "max_model_len (max_position_embeddings=32768.0 or model_max_length=None in model's "
            "config.json).\n",
            "  Value error, something new must hold. [type=value_error, input_value=1]",
            "EngineRefused",
        ),
        (
            "UserWarning: NVIDIA GB10 with CUDA capability sm_121 is not compatible with the "
            "current PyTorch installation.\n",
            "OSError: [Errno 28] No space left on device: '/cache/huggingface/hub/blobs/1'",
            "VolumeFull",
        ),
    ],
    ids=lambda text: text[:40],
)
def test_a_warning_hides_no_cause(warning: str, error: str, reason: str) -> None:
    assert reason_of(f"{warning}{TRACEBACK}{error}\n") == reason


def test_a_warning_before_an_error_that_nobody_knows_is_no_cause() -> None:
    assert reason_of(f"{AUTOTUNER}{TRACEBACK}{NCCL}\n") is None
    assert last_error(f"{AUTOTUNER}{TRACEBACK}{NCCL}\n") == NCCL


@pytest.mark.parametrize(
    "survived",
    [
        "ModuleNotFoundError: No module named 'optional'",
        "ImportError: libnvshmem_host.so.3: cannot open shared object file: No such file",
        "FileNotFoundError: [Errno 2] No such file or directory: '/etc/plugin.json'",
    ],
)
def test_what_is_missing_is_the_cause_only_where_no_other_error_comes_after_it(
    survived: str,
) -> None:
    log = (
        f"{TRACEBACK}{survived}\n{TRACEBACK}{{}}\nRuntimeError: Engine core initialization failed."
    )
    assert reason_of(log.format("ValueError: nobody knows this")) is None
    assert reason_of(log.format(survived)) in ("ImageUnusable", "ArgumentRefused")


def test_a_weak_text_counts_where_it_stands_in_the_traceback() -> None:
    assert reason_of(f"{HUB_RETRY}{TRACEBACK}{HUB_RETRY}") == "HubUnreachable"


def test_of_weak_texts_the_last_one_of_the_log_is_the_cause() -> None:
    denied = "PermissionError: [Errno 13] Permission denied: '/cache/vllm'\n"
    full = "OSError: [Errno 28] No space left on device: '/cache/huggingface'\n"
    assert reason_of(f"{TRACEBACK}{denied}{TRACEBACK}{full}") == "VolumeFull"
    assert reason_of(f"{TRACEBACK}{full}{TRACEBACK}{denied}") == "PermissionDenied"


def test_why_the_hub_is_not_reached_is_told_and_not_that_it_is_not() -> None:
    denied = "huggingface_hub.errors.HfHubHTTPError: 403 Client Error: Forbidden for url: a"
    assert reason_of(f"{TRACEBACK}{denied}{UNREACHED}") == "ModelAccessDenied"
    assert reason_of(f"{denied}{TRACEBACK}{UNREACHED}") == "HubUnreachable"


def test_what_comes_after_the_hub_was_not_reached_is_the_cause() -> None:
    full = "OSError: [Errno 28] No space left on device: '/cache/huggingface'\n"
    denied = "httpx.HTTPStatusError: Client error '403 Forbidden' for url 'a'"
    assert reason_of(f"{TRACEBACK}{denied}{UNREACHED}{TRACEBACK}{full}") == "VolumeFull"


def test_the_last_of_several_matches_gives_a_weak_failure_its_numbers() -> None:
    first, second = (f"PermissionError: [Errno 13] Permission denied: '/{n}'\n" for n in "ab")
    failure = known_failure("log", f"{TRACEBACK}{first}{second}", NEWEST_KNOWN)
    assert failure is not None
    assert failure.numbers["path"] == "/b"


@pytest.mark.parametrize(
    "consequence",
    [
        "KeyboardInterrupt: terminated\n",
        "TimeoutError: Timed out waiting for engine core processes to start. Waited 600s\n",
        "  Value error, Invalid repository ID or local directory specified: 'a/b'.\n",
        "  Value error, An error happened while trying to locate the file on the Hub [type=value\n",
    ],
)
def test_a_consequence_that_stands_last_hides_no_cause(consequence: str) -> None:
    log = f"{TRACEBACK}{HUB_RETRY}{TRACEBACK}{consequence}"
    assert reason_of(log) == "HubUnreachable"


def test_a_failure_says_whether_more_of_the_log_may_tell_another() -> None:
    for text, weak in ((HUB_RETRY, True), ("KeyboardInterrupt: terminated", True), (TRIED, True)):
        failure = known_failure("log", text, NEWEST_KNOWN)
        assert failure is not None
        assert failure.weak is weak
    failure = known_failure("log", traceback("load_model"), NEWEST_KNOWN)
    assert failure is not None
    assert not failure.weak
