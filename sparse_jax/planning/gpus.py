"""Descriptions of GPUs for XLA's compiler, for machines without a GPU."""

# What a kernel may use of a Hopper GPU, compute capability 9.0. The limits: the table "Technical
# Specifications per Compute Capability" of NVIDIA's CUDA C++ Programming Guide. 132 multiprocessors of 128
# float32 lanes, 50 MB of L2, 1.98 GHz: NVIDIA's white paper "H100 Tensor Core GPU Architecture" (SXM5), and
# so XLA describes an H100 that it finds. An H200 has the same processor and another memory.
_HOPPER = """
gpu_device_info {{
  cuda_compute_capability {{ major: 9 }}
  core_count: 132
  fpus_per_core: 128
  threads_per_warp: 32
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  registers_per_block_limit: 65536
  registers_per_core_limit: 65536
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  memory_bandwidth: {bandwidth:.0f}
  device_memory_size: {memory}
}}
platform_name: "CUDA"
runtime_version {{ major: 13 }}
dnn_version_info {{ major: 9 minor: 7 }}
device_description_str: "NVIDIA {name}"
"""


def target_config(kind: str, memory: int, bandwidth: float) -> str:
    """XLA's description, a GpuTargetConfigProto as text, of an "h100" or "h200" with this memory."""
    return _HOPPER.format(name=kind.upper(), memory=memory, bandwidth=bandwidth)
