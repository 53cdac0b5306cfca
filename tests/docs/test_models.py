"""The table of vLLM's architectures says what the readers do."""

from pathlib import Path

from docs.support import DOCS
from realengine import raises, served
from vllm_operator.engine.tables import rows
from vllm_operator.models.drafts import EAGLE_ARCHITECTURES
from vllm_operator.models.families import FAMILIES

SIZING = Path(DOCS / "sizing.md").read_text(encoding="utf-8")


def test_the_page_is_what_the_tables_make_of_it() -> None:
    text = (DOCS / "models.md").read_text(encoding="utf-8")
    assert text == "\n".join(served.page()) + "\n", "docs/models.md is old: run 'make generate'"


def test_every_architecture_that_is_read_by_no_reader_says_why_or_as_what() -> None:
    silent = [row["architecture"] for row in served.rows() if not served.state(row)[1]]
    assert silent == []


def test_only_drafts_are_read_by_a_note() -> None:
    noted = {row["kind"] for row in served.rows() if row["note"].startswith("read ")}
    assert noted == {"draft"}


def test_every_head_that_is_read_is_called_so() -> None:
    told = {row["architecture"] for row in served.rows() if row["note"].endswith("eagle, eagle3")}
    assert told <= EAGLE_ARCHITECTURES


def test_every_reader_is_of_an_architecture_that_vllm_has() -> None:
    known = {row["architecture"] for row in served.rows()}
    # One that a release served without its registry's knowing it (see its row).
    assert set(FAMILIES) - known == {"LlavaLlamaForCausalLM"}
    newest = {row["architecture"] for row in rows("architectures.csv") if not row["until"]}
    assert newest == set(FAMILIES)


def test_sizing_says_how_many_are_read() -> None:
    read = sum(served.state(row)[0] == "yes" for row in served.rows())
    assert f"{read} of the {len(served.rows())} architectures" in SIZING


def test_sizing_says_how_many_refusals_there_are_and_how_many_are_covered() -> None:
    of = raises.counts()
    told = f"of {of['all']} places a specification can reach {of['spec']}, of which {of['covered']}"
    assert told in SIZING
    assert f"; {of['refused']} are behind flags and keys" in SIZING
    assert f", and {of['never']} no specification reaches" in SIZING
