"""How far the host runs ahead of the device, of which a recorder decides."""

from types import SimpleNamespace

from sparse_jax.training.recorder import RUN_AHEAD, Recorder
from sparse_jax.training.state import Position


class Figure:
    """Of a step, on a device; notes when it is waited for."""

    def __init__(self, step, waited):
        self.step, self.waited = step, waited

    def block_until_ready(self):
        self.waited.append(self.step)
        return self


def test_the_host_is_two_steps_ahead_at_most_and_waits_for_no_later_one():
    """Else SIGTERM waits for all steps since something was last due, or the device waits for the host."""
    config = SimpleNamespace(training=SimpleNamespace(steps=9))
    recorder = Recorder(config, None, [], "test", None, SimpleNamespace(step=0), Position({}))
    waited = []
    for step in range(9):
        recorder.add({"loss": Figure(step, waited)})
        assert waited == list(range(max(0, step + 1 - RUN_AHEAD)))
    assert RUN_AHEAD == 2
