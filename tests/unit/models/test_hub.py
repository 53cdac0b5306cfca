"""The Hub's answers become facts or the right kind of failure; a local server plays the Hub."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from vllm_operator.errors import ModelAccessDenied, TemporaryFailure, UnknownModel
from vllm_operator.models import hub

CONFIG = {"architectures": ["LlamaForCausalLM"], "hidden_size": 4096}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Answers as the Hub does for the repositories that the tests name."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.tokens: list[str | None] = []
        self.paths: list[str] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class HubHandler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.tokens.append(self.headers.get("Authorization"))
        self.server.paths.append(self.path)
        path = self.path.partition("?")[0]
        if "missing/model" in path:
            self.answer(404, {"error": "not found"}, code="RepoNotFound")
        elif "private/model" in path:
            self.answer(401, {"error": "Repository not found"}, code="RepoNotFound")
        elif "gated/model" in path:
            self.answer(403, {"error": "gated"}, code="GatedRepo")
        elif "refused/model" in path:
            self.answer(403, {"error": "no"})
        elif "broken/model" in path:
            self.answer(503, {"error": "later"})
        elif "busy/model" in path:
            self.answer(429, {"error": "slow down"})
        elif "bare/model" in path and "resolve" in path:
            self.answer(404, {"error": "no file"}, code="EntryNotFound")
        elif "norevision" in path:
            self.answer(404, {"error": "no revision"}, code="RevisionNotFound")
        elif "html/model" in path and "resolve" in path:
            self.answer_text(200, "<html>")
        elif path.endswith("modules.json"):
            self.answer(
                200, [{"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"}]
            )
        elif path.endswith("hf_quant_config.json"):
            self.answer(200, {"quantization": {"quant_algo": "FP8"}})
        elif "/resolve/" in path:
            self.answer(200, CONFIG)
        elif "exotic/model" in path:
            self.info({"parameters": {"X13": 4}, "total": 4})
        elif "pickled/model" in path:
            self.info(None)
        elif "pooled/model" in path:
            self.info(None, "config.json", "modules.json")
        elif "modelopt/model" in path:
            self.info(None, "config.json", "hf_quant_config.json")
        else:
            self.info({"parameters": {"BF16": 1000, "F32": 10}, "total": 1010})

    def info(self, safetensors: object, *names: str) -> None:
        document: dict[str, object] = {"id": "org/model", "sha": COMMIT}
        document["siblings"] = [{"rfilename": name} for name in names]
        if safetensors is not None:
            document["safetensors"] = safetensors
        self.answer(200, document)

    def answer(self, status: int, document: object, code: str | None = None) -> None:
        self.answer_text(status, json.dumps(document), code)

    def answer_text(self, status: int, text: str, code: str | None = None) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Repo-Commit", COMMIT)
        if code:
            self.send_header("X-Error-Code", code)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def local_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    served = Hub()
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", served.endpoint)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    yield served
    served.shutdown()
    served.server_close()
    thread.join()


def test_a_repository_gives_its_config_and_the_bytes_of_its_tensors(local_hub: Hub):
    facts = hub.fetch("org/model", None)
    assert (facts.config, facts.weight_bytes, facts.source) == (CONFIG, 2040, "hub")


def test_a_repository_with_a_pooling_module_is_served_by_the_pooling_runner(local_hub: Hub):
    assert hub.fetch("pooled/model", None).config == {**CONFIG, "runner": "pooling"}


def test_what_modelopt_wrote_beside_the_config_is_read(local_hub: Hub):
    config = hub.fetch("modelopt/model", None).config
    assert config["quantization_config"] == {"quantization": {"quant_algo": "FP8"}}


def test_files_that_a_repository_does_not_have_are_not_asked_for(local_hub: Hub):
    hub.fetch("org/model", None)
    assert len(local_hub.paths) == 2


def test_a_revision_is_asked_for(local_hub: Hub):
    hub.fetch("org/model", "v1.2")
    assert any("/resolve/v1.2/config.json" in path for path in local_hub.paths)
    assert any("/revision/v1.2" in path for path in local_hub.paths)


def test_a_token_is_sent(local_hub: Hub):
    hub.fetch("org/model", None, "hf_secret")
    assert set(local_hub.tokens) == {"Bearer hf_secret"}


def test_without_a_token_none_is_sent_whatever_the_machine_has(
    local_hub: Hub, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_machine")
    hub.fetch("org/model", None)
    assert set(local_hub.tokens) == {None}


@pytest.mark.parametrize("model", ["exotic/model", "pickled/model"])
def test_a_size_that_the_hub_cannot_tell_is_none(local_hub: Hub, model: str):
    assert hub.fetch(model, None).weight_bytes is None


@pytest.mark.parametrize("model", ["missing/model", "private/model"])
def test_a_repository_that_is_not_shown_at_all_is_unknown(local_hub: Hub, model: str):
    with pytest.raises(UnknownModel, match="no public repository"):
        hub.fetch(model, None)


def test_a_repository_without_config_is_unknown(local_hub: Hub):
    with pytest.raises(UnknownModel, match=r"no config\.json"):
        hub.fetch("bare/model", None)


def test_an_unknown_revision_points_to_the_revision(local_hub: Hub):
    with pytest.raises(UnknownModel) as refusal:
        hub.fetch("org/model", "norevision")
    assert refusal.value.field == "spec.model.revision"


@pytest.mark.parametrize("model", ["gated/model", "refused/model"])
def test_a_gated_repository_is_denied_and_the_message_says_what_to_give(local_hub: Hub, model: str):
    with pytest.raises(ModelAccessDenied, match=r"spec\.model\.config"):
        hub.fetch(model, None)


def test_a_config_that_is_no_json_is_unknown(local_hub: Hub):
    with pytest.raises(UnknownModel):
        hub.fetch("html/model", None)


@pytest.mark.parametrize("model", ["broken/model", "busy/model"])
def test_an_outage_of_the_hub_may_pass(local_hub: Hub, model: str):
    with pytest.raises(TemporaryFailure):
        hub.fetch(model, None)


def test_a_hub_that_cannot_be_reached_may_come_back(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with pytest.raises(TemporaryFailure, match="cannot be reached"):
        hub.fetch("org/model", None)


def test_offline_mode_asks_nobody_and_says_what_to_set(
    local_hub: Hub, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UnknownModel, match=r"spec\.model\.config"):
        hub.fetch("org/model", None)
    assert local_hub.paths == []
