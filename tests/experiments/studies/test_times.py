"""Times are noted however they end."""

import os
import signal
import time

import pytest

from experiments.studies.times import read_times, recorded
from sparse_jax.runtime.preemption import Preempted


def test_times_add_up_however_they_end(tmp_path):
    path = tmp_path / "new" / "times.jsonl"
    assert read_times(path) == {"seconds": 0, "each": []}
    with recorded(path, "first"):
        time.sleep(0.2)
    with pytest.raises(ValueError, match="broken"), recorded(path, "second"):
        raise ValueError("broken")
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Preempted), recorded(path, "third"):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert signal.getsignal(signal.SIGTERM) == before
    found = read_times(path)
    assert [one["command"] for one in found["each"]] == ["first", "second", "third"]
    assert found["each"][0]["seconds"] >= 0.2 and found["seconds"] < 5
    assert found["each"][0]["cores"] == os.cpu_count() and found["each"][0]["devices"]
