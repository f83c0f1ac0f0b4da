"""Alether (Rocha, 2025): depth growth by extrapolating the trajectory of the frontier layer's weights.

The paper claims that the path which a layer's weights have taken tells where the next layer should start: at its end, a
little further along its mean velocity and its mean acceleration, and aside of its dynamic subspace when the path shows
stagnation. Every tensor of the layer is extrapolated by itself (Algorithm 1).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

from grow_cli.errors import check
from grow_cli.methods.base import Method, Plan
from grow_cli.methods.depth import DepthMethod, DepthOption
from grow_cli.registry import option

if TYPE_CHECKING:
    from grow_cli.config import Config
    from grow_cli.models.modules.network import GrowableModel
    from grow_cli.training.state import Run


class Alether(DepthMethod):
    """w_new = w_{S-1} + β V̂_U + γ Â_U + η v_escape (Def. 18), tensor by tensor."""

    def __init__(self, frontier: int, warmup_steps: int, warmup_rate: float, settings: dict[str, Any]) -> None:
        super().__init__(frontier, warmup_steps, warmup_rate)
        self.settings = settings

    def propose(self, run: Run) -> Plan:
        from grow_cli.surgery.proposal import DepthProposal

        history = run.history
        assert history is not None, "the schema's needs_trajectory makes the run record one"
        if len(history) < 3:
            return Plan(
                reason=f"the frontier has {len(history)} snapshots and an extrapolation needs 3: "
                "lower trajectory.every or grow later"
            )
        block = self.frontier(run.model)
        extrapolated = history.extrapolate(**self.settings)  # Algorithm 1
        state = {name: t.clone() for name, t in block.state_dict().items()}  # buffers are copied
        state |= {name: e.weights for name, e in extrapolated.items()}
        metrics = history.metrics()
        details = {
            "tau": metrics.tau,
            "kappa": metrics.kappa,
            "rho": metrics.rho,
            "snapshots": list(history.steps),
            "tensors": {
                name: {
                    "tau": e.tau, "kappa": e.kappa, "rho": e.rho,
                    "beta": e.beta, "gamma": e.gamma, "eta": e.eta, "escape": e.escape,
                }
                for name, e in extrapolated.items()
            },
        }  # fmt: skip
        # the Gram matrix is kept by the history; what remains is one weighted sum of its velocities
        flops = 2 * len(history) * sum(e.weights.numel() for e in extrapolated.values())
        return Plan([DepthProposal(self._site(run.model), state, details)], flops=flops)


@option("method", "alether")
@dataclass
class AletherOption(DepthOption):
    """Table 1 of the paper."""

    beta0: float = 0.1
    """Step along the mean velocity (Def. 15)."""
    gamma0: float = 0.15
    """Step along the mean acceleration (Def. 16)."""
    eta0: float = 0.03
    """Step along the escape direction (Def. 17)."""
    rank: int = 10
    """k: dimension of the dynamic subspace."""
    escape_modes: int = 5
    """ℓ: modes beyond the subspace in the escape direction (Def. 14)."""
    tau_crit: float = 2.0
    """Above it, and above kappa_crit, the escape term acts (Def. 17)."""
    kappa_crit: float = 0.5
    eta_max: float | None = None
    """Bound on the escape gain, which is unbounded in the paper (null)."""
    step_scale: str = "absolute"
    """`absolute` (the paper's): the steps are lengths; `velocity`: they are multiples of the tensor's mean velocity."""
    eps: float = 1e-8

    needs_trajectory: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("beta0", "gamma0", "eta0", "tau_crit", "kappa_crit"):
            value = getattr(self, name)
            check(value >= 0, f"method.{name}={value}: must be 0 or more")
        for name in ("rank", "escape_modes"):
            value = getattr(self, name)
            check(value >= 1, f"method.{name}={value}: must be 1 or more")
        check(self.eps > 0, f"method.eps={self.eps}: must be above 0")
        check(
            self.eta_max is None or self.eta_max >= 0,
            f"method.eta_max={self.eta_max}: must be 0 or more, or null for no bound",
        )
        check(
            self.step_scale in ("absolute", "velocity"),
            f"method.step_scale={self.step_scale}: must be absolute or velocity",
        )

    def check_run(self, config: Config) -> list[str]:
        warnings = super().check_run(config)
        velocities = config.trajectory.window - 1
        if self.rank >= velocities:
            warnings.append(
                f"method.rank={self.rank} reaches all {velocities} velocities of trajectory.window="
                f"{config.trajectory.window}: no direction is left to escape along; take a rank below {velocities}"
            )
        trigger = config.trigger
        mine = (self.tau_crit, self.kappa_crit)
        theirs = (getattr(trigger, "tau_crit", self.tau_crit), getattr(trigger, "kappa_crit", self.kappa_crit))
        if mine != theirs or getattr(trigger, "scale", "absolute") != "absolute":
            warnings.append(
                f"the trigger's thresholds differ from method.tau_crit={self.tau_crit:g} and method.kappa_crit="
                f"{self.kappa_crit:g}, above which the escape gain grows without bound: set these, or method.eta_max, too"
            )
        return warnings

    def build(self, model: GrowableModel) -> Method:
        # what is not the protocol's is the extrapolation's, under the same names
        protocol = {f.name for f in fields(DepthOption)}
        settings = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in protocol}
        return Alether(self._frontier(model), self.warmup_steps, self.warmup_rate, settings)
