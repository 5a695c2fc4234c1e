"""Sphinx: the notebooks, executed, and the public functions from their docstrings. See launch/docs.sh."""

import re
from pathlib import Path

import sparse_jax

project = "sparse_jax"
author = "The sparse_jax developers"
version = release = sparse_jax.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc"]
html_theme = "alabaster"
html_theme_options = {"page_width": "1100px", "sidebar_width": "240px"}
html_title = f"sparse_jax {release}"
autodoc_typehints = "description"
autodoc_member_order = "bysource"
# notebooks run with the checkout's Python, each from a clean start
nb_execution_mode = "force"
nb_execution_timeout = 3600
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_execution_show_tb = True


def as_markup(app, what, name, obj, options, lines):
    """Docstrings are plain text: code stays code, and nothing else is markup."""
    for number, line in enumerate(lines):
        if line.lstrip().startswith(">>>"):
            return  # examples come last, and Sphinx shows them as they are
        parts = re.split(r"(`[^`]*`)", line)
        escaped = [
            f"`{part}`" if part.startswith("`") else re.sub(r"([*|\\]|_(?!\w))", r"\\\1", part)
            for part in parts
        ]
        lines[number] = "".join(escaped)


def write_api(app):
    """api.rst: one entry for every public name."""
    lines = ["API reference", "=" * 13, "", "``import sparse_jax as sj``", ""]
    for name in sparse_jax.__all__:
        found = getattr(sparse_jax, name)
        kind = "class" if isinstance(found, type) else "function" if callable(found) else "module"
        target = f"sparse_jax.{name}" if kind != "module" else found.__name__
        members = [] if kind == "function" else ["   :members:"]
        lines += [f".. auto{kind}:: {target}", *members, ""]
    Path(app.srcdir, "api.rst").write_text("\n".join(lines))


def setup(app):
    """Called by Sphinx."""
    app.connect("builder-inited", write_api)
    app.connect("autodoc-process-docstring", as_markup)
