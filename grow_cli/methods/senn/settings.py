"""The keys of SENN."""

from __future__ import annotations

from dataclasses import dataclass

from grow_cli.errors import check
from grow_cli.keys import key
from grow_cli.methods.base import Method

_SAMPLES = 1024
# Noise gains two or three times its average where few samples carry most of the gradient.
_SAFELY = 4


@dataclass
class Settings(Method):
    """Those of appendix C; the numbers of proposals are a CPU's."""

    on_several_ranks = True

    tau: float = key(1.007, above=1, why="additions might never end otherwise (Theorem 1)")
    """Expansion threshold: an addition must raise its layer's score by more than the fraction tau - 1."""
    alpha: float = key(0.0025, at_least=0)
    """Stopping criterion: an addition must also raise the score by more than this fraction of λ = E‖∂L/∂outputs‖²."""
    width: bool = True
    """Add units."""
    depth: bool = True
    """Insert layers, at most one per visit."""
    layer_every: int = key(0, at_least=0, unit="steps")
    """Fewest steps between new layers, in addition to the limit of one per visit."""
    layer_penalty: float = key(60, above=0)
    """Divisor of a new layer's gain when it is compared with units: roughly the number of units that it stands for."""
    widest_layer: int = key(128, at_least=1)
    """No layer is inserted where it would have more units than this; a new layer is as wide as its input."""
    search: str = key("ascent", one_of=("ascent", "langevin"))
    """`ascent`: monotone gradient ascent, which takes the best; `langevin`: Metropolis-adjusted Langevin, which draws
    one."""
    proposals: int | None = key(None, at_least=1, at_most=10**5, null="for 300 at 1,024 samples, fewer at more")
    """Candidate units per site. By default as many as look at 307,200 samples together, at least 16."""
    layer_proposals: int = key(30, at_least=1, at_most=10**5)
    """Candidate layers per site."""
    steps: int = key(300, at_least=1, at_most=10**5)
    """Steps of the search; a tenth of them after each addition."""
    step: float = key(0.3, above=0)
    """Initial step size of the search."""
    temperature: float = key(1, above=0)
    """Temperature of the Langevin sampler, relative to Δη' summed over the samples (10 in the paper, in an unknown
    unit)."""
    samples: int | None = key(None, at_least=2, null="for 20 to each weight of a new unit, at least 1,024")
    """Samples on which proposals are optimised: a unit of 785 weights fits 1,024 by heart."""
    held_out: int | None = key(
        None,
        at_least=2,
        null="for a quarter of method.samples, at least 1,024",
        why="proposals must be judged on samples that they were not optimised on",
    )
    """Other samples, on which proposals are judged; with fewer training samples both shrink in proportion."""
    judged: str | None = key(
        None,
        one_of=("cross_fitted", "refitted"),
        null="for refitted where enough samples are held out, by method.alpha",
    )
    """`refitted` (as in the paper): the weights on the new activations are fitted on the held-out samples themselves, where
    noise gains 1/samples of λ for each weight that an output has on them; `cross_fitted`: fitted where the activations were
    optimised, so the expected gain of noise is negative. null: refitted where noise gains less than a quarter of α, that is
    from 4/α held-out samples on if an output has one weight on a unit."""
    residual: str = key("layer", one_of=("layer", "network"))
    """`layer` (as in the paper): what the layer's own weights cannot reach; `network` (as in the authors' code): what
    the whole net cannot reach."""

    def numbers(self, weights: int) -> tuple[int, int]:
        """Samples on which proposals are optimised, and others on which they are judged.

        :param weights: of a new unit, its bias included
        """
        samples = self.samples or max(_SAMPLES, 20 * weights)
        return samples, self.held_out or max(_SAMPLES, samples // 4)

    def tried(self, samples: int) -> int:
        """Candidate units of a site that are optimised on so many samples."""
        return self.proposals or min(300, max(16, round(300 * _SAMPLES / samples)))

    def refits(self, held_out: int, weights: int) -> bool:
        """Whether proposals are judged by weights fitted on so many held-out samples.

        :param weights: that an output of the next map has on a proposal's activations
        """
        if self.judged is None:
            return self.alpha * held_out >= _SAFELY * weights
        return self.judged == "refitted"

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.width or self.depth, "method.width=false and method.depth=false: one of them must be true")
