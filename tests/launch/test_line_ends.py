"""A checkout has the same bytes everywhere, whatever git is told about line ends (`core.autocrlf`)."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("sparse_jax", "experiments", "launch", "tests", ".ci")
FILES = [path for room in ROOMS for path in (ROOT / room).rglob("*")] + sorted(ROOT.glob("*"))
FILES = [path for path in FILES if path.is_file() and path.suffix != ".pyc" and path.name[0] != "."]
# git by itself would change its line ends
LOOKS_LIKE_TEXT = b"a\r\nb\r\n"


def binary(path: Path) -> bool:
    """Whether it is not text, told by its bytes and not by git."""
    content = path.read_bytes()
    try:
        content.decode()
    except UnicodeDecodeError:
        return True
    return b"\0" in content


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "core.safecrlf=false"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize("autocrlf", ["true", "input", "false"])
def test_a_checkout_has_the_same_bytes_whatever_git_is_told_about_line_ends(tmp_path, autocrlf):
    origin, clone = tmp_path / "origin", tmp_path / "clone"
    origin.mkdir()
    shutil.copy(ROOT / ".gitattributes", origin)
    expected = {}
    for suffix in {path.suffix for path in FILES}:
        of_it = [path for path in FILES if path.suffix == suffix]
        is_binary = any(binary(path) for path in of_it)
        expected[f"file{suffix}"] = LOOKS_LIKE_TEXT if is_binary else b"a\nb\n"
    assert {"file.sh", "file.py", "file.npz", "file.png", "file.safetensors", "file"} <= set(expected)
    assert expected["file.sh"] != expected["file.npz"] == LOOKS_LIKE_TEXT
    for name, content in expected.items():
        (origin / name).write_bytes(content)
    git(origin, "init", "--quiet", "--initial-branch=main")
    git(origin, "-c", f"core.autocrlf={autocrlf}", "add", ".")
    git(origin, "commit", "--quiet", "-m", "all")
    git(tmp_path, "-c", f"core.autocrlf={autocrlf}", "clone", "--quiet", str(origin), str(clone))
    found = {name: (clone / name).read_bytes() for name in expected}
    assert found == expected
