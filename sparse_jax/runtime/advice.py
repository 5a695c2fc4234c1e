"""Advice on what makes a process faster, if asked for before it starts: large pages and kept programs."""

import functools
import os
import platform
import sys

import jax

PAGES = "glibc.malloc.hugetlb"


def wished(environment: str, system: str, library: str, backend: str) -> bool:
    """Whether large pages would help but are not requested.

    environment: the value of GLIBC_TUNABLES. system, library and backend: as `sys.platform`,
    `platform.libc_ver()[0]` and `jax.default_backend()` say.
    """
    return (system, library, backend) == ("linux", "glibc", "cpu") and PAGES not in environment


@functools.cache
def advise() -> None:
    """Prints once per process, to stderr, how to make training and pruning faster, a line each.

    Large memory pages are requested from the C library before a process starts, where they would help; the
    programs that JAX compiles are kept in a folder, where none is set.
    """
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    if wished(tunables, sys.platform, platform.libc_ver()[0], jax.default_backend()):
        value = ":".join(filter(None, [tunables, f"{PAGES}=1"]))
        print(f"faster on this CPU: start Python with GLIBC_TUNABLES={value} (large pages)", file=sys.stderr)
    if not jax.config.values["jax_compilation_cache_dir"]:
        how = 'jax.config.update("jax_compilation_cache_dir", FOLDER), or JAX_COMPILATION_CACHE_DIR=FOLDER'
        print(f"faster from the next start on: {how} (keeps compiled programs)", file=sys.stderr)
