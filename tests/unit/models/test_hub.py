"""The Hub's answers become facts or the right kind of failure; a local server plays the Hub."""

from collections.abc import Iterator

import pytest

from support.hub import CONFIG, Hub, playing_hub
from vllm_operator.errors import ModelAccessDenied, TemporaryFailure, UnknownModel
from vllm_operator.models import hub


@pytest.fixture
def local_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    with playing_hub() as served:
        monkeypatch.setenv("HF_ENDPOINT", served.endpoint)
        yield served


def test_a_repository_gives_its_config_and_the_bytes_of_its_tensors(local_hub: Hub):
    facts = hub.fetch("org/model", None)
    assert (facts.config, facts.weight_bytes, facts.source) == (CONFIG, 2040, "hub")


def test_an_element_has_the_bits_of_its_type(local_hub: Hub):
    bits = {
        **dict.fromkeys(("F64", "I64", "U64"), 64),
        **dict.fromkeys(("F32", "I32", "U32"), 32),
        **dict.fromkeys(("BF16", "F16", "I16", "U16"), 16),
        **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "I8", "U8", "BOOL"), 8),
        "F4": 4,
    }
    found = {kind: hub.fetch(f"typed/{kind}", None).weight_bytes for kind in bits}
    assert found == {kind: 1000 * each // 8 for kind, each in bits.items()}


@pytest.mark.parametrize("size", [1_000_000, 1_000_001])
def test_a_file_of_a_megabyte_is_read_and_a_larger_one_refused(local_hub: Hub, size: int):
    local_hub.padding = size
    if size > 1_000_000:
        with pytest.raises(UnknownModel, match="more than 1000000 bytes"):
            hub.fetch("org/model", None)
    else:
        assert hub.fetch("org/model", None).config["hidden_size"] == 4096


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


def test_a_rate_limit_is_told_with_what_raises_it(local_hub: Hub):
    with pytest.raises(TemporaryFailure, match=r"429 .*hub\.tokenSecret .*spec\.model\.config"):
        hub.fetch("busy/model", None)


def refused_with(monkeypatch: pytest.MonkeyPatch, words: str) -> str:
    """What is told where the client raises an error with these words."""

    def refuse(*_: object) -> None:
        raise OSError(words)

    monkeypatch.setattr(hub, "_text", refuse)
    with pytest.raises(TemporaryFailure) as failure:
        hub.fetch("org/model", None)
    return failure.value.message


@pytest.mark.usefixtures("local_hub")
def test_a_certificate_that_is_not_trusted_is_told_with_where_to_name_its_authority(
    monkeypatch: pytest.MonkeyPatch,
):
    words = "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate"
    message = refused_with(monkeypatch, words)
    assert words in message
    assert "SSL_CERT_FILE (extraEnv), or give the facts in spec.model.config" in message


@pytest.mark.usefixtures("local_hub")
def test_a_proxy_that_wants_a_password_is_told_with_where_to_give_it(
    monkeypatch: pytest.MonkeyPatch,
):
    message = refused_with(monkeypatch, "407 Proxy Authentication Required")
    assert "HTTPS_PROXY (extraEnv in the chart's values)" in message


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
