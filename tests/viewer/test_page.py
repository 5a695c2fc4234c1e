"""The page: valid, complete, offline, and every text comes back as it went in."""

import json
from html.parser import HTMLParser
from importlib import resources

import pytest

from sparse_jax.viewer import page
from sparse_jax.viewer.drawing import TaskCircuit
from sparse_jax.viewer.page import SCRIPTS, embedded, write_report
from sparse_jax.viewer.payload import gather

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!-- <script>",
    "<|endoftext|>",
    "{{data}} {{script}} \\1 \\g<0> $& %s",
    "'\"`\\ & &amp; \u2028\u2029\x00\t\r\n",
    "caf\u00e9 \U0001f600 \udc80",
]
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Reader(HTMLParser):
    """Checks that elements nest and collects what the tests ask about."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.texts, self.addresses, self.ids = [], {}, [], []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.addresses += [v for k, v in attributes.items() if k in ("src", "href", "action", "srcset")]
        self.ids += [attributes["id"]] if "id" in attributes else []
        if tag not in VOID:
            self.open.append((tag, attributes.get("id", "")))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1][0] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data):
        place = self.open[-1] if self.open else ("", "")
        self.texts[place] = self.texts.get(place, "") + data


NO_TABLE = {"rows": [], "mean": None, "tasks": []}


def read(path):
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    assert reader.open == []
    return reader


def found(text):
    return {"before": text, "token": text, "after": text, "value": 1.0}


@pytest.fixture
def payload(circuit):
    text = "".join(HOSTILE)
    told = {node.name: [found(text) for text in HOSTILE] for node in circuit.nodes}
    table = {**NO_TABLE, "rows": [{"task": text, "sparse": {"edges": 3, "reached": True}}]}
    runs = {text: [{"step": 0, "loss": 2.0}, {"step": 1, "loss": None}]}
    return gather(text, {text: text}, 0.15, table, runs, [TaskCircuit(text, "sparse", circuit, told)])


def test_data_comes_back_from_the_page_as_it_went_in(tmp_path, payload):
    path = tmp_path / "deep" / "report.html"
    write_report(path, payload)
    reader = read(path)
    assert json.loads(reader.texts["script", "data"]) == payload
    assert set(HOSTILE) <= set(payload["texts"])
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_hostile_texts_stay_texts(tmp_path, payload):
    write_report(tmp_path / "hostile.html", payload)
    plain = gather("Title", {}, 0.15, NO_TABLE, {}, [])
    write_report(tmp_path / "plain.html", plain)
    hostile, harmless = read(tmp_path / "hostile.html"), read(tmp_path / "plain.html")
    assert hostile.ids == harmless.ids and len(set(harmless.ids)) == len(harmless.ids)
    assert hostile.texts["script", ""] == harmless.texts["script", ""]
    assert "</script><script>alert(1)</script>" in hostile.texts["title", ""]


def test_page_needs_nothing_else(tmp_path):
    write_report(tmp_path / "plain.html", gather("Title", {}, 0.15, NO_TABLE, {}, []))
    text = (tmp_path / "plain.html").read_text()
    assert all(address.startswith(("#", "data:")) for address in read(tmp_path / "plain.html").addresses)
    for loader in ("@import", "url(", "fetch(", "XMLHttpRequest", "import(", "innerHTML"):
        assert loader not in text, loader
    assert "default-src 'none'" in text
    assert "{{" not in text


def test_every_place_that_the_script_fills_is_on_the_page(tmp_path):
    write_report(tmp_path / "plain.html", gather("Title", {}, 0.15, NO_TABLE, {}, []))
    reader = read(tmp_path / "plain.html")
    assert {"data", "tiles", "table", "curves", "tasks", "provenance"} <= set(reader.ids)


def test_every_template_file_is_used():
    folder = resources.files(page.__package__).joinpath("template")
    assert {file.name for file in folder.iterdir()} == {*SCRIPTS, "page.html", "page.css"}


def test_a_failed_write_leaves_the_old_page(tmp_path, payload):
    path = tmp_path / "report.html"
    write_report(path, payload)
    before = path.read_bytes()
    with pytest.raises(ValueError):
        write_report(path, payload | {"target": float("nan")})
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize("text", HOSTILE)
def test_embedded_json_has_no_markup(text):
    found = embedded({"text": text})
    assert found.isascii() and not set("<>&") & set(found)
    assert json.loads(found) == {"text": text}
