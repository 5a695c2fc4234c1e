"""How a process joins the others of its run: as a launcher says, or as given by hand."""

import contextlib
import glob
import os
import re
import threading
import time
import warnings
from collections.abc import Callable, Iterator

import jax

from sparse_jax.inputs import InputError, first_line, require
from sparse_jax.runtime import processes
from sparse_jax.runtime.processes import LOST, ProcessError, say

# How long a process that went silent counts as alive.
HEARTBEAT_SECONDS = 60

# What launchers set, its value where a process is alone (None: that cannot be told), and what is missing
# where JAX did not recognize them.
_LAUNCHERS = (
    ("SPARSE_JAX_HOSTS", "1", "JAX found no slice of TPUs"),  # of launch/tpu_pod.sh
    ("OMPI_COMM_WORLD_SIZE", "1", "Open MPI 5 names no coordinator"),
    ("SLURM_STEP_NUM_TASKS", "1", "srun did not set all that JAX reads"),
    ("JOB_COMPLETION_INDEX", None, "in Kubernetes JAX needs pip install 'jax[k8s]' and leave to read pods"),
)
_OR_ELSE = "--coordinator, --processes and --process, or --nocluster for a process of its own"
# What JAX recognizes SLURM by. It then takes SLURM_NTASKS as the number of processes, which in an interactive
# shell is that of the job, whose other tasks nobody has started.
_SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")


def start(
    coordinator: str | None = None, count: int | None = None, index: int | None = None, detect: bool = True
) -> None:
    """Joins the processes of a run; has to come before the first computation.

    With `coordinator` ("host:port" of process 0), `count` and `index` as given; otherwise as JAX reads them
    from the environment: TPU pod, SLURM, Open MPI, Kubernetes. Does nothing where there is just one process.

    Raises InputError for arguments that do not fit together, or if there are several processes but JAX cannot
    see how they are to meet. Ends with exit status LOST if they do not meet within START_SECONDS.
    """
    given = {"--coordinator": coordinator, "--processes": count, "--process": index}
    if any(value is not None for value in given.values()):
        for name, value in given.items():
            require(value is not None, name, None, f"all of {', '.join(given)}, or none")
    if coordinator is not None and count is not None and index is not None:
        require(count >= 1, "--processes", count, "at least 1")
        require(0 <= index < count, "--process", index, f"0 to {count - 1}")
        require(bool(re.fullmatch(r".+:\d+", coordinator)), "--coordinator", coordinator, "HOST:PORT")
        if count > 1:
            _initialize(coordinator, count, index, detection="deactivate")
    elif detect:
        _start_from_environment()


def _start_from_environment() -> None:
    count = _count_of_launcher()
    if count == 1:
        return  # JAX would wait for nobody, and leave all GPUs but one unused
    try:
        with warnings.catch_warnings():
            # in any Kubernetes pod without the kubernetes package; most of them hold a lone process
            warnings.filterwarnings("ignore", message=r"\s*Kubernetes environment detected")
            _initialize(count=count)
    except _NotDetected as error:
        if "coordinator_address should be defined" not in str(error):
            account = "a service account that may read pods, jobs and services; "
            raise InputError(
                f"processes: JAX cannot tell how they meet ({error}); valid: "
                f"{account * ('KUBERNETES_SERVICE_HOST' in os.environ)}{_OR_ELSE}"
            ) from None
        for said, problem in _launchers():
            raise InputError(f"processes: {said}, but {problem}; valid: {_OR_ELSE}") from None
        return
    _say_unused_gpus()


def _count_of_launcher() -> int | None:
    """How many processes mpirun or srun has started as one; None if JAX asks neither of them."""
    if "OMPI_MCA_orte_hnp_uri" in os.environ:
        return _number("OMPI_COMM_WORLD_SIZE")
    return _number("SLURM_STEP_NUM_TASKS") if all(name in os.environ for name in _SLURM) else None


def _say_unused_gpus() -> None:
    """Says if GPUs of the machine stay idle: JAX gives one to each process that mpirun or srun starts."""
    if _count_of_launcher() is None or jax.default_backend() != "gpu":
        return
    if "OMPI_MCA_orte_hnp_uri" in os.environ:
        here, first = _number("OMPI_COMM_WORLD_LOCAL_SIZE"), _number("OMPI_COMM_WORLD_LOCAL_RANK") == 0
    else:
        here, first = _slurm_tasks_here(), _number("SLURM_LOCALID") == 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = len(visible.split(",")) if visible else _number("SLURM_GPUS_ON_NODE")
    gpus = len(glob.glob("/dev/nvidia[0-9]*")) if gpus is None else gpus
    used = len(jax.local_devices())
    if first and here is not None and gpus > here * used:
        say(
            f"processes: {here} on this machine use {used} each of its {gpus} GPUs; to use all, start one "
            "process for each GPU, or set JAX_LOCAL_DEVICE_IDS"
        )


def _slurm_tasks_here() -> int | None:
    """How many tasks of the step are on this machine: SLURM says it as in "4(x2),1", machine by machine."""
    runs = re.findall(r"(\d+)(?:\(x(\d+)\))?", os.environ.get("SLURM_STEP_TASKS_PER_NODE", ""))
    tasks = [int(each) for each, times in runs for _ in range(int(times or 1))]
    index = _number("SLURM_NODEID") or 0
    return tasks[index] if index < len(tasks) else None


def _number(name: str) -> int | None:
    value = os.environ.get(name, "")
    return int(value) if value.isdecimal() else None


def _launchers() -> Iterator[tuple[str, str]]:
    """What launchers say that have, or may have, started other processes too, and what JAX would miss."""
    for name, alone, problem in _LAUNCHERS:
        if os.environ.get(name, alone) != alone:
            yield f"{name} is {os.environ[name]}", problem


def stay_alone(
    coordinator: str | None = None, count: int | None = None, index: int | None = None, detect: bool = True
) -> None:
    """In place of `start` for what one process does: others would do the same work, into the same files.

    Raises InputError for any argument, and, with `detect`, if the environment tells of other processes.
    """
    if (coordinator, count, index) != (None, None, None):
        raise InputError("--coordinator: this command runs in one process; valid: launch/local.sh")
    for said, _ in _launchers() if detect else ():
        raise InputError(
            f"processes: {said}, but this command runs in one process; valid: launch/local.sh, "
            "or --nocluster to run it here all the same"
        )


class _NotDetected(Exception):
    """What went wrong while JAX looked for the others in the environment; none was asked."""


def _initialize(
    coordinator: str | None = None,
    count: int | None = None,
    index: int | None = None,
    detection: str | None = None,
) -> None:
    """Joins the others, or ends this process: what waits in JAX cannot be called back, and would abort."""
    whose = (
        f" for the others{' of ' + str(count) if count else ''}"
        if coordinator is None
        else f" for process {index} of {count} to meet the others at {coordinator}"
    )

    def join() -> None:
        try:
            jax.distributed.initialize(
                coordinator,
                count,
                index,
                cluster_detection_method=detection,
                initialization_timeout=2 * processes.START_SECONDS,
                heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            )
        except jax.errors.JaxRuntimeError as error:
            raise ProcessError(f"processes: could not meet ({first_line(error)})") from None
        except Exception as error:
            if detection is not None:
                raise
            said = first_line(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            raise _NotDetected(" ".join(said.split())[:300]) from None
        jax.devices()  # all together, while all are known to be here

    processes.joining.set()
    try:
        _interruptible(
            join, f"processes: waiting{whose}", f"processes: waited {processes.START_SECONDS} s{whose}"
        )
    except _NotDetected:
        processes.joining.clear()
        raise
    processes.joining.clear()
    if jax.default_backend() == "cpu":
        # Only process 0 writes to the cache. The collectives of its program as read and of the others' as
        # compiled may begin in different order there, and wait for each other without end.
        jax.config.update("jax_enable_compilation_cache", False)


def _interruptible(work: Callable[[], None], waiting: str, waited: str | None = None) -> None:
    """Does `work`, in which JAX waits for others where Python hears no signal: in a thread, so that it does.

    Says `waiting` after SAY_SECONDS. With `waited` it says that after START_SECONDS, and ends this process
    with status LOST; without it, `work` has a limit of its own.
    """
    failed: list[BaseException] = []

    def do() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread, began, said = threading.Thread(target=do, daemon=True), time.monotonic(), False
    thread.start()
    while thread.is_alive():
        thread.join(0.1)
        if waited is not None and time.monotonic() - began > processes.START_SECONDS:
            _give_up(waited)
        if time.monotonic() - began > processes.SAY_SECONDS and not said:
            said = True
            say(waiting)
    for error in failed:
        raise error


def _give_up(why: str) -> None:
    say(f"error: {why}; missing are those that do not say this")
    os._exit(LOST)


def leave() -> None:
    """Waits until all processes have saved and come here; one that ends early would be taken for lost."""
    if jax.distributed.is_initialized():
        # one may be killed meanwhile, or Ctrl-C says not to wait
        with contextlib.suppress(jax.errors.JaxRuntimeError, KeyboardInterrupt):
            _interruptible(jax.distributed.shutdown, "processes: waiting for the others to save")
