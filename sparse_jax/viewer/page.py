"""The report as one HTML file: template, style, script and data in a single offline page."""

import html
import json
import os
import re
from collections.abc import Mapping
from importlib import resources

from sparse_jax.files import write_whole

# In loading order; the last one starts the page.
SCRIPTS = (
    "elements.js",
    "numbers.js",
    "scales.js",
    "tiles.js",
    "dots.js",
    "table.js",
    "curves.js",
    "circuit.js",
    "layout.js",
    "panel.js",
    "address.js",
    "notes.js",
    "traces.js",
    "heads.js",
    "pointing.js",
    "zoom.js",
    "picture.js",
    "legend.js",
    "scorecard.js",
    "code.js",
    "search.js",
    "save.js",
    "controls.js",
    "view.js",
    "path.js",
    "compare.js",
    "plot.js",
    "sizes.js",
    "prunings.js",
    "tasks.js",
    "report.js",
)


def write_report(path: str | os.PathLike, payload: Mapping[str, object]) -> None:
    """Writes the payload of `payload.gather` as a page to `path`, atomically.

    The file loads nothing else. Raises ValueError for numbers that JSON cannot represent.
    """
    write_whole(path, render(payload))


def render(payload: Mapping[str, object]) -> str:
    """The page as text."""
    parts = {
        "title": html.escape(str(payload["title"])),
        "style": _template("page.css"),
        "script": "\n".join(map(_template, SCRIPTS)),
        "data": embedded(payload),
    }
    # A single pass over the template: inserted text is never searched for further marks.
    return re.sub(r"\{\{(\w+)\}\}", lambda mark: parts[mark[1]], _template("page.html"))


def embedded(payload: Mapping[str, object]) -> str:
    """JSON that is safe inside a script element, whatever texts it contains: ASCII, no <, > or &."""
    text = json.dumps(payload, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _template(name: str) -> str:
    return resources.files("sparse_jax.viewer").joinpath("template", name).read_text(encoding="utf-8")
