"""How every script starts: flags and config in, one clear line out when an input is wrong."""

import os
import sys
from collections.abc import Callable

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from sparse_jax.inputs import InputError
from sparse_jax.progress import finish_line
from sparse_jax.training.metrics import NonFiniteError

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Python file with get_config(), e.g. experiments/configs/pretrain.py:size=tiny"
)


def run(main: Callable[[], None]) -> None:
    """Parses the flags and calls `main`; what goes wrong ends with one line.

    Exit status 2: a wrong input, or a disk that cannot be read or written; 3: a loss that is not finite;
    130: interrupted.
    """
    try:
        app.run(lambda _: main(), flags_parser=_parse)
    except InputError as error:
        _fail(error, 2)
    except OSError as error:
        _fail(" ".join(str(error).split()), 2)
    except NonFiniteError as error:
        _fail(error, 3)
    except KeyboardInterrupt:
        _fail("interrupted; the same command goes on from the last checkpoint", 130)


def config() -> ConfigDict:
    """The config of the --config flag. Raises InputError if there is none."""
    if CONFIG.value is None:
        raise InputError("--config: missing; valid: a file of experiments/configs")
    return CONFIG.value


def _parse(arguments: list[str]) -> list[str]:
    try:
        rest = flags.FLAGS(arguments)
        logging.set_verbosity(logging.ERROR)  # orbax reports every file that it moves
        return rest
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        raise InputError(" ".join(str(error).split())) from None


def _fail(message: object, status: int) -> None:
    """Ends at once: background readers of a damaged checkpoint would only add tracebacks to the line."""
    finish_line()
    print(f"error: {message}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
