"""Growing by folding manifolds at mistakes: a neuron for the typical mistake of a net that cannot learn any more.

The mistakes on the training split are clustered; of the largest cluster the instance nearest to its centre is the typical
one. The new neuron folds where the decision boundary between the predicted and the true class is nearest to it, and a term of
the loss keeps the fold there. So every neuron has an instance that it was grown for, which `grow explain` shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grow_cli.errors import UserError, check
from grow_cli.methods.base import Method, MethodOption, Plan
from grow_cli.methods.width import check_widening, no_room, room
from grow_cli.registry import option

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from grow_cli.config import Config
    from grow_cli.methods.folding.mistakes import Explained
    from grow_cli.methods.folding.placing import Fold
    from grow_cli.models.modules.network import GrowableModel
    from grow_cli.models.modules.sites import WidthSite
    from grow_cli.surgery.proposal import WidthProposal
    from grow_cli.training.state import Run

_Held = Callable[[], "tuple[Tensor, Tensor, Tensor, Tensor] | None"]

# Activations that bend the surface smoothly along the hyperplane, where ReLU's creases it.
_SMOOTH = ("elu", "gelu", "selu", "silu", "tanh")
_NOT_FOLDING = ("identity", "rational", "rational_raw")
# Instances of a cluster that are tried before the next cluster's turn comes.
_TRIED = 5


class FoldAtMistakes(Method):
    """Algorithm 1."""

    kind = "width"

    def __init__(self, option: FoldOption) -> None:
        self.option = option
        self.grown: list[Explained] = []
        """A record for each neuron grown, in order."""
        self._index: int | None = None
        """Of the site that is grown, among the net's width sites."""
        self._held: _Held | None = None
        """What the regularizer reads; None where it must be looked up."""

    def check(self, model: GrowableModel) -> None:
        check_widening(model, self.option.name)
        sites = _sites(model)
        if not sites:
            raise UserError(
                f"method={self.option.name} folds at a hyperplane w·x + b = 0 of what a hidden layer reads, and "
                f"model={model.option.name} has no such layer, with biases and without a norm, that reads vectors: use model=mlp"
            )
        if self.option.layer > len(sites):
            names = ", ".join(f"{i + 1} ({site.name})" for i, (_, site) in enumerate(sites))
            raise UserError(f"method.layer={self.option.layer}: the hidden layers that can fold are {names}")

    def closed(self, run: Run) -> str:
        return "" if room(run, self._site(run.model)) else no_room(run)

    def propose(self, run: Run) -> Plan:
        plan = Plan()
        plan.proposals = self._propose(run, plan, record=True)
        return plan

    def candidates(self, run: Run) -> Plan:
        plan = Plan()
        plan.proposals = list(self._propose(run, plan, record=False))
        return plan

    def _site(self, model: GrowableModel) -> WidthSite:
        if self._index is None:
            self._index = _sites(model)[self.option.layer - 1][0]
        return model.width_sites()[self._index]

    def _propose(self, run: Run, plan: Plan, *, record: bool) -> Iterator[WidthProposal]:
        """One proposal, of a neuron per cluster from the largest down."""
        import torch

        from grow_cli.methods.folding.mistakes import Explained, judge
        from grow_cli.methods.folding.placing import Placing
        from grow_cli.surgery.flops import flops_per_sample
        from grow_cli.surgery.proposal import WidthProposal

        option, data = self.option, run.data
        judged = judge(run, option.tolerance)
        plan.flops += len(judged.wrong) * flops_per_sample(run.model, data.spec.input_shape)
        if record:
            for known in self.grown:
                known.after = known.after or known.now(judged)
        mistakes = judged.wrong.nonzero().flatten()
        plan.details["mistakes"] = len(mistakes)
        if len(mistakes) == 0:
            plan.reason = "no mistake is left on the training split"
            return
        clusters = self._clusters(run, judged.errors, mistakes, plan)
        plan.details["clusters"] = [len(members) for members in clusters]
        site = self._site(run.model)
        assert self._index is not None
        most = min(option.neurons_per_event, room(run, site))
        placing = Placing(run, self._index, option.samples)
        taken = {known.sample for known in self.grown}
        folds: list[Fold] = []
        found: list[Explained] = []
        unreached = 0
        for members in clusters:
            if len(folds) == most:
                break
            for sample in [s for s in members.tolist() if s not in taken][:_TRIED]:
                run.stop_if_interrupted()
                x, y = data.prepare(data.train.x[sample : sample + 1])[0], data.train.y[sample]
                predicted = judged.answer(sample)
                try:
                    fold = placing.fold(
                        x,
                        y,
                        predicted if isinstance(predicted, int) else 0,
                        data.prepare(data.train.x[members]),
                        outgoing=option.outgoing,
                        steps=option.steps,
                    )
                except ValueError:  # that boundary is not reached
                    unreached += 1
                    continue
                neuron = len(self.grown) + len(folds) + 1
                fold.details.update(neuron=neuron, sample=sample, cluster=len(members))
                found.append(
                    Explained(
                        neuron=neuron,
                        event=run.progress.firings + 1,
                        step=run.progress.step,
                        unit=site.units + len(folds),
                        sample=sample,
                        predicted=predicted,
                        true=y.tolist(),
                        error=float(judged.errors[sample]),
                        mistakes=len(mistakes),
                        tolerance=judged.tolerance,
                        members=members.to(torch.int32),
                        x_mistake=x.cpu().clone(),  # a view would take the whole split into every checkpoint
                        x_fold=fold.x_fold.float(),
                    )
                )
                folds.append(fold)
                break
        if not folds:
            plan.reason = (
                f"of {len(mistakes)} mistakes in {len(clusters)} clusters none is left to fold at: each typical one has a neuron"
                + (f", or a boundary that is not reached ({unreached})" if unreached else "")
            )
            return
        plan.flops += placing.passes * flops_per_sample(run.model, data.spec.input_shape)
        weight = site.producer.weight
        yield WidthProposal(
            site,
            torch.stack([fold.weight for fold in folds]).to(weight),
            torch.stack([fold.bias for fold in folds]).to(weight),
            torch.stack([fold.outgoing for fold in folds], dim=1).to(weight),
            details={"folds": [fold.details for fold in folds]},
        )
        if record:
            self.grown += found
            self._held = None

    def _clusters(self, run: Run, errors: Tensor, mistakes: Tensor, plan: Plan) -> list[Tensor]:
        """Samples of each cluster of mistakes, the largest cluster first and the most typical sample first."""
        import torch

        from grow_cli.methods.folding.clusters import cluster

        option, data = self.option, run.data
        shown = mistakes[torch.randperm(len(mistakes))[: option.max_mistakes].sort().values]
        x = data.prepare(data.train.x.index_select(0, shown.to(data.train.y.device)))
        if option.space == "feature":
            from grow_cli.surgery.signals import Tap, Trace

            tap = Tap(self._site(run.model).consumer, entering=True)
            x = Trace(run.model, x, [tap], seen=[tap]).seen[tap]
        weights = errors[shown].double().numpy() if option.weight == "severity" else None
        seed = int(torch.randint(2**31 - 1, ()))
        points = x.flatten(1).float().cpu().numpy()
        result = cluster(points, weights, kind=option.cluster, most=option.max_clusters, seed=seed)
        plan.flops += result.flops
        return [shown[torch.from_numpy(c.members)] for c in result.clusters]

    def regularizer(self, run: Run) -> Tensor | None:
        """α L_fold-reg (Def. 5) of the newest neurons, or of all."""
        from grow_cli.theory.folding import fold_regularization

        if not self.grown or self.option.regularize == "none" or self.option.regularization == 0:
            return None
        if self._held is None:
            self._held = self._hold(run)
        held = self._held()
        return None if held is None else self.option.regularization * fold_regularization(*held)

    def _hold(self, run: Run) -> _Held:
        """What gives the regularizer's weights (k, d), biases (k,), φ(x_mistake) (k, d) and φ(x_fold) (k, d), or None."""
        import torch

        from grow_cli.methods.folding.placing import features

        kept = [known for known in self.grown if not known.rolled_back]
        if self.option.regularize == "newest":
            kept = [known for known in kept if known.event == kept[-1].event]
        if not kept:
            return lambda: None
        site = self._site(run.model)
        producer, units = site.producer, slice(kept[0].unit, kept[-1].unit + 1)
        points = torch.stack([known.x_mistake for known in kept] + [known.x_fold for known in kept]).to(run.device)
        phi = features(run.model, site, points).detach()
        direct = torch.equal(phi, points.flatten(1))  # what the layer reads is the input, which does not change

        def held() -> tuple[Tensor, Tensor, Tensor, Tensor]:
            read = phi if direct else features(run.model, site, points)
            assert producer.bias is not None
            return producer.weight[units], producer.bias[units], read[: len(kept)], read[len(kept) :]

        return held

    def rolled_back(self, run: Run, before: dict[str, Any]) -> None:
        from grow_cli.methods.folding.mistakes import judge

        judged = judge(run, self.option.tolerance)
        last = max((known.event for known in self.grown if not known.rolled_back), default=0)
        for known in self.grown:
            if known.event == last:
                known.rolled_back, known.after = True, known.now(judged)
        self._held = None

    def keep(self, run: Run, folder: Path) -> None:
        from grow_cli.methods.folding.keeping import keep_explanations

        place = folder / "mistakes"
        if self.grown or place.exists():
            keep_explanations(self.grown, run, self._site(run.model), place)

    def conclude(self, run: Run) -> dict[str, Any]:
        """How many instances neurons were grown for, and the part of them that the net is right about in the end."""
        from grow_cli.methods.folding.mistakes import judge

        if not self.grown:
            return {"mistakes_targeted": 0, "mistakes_corrected": None}
        judged = judge(run, self.option.tolerance)
        for known in self.grown:
            known.at_end = known.now(judged)
            known.after = known.after or known.at_end
        kept = [known for known in self.grown if not known.rolled_back]
        right = sum(bool(known.at_end and known.at_end["right"]) for known in kept)
        return {"mistakes_targeted": len(kept), "mistakes_corrected": right / len(kept) if kept else None}

    def state_dict(self) -> dict[str, Any]:
        return {"grown": [known.state_dict() for known in self.grown]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        from grow_cli.methods.folding.mistakes import Explained

        self.grown = [Explained(**known) for known in state["grown"]]
        self._held = None


def _sites(model: GrowableModel) -> list[tuple[int, WidthSite]]:
    """The hidden layers that fold at hyperplanes: linear, with biases and without a norm, and read vectors. With their index."""
    import torch

    from grow_cli.methods.folding.placing import features

    found = []
    for index, site in enumerate(model.width_sites()):
        if isinstance(site.producer, torch.nn.Linear) and site.producer.bias is not None and not site.followers:
            like = site.producer.weight
            read = features(model, site, torch.zeros(1, *model.input_shape, device=like.device, dtype=like.dtype))
            if read.dim() == 2:  # not a sequence of tokens
                found.append((index, site))
    return found


@option("method", "fold")
@dataclass
class FoldOption(MethodOption):
    """Algorithm 1, with its choices."""

    cluster: str = "kmeans"
    """`kmeans`, its number of clusters that with the largest silhouette, or `hdbscan`."""
    space: str = "input"
    """Where mistakes are clustered: `input`, or `feature`, the hidden layer's activations."""
    weight: str = "count"
    """What the largest cluster is: the one with most mistakes (`count`), or with the largest sum of losses (`severity`)."""
    max_clusters: int = 10
    """k-means: no more clusters than so many."""
    max_mistakes: int = 2000
    """Clustered at an event; of more a random part."""
    neurons_per_event: int = 1
    """Grown at once, one per cluster from the largest down."""
    regularization: float = 1e-3
    """α, the weight of L_fold-reg in the loss."""
    regularize: str = "newest"
    """Whose folds are held: `newest` (of the last event), `all`, or `none`."""
    outgoing: str = "uniform"
    """`uniform`: Algorithm 1's, the mean of the present ones for every output; `descent`: against their gradient, at the length
    that lowers the loss most. From the uniform ones no gradient reaches the incoming weights at first, and weight decay does."""
    steps: int = 30
    """Of gradient ascent on the incoming weights."""
    samples: int = 500
    """On which that ascent takes the expected norm of the gradient, and the descent its gradient and losses."""
    layer: int = 1
    """Which of the hidden layers that can fold is grown, counted from the input."""
    tolerance: float | None = None
    """Regression: a distance from the target above this is a mistake; null: above the root mean square error."""

    def __post_init__(self) -> None:
        for name, allowed in (
            ("cluster", ("kmeans", "hdbscan")),
            ("space", ("input", "feature")),
            ("weight", ("count", "severity")),
            ("regularize", ("newest", "all", "none")),
            ("outgoing", ("uniform", "descent")),
        ):
            value = getattr(self, name)
            check(value in allowed, f"method.{name}={value}: must be one of {', '.join(allowed)}")
        for name, least in (
            ("max_clusters", 2),
            ("max_mistakes", 1),
            ("neurons_per_event", 1),
            ("samples", 1),
            ("layer", 1),
            ("steps", 0),
        ):
            value = getattr(self, name)
            check(value >= least, f"method.{name}={value}: must be {least} or more")
        check(
            0 <= self.regularization < float("inf"),
            f"method.regularization={self.regularization:g}: must be a number, 0 or more",
        )
        check(
            self.tolerance is None or self.tolerance >= 0,
            f"method.tolerance={self.tolerance}: must be 0 or more, or null",
        )

    def check_run(self, config: Config) -> list[str]:
        activation = getattr(config.model, "activation", "relu")
        if activation in _NOT_FOLDING:
            raise UserError(
                f"model.activation={activation} folds nothing where a new unit's pre-activation is zero: use "
                "model.activation=relu (a crease there) or a smooth one, such as gelu (a bend)"
            )
        warnings = []
        if activation in _SMOOTH:
            warnings.append(
                f"model.activation={activation} is smooth: a new neuron bends the surface along its hyperplane "
                "(Theorem 3 holds, Definition 2's smooth case), and leaves no crease there"
            )
        limits = {"growth.neurons": config.growth.neurons}
        if self.cluster == "kmeans":
            limits["method.max_clusters"] = self.max_clusters
        for key, most in limits.items():
            if most is not None and most < self.neurons_per_event:
                warnings.append(
                    f"method.neurons_per_event={self.neurons_per_event}: {key}={most} lets an event grow {most} at most; raise it"
                )
        return warnings

    def build(self, model: GrowableModel) -> Method:
        return FoldAtMistakes(self)
