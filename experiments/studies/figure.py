"""Figures as PNG files, without pyplot, which is stateful and needs a display backend."""

import io
import os
from pathlib import Path

from sparse_jax.files import write_whole
from sparse_jax.inputs import InputError, first_line


def new_figure():
    """An empty figure. Raises InputError if matplotlib is missing, or cannot be used."""
    # a notebook leaves the name of its own backend to the commands that it starts
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError("figures: need matplotlib; valid: pip install 'sparse_jax[study]'") from None
    except Exception as error:  # whatever its settings make it raise
        raise InputError(f"figures: matplotlib cannot be used ({first_line(error)})") from error
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    figure = Figure(figsize=(7, 5.4), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def require_figures() -> None:
    """Raises InputError if none can be drawn; for the start of a study that draws at its end."""
    figure = new_figure()
    figure.add_subplot()
    figure.savefig(io.BytesIO(), format="png")


def save_figure(figure, path: str | Path) -> None:
    """Writes the figure as a PNG, atomically."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    write_whole(path, buffer.getvalue())
