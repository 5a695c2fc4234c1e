"""Writes the notebooks of experiments/colabs/ from their plain-text sources, without outputs.

python -m experiments.notebooks

The sources, NAME.py, are what is edited and compared; NAME.ipynb is what Colab opens. Needs the extra `test`
or `docs`.
"""

from pathlib import Path

import jupytext
import nbformat

from experiments import command

FOLDER = Path(__file__).parent / "colabs"


def sources() -> list[Path]:
    """The plain-text source of every notebook."""
    return sorted(FOLDER.glob("*.py"))


def notebook(source: Path) -> nbformat.NotebookNode:
    """The notebook of a source; the same for the same text, down to the cells' names."""
    found = jupytext.read(source)
    del found.metadata["jupytext"]
    for number, cell in enumerate(found.cells):
        cell["id"] = f"{cell.cell_type}-{number}"
    return found


def main() -> None:
    """Writes them all."""
    for source in sources():
        path = source.with_suffix(".ipynb")
        path.write_text(nbformat.writes(notebook(source)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    command.run(main)
