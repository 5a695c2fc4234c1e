"""The start of every script: parses flags and config, and ends with a one-line error for a wrong input."""

import contextlib
import io
import os
import re
import runpy
import signal
import sys
import traceback
from collections.abc import Callable

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags
from ml_collections.config_flags.config_flags import is_config_flag

from experiments import flag_types  # noqa: F401 (how overrides are read)
from sparse_jax.buckets import SCHEME
from sparse_jax.files import user_path
from sparse_jax.inputs import InputError, first_line, nearest, require_once
from sparse_jax.progress import finish_line
from sparse_jax.runtime import joining, preemption, processes
from sparse_jax.runtime.settings import require_settings
from sparse_jax.training.nonfinite import NonFiniteError

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Python file with get_config(), e.g. experiments/configs/pretrain.py:size=tiny"
)

CLUSTER = flags.DEFINE_bool(
    "cluster", True, "whether to join the other processes started by a TPU pod, SLURM, Open MPI or Kubernetes"
)
COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, if not in the environment")
PROCESSES = flags.DEFINE_integer("processes", None, "with --coordinator: how many processes there are")
PROCESS = flags.DEFINE_integer("process", None, "with --coordinator: the index of this process, from 0")


# What a shell shows for programs that end because nobody reads what they print.
_NO_READER = 128 + signal.SIGPIPE


def run(main: Callable[[], None], several: bool = False) -> None:
    """Parses the flags and calls `main`; errors end with one line.

    several: whether the command can run in several processes; other commands refuse to start as one of
    several.

    Exit status 1: a mistake in the code, with its traceback; 2: a wrong input, or a disk that cannot be read
    or written, or too much for the memory; 3: a loss that is not finite, both also because another process
    ends with it; 4: another process is lost, or has ended otherwise; 75: stopped by SIGTERM, to be started
    again; 130: interrupted; 141: nobody reads what is printed any more.
    """
    signal.signal(signal.SIGTERM, _make_room)
    sys.unraisablehook = _leave_out_closed_loops

    # names of files and prompts may be no text
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")

    def start(_) -> None:
        require_settings()
        given = (COORDINATOR.value, PROCESSES.value, PROCESS.value)
        (joining.start if several else joining.stay_alone)(*given, detect=CLUSTER.value)
        main()

    try:
        try:
            app.run(start, flags_parser=_parse)
        except SystemExit:  # how app.run ends
            if sys.stdout is not None:
                sys.stdout.flush()  # a reader that has gone is noticed here, and not after the end
            raise
    except InputError as error:
        _fail(error, 2)
    except BrokenPipeError as error:
        processes.tell_end(error, _NO_READER)
        os._exit(_NO_READER)
    except OSError as error:
        _fail(" ".join(str(error).split()), 2)
    except NonFiniteError as error:
        _fail(error, 3)
    except preemption.Preempted as stopped:
        joining.leave()
        _fail(stopped, preemption.STATUS)
    except processes.ProcessError as error:
        _fail(error, error.status)
    except KeyboardInterrupt:
        _fail("interrupted; the same command continues from what is saved", 130)
    except Exception as error:
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
            _fail(f"out of memory: {first_line(error)}; valid: smaller sizes and counts", 2)
        if not jax.distributed.is_initialized():
            raise
        traceback.print_exc()
        _fail(f"{type(error).__name__}: {first_line(error)}", 1)


def _make_room(number: int, frame: object) -> None:
    """The default for SIGTERM: saves as little as SIGKILL, but ends with a status."""
    _fail("SIGTERM: stopped at once; the same command continues from what is saved", preemption.STATUS)


def config() -> ConfigDict:
    """The config of the --config flag. Raises InputError if there is none, and for a task named twice."""
    if CONFIG.value is None:
        raise InputError("--config: missing; valid: a file of experiments/configs")
    require_once("tasks", CONFIG.value.get("tasks", ()))
    return CONFIG.value


def _parse(arguments: list[str]) -> list[str]:
    arguments = [_expanded(argument) for argument in arguments]
    try:
        rest = flags.FLAGS(arguments)
    except (AttributeError, KeyError) as error:
        raise InputError(_unknown_key(arguments, str(error.args[0]))) from None
    except BrokenPipeError:  # of --help
        raise
    except (flags.Error, TypeError, ValueError, OSError, SyntaxError) as error:
        raise InputError(_said(str(error))) from None
    if len(rest) > 1:
        raise InputError(f"{rest[1]}: not a flag; valid: flags such as --config.KEY=VALUE")
    logging.set_verbosity(logging.FATAL)  # orbax logs every file that it moves, and every error twice
    return rest


def _expanded(argument: str) -> str:
    """The same, with ~ expanded where it names a config's file."""
    found = re.fullmatch(r"--?(\w+)=(.*)", argument, re.DOTALL)
    if not found or found[1] not in flags.FLAGS or not is_config_flag(flags.FLAGS[found[1]]):
        return argument
    if found[2].startswith(SCHEME):  # before the bucket is asked for anything
        raise InputError(
            f"--{found[1]}: {found[2]!r}: a program, which runs here; valid: a Python file on this machine"
        )
    return f"--{found[1]}={user_path(found[2], f'--{found[1]}')}"


def _said(text: str) -> str:
    """What is wrong with a flag, on one line: of a traceback through a config's file, only its end."""
    flag, traced, error = text.partition(": Error whilst parsing config file:")
    if traced:
        *_, last = error.strip().splitlines()
        of_user = f"{InputError.__module__}.{InputError.__name__}: "
        return last.split(of_user, 1)[-1] if of_user in last else f"{flag}: {last}"
    return " ".join(text.split())


def _unknown_key(arguments: list[str], said: str) -> str:
    """Names the flag whose path is not in the config, and the valid choices."""
    for argument in arguments:
        path = argument.split("=")[0].lstrip("-").split(".")
        if path[0] != "config" or len(path) < 2:
            continue
        section = _bare_config(arguments)
        for key in path[1:]:
            if not isinstance(section, ConfigDict) or key not in section:
                valid = nearest(key, section.keys()) if isinstance(section, ConfigDict) else "no field below"
                return f"--{'.'.join(path)}: {key!r} is unknown; {valid}"
            section = section[key]
    return " ".join(said.split())


def _bare_config(arguments: list[str]) -> ConfigDict | None:
    """The config without overrides (some of them could not be applied); None if there is no config."""
    for argument in arguments:
        name, _, place = argument.lstrip("-").partition("=")
        if name == "config":
            path, *argument_of_config = place.split(":", 1)
            return runpy.run_path(path)["get_config"](*argument_of_config)
    return None


def _leave_out_closed_loops(unraisable) -> None:
    """Ignores callbacks for other files whose event loop was closed after one file failed."""
    if "Event loop is closed" not in str(unraisable.exc_value):
        sys.__unraisablehook__(unraisable)


def _fail(message: object, status: int) -> None:
    """Ends at once: background readers of a damaged checkpoint would only add tracebacks to the line."""
    with contextlib.suppress(OSError):  # nobody may read it
        finish_line()
        print(f"error: {message}", file=sys.stderr, flush=True)
    processes.tell_end(message, status)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            if stream is not None:
                stream.flush()
    os._exit(status)
