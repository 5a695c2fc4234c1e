import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sparse_jax.data import encoding
from sparse_jax.data.config import data_config
from sparse_jax.data.corpus import prepare
from sparse_jax.data.identity import dataset_key
from sparse_jax.data.simple_python import programs
from sparse_jax.data.token_file import TokenWriter
from sparse_jax.inputs import InputError

FILES = {f"file{i}.py": f"value_{i} = '{'é' * (i % 7)}'\n" * (i + 1) for i in range(30)}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("corpus")
    (home / "tree").mkdir()
    for name, text in FILES.items():
        (home / "tree" / name).write_text(text)
    (home / "tree" / "broken.py").write_text("print 'x'\n")
    (home / "lines.jsonl").write_text("".join(json.dumps({"text": f"říp {i}"}) + "\n" for i in range(40)))
    return home


def config(home, directory="data", **changes):
    sources = {
        "simple": {"kind": "simple_python", "weight": 3.0, "examples": 200, "seed": 1},
        "real": {"kind": "python_source", "paths": [str(home / "tree")]},
        "mine": {"kind": "text", "paths": [str(home / "lines.jsonl")], "weight": 0.0},
    }
    for name, fields in changes.pop("sources", {}).items():
        sources[name] = {**sources.get(name, {}), **fields}
    return data_config(
        {"sources": sources, "directory": str(home / directory), "validation_fraction": 0.2, **changes}
    )


@pytest.fixture(scope="module")
def corpus(home):
    return prepare(config(home), 300)


def documents(corpus, name, split):
    tokens = np.asarray(getattr(corpus.sources[name], split))
    assert tokens[-1] == 0 and tokens.max() < 300
    ends = np.flatnonzero(tokens == 0)
    return [corpus.tokenizer.decode(part.tolist()) for part in np.split(tokens, ends + 1)[:-1]]


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("simple", list(programs(1, 200))),
        ("real", list(FILES.values())),
        ("mine", [f"říp {i}" for i in range(40)]),
    ],
)
def test_the_tokens_are_the_documents(corpus, name, texts):
    train, validation = documents(corpus, name, "train"), documents(corpus, name, "validation")
    assert sorted(train + validation) == sorted(texts)
    assert 0 < len(validation) < len(train)
    if name == "simple":
        assert train == [text for text in texts if text in train]


def test_what_it_says_of_itself(corpus):
    assert list(corpus.sources) == ["mine", "real", "simple"]
    assert corpus.weights == {"mine": 0.0, "real": 0.25, "simple": 0.75}
    assert corpus.tokenizer.get_vocab_size() == 300
    report = corpus.reports["real"]
    assert report["skipped"] == {"does not parse": ["tree/broken.py"]}
    assert report["duplicates"] == 0
    assert sum(report["documents"].values()) == 30
    assert report["tokens"] == {
        split: len(getattr(corpus.sources["real"], split)) for split in ("train", "validation")
    }


def test_again_it_is_only_opened(corpus, home, monkeypatch):
    monkeypatch.delattr(encoding, "build_corpus")
    again = prepare(config(home), 300)
    assert again.fingerprint == corpus.fingerprint
    assert again.tokenizer.to_str() == corpus.tokenizer.to_str()
    np.testing.assert_array_equal(again.sources["real"].train, corpus.sources["real"].train)


def test_opening_needs_no_tfds(corpus, home):
    code = (
        "import dataclasses, json, sys\n"
        "from sparse_jax.data.config import data_config\n"
        "from sparse_jax.data.corpus import prepare\n"
        "print(prepare(data_config(json.loads(sys.argv[1])), 300).fingerprint)\n"
        "assert 'tensorflow_datasets' not in sys.modules"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, json.dumps(dataclasses.asdict(config(home)))],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == f"{corpus.fingerprint}\n" and run.stderr == ""


def test_another_vocabulary_takes_the_same_data_sets(corpus, home, monkeypatch):
    def download_and_prepare(*_, **__):
        raise AssertionError("a data set was built again")

    monkeypatch.setattr(encoding.tfds.core.DatasetBuilder, "download_and_prepare", download_and_prepare)
    other = prepare(config(home), 280)
    assert other.tokenizer.get_vocab_size() == 280
    assert other.fingerprint != corpus.fingerprint


def test_the_same_text_elsewhere_has_the_same_fingerprint(corpus, home, tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    for name, text in FILES.items():
        (tree / name).write_text(text)
    there = prepare(config(home, "elsewhere", sources={"real": {"paths": [str(tree)]}}), 300)
    assert there.fingerprint == corpus.fingerprint


def test_nothing_goes_to_stdout(home, capsys):
    prepare(config(home, "quiet"), 300)
    captured = capsys.readouterr()
    assert captured.out == ""
    labels = [line.split(":")[0] for line in captured.err.splitlines()]
    assert labels == [
        *("text_files", "python_source", "python_source", "simple_python", "tokenizer"),
        *(
            f"encode {name}/{split}"
            for name in ("mine", "real", "simple")
            for split in ("train", "validation")
        ),
    ]
    assert "skipped 1" in captured.err and re.search(r"python_source: left out: .*broken\.py", captured.err)


@pytest.fixture
def small(tmp_path):
    """A config of one source of files that a test may change."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in list(FILES)[:10]:
        (tree / name).write_text(FILES[name])

    def of(**changes):
        source = {"kind": "python_source", "paths": [str(tree)], **changes}
        return data_config({"sources": {"only": source}, "directory": str(tmp_path / "data")})

    return of


def test_a_changed_file_is_noticed(small, tmp_path):
    before = prepare(small(), 300)
    (tmp_path / "tree" / "file3.py").write_text("something = 'else'\n")
    after = prepare(small(), 300)
    assert after.fingerprint != before.fingerprint
    assert "something = 'else'\n" in documents(after, "only", "train") + documents(
        after, "only", "validation"
    )
    assert len(os.listdir(tmp_path / "data" / "corpora")) == 2  # the old one is still there


@pytest.mark.parametrize("kind", ["python_source", "text"])
def test_an_edit_of_the_same_size_makes_another_key(tmp_path, kind):
    path = tmp_path / "tree" / "x.py"
    path.parent.mkdir()
    path.write_text("x = 1\n")
    where = str(path.parent if kind == "python_source" else path)
    source = data_config({"sources": {"a": {"kind": kind, "paths": [where]}}}).sources["a"]
    before = dataset_key("a", source, 0.1)
    assert dataset_key("a", source, 0.1) == before
    path.write_text("x = 2\n")
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert dataset_key("a", source, 0.1) != before


def test_code_that_decides_the_content_is_part_of_the_key(small, monkeypatch):
    source = small().sources["only"]
    before = dataset_key("only", source, 0.1)
    assert dataset_key("only", source, 0.1) == before
    real = Path.read_bytes
    monkeypatch.setattr(
        Path, "read_bytes", lambda path: real(path) + b"#" * (path.name == "python_source.py")
    )
    assert dataset_key("only", source, 0.1) != before


def test_the_tokenizer_hears_each_source_by_weight(tmp_path):
    for name in "ab":
        text = "".join(json.dumps({"text": f"{name * 4}{name * (i % 9)}"}) + "\n" for i in range(60))
        (tmp_path / f"{name}.jsonl").write_text(text)

    def vocabulary(weight_a, weight_b):
        sources = {
            name: {"kind": "text", "paths": [str(tmp_path / f"{name}.jsonl")], "weight": weight}
            for name, weight in (("a", weight_a), ("b", weight_b))
        }
        config = data_config({"sources": sources, "directory": str(tmp_path / "data")})
        return prepare(config, 270).tokenizer.get_vocab().keys()

    assert "aa" in vocabulary(1.0, 0.0) and "bb" not in vocabulary(1.0, 0.0)
    assert {"aa", "bb"} <= vocabulary(1.0, 1.0)


def test_the_tokenizer_is_trained_on_so_many_bytes(home, monkeypatch):
    taken = []

    def train_tokenizer(texts, vocab_size):
        taken.append(list(texts))
        return real(taken[-1], vocab_size)

    real = encoding.train_tokenizer
    monkeypatch.setattr(encoding, "train_tokenizer", train_tokenizer)
    prepare(config(home, tokenizer_bytes=20_000), 300)
    made, files = set(programs(1, 200)), set(FILES.values())
    simple = sum(len(text.encode()) for text in taken[0] if text in made)
    real_bytes = sum(len(text.encode()) for text in taken[0] if text in files)
    assert simple == pytest.approx(15_000, rel=0.2)
    assert 0 < real_bytes <= 0.4 * 20_000
    assert len(taken[0]) == sum(text in made or text in files for text in taken[0])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            {"kind": "python_source", "paths": ["{}/nowhere"]},
            r"^data\.sources\.bad\.paths: .*not a directory",
        ),
        ({"kind": "python_source", "paths": ["{}/empty"]}, r"^data\.sources\.bad\.paths: no \.py files"),
        (
            {"kind": "python_source", "paths": ["{}/python2"]},
            r"^data\.sources\.bad\.paths: no \.py file of 1 ",
        ),
        (
            {"kind": "python_source", "paths": ["{}/tree"], "max_bytes": 1},
            r"^data\.sources\.bad\.max_bytes: 1 ",
        ),
        ({"kind": "text", "paths": ["{}/latin.txt"]}, r"^data\.sources\.bad\.paths: .*byte 4 is not UTF-8"),
        (
            {"kind": "text", "paths": ["{}/bad.jsonl"]},
            r"^data\.sources\.bad\.paths: .*line 2, column 1: not JSON",
        ),
        ({"kind": "text", "paths": ["{}/one.txt"]}, r"^data\.sources\.bad\.documents: 1 different; valid"),
        ({"kind": "text", "paths": ["{}/none.txt"]}, r"^data\.sources\.bad\.documents: 0 different; valid"),
    ],
)
def test_a_bad_source_is_one_clear_line_and_changes_nothing(small, tmp_path, source, message):
    prepare(small(), 300)
    for name in ("empty", "python2"):
        (tmp_path / name).mkdir()
    (tmp_path / "python2" / "x.py").write_text("print 'x'\n")
    (tmp_path / "latin.txt").write_bytes(b"caf\n\xe9\n")
    (tmp_path / "bad.jsonl").write_text('{"text": "a"}\noops\n')
    (tmp_path / "one.txt").write_text("a")
    (tmp_path / "none.txt").write_text("")
    before = tree_of(tmp_path / "data")
    source = {**source, "paths": [path.format(tmp_path) for path in source["paths"]]}
    bad = data_config({"sources": {"bad": source}, "directory": str(tmp_path / "data")})
    with pytest.raises(InputError, match=message) as caught:
        prepare(bad, 300)
    assert "\n" not in str(caught.value)
    assert tree_of(tmp_path / "data") == before


def test_a_vocabulary_too_small_is_refused_before_any_work(small, tmp_path):
    with pytest.raises(InputError, match=r"^vocab_size: 256 is not valid"):
        prepare(small(), 256)
    assert not (tmp_path / "data").exists()


def full_write(self, tokens):
    raise OSError(28, "No space left on device")


def full_array_record(self):
    raise RuntimeError("write() failed: No space left on device; writing x")


@pytest.mark.parametrize("where", ["tokens", "array_record"])
def test_a_full_disk_is_one_clear_line_and_leaves_nothing_half_written(small, tmp_path, monkeypatch, where):
    prepare(small(), 300)
    (tmp_path / "tree" / "more.py").write_text("more = 1\n")
    before = {name for name in tree_of(tmp_path / "data") if name.startswith("corpora")}
    if where == "tokens":
        monkeypatch.setattr(TokenWriter, "write", full_write)
    else:
        from tensorflow_datasets.core import writer

        monkeypatch.setattr(writer.Writer, "finalize", full_array_record)
    with pytest.raises(
        InputError, match=r"^data\.directory: cannot write to .* \(No space left on device\)$"
    ):
        prepare(small(), 300)
    after = tree_of(tmp_path / "data")
    assert {name for name in after if name.startswith("corpora")} == before
    assert not [name for name in after if "unfinished" in name or "incomplete" in name]
    monkeypatch.undo()
    assert "more = 1\n" in "".join(documents(prepare(small(), 300), "only", "train")) + "".join(
        documents(prepare(small(), 300), "only", "validation")
    )


def tree_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
