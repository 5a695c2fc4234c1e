import os
import sysconfig
from pathlib import Path

import pytest

from sparse_jax.data.python_source import list_files, read_files
from sparse_jax.inputs import InputError

GOOD = {
    "plain.py": b"x = 1\n",
    "deep/er/unicode.py": "s = 'žluť'\n".encode(),
    "latin.py": "# -*- coding: latin-1 -*-\ns = 'é'\n".encode("latin-1"),
    "marked.py": b"\xef\xbb\xbfy = 2\n",
    "windows.py": b"a = 1\r\nb = 2\r\n",
    "warns.py": b's = "\\d"\n',
}
BAD = {
    "python2.py": (b"print 'x'\n", "does not parse"),
    "null.py": (b"x = 1\0\n", "does not parse"),
    "nested.py": (b"(" * 5000 + b")" * 5000, "does not parse"),
    "bytes.py": (b"s = '\xff'\n", "does not decode"),
    "codec.py": (b"# coding: no-such-codec\n", "does not decode"),
    "rot.py": (b"# coding: rot13\n", "does not decode"),
    "surrogate.py": (b"# coding: raw_unicode_escape\ns = '\\ud800'\n", "does not decode"),
    "blank.py": (b" \n\n", "is empty"),
}


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "tree"
    for name, content in {**GOOD, **{name: content for name, (content, _) in BAD.items()}}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (root / "notes.txt").write_text("not Python")
    (root / "folder.py").mkdir()
    (root / "dangling.py").symlink_to("nowhere")
    return root


def read(files):
    skipped = {}
    return {document.origin: document.text for document in read_files(files, skipped)}, skipped


def test_reads_what_decodes_and_parses_and_says_why_not(tree):
    texts, skipped = read(list_files([str(tree)], None, {}))
    assert texts == {
        "tree/plain.py": "x = 1\n",
        "tree/deep/er/unicode.py": "s = 'žluť'\n",
        "tree/latin.py": "# -*- coding: latin-1 -*-\ns = 'é'\n",
        "tree/marked.py": "y = 2\n",
        "tree/windows.py": "a = 1\nb = 2\n",
        "tree/warns.py": 's = "\\d"\n',
    }
    found = {(name, reason) for reason, names in skipped.items() for name in names}
    assert found == {(f"tree/{name}", reason) for name, (_, reason) in BAD.items()}


def test_a_file_that_vanished_is_skipped(tree):
    files = list_files([str(tree)], None, {})
    (tree / "plain.py").unlink()
    _, skipped = read(files)
    assert skipped["cannot be read: No such file or directory"] == ["tree/plain.py"]


def test_the_order_is_fixed_by_names_and_not_by_the_place(tree, tmp_path):
    here = [file.origin for file in list_files([str(tree)], None, {})]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    tree.rename(elsewhere / "tree")
    assert [file.origin for file in list_files([str(elsewhere / "tree")], None, {})] == here
    assert here != sorted(here)


def test_max_bytes_keeps_the_order_and_the_limit(tree):
    every = list_files([str(tree)], None, {})
    some = list_files([str(tree)], 60, {})
    assert 0 < sum(file.size for file in some) <= 60
    assert some == [file for file in every if file in some]
    left = [file for file in every if file not in some]
    assert min(file.size for file in left) + sum(file.size for file in some) > 60


def test_max_bytes_below_every_file(tree):
    (tree / "blank.py").unlink()
    with pytest.raises(InputError, match=r"^max_bytes: 5 is smaller than every file; valid: at least 6$"):
        list_files([str(tree)], 5, {})


def test_several_trees(tree, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "more.py").write_text("z = 3\n")
    texts, _ = read(list_files([str(tree), str(other)], None, {}))
    assert {"tree/plain.py", "other/more.py"} <= texts.keys()


def test_the_standard_library_without_what_was_installed():
    files = list_files((), None, {})
    paths = {Path(file.path) for file in files}
    root = Path(sysconfig.get_path("stdlib"))
    assert root / "json" / "decoder.py" in paths
    assert not any({"site-packages", "dist-packages"} & set(path.parts) for path in paths)
    texts, _ = read([file for file in files if file.path == str(root / "bisect.py")])
    assert "def bisect_left" in next(iter(texts.values()))


def test_a_directory_that_cannot_be_listed_is_noted(tree, monkeypatch):
    real = os.scandir

    def scandir(path):
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    skipped = {}
    files = list_files([str(tree)], None, skipped)
    assert skipped == {
        "cannot be read: Permission denied": [str(tree / "deep")],
        "cannot be read: No such file or directory": [str(tree / "dangling.py")],
    }
    assert "tree/plain.py" in {file.origin for file in files}


def test_no_directory(tmp_path):
    with pytest.raises(InputError, match=r"^paths: '.*/nowhere' is not a directory; valid:"):
        list_files([str(tmp_path / "nowhere")], None, {})


def test_no_python_files(tmp_path):
    with pytest.raises(InputError, match=r"^paths: no \.py files in .*; valid:"):
        list_files([str(tmp_path)], None, {})


def test_no_file_of_any_use(tmp_path):
    (tmp_path / "one.py").write_text("print 'x'\n")
    (tmp_path / "two.py").write_bytes(b"\xff")
    with pytest.raises(InputError, match=r"^paths: no \.py file of 2 .*1 does not parse.*; valid:"):
        read(list_files([str(tmp_path)], None, {}))


def test_linked_directories_are_noted_and_not_entered(tree):
    (tree / "loop").symlink_to(tree)
    skipped = {}
    files = list_files([str(tree)], None, skipped)
    assert skipped["is a linked directory"] == [str(tree / "loop")]
    assert not [file for file in files if "loop" in file.path]


def test_a_file_that_may_be_listed_and_no_more_is_noted(tree, monkeypatch):
    real = Path.stat

    def stat(path, **options):
        if path.name == "plain.py":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, **options)

    monkeypatch.setattr(Path, "stat", stat)
    skipped = {}
    assert "tree/plain.py" not in {file.origin for file in list_files([str(tree)], None, skipped)}
    assert skipped["cannot be read: Permission denied"] == [str(tree / "plain.py")]


def test_no_files_at_all_says_what_was_not_looked_into(tmp_path):
    (tmp_path / "code").mkdir()
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "link").symlink_to(tmp_path / "code")
    with pytest.raises(
        InputError, match=r"no \.py files in .*\(1 is a linked directory \(.*/link\)\); valid:"
    ):
        list_files([str(tmp_path / "tree")], None, {})


def test_a_name_that_is_not_utf8_is_shown_with_its_bytes(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/tree-\xfe/\xff.py")
    os.mkdir(os.path.dirname(path))
    Path(path).write_text("x = 1\n")
    files = list_files([os.path.dirname(path)], None, {})
    assert read(files)[0] == {r"tree-\xfe/\xff.py": "x = 1\n"}
