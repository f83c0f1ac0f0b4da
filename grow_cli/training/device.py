"""Choosing the device, and how precisely it multiplies."""

from __future__ import annotations

import ctypes
import sys

import torch

from grow_cli.errors import UserError


def choose_device(wanted: str) -> torch.device:
    """`auto`: the first GPU, else Apple's, else the CPU; UserError if what was asked for is not there."""
    if wanted == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", 0)
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


def set_precision(precision: str) -> None:
    """fp32 products are exact fp32 unless tf32 is asked for."""
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"


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
