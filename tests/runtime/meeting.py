"""As a script, with HOST:PORT and its index: one of two processes; the second never comes to a meeting."""

import os
import sys
import time

from sparse_jax.runtime import joining, processes

processes.SAY_SECONDS = 1
joining.start(sys.argv[1], 2, int(sys.argv[2]))
try:
    if sys.argv[2] == "1":
        time.sleep(600)
    processes.meet("somewhere", "", 300)
except processes.ProcessError as error:
    print(error, flush=True)
    os._exit(error.status)  # else JAX waits for the other
