"""Devices to compile for, even if this machine does not have them."""

import importlib.util
import os

import jax
from jax.experimental import topologies

from sparse_jax.inputs import InputError
from sparse_jax.planning.gpus import target_config
from sparse_jax.planning.topologies import Topology

# libtpu should only compile, without looking for chips or its machine, and another process may have it
# loaded. Not set if anything runs on a TPU: there these settings would let two processes take the same chip.
_COMPILE_ONLY = {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
}


# Autotuning is impossible without the GPU.
_UNTRIED = "--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false"


def planned_devices(topology: Topology) -> list[jax.Device]:
    """The devices of a topology, to lower and compile for; only those of cpu:N can run programs.

    Call it before JAX has initialized its devices. Raises InputError if libtpu or JAX's CUDA plugin is needed
    but not installed, or if JAX has already started with fewer CPU devices.
    """
    jax.config.update("jax_platforms", "cpu")
    return {"tpu": _tpu_devices, "gpu": _gpu_devices, "cpu": _cpu_devices}[topology.platform](topology)


def _tpu_devices(topology: Topology) -> list[jax.Device]:
    _require_compiler(topology, "libtpu", "plan")
    kind, _, count = topology.name.partition("-")
    accelerator = {"v5e": "v5litepod"}.get(kind, kind)
    os.environ.update(_COMPILE_ONLY, TPU_ACCELERATOR_TYPE=f"{accelerator}-{count}")
    assert topology.shape is not None  # every slice has a shape
    return list(topologies.get_topology_desc(platform="tpu", topology_name=topology.shape).devices)


def _gpu_devices(topology: Topology) -> list[jax.Device]:
    _require_compiler(topology, "jax_cuda13_plugin", "plan-gpu")
    os.environ["XLA_FLAGS"] = " ".join(filter(None, [os.environ.get("XLA_FLAGS"), _UNTRIED]))
    chip = topology.chip
    assert chip is not None and topology.shape is not None  # only simulated devices have neither
    described = target_config(topology.shape, chip.memory, chip.memory_bandwidth)
    # machines, processes per machine, devices per process
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
    except RuntimeError:  # JAX has started: use the existing devices
        if len(jax.devices("cpu")) < wanted:
            raise InputError(
                f"--topology: {topology.name} needs {wanted} simulated devices but JAX has started with "
                f"{len(jax.devices('cpu'))}; valid: a process of its own"
            ) from None
    return jax.devices("cpu")[:wanted]
