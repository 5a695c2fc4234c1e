"""Settings for every test: simulated CPU devices, so that sharding is never left out, and one compile cache.

SPARSE_JAX_TEST_DEVICES  how many devices (default 4); with 1, as most users have, tests that ask for
                         `several_devices` are left out. launch/test.sh runs some files both ways.
SPARSE_JAX_TEST_OPTIMIZED  1: programs are compiled as users have them. Otherwise XLA leaves most of its
                         optimizations out and takes its shortest road to machine code: a compilation costs
                         an eighth, which saves most of the time of the tests.
JAX_COMPILATION_CACHE_DIR  where programs are kept (default: a folder that goes with the run); each worker has
                         a part of its own, since JAX does not write its entries atomically.
"""

import atexit
import ctypes
import gc
import os
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

gc.disable()  # until all tests are collected: what imports make stays


def _compile_once() -> None:
    """No program is compiled twice in a run, be it by a test or by a process that a test starts."""
    kept = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if kept is None:
        kept = tempfile.mkdtemp(prefix="sparse_jax-compiled-")
        atexit.register(shutil.rmtree, kept, ignore_errors=True)
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker and Path(kept).name != worker:
        kept = str(Path(kept) / worker)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = kept
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "0"


_compile_once()
if os.environ.get("SPARSE_JAX_TEST_OPTIMIZED") != "1":
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    # jaxlib 0.11 has no such flag any more, and XLA aborts on flags that it does not know
    if tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 11):
        # those of the environment come last and win
        quick = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
        os.environ["XLA_FLAGS"] = f"{quick} {os.environ.get('XLA_FLAGS', '')}".strip()
os.environ.setdefault("JAX_PLATFORMS", "cpu")
DEVICES = int(os.environ.get("SPARSE_JAX_TEST_DEVICES", "4"))

import hypothesis  # noqa: E402
import jax  # noqa: E402
import psutil  # noqa: E402
import pytest  # noqa: E402
from jax.experimental.compilation_cache import compilation_cache  # noqa: E402

from sparse_jax.training.config import run_config  # noqa: E402
from tests.commands import forking  # noqa: E402
from tests.storage_server import Storage, environment, serving  # noqa: E402
from tests.tiny_run import tiny  # noqa: E402

# Bytes of memory above which a worker drops the programs that it keeps; the largest module needs 1 GB more.
FULL = 1.8e9

jax.config.update("jax_num_cpu_devices", DEVICES)
# the machines that run the tests stop for seconds now and then
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")


def pytest_collection_finish():
    """What imports and collection have made stays, and is not looked through for garbage again and again."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    gc.enable()


def pytest_runtest_setup(item):
    if DEVICES == 1 and item.get_closest_marker("several_devices"):
        pytest.skip("asks for several devices")


@pytest.fixture(scope="module", autouse=True)
def forgotten_programs():
    """What a module has compiled is dropped at its end: a worker would grow to gigabytes."""
    yield
    jax.clear_caches()


def pytest_runtest_teardown():
    """A large module's programs are dropped on the way too."""
    if psutil.Process().memory_info().rss > FULL:
        jax.clear_caches()
        gc.collect()  # programs are in cycles, which Python finds late
        if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):  # of Linux, which keeps freed memory otherwise
            libc.malloc_trim(0)


@pytest.fixture
def compiled_anew():
    """Nothing is taken from the compile cache, for tests that look at what the compiler says."""
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    yield
    jax.config.update("jax_enable_compilation_cache", True)
    compilation_cache.reset_cache()


@pytest.fixture(scope="session")
def storage():
    """A server of Cloud Storage for this process and those that it starts; clients remember its address."""
    server = Storage()
    with serving(server) as address:
        os.environ.update(environment(address))
        yield server


@pytest.fixture
def bucket(storage, tmp_path, monkeypatch):
    """A new, empty bucket, as gs://NAME; its copies on this machine are kept in a folder of the test."""
    name = f"bucket-{len(storage.buckets)}"
    storage.buckets[name] = {}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield f"gs://{name}"
    storage.before = lambda *_: None


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """Starts processes quickly."""
    with forking(tmp_path_factory.mktemp("processes")) as server:
        yield server


@pytest.fixture(scope="session")
def command(server):
    """Runs a command of experiments: command(module, *arguments)."""
    return server.run


@pytest.fixture(scope="session")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def mapping(directory):
    """A run that takes seconds, as nested dicts that a test may change."""
    return tiny(directory)


@pytest.fixture
def config(mapping):
    return run_config(mapping)
