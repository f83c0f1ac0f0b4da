"""Choosing the device, its precision and its determinism."""

from __future__ import annotations

import ctypes
import functools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from grow_cli.console import note, warn
from grow_cli.errors import TrainingFailed, UserError


def choose_device(wanted: str) -> torch.device:
    """`auto`: a GPU (`pick_gpu` says which), else Apple's, else the CPU; UserError if what was asked for is not there."""
    if wanted == "auto":
        if torch.cuda.is_available():
            gpus = torch.cuda.device_count()
            taken, why = pick_gpu(_free_memory() if gpus > 1 else [None], os.environ)
            if why:
                note(f"device=auto: cuda:{taken} of {gpus} ({why})")
            return torch.device("cuda", taken)
        _warn_of_unused_gpu()
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, index = wanted.partition(":")
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(index or 0) >= count:
            raise UserError(f"device={wanted}: this machine shows {count} CUDA devices; use device=auto or device=cpu")
        return torch.device("cuda", int(index or 0))
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UserError("device=mps: this machine has no Apple GPU; use device=auto or device=cpu")
    return torch.device(kind)


def pick_gpu(free: Sequence[int | None], environment: Mapping[str, str]) -> tuple[int, str]:
    """The index of the GPU to take, and the reason, which is empty if there is only one.

    A job of `sweep=local` sees the GPU of its slot alone, and so does a process whose launcher hides the others from it.

    :param free: bytes of each GPU that torch shows, None where nobody knows
    """
    if len(free) == 1:
        return 0, ""
    rank = environment.get("LOCAL_RANK", "")
    if rank.isdecimal():
        if int(rank) >= len(free):
            raise UserError(
                f"device=auto: LOCAL_RANK={rank}, and this machine shows {len(free)} CUDA devices: start one process per "
                "device, or use device=cpu"
            )
        return int(rank), f"LOCAL_RANK={rank}"
    known = {index: there for index, there in enumerate(free) if there is not None}
    if len(known) < len(free):
        return 0, "the first: nvidia-smi does not say how much memory is free on each"
    index = max(known, key=lambda i: (known[i], -i))
    return index, f"the most free memory: {known[index] / 2**30:.1f} GiB"


def _free_memory() -> list[int | None]:
    """The free bytes of each GPU that torch shows. Asking torch would leave some hundred MiB of this process on each of them."""
    query = ["nvidia-smi", "--query-gpu=uuid,memory.free", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        told = ""
    free = free_by_uuid(told)
    uuids = [str(torch.cuda.get_device_properties(i).uuid) for i in range(torch.cuda.device_count())]
    return [free.get(uuid.removeprefix("GPU-")) for uuid in uuids]


def free_by_uuid(told: str) -> dict[str, int]:
    """Bytes by UUID, from nvidia-smi's lines `GPU-<uuid>, <MiB>`; its numbers of GPUs are not torch's."""
    return {uuid: int(mib) * 2**20 for uuid, mib in re.findall(r"^GPU-(\S+), *(\d+) *$", told, re.MULTILINE)}


DRIVER_FILES = (Path("/proc/driver/nvidia"), Path("/dev/nvidia0"))


@functools.cache  # once in a process
def _warn_of_unused_gpu() -> None:
    sentence = unused_gpu(DRIVER_FILES, os.environ)
    if sentence:
        warn(sentence)


def unused_gpu(files: Sequence[Path], environment: Mapping[str, str]) -> str:
    """The warning where a driver left one of these files, or its nvidia-smi, and torch shows no GPU; else nothing."""
    if environment.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):  # hidden on purpose
        return ""
    found = next((str(file) for file in files if file.exists()), None)
    found = found or shutil.which("nvidia-smi", path=environment.get("PATH"))
    if found is None:
        return ""
    built = f"is built for CUDA {torch.version.cuda}" if torch.version.cuda else "is built for the CPU alone"
    return (
        f"device=auto: this machine has an NVIDIA driver ({found}), but torch {torch.__version__}, which {built}, shows no "
        "GPU: training continues without it; check that `nvidia-smi` works and that torch is built for its CUDA version, or "
        "set device=cpu"
    )


def dtype_of(precision: str) -> torch.dtype:
    """The type of weights and data."""
    return torch.float64 if precision == "fp64" else torch.float32


def check_precision(precision: str, device: torch.device) -> None:
    """UserError where the device has no such numbers."""
    if precision == "fp64" and device.type == "mps":
        raise UserError("precision=fp64: Apple's GPUs have no float64: use device=cpu, or precision=fp32")


def set_precision(precision: str) -> None:
    """fp32 products are exact fp32 unless tf32 is requested."""
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Operations give the same bits each time, where `wanted`; TrainingFailed names one that has no such form.

    What is set for the process is as it was before, afterwards.
    """
    if not wanted:
        yield
        return
    name = "CUBLAS_WORKSPACE_CONFIG"  # read by torch before each product on a GPU
    before, workspace = torch.are_deterministic_algorithms_enabled(), os.environ.get(name)
    warned, benchmark = torch.is_deterministic_algorithms_warn_only_enabled(), torch.backends.cudnn.benchmark
    if workspace not in (":4096:8", ":16:8"):  # the two that cuBLAS repeats its results with
        os.environ[name] = ":4096:8"
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True)
    try:
        yield
    except RuntimeError as error:
        found = re.match(r"(.+?) does not have a deterministic implementation", str(error))
        if found is None:
            raise
        raise TrainingFailed(
            f"deterministic=true: {found[1]} has no deterministic implementation here: leave the key out, or use device=cpu "
            "or another model"
        ) from error
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)
        torch.backends.cudnn.benchmark = benchmark
        if workspace is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = workspace


@contextmanager
def fastest_convolutions() -> Iterator[None]:
    """For steps, whose shapes recur: cuDNN tries its kernels on each and keeps the fastest, unless results must repeat."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = not torch.are_deterministic_algorithms_enabled()
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def keep_memory() -> None:
    """Let the C library keep what is freed, up to a gigabyte, instead of giving it back to the system at once.

    On the CPU the same tensors of some megabytes are wanted again at every step, and fetching them page by page anew takes
    longer than what is computed in them. Only glibc has the knobs; elsewhere nothing is done.
    """
    if sys.platform != "linux":
        return
    trim_threshold, mmap_threshold, most = -1, -3, 2**30
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library
        return
    mallopt(trim_threshold, most)
    mallopt(mmap_threshold, most)


def flush_denormals() -> None:
    """Count as zero what is below 1e-38, with which a CPU computes tens of times as slowly.

    An L2 term takes the weights of pixels that are always black there, and Adam's squares of their gradients at once: from the
    thirtieth epoch on MNIST, a step then took twenty times as long.
    """
    torch.set_flush_denormal(True)  # False where the processor cannot


def synchronize(device: torch.device) -> None:
    """Wait until the device has done its work, so that a clock can be read; never inside a step."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


# torch's own choice, before any run of this process changed it
_DEFAULT_THREADS = torch.get_num_threads()
# Forward FLOPs of a batch below which a second thread gains next to nothing, and loses a factor of 50 where another
# process wants the same core (the threads of a small product wait for each other, spinning).
_WORTH_THREADS = 10**8


def reset_threads() -> None:
    """torch's own choice: what is computed while data are loaded must not depend on the run before."""
    torch.set_num_threads(_DEFAULT_THREADS)


def choose_threads(wanted: int | None, device: torch.device, flops_per_batch: int) -> int:
    """CPU threads for a run."""
    if wanted is not None:
        return wanted
    return 1 if device.type != "cpu" or flops_per_batch < _WORTH_THREADS else _DEFAULT_THREADS
