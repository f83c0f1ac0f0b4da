"""Where a trajectory's velocities are kept: in fewer bits, on a chosen medium, beside their Gram matrices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from grow_cli.theory.trajectory import chunk_columns

DTYPES = {"float32": torch.float32, "float16": torch.float16, "int8": torch.int8}
# A velocity's largest entry is scaled to this code. Float16 is scaled as well: velocities of 1e-6 are ordinary,
# and unscaled they fall among its denormals.
LARGEST_CODE = {"float16": 2.0**15, "int8": 127.0}


def planned_bytes(window: int, sizes: Sequence[int], dtype: str, *, smoothing: bool = False) -> int:
    """Bytes a `History` of `window` snapshots S holds for tensors of these sizes, of P entries in all.

    (S-1) P codes, the last snapshot (4 P), with smoothing the average (4 P), and per tensor a Gram matrix
    (8 (S-1)²) and a scale per velocity (4 (S-1)).
    """
    velocities, parameters = window - 1, sum(sizes)
    codes = velocities * parameters * DTYPES[dtype].itemsize
    snapshots = 4 * parameters * (2 if smoothing else 1)
    return codes + snapshots + len(sizes) * (8 * velocities**2 + 4 * velocities)


class VelocityStore:
    """Slots for velocities of several tensors laid end to end (P entries), and a Gram matrix for each tensor.

    A velocity is stored as codes times one scale per tensor. The Gram matrices are those of what is stored, not
    of what was given: codes · codesᵀ is accumulated in float64, and the scales are multiplied in on the way out.
    Slots have no order of their own; callers pass the slots in order of time.
    """

    def __init__(
        self,
        slots: int,
        sizes: Sequence[int],
        dtype: str,
        device: torch.device,
        *,
        pin: bool = False,
        path: Path | None = None,
    ) -> None:
        self._sizes = list(sizes)
        self._largest_code = LARGEST_CODE.get(dtype)
        self._path = path
        entries = slots * sum(sizes)
        if self._path is None:
            codes = torch.zeros(entries, dtype=DTYPES[dtype], device=device, pin_memory=pin)
        else:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.unlink(missing_ok=True)
            codes = torch.from_file(str(self._path), shared=True, size=entries, dtype=DTYPES[dtype])
        self.codes = codes.view(slots, -1)
        self.scales = torch.ones(len(sizes), slots, device=device)
        self.inner = torch.zeros(len(sizes), slots, slots, dtype=torch.float64, device=device)

    def write(self, slot: int, velocity: Tensor) -> None:
        """Store a velocity (P,) float32, which is overwritten; `update_gram` must follow. No host sync."""
        if self._largest_code is not None:
            for tensor, piece in enumerate(velocity.split(self._sizes)):
                largest = torch.linalg.vector_norm(piece, torch.inf)
                scale = (largest / self._largest_code).clamp_min(1e-38)  # a velocity of zero has codes of zero
                piece.div_(scale)
                self.scales[tensor, slot] = scale
            if not self.codes.is_floating_point():
                velocity.round_()
        self.codes[slot] = velocity

    def add(self, slot: int, other: int) -> None:
        """Add the velocity in `other` to the one in `slot`; `update_gram` must follow."""
        self.write(slot, self._read(slot).add_(self._read(other)))

    def update_gram(self, changed: Sequence[int], used: int) -> None:
        """Renew the rows and columns of the changed slots: one pass each over the first `used`. No host sync."""
        columns = chunk_columns(self.codes)
        # Many entries: float32 within a chunk and float64 across, whose rounding averages out to some 1e-9. Few: it
        # would not, and would pass for modes of its own; float64 costs nothing there.
        dtype = torch.float64 if self.codes.shape[1] <= 2**18 else torch.float32
        products = torch.empty(used * min(columns, self.codes.shape[1]), dtype=dtype, device=self.codes.device)
        for tensor, codes in enumerate(self.codes[:used].split(self._sizes, dim=1)):
            for slot in changed:
                row = torch.zeros(used, dtype=torch.float64, device=codes.device)
                for chunk in codes.split(columns, dim=1):
                    out = products[: chunk.numel()].view(chunk.shape)
                    row += torch.mul(chunk, chunk[slot].to(dtype), out=out).sum(dim=1)
                self.inner[tensor, slot, :used] = row
                self.inner[tensor, :used, slot] = row

    def gram(self, order: Sequence[int]) -> Tensor:
        """The Gram matrices (tensors, n, n) of the velocities in these n slots, float64, on the CPU."""
        index = torch.tensor(order, dtype=torch.long)
        scales = self.scales.cpu().double()[:, index]
        return self.inner.cpu()[:, index][:, :, index] * scales[:, :, None] * scales[:, None, :]

    def combine(self, order: Sequence[int], c: Sequence[Tensor]) -> Tensor:
        """Σ_t c_t V_t (P,) float32, with coefficients (n,) for each tensor and t over these n slots."""
        index = torch.tensor(order, dtype=torch.long, device=self.codes.device)
        total = torch.empty(self.codes.shape[1], device=self.codes.device)
        columns = chunk_columns(self.codes)
        pieces = zip(total.split(self._sizes), self.codes.split(self._sizes, dim=1), c, strict=True)
        for tensor, (piece, codes, by_velocity) in enumerate(pieces):
            by_slot = torch.zeros_like(self.scales[tensor])
            by_slot[index] = by_velocity.to(by_slot) * self.scales[tensor, index]
            for part, chunk in zip(piece.split(columns), codes.split(columns, dim=1), strict=True):
                torch.mv(chunk.float().T, by_slot, out=part)
        return total

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All there is to save, by name."""
        return {"codes": self.codes, "scales": self.scales, "inner": self.inner}

    def close(self) -> None:
        """Remove the file, if there is one."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _read(self, slot: int) -> Tensor:
        """A copy of a velocity (P,), float32."""
        velocity = self.codes[slot].to(torch.float32, copy=True)
        if self._largest_code is not None:
            for tensor, piece in enumerate(velocity.split(self._sizes)):
                piece.mul_(self.scales[tensor, slot])
        return velocity
