"""Cost and precision of the trajectory mathematics, beside their targets.

    python scripts/bench_trajectory.py [--params 10000000]

Compared operations take turns in one process, and each ratio is that of their best times: on a shared machine
the best of several is the least disturbed. Times in milliseconds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from grow_cli.theory.history import History
from grow_cli.theory.trajectory import coefficients, extrapolate, gram, trajectory_metrics

SNAPSHOTS = 20


def milliseconds(repetitions: int, **operations: Callable[[], object]) -> dict[str, float]:
    """Best time of each operation; they take turns, after one round that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in operations}
    for _ in range(repetitions + 1):
        for name, operation in operations.items():
            start = time.perf_counter()
            operation()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: min(measured[1:]) for name, measured in times.items()}


def literal(history: Tensor, k: int = 10, eps: float = 1e-8) -> tuple[dict[str, float], Tensor]:
    """Metrics and displacement by Algorithm 1 as printed, with an SVD of all the velocities."""
    V = history.diff(dim=0)
    delta = history[-1] - history[0]
    along = V @ delta / delta.norm()
    across = V - along[:, None] * (delta / delta.norm())
    tau = V.norm(dim=1).sum() / (delta.norm() + eps)
    kappa = across.norm(dim=1).sum() / (along.abs().sum() + eps)
    rho = (history - history.mean(dim=0)).square().sum() / len(history) / (delta.square().sum() / 4)
    Q = torch.linalg.svd(V, full_matrices=False).Vh[:k]
    velocity, acceleration = V.mean(dim=0), (V[-1] - V[0]) / (len(V) - 1)
    projected, bend = Q.T @ (Q @ velocity), Q.T @ (Q @ acceleration)
    escape = velocity - projected
    eta = 0.03 * (tau - 2).clamp_min(0) * (kappa - 0.5).clamp_min(0)
    gains = (0.1 / (tau + eps), 0.15 / (1 + kappa), eta)
    step = sum(
        (g * d / (d.norm() + eps) for g, d in zip(gains, (projected, bend, escape), strict=True)),
        start=0 * delta,
    )
    return {"tau": tau.item(), "kappa": kappa.item(), "rho": rho.item()}, step


def walk(parameters: int) -> Tensor:
    """Weights of size 1 that drift and diffuse by 1e-3 per snapshot, float32 (S, P)."""
    random = torch.Generator().manual_seed(0)
    history = torch.empty(SNAPSHOTS, parameters)
    history[0] = torch.randn(parameters, generator=random)
    drift = 3e-4 * torch.randn(parameters, generator=random)
    for t in range(1, SNAPSHOTS):
        torch.randn(parameters, generator=random, out=history[t])
        history[t].mul_(1e-3).add_(drift).add_(history[t - 1])
    return history


def peak_memory() -> int | None:
    """The process's highest resident bytes since the last reset, where Linux tells."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), None)


def reset_peak_memory() -> None:
    """Start a new high-water mark (Linux)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def report(name: str, value: str, target: str, met: bool) -> None:
    print(f"{name:<62}{value:>10}   target {target:<10}{'met' if met else 'MISSED'}", flush=True)


def bench_batch(parameters: int) -> None:
    """Memory first, before anything else has raised the peak; then time."""
    history = walk(parameters)
    extrapolate(history[:, :100_000])  # libraries allocate their own buffers once
    if peak_memory() is not None:
        reset_peak_memory()
        before = peak_memory() or 0
        weights = extrapolate(history).weights
        extra = ((peak_memory() or 0) - before) / history.nbytes
        report("peak extra memory, new weights included / history", f"{extra:.1%}", "< 10%", extra < 0.1)
        del weights
    took = milliseconds(8, sum=history.sum, both=lambda: extrapolate(history))
    ratio = took["both"] / took["sum"]
    name = f"metrics + extrapolate ({took['both']:.0f} ms) / history.sum() ({took['sum']:.1f} ms)"
    report(name, f"{ratio:.1f}x", "<= 10x", ratio <= 10)


def bench_append(parameters: int) -> None:
    history = torch.zeros(SNAPSHOTS, parameters)
    tensor = torch.randn(parameters)
    for dtype in ("float32", "int8"):
        stream = History(SNAPSHOTS, dtype=dtype)
        stream.watch({"weight": tensor})
        for index in range(SNAPSHOTS):
            tensor.add_(1e-3)
            stream.append(index)
        indices = iter(range(SNAPSHOTS, 1000))
        took = milliseconds(8, sum=history.sum, append=lambda s=stream, i=indices: s.append(next(i)))  # type: ignore[misc]
        ratio = took["append"] / took["sum"]
        name = f"append to a full {dtype} history ({took['append']:.0f} ms) / history.sum()"
        report(name, f"{ratio:.1f}x", "<= 3x", ratio <= 3)


def bench_small_append() -> None:
    stream = History(SNAPSHOTS)
    tensors = {name: torch.randn(64, 64) for name in "abc"}
    stream.watch(tensors)
    indices = iter(range(10_000))
    took = milliseconds(1000, append=lambda: stream.append(next(indices)))
    report("append, three 64 x 64 tensors", f"{1e3 * took['append']:.0f} us", "< 200 us", took["append"] < 0.2)


def bench_against_svd(parameters: int) -> None:
    history = walk(parameters)
    took = milliseconds(2, svd=lambda: literal(history), gram=lambda: extrapolate(history))
    ratio = took["svd"] / took["gram"]
    name = f"literal SVD ({took['svd']:.0f} ms) / ours ({took['gram']:.0f} ms), both at P = {parameters:.0e}"
    report(name, f"{ratio:.0f}x", ">= 30x", ratio >= 30)


def bench_precision(parameters: int) -> None:
    history = walk(parameters)
    exact = history.double()
    metrics, displacement = literal(exact)
    found = trajectory_metrics(history)
    ours = coefficients(gram(history)).c @ exact.diff(dim=0)
    errors = [abs(getattr(found, name) / value - 1) for name, value in metrics.items()]
    worst = max(*errors, ((ours - displacement).norm() / displacement.norm()).item())
    report(f"largest relative error against float64, at P = {parameters:.0e}", f"{worst:.0e}", "< 1e-5", worst < 1e-5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", type=int, default=10_000_000, help="P, entries per snapshot")
    parameters = parser.parse_args().params
    print(
        f"S = {SNAPSHOTS} snapshots of P = {parameters:,} float32, {torch.get_num_threads()} threads",
        flush=True,
    )
    bench_batch(parameters)
    bench_append(parameters)
    bench_small_append()
    bench_against_svd(parameters)
    bench_precision(min(parameters, 1_000_000))  # in float64 the literal way takes 10 times the history's memory


if __name__ == "__main__":
    main()
