import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparse_jax.data.text import LARGEST_PIECE, LEAST_PIECES, list_texts, read_texts
from sparse_jax.inputs import InputError

WORDS = st.text(st.characters(codec="utf-8"), max_size=30)


def read(path):
    skipped = {}
    return [d.text for d in read_texts(list_texts([str(path)]), skipped)], skipped


@given(st.lists(WORDS, min_size=1))
def test_pieces_of_plain_text_make_up_the_text_again(lines):
    text = "\n".join(["begin", *lines])
    with TemporaryDirectory() as folder:
        path = Path(folder, "x.txt")
        path.write_bytes(text.encode())
        skipped = {}
        pieces = list(read_texts(list_texts([str(path)]), skipped))
    joined = "".join(piece.text for piece in pieces)
    if skipped:  # pieces of white space only
        assert "".join(joined.split()) == "".join(text.split())
    else:
        assert joined == text


def test_pieces_end_at_line_ends_and_are_many(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("".join(f"line {i:04}\n" for i in range(400)))
    pieces, _ = read(path)
    assert len(pieces) >= LEAST_PIECES
    assert all(piece.endswith("\n") for piece in pieces)


def test_no_piece_is_too_long(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("word " * 200_000)
    pieces, _ = read(path)
    assert "".join(pieces) == "word " * 200_000
    assert max(map(len, pieces)) == LARGEST_PIECE


def test_pieces_say_where_they_begin(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("".join(f"{i}\n" for i in range(1, 200)))
    for document in read_texts([path], {}):
        assert document.origin == f"x.txt:{document.text.splitlines()[0]}"


@pytest.mark.parametrize("suffix", [".jsonl", ".ndjson", ".json"])
def test_json_lines(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    rows = [{"text": "one\n"}, {"text": "dvě", "id": 2}, {"text": " "}]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    assert read(path) == (["one\n", "dvě"], {"is empty": [f"x{suffix}:3"]})


def test_a_byte_order_mark_is_no_text(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "a"}\n')
    assert read(path)[0] == ["a"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "a"', r"line 3, column 13: not JSON"),
        ("hello", r"line 3, column 1: not JSON"),
        ("[1]", r"line 3: a JSON list; valid: an object"),
        ('"text"', r"line 3: a JSON str; valid: an object"),
        ('{"txt": "a", "id": 1}', r"""line 3: no "text" among \['id', 'txt'\]"""),
        ('{"text": 5}', r'line 3: "text" is a int; valid: a string'),
        ('{"text": null}', r'line 3: "text" is a NoneType; valid: a string'),
        ('{"text": "ab\\ud800"}', r'line 3: "text" has half a surrogate pair at character 2'),
        ("[" * 100_000, r"line 3: unusable JSON"),
        (f'{{"text": "a", "n": {"9" * 5000}}}', r"line 3: unusable JSON"),
    ],
)
def test_lines_that_are_no_documents(tmp_path, line, message):
    path = tmp_path / "x.jsonl"
    path.write_text(f'{{"text": "a"}}\n\n{line}\n')
    with pytest.raises(InputError, match=message) as caught:
        read(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["x.txt", "x.jsonl"])
def test_the_first_byte_that_is_not_utf8(tmp_path, name):
    path = tmp_path / name
    content = '{"text": "žlutý"}\n{"text": "kůň '.encode()
    path.write_bytes(content + b'\xff"}\n')
    with pytest.raises(InputError, match=rf"^paths: .*{name}, byte {len(content)} is not UTF-8") as caught:
        read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["nothing.txt", "."])
def test_no_file(tmp_path, name):
    with pytest.raises(InputError, match=r"^paths: .* is not a file; valid:"):
        list_texts([str(tmp_path / name)])


def test_a_file_that_cannot_be_opened(tmp_path, monkeypatch):
    path = tmp_path / "x.txt"
    path.write_text("text")
    monkeypatch.setattr(
        Path, "open", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
    )
    with pytest.raises(InputError, match=r"^paths: cannot read '.*x\.txt' \(Permission denied\)"):
        read(path)


@pytest.mark.parametrize("suffix", ["txt", "jsonl"])
def test_a_name_that_is_not_utf8_is_shown_with_its_bytes(tmp_path, suffix):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff." + suffix.encode())
    Path(path).write_text('{"text": "a"}\n')
    assert next(iter(read_texts(list_texts([path]), {}))).origin == rf"\xff.{suffix}:1"


def test_a_file_in_a_directory_that_is_closed(tmp_path, monkeypatch):
    def stat(path, **options):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", stat)
    with pytest.raises(InputError, match=r"^paths: cannot read '.*x\.txt' \(Permission denied\)"):
        list_texts([str(tmp_path / "x.txt")])
