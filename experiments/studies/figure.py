"""Figures as PNG files, without pyplot, which keeps state and looks for a screen."""

import io
from pathlib import Path

from sparse_jax.files import write_whole
from sparse_jax.inputs import InputError


def new_figure():
    """An empty figure. Raises InputError if matplotlib is missing."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError("figures: need matplotlib; valid: pip install 'sparse_jax[study]'") from None
    figure = Figure(figsize=(7, 5.4), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure, path: str | Path) -> None:
    """Writes it as a PNG, whole or not at all."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    write_whole(path, buffer.getvalue())
