"""What `scripts/study.py` compares: the ways, their recipes, the pairs that are judged."""

from __future__ import annotations

from dataclasses import dataclass

FIRST_SEED = 100
TUNING_SEED = 50
BEST = "static-best"
"""Stands, in a pair, for the static size of the ladder that is best on validation."""


@dataclass(frozen=True)
class Study:
    """Ways that are compared on one dataset at one budget, each at its own rate."""

    title: str
    note: str
    recipe: tuple[str, ...]
    """Overrides of every run."""
    ways: dict[str, tuple[str, ...]]
    """Label → overrides."""
    pairs: tuple[tuple[str, str], ...]
    """First and second way of each difference that is judged; fixed before the runs."""
    rates: tuple[str, ...]
    """The first learning rates that each way is tried with (rates.py), on the tuning seeds."""
    within: float
    """The difference that does not matter, in points or nats; fixed before the runs."""
    ladder: tuple[str, ...] = ()
    """The ways that are static sizes."""
    score: str = "accuracy"
    """`accuracy`, in points, or `loss`, in nats."""
    trials: int = 1
    """Runs for each rate that is tried; more where one run's noise would choose."""

    def __post_init__(self) -> None:
        first = [float(rate) for rate in self.rates]
        if len(first) < 2 or first != sorted(first):
            raise ValueError(f"{self.title}: two rates or more, the lowest first, and not {', '.join(self.rates)}")
        if not 1 <= self.trials <= FIRST_SEED - TUNING_SEED:
            raise ValueError(f"{self.title}: 1 to {FIRST_SEED - TUNING_SEED} trials, and not {self.trials}")

    @property
    def tuning(self) -> tuple[str, ...]:
        """The seeds of the trials."""
        return tuple(str(TUNING_SEED + n) for n in range(self.trials))

    @property
    def sign(self) -> int:
        """1 where more is better."""
        return 1 if self.score == "accuracy" else -1

    @property
    def unit(self) -> float:
        return 100.0 if self.score == "accuracy" else 1.0

    @property
    def unit_name(self) -> str:
        return "points" if self.score == "accuracy" else "nats"

    @property
    def score_name(self) -> str:
        return "accuracy, %" if self.score == "accuracy" else "loss, nats"

    @property
    def plain(self) -> str:
        """Format of a score."""
        return ".2f" if self.score == "accuracy" else ".4f"

    @property
    def signed(self) -> str:
        return f"+{self.plain}"


def _ladder(blocks: str, width: int, sizes: tuple[int, ...] = (1, 2, 3, 4, 6)) -> dict[str, tuple[str, ...]]:
    """Static nets of some numbers of blocks.

    :param blocks: the key that lists a width per block
    """
    return {f"static-{n}": ("method=static", f"model.{blocks}={[width] * n}".replace(" ", "")) for n in sizes}


def _scarce(title: str, note: str, recipe: tuple[str, ...], blocks: str, width: int) -> Study:
    """Two blocks become six at 30 % of the FLOPs, in two ways, beside static nets of the same FLOPs."""
    two = f"model.{blocks}=[{width},{width}]"
    at = ("trigger.fractions=[0.3]", two)
    return Study(
        title,
        note,
        (*recipe, "stop.epochs=null", "schedule.warmup=10", "evaluate.unit=steps"),
        {
            "zero-random": ("method=zero_blocks", "method.blocks=4", "method.pattern=before_frontier", *at),
            "stack": ("method=stack", "method.factor=3", *at),
            **_ladder(blocks, width),
        },
        (
            ("zero-random", "static-6"),
            ("stack", "static-6"),
            ("zero-random", BEST),
            ("stack", BEST),
            ("zero-random", "stack"),
        ),
        ("4e-3", "8e-3", "1.6e-2", "3.2e-2"),
        within=0.5,
        ladder=tuple(_ladder(blocks, width)),
        trials=3,  # one run for each rate had chosen three verdicts
    )


_VIT = ("model=vit", "model.dim=32", "batch_size=64", "optimizer.weight_decay=0.05", "clip_norm=1")
_MNIST = ("dataset=mnist", "dataset.validation=0.05")
_CIFAR = ("dataset=cifar10", "dataset.crop=0", "dataset.flip=false", "dataset.validation=0.05")
_WIDER = (*(word for word in _VIT if not word.startswith("batch_size")), "batch_size=128")
_SLOW = ("1e-3", "2e-3", "4e-3", "8e-3")

_STACKED = ("model.blocks=2", "method.pattern=stack", "method.factor=3", "method.warmup_steps=0", "trigger=at")
_THREE = {way: (f"method={way}", *_STACKED, "trigger.fractions=[0.5]") for way in ("alether", "copy", "random")}

_MOMENTS = {
    "drift": ("trigger=drift",),
    "tau_kappa": ("trigger=tau_kappa",),
    "tau_kappa, diffusion": ("trigger=tau_kappa", "trigger.scale=diffusion"),
    "plateau": ("trigger=plateau",),
    "adf": ("trigger=adf",),
    "at 20 and 40 %": ("trigger=at", "trigger.fractions=[0.2,0.4]"),
}


def _moment(title: str, note: str, recipe: tuple[str, ...], trials: int) -> Study:
    """Two blocks gain up to two others, copies that add nothing at first, when a trigger says so."""
    grown = (
        "method=copy",
        "method.output=zero",
        "method.warmup_steps=0",
        "growth.max_events=2",
        "model.hidden=[64,64]",
    )
    fixed = "at 20 and 40 %"
    return Study(
        title,
        note,
        (
            *recipe,
            *("subset=2000", "model=residual_mlp", "batch_size=64", "stop.epochs=null"),
            *("schedule.warmup=10", "evaluate.unit=steps", "evaluate.every=20", "trajectory.every=10"),
        ),
        {**{way: (*grown, *words) for way, words in _MOMENTS.items()}, **_ladder("hidden", 64, (1, 2, 4))},
        (
            *((way, fixed) for way in _MOMENTS if way != fixed),
            ("drift", "tau_kappa"),
            (fixed, "static-4"),
            (fixed, BEST),
        ),
        (*_SLOW, "1.6e-2", "3.2e-2"),  # on MNIST scores have two peaks, up to 4e-3 and above 8e-3
        within=0.3,
        ladder=("static-1", "static-2", "static-4"),
        trials=trials,
    )


def _starts(title: str, note: str, recipe: tuple[str, ...], blocks: str) -> Study:
    """Two blocks gain one at 20 and one at 40 % of the FLOPs, made of the last in several ways."""
    events = ("trigger=at", "trigger.fractions=[0.2,0.4]", f"model.{blocks}=[64,64]")
    alone, at_once = ("method.warmup_steps=80",), ("method.warmup_steps=0", "schedule.warmup=10")
    starts = {start: (f"method={start}", *events) for start in ("copy", "random", "alether")}
    return Study(
        title,
        note,
        (*recipe, "subset=10000", "stop.epochs=null", "evaluate.unit=steps"),
        {
            **{f"{start}, alone first": (*words, *alone) for start, words in starts.items()},
            **{start: (*words, *at_once) for start, words in starts.items()},
            **{f"{start}-zero": (*words, *at_once, "method.output=zero") for start, words in starts.items()},
            **{way: (*words, "schedule.warmup=10") for way, words in _ladder(blocks, 64, (1, 2, 4)).items()},
        },
        (
            *((f"{start}-zero", "static-4") for start in starts),
            *((start, f"{start}, alone first") for start in starts),
            *((f"{start}-zero", start) for start in starts),
            ("alether-zero", "copy-zero"),
            *((f"{start}-zero", BEST) for start in starts),
        ),
        _SLOW,
        within=0.3,
        ladder=("static-1", "static-2", "static-4"),
    )


def _phases(title: str, note: str, recipe: tuple[str, ...]) -> Study:
    """The same two blocks, copies, with and without each phase of Alether's protocol, and with less of what they add."""
    grown = ("method=copy", "trigger=at", "trigger.fractions=[0.2,0.4]", "model.mlp=[64,64]")
    alone, at_once = "method.warmup_steps=80", "method.warmup_steps=0"
    ramp, short = "schedule.warmup=50", "schedule.warmup=10"
    ways = {
        "alone, then a ramp": (alone, ramp),
        "alone": (alone, short),
        "a ramp": (at_once, ramp),
        "neither": (at_once, short),
        "neither, half": (at_once, short, "method.output=half"),
        "neither, zero": (at_once, short, "method.output=zero"),
    }
    return Study(
        title,
        note,
        (*recipe, *_WIDER, "subset=10000", "stop.epochs=null", "evaluate.unit=steps", "evaluate.every=40"),
        {way: (*grown, *words) for way, words in ways.items()},
        tuple((way, "neither") for way in ways if way != "neither"),
        ("2e-3", "4e-3", "8e-3", "1.6e-2", "3.2e-2"),
        within=0.3,
    )


def _states(title: str, note: str, recipe: tuple[str, ...]) -> Study:
    """Up to four events of width growth, with each way of keeping the optimizer's memory."""
    events = (
        "trigger=at",
        "trigger.fractions=[0.2,0.3,0.4,0.5]",
        "growth.neurons=16",
        "model=mlp",
        "model.hidden=[32,32]",
        "model.activation=selu",  # gradmax's units begin where relu passes no gradient
    )
    methods, states = ("random_width", "gradmax", "tiny"), ("carry", "age", "reset")
    return Study(
        title,
        note,
        (*recipe, *events, "batch_size=64", "stop.epochs=null", "schedule.warmup=10", "evaluate.unit=steps"),
        {f"{m}, {s}": (f"method={m}", f"growth.optimizer_state={s}") for m in methods for s in states},
        tuple((f"{m}, {s}", f"{m}, carry") for m in methods for s in states if s != "carry"),
        _SLOW,
        within=0.3,
    )


def _halves(title: str, note: str, recipe: tuple[str, ...], widths: dict[str, tuple[str, ...]], most: str) -> Study:
    """Half of every hidden width, and one event that doubles it, beside static nets.

    :param widths: part of the final widths → overrides
    :param most: the final widths, as a list
    """
    # growth.neurons is not to be the limit: growth.max_units is
    start = ("trigger=at", "growth.max_events=1", "growth.neurons=100000", f"growth.max_units={most}", *widths["half"])
    methods = {"random": "random_width", "net2net": "net2net"}
    grown = {
        f"{way} at {at:.0%}{after}": (f"method={method}", *start, f"trigger.fractions=[{at}]", *more)
        for at, after, more in ((0.3, "", ()), (0.5, "", ()), (0.3, ", 3 × rate", ("growth.lr_factor=3",)))
        for way, method in methods.items()
    }
    ladder = {f"static-{part}": ("method=static", *words) for part, words in widths.items()}
    return Study(
        title,
        note,
        (*recipe, "stop.epochs=null", "schedule.warmup=10", "evaluate.unit=steps"),
        {**grown, **ladder},
        (
            *((way, "static-full") for way in grown),
            *((f"{way} at 30%, 3 × rate", f"{way} at 30%") for way in methods),
            ("random at 30%", "net2net at 30%"),
            *((f"{way} at 30%", BEST) for way in methods),
        ),
        ("5e-4", "1e-3", "2e-3", "4e-3"),
        within=0.3,
        ladder=tuple(ladder),
    )


def _fold_choices(title: str, note: str, recipe: tuple[str, ...], rates: tuple[str, ...]) -> Study:
    """Fold's experiment with one of its choices changed, beside the net that it ends with."""
    grown = ("method=fold", "trigger=adf_paper", "growth.max_units=[30]", "method.max_mistakes=500")
    one = "method.neurons_per_event=1"
    choices = {
        "one neuron": (one,),
        "3 neurons": ("method.neurons_per_event=3",),
        "5 neurons": ("method.neurons_per_event=5",),
        "severity": (one, "method.weight=severity"),
        "descent": (one, "method.outgoing=descent"),
        "α = 1e-4": (one, "method.regularization=1e-4"),
        "no regularizer": (one, "method.regularize=none"),
    }
    ladder = {f"static-{n}": ("method=static", "model=mlp_fold", f"model.hidden=[{n}]") for n in (10, 30)}
    return Study(
        title,
        note,
        (*recipe, "subset=10000", "optimizer=adamw", "schedule=one_cycle", "batch_size=128", "evaluate.every=0.025"),
        {**{way: (*grown, *words) for way, words in choices.items()}, **ladder},
        (
            *((way, "one neuron") for way in choices if way != "one neuron"),
            ("one neuron", "static-30"),
        ),
        rates,
        within=0.3,
        ladder=tuple(ladder),
    )


def _pruned(title: str, note: str, recipe: tuple[str, ...]) -> Study:
    """Half of the units are removed while the net trains, beside static nets of both widths."""
    start = ("method=prune", "model.hidden=[128,128]", "method.least=64")
    at_once = (*start, "trigger=at", "method.fraction=0.5", "growth.max_events=1")
    little = (*start, "trigger=at", "method.fraction=0.125", "trigger.fractions=[0.1,0.2,0.3,0.4,0.5,0.55]")
    pruned = {
        "half at 30%": (*at_once, "trigger.fractions=[0.3]"),
        "half at 50%": (*at_once, "trigger.fractions=[0.5]"),
        "an eighth at a time": little,
    }
    ladder = {f"static-{n}": ("method=static", f"model.hidden=[{n},{n}]") for n in (32, 64, 128)}
    steps = ("stop.epochs=null", "schedule.warmup=10", "evaluate.unit=steps", "evaluate.every=20")
    return Study(
        title,
        note,
        (*recipe, "subset=10000", "model=mlp", "batch_size=64", *steps),
        {**pruned, **ladder},
        (
            *((way, "static-64") for way in pruned),
            *((way, BEST) for way in pruned),
            ("an eighth at a time", "half at 50%"),
        ),
        _SLOW,
        within=0.3,
        ladder=tuple(ladder),
    )


STUDIES = {
    "alether_stack": Study(
        "Python's sources, 3.2e11 training FLOPs",
        "A byte-level GPT (width 32, context 64, batches of 16 windows) of two blocks becomes one of six at half the FLOPs. The "
        "static nets of one and two blocks and the last pair were added when the others were known.",
        (
            *("dataset=python", "dataset.measured=32768", "model=gpt", "model.dim=32", "batch_size=16", "clip_norm=1"),
            *(
                "schedule.warmup=10",
                "evaluate.unit=steps",
                "evaluate.every=96",
                "stop.epochs=null",
                "stop.flops=3.2e11",
            ),
        ),
        {
            **_THREE,
            "zero-random": (*_THREE["random"], "method.output=zero"),
            **{f"static-{n}": ("method=static", f"model.blocks={n}") for n in (1, 2, 6)},
        },
        (
            *(("alether", "copy"), ("alether", "random"), ("copy", "random")),
            *(("alether", "zero-random"), ("alether", "static-6"), ("alether", BEST)),
        ),
        ("3e-3", "6e-3", "1.2e-2", "2.4e-2"),
        within=0.02,
        ladder=("static-1", "static-2", "static-6"),
        score="loss",
    ),
    "scarce_mnist": _scarce(
        "MNIST, a transformer",
        "Patches of 7, width 32, batches of 64; 7.9e10 training FLOPs.",
        (*_MNIST, *_VIT, "model.patch=7", "stop.flops=7.9e10", "evaluate.every=60"),
        "mlp",
        64,
    ),
    "scarce_mnist_residual": _scarce(
        "MNIST, residual blocks",
        "Fully connected blocks, a stream of width 64, batches of 32.",
        (*_MNIST, "model=residual_mlp", "batch_size=32", "stop.flops=4e9", "evaluate.every=60"),
        "hidden",
        64,
    ),
    "scarce_cifar": _scarce(
        "CIFAR-10 (JPEG copy), a transformer",
        "Patches of 8, width 32, batches of 64; 1e11 training FLOPs.",
        (*_CIFAR, *_VIT, "model.patch=8", "stop.flops=1e11", "evaluate.every=30"),
        "mlp",
        64,
    ),
    "scarce_cifar_residual": _scarce(
        "CIFAR-10 (JPEG copy), convolutional residual blocks",
        "Blocks of two 3 × 3 convolutions of 16 channels on a stream of 16, at 8 × 8 points, batches of 64; 1e11 training FLOPs.",
        (*_CIFAR, "model=residual_cnn", "model.pool=4", "batch_size=64", "stop.flops=1e11", "evaluate.every=30"),
        "hidden",
        16,
    ),
    # runs of one way and rate are up to two points apart on MNIST
    "moment_mnist": _moment("MNIST, 2,000 images", "1e11 training FLOPs.", (*_MNIST, "stop.flops=1e11"), trials=3),
    "moment_cifar": _moment(
        "CIFAR-10 (JPEG copy), 2,000 images", "3e11 training FLOPs.", (*_CIFAR, "stop.flops=3e11"), trials=1
    ),
    "starts_mnist_vit": _starts(
        "MNIST, 10,000 images, a transformer",
        "Patches of 7, width 32, batches of 128; 2.4e11 training FLOPs.",
        (*_MNIST, *_WIDER, "model.patch=7", "stop.flops=2.4e11", "evaluate.every=40"),
        "mlp",
    ),
    "starts_mnist_mlp": _starts(
        "MNIST, 10,000 images, residual blocks",
        "Fully connected blocks, a stream of width 64, batches of 64; 5e10 training FLOPs.",
        (*_MNIST, "model=residual_mlp", "batch_size=64", "stop.flops=5e10", "evaluate.every=40"),
        "hidden",
    ),
    "starts_cifar_mlp": _starts(
        "CIFAR-10 (JPEG copy), 10,000 images, residual blocks",
        "Fully connected blocks, a stream of width 64, batches of 64; 1e11 training FLOPs.",
        (*_CIFAR, "model=residual_mlp", "batch_size=64", "stop.flops=1e11", "evaluate.every=40"),
        "hidden",
    ),
    "starts_cifar_vit": _starts(
        "CIFAR-10 (JPEG copy), 10,000 images, a transformer",
        "Patches of 8, width 32, batches of 128; 2.4e11 training FLOPs.",
        (*_CIFAR, *_WIDER, "model.patch=8", "stop.flops=2.4e11", "evaluate.every=40"),
        "mlp",
    ),
    "phases_mnist": _phases(
        "MNIST, 10,000 images, a transformer",
        "Patches of 7, width 32, batches of 128; 2.4e11 training FLOPs.",
        (*_MNIST, "model.patch=7", "stop.flops=2.4e11"),
    ),
    "phases_cifar": _phases(
        "CIFAR-10 (JPEG copy), 10,000 images, a transformer",
        "Patches of 8, width 32, batches of 128; 2.4e11 training FLOPs.",
        (*_CIFAR, "model.patch=8", "stop.flops=2.4e11"),
    ),
    "states_mnist": _states(
        "MNIST, 10,000 images, hidden widths 32 and 32 become up to 96 and 96",
        "Batches of 64; 1e11 training FLOPs, AdamW.",
        (*_MNIST, "subset=10000", "stop.flops=1e11", "evaluate.every=20"),  # with half of it TINY has two events
    ),
    "halves_mnist": _halves(
        "MNIST, hidden widths 1000 and 1000",
        "Batches of 128; 6.2e11 training FLOPs, which is one epoch of the final net.",
        (*_MNIST, "model=mlp", "batch_size=128", "stop.flops=6.2e11", "evaluate.every=20"),
        {
            part: (f"model.hidden=[{n},{n}]",)
            for part, n in (("full", 1000), ("half", 500), ("quarter", 250), ("eighth", 125))
        },
        "[1000,1000]",
    ),
    "halves_cifar": _halves(
        "CIFAR-10 (JPEG copy), 10,000 images, a convolutional net",
        "Two stages of one 3 × 3 convolution, of 16 and 32 channels at last, then 64 units; batches of 64; 1e11 training "
        "FLOPs, which is one epoch of the final net.",
        (*_CIFAR, "subset=10000", "model=cnn", "batch_size=64", "stop.flops=1e11", "evaluate.every=10"),
        {
            part: (f"model.channels=[[{n}],[{2 * n}]]", f"model.hidden=[{4 * n}]")
            for part, n in (("full", 16), ("half", 8), ("quarter", 4), ("eighth", 2))
        },
        "[16,32,64]",
    ),
    "fold_choices_mnist": _fold_choices(
        "MNIST, 10,000 images, from 10 to 30 units",
        "30 epochs; 500 mistakes are clustered.",
        (*_MNIST, "stop.epochs=30", "optimizer.weight_decay=0.2"),
        ("2.5e-3", "5e-3", "1e-2"),
    ),
    "fold_choices_cifar": _fold_choices(
        "CIFAR-10 (JPEG copy), 10,000 images, from 10 to 30 units",
        "30 epochs; 500 mistakes are clustered.",
        (*_CIFAR, "stop.epochs=30", "optimizer.weight_decay=1"),
        ("1e-3", "2e-3", "4e-3"),
    ),
    "pruned_mnist": _pruned("MNIST, 10,000 images", "5e10 training FLOPs.", (*_MNIST, "stop.flops=5e10")),
    "pruned_cifar": _pruned(
        "CIFAR-10 (JPEG copy), 10,000 images", "1e11 training FLOPs.", (*_CIFAR, "stop.flops=1e11")
    ),
}
