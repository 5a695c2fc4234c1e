"""The texts beside the code: what they cite is there."""

import re
from pathlib import Path

import pytest

from tests.test_imports import FLOOR

ROOT = Path(__file__).parents[1]
METHOD = ROOT / "sparse_jax" / "METHOD.md"
MAP = ROOT / "sparse_jax" / "README.md"
COMMANDS = ROOT / "experiments" / "README.md"
SOURCES = sorted([*ROOT.glob("sparse_jax/**/*.py"), *ROOT.glob("experiments/**/*.py")])
TEXTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("sparse_jax/*.md"), *ROOT.glob("launch/*.md")])
TEXTS += sorted([*ROOT.glob("experiments/*.md"), *ROOT.glob("experiments/results/*.md")])


def test_every_cited_section_of_the_method_is_there():
    sections = set(re.findall(r"^## (\d+)\.", METHOD.read_text(), re.MULTILINE))
    assert sections == {str(number) for number in range(1, 10)}
    cited = {}
    for path in SOURCES:
        for numbers in re.findall(r"METHOD(?: section)? (\d+(?:(?:, | and )\d+)*)", path.read_text()):
            cited |= dict.fromkeys(re.findall(r"\d+", numbers), path)
    assert len(cited) > 4
    assert {number: path for number, path in cited.items() if number not in sections} == {}


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_of_a_text_lead_somewhere(path):
    text = path.read_text()
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text)]
    links = [link for link in links if link and not link.startswith("https://")]
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_the_map_of_experiments_has_every_command_and_no_other():
    told = set(re.findall(r"\bexperiments\.((?:bench\.)?[a-z0-9_]+)", COMMANDS.read_text()))
    scripts = {path.stem for path in COMMANDS.parent.glob("*.py") if "command.run(" in path.read_text()}
    assert len(scripts) > 20
    assert scripts - told == set()
    missing = [name for name in told if not (COMMANDS.parent / f"{name.replace('.', '/')}.py").exists()]
    assert missing == []


def test_the_map_has_every_room_on_its_floor():
    rows = re.findall(r"^\| (\d) \| `([^`]+)` \|", MAP.read_text(), re.MULTILINE)
    told = {name.removeprefix("../").rstrip("/"): int(floor) for floor, name in rows}
    assert told.pop("launch") == 9
    there = {path.stem for path in (ROOT / "sparse_jax").iterdir() if path.suffix == ".py" or path.is_dir()}
    rooms = {room: floor for room, floor in FLOOR.items() if room in there | {"experiments"}}
    assert told == rooms


def test_modules_that_the_map_names_are_there():
    section = MAP.read_text().split("## Where do I add")[1].split("\n## ")[0]
    named = re.findall(r"`((?:\.\./)?[a-z_]+/[a-z_/]*(?:\.py)?)`", section)
    assert len(named) > 12
    missing = [name for name in named if not (MAP.parent / name).exists()]
    assert missing in ([], ["faithfulness/"])


@pytest.mark.parametrize(
    "name", ["METRICS", "LOSSES", "CONTROLS", "ABLATIONS", "OBJECTIVES", "FORMATS", "KINDS"]
)
def test_tables_that_the_map_names_are_where_it_says(name):
    module = re.search(rf"`{name}`[^|]*?in `([a-z_]+/[a-z_]+\.py)`", MAP.read_text())
    source = module if name != "LOSSES" else re.search(r"in `(tasks/metrics\.py)`", MAP.read_text())
    assert re.search(rf"^{name}\b", (MAP.parent / source[1]).read_text(), re.MULTILINE)
