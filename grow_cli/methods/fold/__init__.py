"""Growing by folding manifolds at mistakes: a neuron for the typical mistake of a net that has stopped learning.

The mistakes on the training split are clustered; the typical mistake is the instance nearest to the centre of the
largest cluster. The new neuron folds where the decision boundary between the predicted and the true class is nearest to
it, and a term of the loss keeps the fold there. So every neuron has an instance that it was grown for, which `grow
explain` shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from grow_cli.errors import UserError
from grow_cli.methods.fold.settings import Settings
from grow_cli.methods.width import check_widening, no_room, room
from grow_cli.records.words import counted
from grow_cli.registry import option

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from grow_cli.config import Config
    from grow_cli.methods.fold.mistakes import Explained, Judged
    from grow_cli.methods.fold.placement import Placed, Placement
    from grow_cli.models.modules.network import GrowableModel
    from grow_cli.models.modules.sites import WidthSite
    from grow_cli.moment import Moment
    from grow_cli.surgery.event import Event, Notes
    from grow_cli.surgery.proposal import Proposal

_Held = Callable[[], "tuple[Tensor, Tensor, Tensor, Tensor] | None"]

# Instances of a cluster that are tried before the next cluster's turn comes.
_TRIED = 5


@option("method", "fold")
@dataclass
class FoldAtMistakes(Settings):
    """Algorithm 1."""

    kind = "width"

    @dataclass
    class State:
        grown: list[Explained] = field(default_factory=list)
        """A record for each neuron grown, in order."""
        index: int | None = None
        """Of the site that is grown, among the net's width sites; looked up anew after a resume."""
        held: _Held | None = None
        """What the regularizer reads; None where it must be looked up."""

    def check_run(self, config: Config) -> list[str]:
        limits = {"growth.neurons": config.growth.neurons}
        if self.cluster == "kmeans":
            limits["method.max_clusters"] = self.max_clusters
        return [
            f"method.neurons_per_event={self.neurons_per_event}: {key}={most} limits an event to {most}: raise it"
            for key, most in limits.items()
            if most is not None and most < (self.neurons_per_event or 0)
        ]

    def check(self, model: GrowableModel) -> list[str]:
        check_widening(model, self.name)
        sites = _sites(model)
        if not sites:
            raise UserError(
                f"method={self.name} folds at a hyperplane w·x + b = 0 in the input of a hidden layer, but "
                f"model={model.name} has no hidden layer that reads vectors, has biases and no norm: use model=mlp"
            )
        if self.layer > len(sites):
            names = ", ".join(f"{i + 1} ({site.name})" for i, (_, site) in enumerate(sites))
            raise UserError(f"method.layer={self.layer}: the hidden layers that can fold are {names}")
        return _check_folding(model, self.name)

    def closed(self, now: Moment) -> str:
        return "" if room(now, self._site(now.model)) else no_room(now)

    def _site(self, model: GrowableModel) -> WidthSite:
        if self.state.index is None:
            from grow_cli.surgery.flops import counted_before

            with counted_before():  # asked once in every process
                self.state.index = _sites(model)[self.layer - 1][0]
        return model.width_sites()[self.state.index]

    def candidates(self, now: Moment, notes: Notes) -> list[Proposal]:
        return self._proposed(now, self._judged(now), notes)[0]

    def add(self, now: Moment, event: Event) -> None:
        judged = self._judged(now)
        for known in self.state.grown:
            known.after = known.after or known.now(judged)
        proposals, found = self._proposed(now, judged, event)
        for proposal in proposals:
            event.apply(proposal)
            self.state.grown += found
            self.state.held = None

    def _judged(self, now: Moment) -> Judged:
        from grow_cli.methods.fold.mistakes import judge

        return judge(now, self.tolerance)

    def _proposed(self, now: Moment, judged: Judged, notes: Notes) -> tuple[list[Proposal], list[Explained]]:
        """One proposal, of a neuron per cluster from the largest down, and why each neuron is in it; or none."""
        import torch

        from grow_cli.hardware import sent
        from grow_cli.methods.fold.placement import Placement
        from grow_cli.surgery.proposal import WidthProposal

        mistakes = judged.wrong.nonzero().flatten()
        notes.details["mistakes"] = len(mistakes)
        if len(mistakes) == 0:
            notes.nothing("no mistake is left on the training split")
            return [], []
        clusters = self._clusters(now, judged.errors, mistakes, notes)
        notes.details["clusters"] = [len(members) for members in clusters]
        site = self._site(now.model)
        placement = Placement(now, self.state.index, self.samples)
        folds, found, unreached = self._placed(now, judged, clusters, placement, len(mistakes))
        if not folds:
            notes.nothing(
                f"of {counted(len(mistakes), 'mistake')} in {counted(len(clusters), 'cluster')} none is left to fold at, "
                "because each typical one has a neuron already"
                + (f", or a boundary that is not reached ({unreached})" if unreached else "")
            )
            return [], []
        weight = site.producer.weight

        def placed(values: list[Tensor], dim: int = 0) -> Tensor:
            return sent(torch.stack(values, dim), weight.device).to(weight.dtype)

        proposal = WidthProposal(
            site,
            placed([fold.weight for fold in folds]),
            placed([fold.bias for fold in folds]),
            placed([fold.outgoing for fold in folds], dim=1),
            details={"folds": [fold.details for fold in folds]},
        )
        return [proposal], found

    def _placed(
        self, now: Moment, judged: Judged, clusters: list[Tensor], placement: Placement, mistakes: int
    ) -> tuple[list[Placed], list[Explained], int]:
        """The neurons, their records, and at how many instances no boundary was reached."""
        import torch

        from grow_cli.methods.fold.mistakes import Explained

        site = self._site(now.model)
        most = min(self.neurons_per_event or len(clusters), room(now, site))
        taken = {known.sample for known in self.state.grown}
        folds: list[Placed] = []
        found: list[Explained] = []
        unreached = 0
        for members in clusters:
            if len(folds) == most:
                break
            for sample in [s for s in members.tolist() if s not in taken][:_TRIED]:
                now.stop_if_interrupted()
                x, y, others = self._instance(now, members, sample)
                predicted = judged.answer(sample)
                try:
                    fold = placement.fold(x, y, predicted, others, outgoing=self.outgoing, steps=self.steps)
                except ValueError:  # that boundary is not reached
                    unreached += 1
                    continue
                neuron = len(self.state.grown) + len(folds) + 1
                fold.details.update(neuron=neuron, sample=sample, cluster=len(members))
                explained = Explained(
                    neuron=neuron,
                    event=now.progress.firings + 1,
                    step=now.progress.step,
                    unit=site.units + len(folds),
                    sample=sample,
                    predicted=predicted,
                    true=y.tolist(),
                    error=float(judged.errors[sample]),
                    mistakes=mistakes,
                    tolerance=judged.tolerance,
                    members=members.to(torch.int32),
                    x_mistake=x.clone(),  # a view would keep the whole split
                    x_fold=fold.x_fold.float(),
                )
                folds.append(fold)
                found.append(explained)
                break
        return folds, found, unreached

    def _instance(self, now: Moment, members: Tensor, sample: int) -> tuple[Tensor, Tensor, Tensor]:
        """On the CPU: a sample x (...) as the net takes it, its target (), and the inputs of its cluster (k, ...)."""
        from grow_cli.hardware import fetched, sent

        train, prepare = now.data.train, now.data.prepare
        others = prepare(train.x.index_select(0, sent(members, train.y.device)))
        x, y, others = fetched([prepare(train.x[sample : sample + 1])[0], train.y[sample], others])
        return x, y, others

    def _clusters(self, now: Moment, errors: Tensor, mistakes: Tensor, notes: Notes) -> list[Tensor]:
        """Samples of each cluster of mistakes, the largest cluster first and the most typical sample first."""
        import torch

        from grow_cli.hardware import sent
        from grow_cli.methods.fold.clusters import cluster

        data = now.data
        shown = mistakes[torch.randperm(len(mistakes))[: self.max_mistakes].sort().values]
        x = data.prepare(data.train.x.index_select(0, sent(shown, data.train.y.device)))
        if self.space == "feature":
            from grow_cli.surgery.signals import Tap, Trace

            tap = Tap(self._site(now.model).consumer, entering=True)
            x = Trace(now.model, x, [tap], seen=[tap]).seen[tap]
        weights = errors[shown].double().numpy() if self.weight == "severity" else None
        seed = int(torch.randint(2**31 - 1, ()))
        points = x.flatten(1).float().cpu().numpy()
        wanted = min(self.neurons_per_event or 2, room(now, self._site(now.model)))
        least = max(2, wanted)  # the silhouette alone often has two
        result = cluster(points, weights, kind=self.cluster, least=least, most=self.max_clusters, seed=seed)
        notes.flops += result.flops
        return [shown[torch.from_numpy(c.members)] for c in result.clusters]

    def regularizer(self, now: Moment) -> Tensor | None:
        """α L_fold-reg (Def. 5) of the newest neurons, or of all."""
        from grow_cli.theory.folding import fold_regularization

        if not self.state.grown or self.regularize == "none" or self.regularization == 0:
            return None
        if self.state.held is None:
            self.state.held = self._hold(now)
        held = self.state.held()
        return None if held is None else self.regularization * fold_regularization(*held)

    def _hold(self, now: Moment) -> _Held:
        """What gives the regularizer's weights (k, d), biases (k,), φ(x_mistake) (k, d) and φ(x_fold) (k, d), or None."""
        import torch

        from grow_cli.hardware import sent
        from grow_cli.methods.fold.placement import features

        kept = [known for known in self.state.grown if not known.rolled_back]
        if self.regularize == "newest":
            kept = [known for known in kept if known.event == kept[-1].event]
        if not kept:
            return lambda: None
        site = self._site(now.model)
        producer, units = site.producer, slice(kept[0].unit, kept[-1].unit + 1)
        points = sent(torch.stack([known.x_mistake for known in kept] + [known.x_fold for known in kept]), now.device)
        phi = features(now.model, site, points).detach()
        direct = phi.data_ptr() == points.data_ptr()  # what the layer reads is the input, which does not change

        def held() -> tuple[Tensor, Tensor, Tensor, Tensor]:
            read = phi if direct else features(now.model, site, points)
            assert producer.bias is not None
            return producer.weight[units], producer.bias[units], read[: len(kept)], read[len(kept) :]

        return held

    def rolled_back(self, now: Moment, before: dict[str, Any]) -> None:
        judged = self._judged(now)
        last = max((known.event for known in self.state.grown if not known.rolled_back), default=0)
        for known in self.state.grown:
            if known.event == last:
                known.rolled_back, known.after = True, known.now(judged)
        self.state.held = None

    def keep(self, now: Moment, folder: Path) -> None:
        from grow_cli.methods.fold.explanations import keep_explanations

        place = folder / "mistakes"
        if self.state.grown or place.exists():
            keep_explanations(self.state.grown, now, self._site(now.model), place)

    def conclude(self, now: Moment) -> dict[str, Any]:
        """How many instances neurons were grown for, and the part of them that the net is right about in the end."""
        if not self.state.grown:
            return {"mistakes_targeted": 0, "mistakes_corrected": None}
        judged = self._judged(now)
        for known in self.state.grown:
            known.at_end = known.now(judged)
            known.after = known.after or known.at_end
        kept = [known for known in self.state.grown if not known.rolled_back]
        right = sum(bool(known.at_end and known.at_end["right"]) for known in kept)
        return {"mistakes_targeted": len(kept), "mistakes_corrected": right / len(kept) if kept else None}

    def state_dict(self) -> dict[str, Any]:
        return {"grown": [known.state_dict() for known in self.state.grown]}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        from grow_cli.methods.fold.mistakes import Explained

        self.state = self.State(grown=[Explained(**known) for known in saved["grown"]])


def _check_folding(model: GrowableModel, name: str) -> list[str]:
    """UserError where no new unit would fold anything; a warning where it bends instead of creasing."""
    from grow_cli.methods.width.activation import at_zero

    kinds = at_zero(model)
    straight = [found for found in kinds if not found.creased and found.bend < 1e-3]
    if straight or not kinds:
        kind = straight[0].kind if straight else "its activation, which begins as the identity,"
        raise UserError(
            f"method={name} cannot fold with model={model.name}: {kind} has no fold where a new unit's pre-activation is "
            "zero: use model.activation=relu (a crease there) or a smooth one, such as gelu (a bend)"
        )
    return [
        f"the activation {found.kind} is smooth: a new neuron bends the surface along its hyperplane (Theorem 3 holds, "
        "Definition 2's smooth case), and leaves no crease there"
        for found in kinds
        if not found.creased
    ]


def _sites(model: GrowableModel) -> list[tuple[int, WidthSite]]:
    """The hidden layers that fold at hyperplanes: linear, with biases and without a norm, and read vectors. With their index."""
    import torch

    from grow_cli.methods.fold.placement import features

    found = []
    for index, site in enumerate(model.width_sites()):
        if isinstance(site.producer, torch.nn.Linear) and site.producer.bias is not None and not site.followers:
            like = site.producer.weight
            read = features(model, site, torch.zeros(1, *model.input_shape, device=like.device, dtype=like.dtype))
            if read.dim() == 2:  # not a sequence of tokens
                found.append((index, site))
    return found
