"""Storage of a trajectory's velocities, in fewer bits and on a chosen medium, with their Gram matrices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from grow_cli.hardware import fetched, sent
from grow_cli.theory.trajectory import chunk_columns

DTYPES = {"float32": torch.float32, "float16": torch.float16, "int8": torch.int8}
# A velocity's largest entry is scaled to this code. Float16 is scaled as well: velocities of 1e-6 are ordinary,
# and unscaled they fall among its denormals. Int8 leaves room for dice of half a code.
LARGEST_CODE = {"float16": 2.0**15, "int8": 126.5}
_DICE = 4099
"""Dice that round int8 codes; entries so far apart share one."""


def planned_bytes(window: int, sizes: Sequence[int], dtype: str, *, smoothing: bool = False) -> int:
    """Bytes a `History` of `window` snapshots S holds for tensors of these sizes, of P entries in all.

    (S-1) P codes, the last snapshot (4 P), with smoothing the average (4 P), and per tensor a Gram matrix
    (8 (S-1)²) and a scale per velocity (4 (S-1)). int8 adds what the last rounding left (2 P) and, per tensor, the
    energies of what each rounding left (24 (S-1)) and of that last one (8 and a scale of 4).
    """
    velocities, parameters = window - 1, sum(sizes)
    codes = velocities * parameters * DTYPES[dtype].itemsize
    snapshots = 4 * parameters * (2 if smoothing else 1)
    loop, loops = (2 * parameters, 24 * velocities + 12) if dtype == "int8" else (0, 0)
    return codes + snapshots + loop + len(sizes) * (8 * velocities**2 + 4 * velocities + loops)


class VelocityStore:
    """Slots for velocities of several tensors laid end to end (P entries), and a Gram matrix for each tensor.

    A velocity is stored as codes times one scale per tensor. The Gram matrices are those of what is stored, not
    of what was given: codes · codesᵀ is accumulated in float64, and the scales are multiplied in on the way out.

    int8 rounds in a closed loop: what rounding leaves of a velocity, e_t, is given to the next, so that what is stored is
    V_t + e_{t-1} - e_t and sums of it hold to one code, however many there are. Dice decide which way a fraction of a
    code is rounded. So e_t is uncorrelated with all velocities, and adds its energy and nothing else to a Gram matrix:
    ‖e_{t-1}‖² + ‖e_t‖² to K_tt, -‖e_t‖² to K_{t,t+1}. That is known, and taken off on the way out; so is the energy of
    what is lost where velocities are merged.
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
        self._at_once = 2**22 if codes.is_cuda else 2**18  # entries that are rounded together
        self.scales = torch.ones(len(sizes), slots, device=device)
        self.inner = torch.zeros(len(sizes), slots, slots, dtype=torch.float64, device=device)
        self._loop = self._open_loop(slots) if dtype == "int8" else {}

    def _open_loop(self, slots: int) -> dict[str, Tensor]:
        """What int8 carries from one velocity to the next."""
        device, entries, tensors = self.codes.device, sum(self._sizes), len(self._sizes)
        dice = torch.rand(_DICE, generator=torch.Generator().manual_seed(0)) - 0.5
        # again and again, so that a chunk's are a slice from wherever it begins
        self._dice = dice.repeat(2 + self._at_once // _DICE).to(device)
        return {
            "left": torch.zeros(entries, dtype=torch.float16, device=device),  # e, in codes
            "left_scale": torch.zeros(tensors, device=device),
            "left_energy": torch.zeros(tensors, dtype=torch.float64, device=device),
            # of each slot: ‖e_{t-1}‖², ‖e_t‖², and what merging lost
            "energies": torch.zeros(tensors, slots, 3, dtype=torch.float64, device=device),
        }

    def write(self, slot: int, velocity: Tensor, turn: int) -> None:
        """Store a velocity (P,) float32, which is overwritten; `update_gram` must follow. No host sync.

        turn: another number for each rounding, from which int8's dice follow.
        """
        loop = self._loop
        if loop:
            for tensor, _, (piece, left) in self._chunks(velocity, loop["left"]):
                piece.addcmul_(left.float(), loop["left_scale"][tensor])
        self._round(slot, velocity, turn)
        if loop:
            loop["left"].copy_(velocity)
            loop["left_scale"].copy_(self.scales[:, slot])
            after = self._energy(loop["left"], slot)
            loop["energies"][:, slot] = torch.stack([loop["left_energy"], after, torch.zeros_like(after)], dim=1)
            loop["left_energy"].copy_(after)

    def merge(self, slot: int, other: int, turn: int) -> None:
        """Add the velocity in `other`, the next in time, to the one in `slot`; `update_gram` must follow. No host sync."""
        velocity = self._read(slot).add_(self._read(other))
        self._round(slot, velocity, turn)
        if self._loop:
            energies = self._loop["energies"]
            energies[:, slot, 1] = energies[:, other, 1]
            energies[:, slot, 2] += energies[:, other, 2] + self._energy(velocity, slot)

    def _round(self, slot: int, velocity: Tensor, turn: int) -> None:
        """Store a velocity, which is overwritten by what rounding to int8 leaves of it, in codes."""
        if self._largest_code is None:
            self.codes[slot] = velocity
            return
        ends = torch.stack([torch.stack(torch.aminmax(piece)) for piece in velocity.split(self._sizes)])
        # a velocity of zero has codes of zero
        self.scales[:, slot] = (ends.abs().amax(dim=1) / self._largest_code).clamp_min(1e-38)
        for tensor, start, (piece, codes) in self._chunks(velocity, self.codes[slot]):
            piece.div_(self.scales[tensor, slot])
            if codes.is_floating_point():
                codes.copy_(piece)
                continue
            first = (start - 1237 * turn) % _DICE
            rounded = (piece + self._dice[first : first + len(piece)]).round_()
            codes.copy_(rounded)
            piece.sub_(rounded)

    def _energy(self, codes: Tensor, slot: int) -> Tensor:
        """The squared length of each tensor's piece (tensors,), from codes in the scales of a slot."""
        sums = torch.zeros(len(self._sizes), dtype=torch.float64, device=codes.device)
        for tensor, _, (piece,) in self._chunks(codes):
            flat = piece.float()
            sums[tensor] += flat.dot(flat)
        return sums * self.scales[:, slot].double().square()

    def _chunks(self, *vectors: Tensor) -> Iterator[tuple[int, int, tuple[Tensor, ...]]]:
        """Number of a tensor, the entry at which a chunk of it begins, and that chunk of each vector (P,).

        What is done to a chunk in several steps stays in a CPU's cache.
        """
        start = 0
        for tensor, size in enumerate(self._sizes):
            for begin in range(start, start + size, self._at_once):
                part = slice(begin, min(begin + self._at_once, start + size))
                yield tensor, begin, tuple(vector[part] for vector in vectors)
            start += size

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
        here, inner = fetched([self.scales.double(), self.inner])
        scales = here[:, index]
        K = inner[:, index][:, :, index] * scales[:, :, None] * scales[:, None, :]
        if self._loop:
            energies = self._loop["energies"].cpu()[:, index]
            shared = torch.diag_embed(energies[:, :-1, 1], offset=1)
            K += shared + shared.mT - torch.diag_embed(energies.sum(dim=2))
        return K

    def rounding(self) -> list[float]:
        """How far rounding may have moved a snapshot of each tensor: the length of the longest e_t."""
        if not self._loop:
            return [0.0] * len(self._sizes)
        longest: list[float] = self._loop["energies"][:, :, :2].amax(dim=(1, 2)).sqrt().tolist()
        return longest

    def combine(self, order: Sequence[int], c: Sequence[Tensor]) -> Tensor:
        """Σ_t c_t V_t (P,) float32, with coefficients (n,) for each tensor and t over these n slots."""
        index = sent(torch.tensor(order, dtype=torch.long), self.codes.device)
        total = torch.empty(self.codes.shape[1], device=self.codes.device)
        columns = chunk_columns(self.codes)
        pieces = zip(total.split(self._sizes), self.codes.split(self._sizes, dim=1), c, strict=True)
        for tensor, (piece, codes, by_velocity) in enumerate(pieces):
            by_slot = torch.zeros_like(self.scales[tensor])
            by_slot[index] = sent(by_velocity, by_slot.device).to(by_slot.dtype) * self.scales[tensor, index]
            for part, chunk in zip(piece.split(columns), codes.split(columns, dim=1), strict=True):
                torch.mv(chunk.float().T, by_slot, out=part)
        return total

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All there is to save, by name."""
        return {"codes": self.codes, "scales": self.scales, "inner": self.inner} | self._loop

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
