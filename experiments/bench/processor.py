"""The CPU that a benchmark ran on, so that rows of several machines can be told apart."""

import platform
import re
from pathlib import Path

from sparse_jax.topk.chunks import usable_cpus

# What decides how fast products of float32 and bfloat16 matrices can be.
FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16")


def processor(info: Path = Path("/proc/cpuinfo")) -> dict[str, object]:
    """Its name, those of FEATURES that it has, and the number of CPUs that this process may use.

    info: Linux's description of the CPUs; without it the name is `platform.machine()`, and "features" is
        left out.
    """
    usable = usable_cpus()
    try:
        text = info.read_text()
    except OSError:
        return {"cpu": platform.machine(), "cpus": usable}
    fields = dict(re.findall(r"^([^\t:]+)\t*: *(.*)$", text, re.MULTILINE))
    # a virtual machine may hide the name of the model, but hardly its number
    name = fields.get("model name", platform.machine())
    if "model" in fields:
        name += f", family {fields.get('cpu family')} model {fields['model']}"
    flags = fields.get("flags", fields.get("Features", "")).split()
    return {"cpu": name, "features": [name for name in FEATURES if name in flags], "cpus": usable}
