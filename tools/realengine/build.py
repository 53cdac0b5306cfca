"""Builds vLLM's own models without their weights; run by the interpreter of an environment.

vLLM's model classes are made on PyTorch's meta device, which keeps shapes and no values, as the
first rank of several tensor-parallel sizes: what a rank holds is read off its parameters. The ranks
are played: layers ask the tensor-parallel group for its size, and nothing is ever sent.

Standard input: a JSON object with `sizes`, tensor-parallel sizes, `configs`, one `config.json`
each, and `encoder`, what `--mm-encoder-tp-mode` says (`weights` where it is left out). The last
line of standard output: a JSON list with an object for each config, which has by
size the bytes of the rank's parameters, null where vLLM refuses the size.
"""

import copy
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"
# A kernel of Kimi Linear that holds nothing, and whose package the CPU build does not have.
os.environ["VLLM_KIMI_K3_GEMM_AR"] = "0"


import torch  # type: ignore[import-not-found]
from vllm.config import set_current_vllm_config  # type: ignore[import-not-found]
from vllm.distributed import parallel_state  # type: ignore[import-not-found]
from vllm.engine.arg_utils import EngineArgs  # type: ignore[import-not-found]
from vllm.model_executor.layers.fused_moe import (  # type: ignore[import-not-found]
    unquantized_fused_moe_method as moe_method,
)
from vllm.model_executor.layers.fused_moe.activation import (  # type: ignore[import-not-found]
    MoEActivation,
)
from vllm.model_executor.model_loader.utils import (  # type: ignore[import-not-found]
    initialize_model,
)
from vllm.model_executor.models import registry  # type: ignore[import-not-found]

# Looked up in a process of its own for each architecture otherwise, which takes seconds.
registry._LazyRegisteredModel.inspect_model_cls = lambda self: registry._ModelInfo.from_model_cls(
    self.load_model_cls()
)


class _Anything(type):
    """A class of which whatever is asked for is nothing."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)


class _Nothing(types.ModuleType):
    """A module of which whatever is asked for is a class."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything(name, (), {})


class _Missing(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds torchvision, which prepares pictures: models import it, the CPU build does not have it,
    and no layer is made of it."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name.partition(".")[0] != "torchvision":
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: Any) -> types.ModuleType:
        module = _Nothing(spec.name)
        module.__path__ = []
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        pass


# Behind transformers' own look for it, which would use it otherwise.
if importlib.util.find_spec("torchvision") is None:
    sys.meta_path.append(_Missing())

SELECT = moe_method.select_unquantized_moe_backend


def select_backend(moe_config: Any) -> Any:
    """A kernel for experts, as if they had the usual activation: others change no shape, and CPUs
    have no kernel for some."""
    usual = copy.copy(moe_config)
    usual.activation = MoEActivation.SILU
    return SELECT(usual)


moe_method.select_unquantized_moe_backend = select_backend

# What models run beside each other on a GPU; no layer is made of it.
torch.cuda.Stream = torch.cuda.Event = _Anything("Unused", (), {})

REMOTE = {
    "internlm2", "internlm3", "exaone", "minicpm", "bailing_moe", "bailing_moe_v2", "mimo",
    "deepseek", "solar", "orion", "step1", "telechat", "teleflm", "plamo3", "pangu", "param2moe",
    "sarvam_moe", "sarvam_mla", "AXK1",
}  # fmt: skip
"""Types whose config class lies in the models' own repositories: one that holds what the config
says stands for it."""
NAMES = {
    "exaone": {"num_hidden_layers": "num_layers"},
    "telechat": {"num_hidden_layers": "n_layer", "num_attention_heads": "n_head"},
}
"""What the classes of some of them call a fact otherwise."""
STUB = """
from transformers import PretrainedConfig


class StubConfig(PretrainedConfig):
    model_type = {model_type!r}
    attribute_map = {names!r}
    embedding_dropout = 0.0
{facts}
"""


def write(config: dict[str, Any], place: Path) -> None:
    """A model's folder without weights and tokenizer."""
    kind = config["model_type"]
    if kind in REMOTE:
        names = NAMES.get(kind, {})
        apart = {"model_type", "architectures", "torch_dtype", *names.values()}
        facts = [f"    {name} = {value!r}" for name, value in config.items() if name not in apart]
        stub = STUB.format(model_type=kind, names=names, facts="\n".join(facts))
        (place / "configuration_stub.py").write_text(stub)
        config = {**config, "auto_map": {"AutoConfig": "configuration_stub.StubConfig"}}
    (place / "config.json").write_text(json.dumps(config))


def engine_config(place: Path, encoder: str = "weights") -> Any:
    """vLLM's configuration for a server of the model."""
    return EngineArgs(
        model=str(place),
        skip_tokenizer_init=True,
        trust_remote_code=True,
        load_format="dummy",
        enforce_eager=True,
        max_model_len=1024,
        dtype="bfloat16",
        kv_cache_memory_bytes=10**9,
        # On CPUs recurrent layers beside latent attention are refused with it.
        enable_prefix_caching=False,
        mm_encoder_tp_mode=encoder,
    ).create_engine_config()


def start_group(config: Any, store: Path) -> None:
    """The groups of one process, which plays the first rank of any size."""
    with set_current_vllm_config(config):
        parallel_state.init_distributed_environment(1, 0, f"file://{store}", 0, "gloo")
        parallel_state.initialize_model_parallel(1, 1)
    # Mixtures of experts ask for a group of their own.
    parallel_state._EP = parallel_state.get_tp_group()


def rank_bytes(config: Any, size: int) -> int | None:
    """Bytes of the parameters on the first of `size` ranks, None where vLLM refuses the size."""
    group = parallel_state.get_tp_group()
    group.world_size = config.parallel_config.tensor_parallel_size = size
    torch.set_default_dtype(torch.bfloat16)
    try:
        with set_current_vllm_config(config):
            try:
                with torch.device("meta"):
                    model = initialize_model(config)
            except NotImplementedError:  # it reads a value while it is made: a small one may
                config.compilation_config.static_forward_context.clear()
                with torch.device("cpu"):
                    model = initialize_model(config)
    except (AssertionError, ValueError):
        return None
    finally:
        group.world_size = 1
    parameters = {id(one): one for one in model.parameters()}
    held: int = sum(one.numel() * one.element_size() for one in parameters.values())
    return held


def build(
    configs: list[dict[str, Any]], sizes: list[int], encoder: str = "weights"
) -> list[dict[str, int | None]]:
    """What a rank of each model holds, by tensor-parallel size."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for number, one in enumerate(configs):
            place = Path(folder, str(number))
            place.mkdir()
            write(one, place)
            if not number:
                start_group(engine_config(place), Path(folder, "store"))
            found.append(
                {str(size): rank_bytes(engine_config(place, encoder), size) for size in sizes}
            )
    return found


if __name__ == "__main__":
    given = json.load(sys.stdin)
    sys.stdout.write(
        json.dumps(build(given["configs"], given["sizes"], given.get("encoder", "weights"))) + "\n"
    )
