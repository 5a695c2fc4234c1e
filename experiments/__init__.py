"""Runnable studies; the docstring of each script shows how to call it.

On Linux a script restarts itself once so that its arrays use large memory pages. Every step allocates
hundreds of megabytes, and with pages of 4 KiB a CPU spends almost as long on page faults as on the rest (a
training step takes 1.8 times as long). The C library reads this setting only when a process starts.
"""

import os
import sys

_PAGES = "glibc.malloc.hugetlb"


def _in_large_pages() -> None:
    """Runs `python -m experiments.NAME ...` again with the setting in its environment, if it is missing."""
    wishes = os.environ.get("GLIBC_TUNABLES", "")
    # the argument is "-m" only while Python looks for the module to run
    if sys.platform != "linux" or sys.argv[:1] != ["-m"] or _PAGES in wishes:
        return
    os.environ["GLIBC_TUNABLES"] = ":".join(filter(None, [wishes, f"{_PAGES}=1"]))
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


_in_large_pages()
