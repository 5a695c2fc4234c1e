"""Runnable studies; each script says at its top how it is called.

On Linux a script starts itself anew, once, so that its arrays lie in large pages: every step allocates
hundreds of megabytes afresh, and in pages of 4 KiB a CPU spends almost as long on page faults as on the rest
(a training step takes 1.8 times as long). The C library hears that wish only before a process starts.
"""

import os
import sys

_PAGES = "glibc.malloc.hugetlb"


def _in_large_pages() -> None:
    """Runs `python -m experiments.NAME ...` again with the wish in its environment, if it is not there."""
    wishes = os.environ.get("GLIBC_TUNABLES", "")
    # "-m" stands there while a module that is to be run is looked for, and at no other time
    if sys.platform != "linux" or sys.argv[:1] != ["-m"] or _PAGES in wishes:
        return
    os.environ["GLIBC_TUNABLES"] = ":".join(filter(None, [wishes, f"{_PAGES}=1"]))
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


_in_large_pages()
