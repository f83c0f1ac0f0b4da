"""Which studies (studies.py) share a page, and what its reader must know."""

from __future__ import annotations

PAGES = {
    "alether_stack": (
        "Alether's extrapolation for a whole stack, beside copies and fresh blocks",
        "The same event for all: four blocks on top of two, each made of the block it repeats (`method.pattern=stack`), speaking "
        "at once and trained with all else from the first step. *alether* extrapolates the trajectory of each source, *copy* "
        "takes its weights (this is `method=stack`), *random* draws fresh ones, *zero-random* fresh ones that add nothing at "
        "first; *static-6* is the net that all end with, from scratch (`static-flops`).",
        ("alether_stack",),
    ),
    "scarce": (
        "Depth growth where compute is scarce: MNIST and CIFAR-10, two blocks become six",
        "Every run gets the same training FLOPs, far fewer than it takes to train a net of six blocks. Four blocks come at the "
        "first evaluation after 30 % of them, without steps of the new blocks alone: *zero-random* puts fresh blocks before the "
        "last one that add nothing at first, *stack* repeats the whole stack three times. *static-6* is the net that both end "
        "with, from scratch (`static-flops`); the rate falls to zero in the last 40 % of the FLOPs.",
        ("scarce_mnist", "scarce_mnist_residual", "scarce_cifar", "scarce_cifar_residual"),
    ),
    "moment": (
        "When to grow: triggers that read the trajectory or the loss, beside fixed moments",
        "Two residual blocks gain up to two others, each when the trigger of its name fires: copies of the last block that add "
        "nothing at first, with no steps of their own. All triggers as shipped, growth until 60 % of the FLOPs; snapshots for "
        "*drift* and *tau_kappa* every 10 steps. *At 20 and 40 %* is the fixed moment, *static-4* the net that two events end "
        "with, from scratch (`static-flops`).",
        ("moment_mnist", "moment_cifar"),
    ),
    "starts": (
        "A depth growth that wins? How a new block starts",
        "Two blocks gain one at 20 and one at 40 % of the FLOPs, before the last one and made of it: *copy*, *alether* "
        "(extrapolated) or *random*. *Alone first*: it speaks at once, and is trained alone for 80 steps, with 50 more in which "
        "the rate of all rises, as Alether's protocol has it; without these words there are no such steps, and 10 in the place "
        "of the 50. *-zero*: the same, and what it adds to the stream is zero at first. *Static-4* is the net that all end "
        "with, from scratch (`static-flops`).",
        ("starts_mnist_vit", "starts_mnist_mlp", "starts_cifar_vit", "starts_cifar_mlp"),
    ),
    "phases": (
        "The phases of Alether's protocol one by one, and how loud a new block is",
        "Two blocks gain one at 20 and one at 40 % of the FLOPs, copies of the last one. *Alone*: the new block is trained alone "
        "for 80 steps (phase 3), at a tenth of the rate; *a ramp*: after a growth, and at the start, the rate of all rises over "
        "50 steps (phase 4), else over 10. *Half* and *zero*: what the new block adds to the stream at first, in the place of "
        "all that its source does.",
        ("phases_mnist", "phases_cifar"),
    ),
    "states": (
        "What the optimizer remembers of a net that grows",
        "Width growth with AdamW: events of up to 16 units a layer at 20, 30, 40 and 50 % of the training FLOPs, as many as the "
        "FLOPs of the events leave room for. `growth.optimizer_state=carry`: present "
        "entries keep their moments, new ones begin at zero with the step count of all; *age*: each entry has a step count of "
        "its own; *reset*: all forget everything.",
        ("states_mnist",),
    ),
    "halves": (
        "Half the width first: one event that doubles a net which is too wide for its budget",
        "Every hidden width starts at half and is doubled once, at 30 or 50 % of the training FLOPs, by units drawn at random or "
        "by copies (Net2Net); *3 × rate*: the new entries learn three times as fast. The rate is constant until 60 %, then falls "
        "to zero. *Static-full* is the net that all end with, from scratch (`static-flops`).",
        ("halves_mnist", "halves_cifar"),
    ),
    "fold_choices": (
        "Fold's choices: neurons at an event, which cluster, outgoing weights, the regularizer",
        "Fold with the recipe of `experiment=fold_mnist` and `fold_cifar10` on fewer images and epochs: one neuron for the "
        "largest cluster of mistakes when the loss is at rest, with one of these choices changed. *3* and *5 neurons*: one for "
        "each of the largest clusters, of which at least as many are looked for. All train for as many epochs, and the static "
        "nets, too; what the search for neurons costs is in the FLOPs.",
        ("fold_choices_mnist", "fold_choices_cifar"),
    ),
    "pruned": (
        "Does pruning pay? Twice the units, removed while the net trains",
        "Two hidden layers of 128 units become two of 64: half of all units at once, after 30 or 50 % of the training FLOPs, or "
        "an eighth of what is left at a time, from 10 to 55 %. *Static-64* is the net that all end with, from scratch "
        "(`static-flops`), *static-128* the one that they begin with.",
        ("pruned_mnist", "pruned_cifar"),
    ),
}
"""Page → its title, what a reader must know before the tables, and its studies."""
