"""Files are read strictly, and what cannot be read is told in one line."""

import re
from pathlib import Path

import pytest

from vllm_operator.cli.documents import read_documents, read_manifests, read_nodes
from vllm_operator.errors import InputError

SERVER = """
apiVersion: vllm-operator.io/v1alpha1
kind: VLLMServer
metadata: {name: chat}
spec: {model: {id: a/b}}
"""


@pytest.fixture
def write(tmp_path: Path):
    def written(text: str) -> str:
        path = tmp_path / "manifest.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return written


def test_documents_come_in_order_and_empty_ones_are_passed_over(write):
    path = write(f"---\n{SERVER}---\n---\n{SERVER.replace('chat', 'other')}")
    assert [s["metadata"]["name"] for s in read_manifests(path).servers] == ["chat", "other"]


def test_config_maps_of_the_file_are_found_by_namespace_and_name(write):
    config_map = (
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: facts, namespace: ai}\ndata: {a: b}\n"
    )
    path = write(f"{SERVER}---\n{config_map}")
    assert read_manifests(path).config_maps == {("ai", "facts"): {"a": "b"}}


def test_other_kinds_beside_a_server_are_passed_over(write):
    path = write(f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: ai}}\n---\n{SERVER}")
    assert len(read_manifests(path).servers) == 1


def test_a_list_is_read_as_its_items(write):
    items = "\n".join(f"  {line}" for line in SERVER.strip().splitlines())
    path = write(f"apiVersion: v1\nkind: List\nitems:\n- {items.strip()}\n")
    assert len(read_manifests(path).servers) == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds nothing"),
        ("apiVersion: apps/v1\nkind: Deployment\n", "only Deployment"),
        ("a: [1\n", "line 2"),
        ("- 1\n", "is no object"),
        ("just text\n", "is no object"),
        ("kind: VLLMServer\n", "no apiVersion and kind"),
        (SERVER.replace("VLLMServer", "VLLMServr"), "VLLMServr"),
        (SERVER.replace("v1alpha1", "v1"), "vllm-operator.io/v1"),
        (SERVER.replace("vllm-operator.io/v1alpha1", "v1"), "is a VLLMServer of v1"),
        (SERVER + "spec: {model: {id: c/d}}\n", "'spec' stands there twice"),
        (SERVER + "on: 1\n", "'on' is read as True"),
        (SERVER + "extra: .nan\n", "nan is no number"),
        (SERVER + "extra: !!binary aGVsbG8=\n", "bytes"),
        (SERVER + "extra: !!python/object:os.system {}\n", "could not determine"),
        (SERVER + "extra: &loop [*loop]\n", "once its anchors are resolved"),
        ("\t\n", "line 1"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(write, text: str, told: str):
    with pytest.raises(InputError) as refusal:
        read_manifests(write(text))
    message = str(refusal.value)
    assert told in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ("- a\n", "is no object: it is a list"),
        ("kind: VLLMServer\n", "has no apiVersion and kind; a server has"),
        ("apiVersion: vllm-operator.io/v1\nkind: VLLMServer\n", "is a VLLMServer of"),
        ("apiVersion: vllm-operator.io/v1alpha1\nkind: Server\n", "is a Server of"),
        ("apiVersion: apps/v1\nkind: VLLMServer\n", "is a VLLMServer of apps/v1"),
    ],
)
@pytest.mark.parametrize("before", [0, 2])
def test_a_bad_document_is_told_by_its_number_from_one_on(write, bad: str, told: str, before: int):
    path = write("---\n".join([*[SERVER] * before, bad]))
    with pytest.raises(InputError, match=f": document {before + 1} {re.escape(told)}"):
        read_manifests(path)


def test_a_file_that_is_not_there_is_told_by_name(tmp_path: Path):
    with pytest.raises(InputError, match=r"nowhere\.yaml: No such file"):
        read_manifests(str(tmp_path / "nowhere.yaml"))


def test_bytes_that_are_no_text_are_told(tmp_path: Path):
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not UTF-8"):
        read_manifests(str(path))


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("1e-06", 1e-06),
        ("1.5", 1.5),
        ("0.30.0", "0.30.0"),
        ("2024-01-01", "2024-01-01"),
        ("1:30", "1:30"),
        ("010", "010"),
        ("0x10", 16),
        ("-7", -7),
        ("1_000", "1_000"),
        ("yes", True),
        ("~", None),
    ],
)
def test_scalars_are_read_as_kubernetes_reads_them(write, written: str, read: object):
    (document,) = read_documents(write(f"value: {written}\n"))
    assert document == {"value": read}


def test_merge_keys_work(write):
    (document,) = read_documents(write("base: &b {x: 1}\nuse: {<<: *b, y: 2}\n"))
    assert document["use"] == {"x": 1, "y": 2}


@pytest.mark.parametrize(
    "text",
    [
        "- {kind: Node}\n- {kind: Node}\n",
        "{kind: Node}\n---\n{kind: Node}\n",
        '{"kind": "List", "items": [{"kind": "Node"}, {"kind": "Node"}]}',
        '{"kind": "NodeList", "items": [{"kind": "Node"}, {}]}',
    ],
)
def test_nodes_are_read_in_every_form_that_kubectl_prints(write, text: str):
    assert len(read_nodes(write(text))) == 2


def test_something_else_than_nodes_is_told(write):
    with pytest.raises(InputError, match="expected objects of kind Node, and found Pod"):
        read_nodes(write("- {kind: Pod}\n"))
