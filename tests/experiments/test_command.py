"""How a script ends."""

import jax
import pytest

from experiments import command
from sparse_jax.inputs import InputError
from sparse_jax.runtime import preemption, processes


def test_what_is_saved_ends_as_saved_also_if_another_process_is_killed_meanwhile(monkeypatch):
    """The end of a process is awaited by the others, and then fails."""

    def end(status):
        raise SystemExit(status)

    def preempted(*_, **__):
        raise preemption.Preempted("SIGTERM: stopped")

    def lost():
        raise jax.errors.JaxRuntimeError("the barrier failed")

    monkeypatch.setattr(command.signal, "signal", lambda *_: None)
    monkeypatch.setattr(command.sys, "unraisablehook", command.sys.unraisablehook)
    monkeypatch.setattr(command.app, "run", preempted)
    monkeypatch.setattr(command.os, "_exit", end)
    monkeypatch.setattr(processes, "tell_end", lambda *_: None)
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(jax.distributed, "shutdown", lost)
    with pytest.raises(SystemExit) as ended:
        command.run(lambda: None)
    assert ended.value.code == 75


@pytest.fixture
def ending(monkeypatch):
    """The exit status of a command whose work raises this error."""

    def end(status):
        raise SystemExit(status)

    monkeypatch.setattr(command.signal, "signal", lambda *_: None)
    monkeypatch.setattr(command.sys, "unraisablehook", command.sys.unraisablehook)
    monkeypatch.setattr(command.os, "_exit", end)

    def status(error):
        def work(*_, **__):
            raise error

        monkeypatch.setattr(command.app, "run", work)
        with pytest.raises(SystemExit) as ended:
            command.run(lambda: None)
        return ended.value.code

    return status


def test_a_reader_that_has_gone_ends_a_command_without_a_word(ending, capsys):
    assert ending(BrokenPipeError(32, "Broken pipe")) == 141
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "error",
    [MemoryError(), jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes")],
)
def test_too_much_for_the_memory_is_one_line(ending, capsys, error):
    assert ending(error) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: out of memory: ")


def test_a_config_in_a_bucket_is_refused_since_it_is_a_program(bucket):
    with pytest.raises(
        InputError, match=f"^--config: '{bucket}/a.py:size=tiny': a program, which runs here; valid"
    ):
        command._expanded(f"--config={bucket}/a.py:size=tiny")
