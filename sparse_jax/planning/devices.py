"""Devices to compile for, which this machine need not have."""

import importlib.util
import os

import jax
from jax.experimental import topologies

from sparse_jax.inputs import InputError
from sparse_jax.planning.gpus import target_config
from sparse_jax.planning.topologies import Topology

# libtpu is asked to compile, not to look for chips or for the machine that it is on; and another process may
# have it loaded. Only where nothing runs on a TPU: there they would let two processes take the same chip.
_COMPILE_ONLY = {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
}


# Nothing can be tried out on a GPU that is not there.
_UNTRIED = "--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false"


def planned_devices(topology: Topology) -> list[jax.Device]:
    """The devices of a topology, to lower and compile for; only those of cpu:N can run anything.

    To be called before JAX has looked for devices. Raises InputError where libtpu or JAX's plugin for CUDA is
    needed and not installed, or if JAX has already started with fewer CPU devices.
    """
    jax.config.update("jax_platforms", "cpu")
    return {"tpu": _tpu_devices, "gpu": _gpu_devices, "cpu": _cpu_devices}[topology.platform](topology)


def _tpu_devices(topology: Topology) -> list[jax.Device]:
    _require_compiler(topology, "libtpu", "plan")
    kind, _, count = topology.name.partition("-")
    accelerator = {"v5e": "v5litepod"}.get(kind, kind)
    os.environ.update(_COMPILE_ONLY, TPU_ACCELERATOR_TYPE=f"{accelerator}-{count}")
    assert topology.shape is not None  # every slice has one
    return list(topologies.get_topology_desc(platform="tpu", topology_name=topology.shape).devices)


def _gpu_devices(topology: Topology) -> list[jax.Device]:
    _require_compiler(topology, "jax_cuda13_plugin", "plan-gpu")
    os.environ["XLA_FLAGS"] = " ".join(filter(None, [os.environ.get("XLA_FLAGS"), _UNTRIED]))
    chip = topology.chip
    assert chip is not None and topology.shape is not None  # only simulated devices are without
    described = target_config(topology.shape, chip.memory, chip.memory_bandwidth)
    # machines, processes of each, devices of each
    shape = f"1x1x{topology.devices}"
    found = topologies.get_topology_desc(platform="cuda", target_config=described, topology=shape)
    return list(found.devices)


def _require_compiler(topology: Topology, package: str, extra: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise InputError(
            f"--topology: {topology.name} is compiled by {package}, which is not installed; "
            f"valid: pip install '.[{extra}]', or a topology such as cpu:8"
        )


def _cpu_devices(topology: Topology) -> list[jax.Device]:
    wanted = topology.devices
    try:
        jax.config.update("jax_num_cpu_devices", wanted)
    except RuntimeError:  # JAX has started: what there is must do
        if len(jax.devices("cpu")) < wanted:
            raise InputError(
                f"--topology: {topology.name} needs {wanted} simulated devices but JAX has started with "
                f"{len(jax.devices('cpu'))}; valid: a process of its own"
            ) from None
    return jax.devices("cpu")[:wanted]
