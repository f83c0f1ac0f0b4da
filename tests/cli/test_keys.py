"""Keys are explained where they are typed: by `grow list`, by help, and by the sentence for a key that there is not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from grow_cli import registry
from grow_cli.cli import COMMANDS
from grow_cli.commands.completion import candidates
from grow_cli.commands.mistyped import _mistakes
from grow_cli.commands.overrides import only
from grow_cli.commands.places import alike, lines, places
from grow_cli.commands.unknown_keys import chosen_by, unknown_key
from grow_cli.config import GROUP_KEYS, Config
from grow_cli.errors import UserError
from grow_cli.schema import declared_by, sections


@pytest.mark.slow
def test_every_key_has_a_meaning_under_its_field() -> None:
    holders = [Config, *sections().values(), *(cls for of in registry.groups().values() for cls in of.values())]
    silent = [
        f"{holder.__name__}.{key.name}"
        for holder in holders
        for key in declared_by(holder).values()
        if not key.meaning and key.name not in (*GROUP_KEYS, *sections())
    ]
    assert silent == []


@pytest.mark.parametrize(
    ("section", "key", "takes"),
    [
        ("stop", "epochs", "a whole number, above 0, or null for no such rule"),
        ("growth", "until", "a number, from 0 to 1: it is a fraction of the budget"),
        ("growth", "rollback", "true or false"),
        ("growth", "lr_warmup", "a whole number, 0 steps or more"),
        ("growth", "max_units", "a list of whole numbers, each 1 or more, or null for no limit"),
        ("trajectory", "dtype", "one of float32, float16, int8"),
    ],
)
def test_type_range_and_unit_are_words(section: str, key: str, takes: str) -> None:
    assert declared_by(sections()[section])[key].takes.startswith(takes)


@pytest.mark.slow
def test_list_explains_an_option_a_section_and_a_key(grow: Callable) -> None:
    option = grow("list", "model=vgg").out
    assert "model.norm=batch" in option, "the preset's value, not the default of cnn"
    assert "Takes one of none, batch." in option
    tiny = " ".join(grow("list", "method=tiny").out.split())
    assert "method.rtol=0.001 Leave out directions of the inputs" in tiny
    assert tiny.endswith(
        "It also sets, unless you set them yourself: model=mlp_tiny (cnn_tiny on photographs) trigger=steadily"
    )
    stop = " ".join(grow("list", "stop").out.split())
    assert "stop.steps=null Optimizer steps. Takes a whole number, above 0, or null for no such rule." in stop
    one = " ".join(grow("list", "optimizer.lr").out.split())
    assert "The base rate, which the schedule multiplies." in one
    assert "0.002 with optimizer=adamw" in one
    both = grow("list", "trigger.every").out
    assert both.count("trigger.every\n") == 2, "trigger=eta and trigger=every mean different things by it"
    assert "stop.epochs=36" in grow("list", "experiment=tiny_digits").out
    assert "batch_size=32" in grow("list", "keys").out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, grow: Callable) -> None:
    told = grow(command, "--help")
    assert (told.code, told.err) == (0, "")
    assert told.out.startswith(f"usage: grow {command}")
    assert len(told.out.splitlines()) > 4, "more than the usage"
    assert grow("help", command).out == told.out


@pytest.mark.parametrize(
    ("name", "choices", "typed"),
    [
        ("lr", [], ["optimizer.lr=2"]),
        ("epochs", [], ["stop.epochs=2"]),
        ("tau_crit", ["method=tiny", "trigger=tau_kappa"], ["trigger.tau_crit=2"]),
        ("tau_crit", ["method=static"], ["method=alether method.tau_crit=2", "trigger=tau_kappa trigger.tau_crit=2"]),
        ("level", ["trigger=adf_paper"], ["trigger.level=2"]),
    ],
)
def test_a_name_is_found_at_every_level_where_the_chosen_options_have_it(
    name: str, choices: list[str], typed: list[str]
) -> None:
    found = lines(name, "2", chosen_by(choices))
    assert found[: len(typed)] == typed or set(typed) <= set(found)
    assert len(found) == len(typed) or choices == ["method=static"]


@pytest.mark.parametrize(
    ("arguments", "cause", "remedy"),
    [
        (["method=tiny,gradmax"], "trigger.every is read before the sweep over method", "trigger=eta or trigger=every"),
        (
            ["trigger=every,plateau"],
            "a sweep over trigger cannot set it",
            "make a sweep of trigger=eta or trigger=every",
        ),
        (["method=tinny"], "trigger.every is not a key of the chosen trigger", "trigger=eta or trigger=every"),
        (["logger=[csv,none]"], "trigger.every is not a key of the chosen trigger", "trigger=eta or trigger=every"),
    ],
)
def test_a_key_that_a_sweep_reads_too_early_is_answered_with_the_option_to_type(
    arguments: list[str], cause: str, remedy: str
) -> None:
    told = unknown_key("trigger.every", [*arguments, "trigger.every=3"])
    assert cause in told
    assert remedy in told


def test_a_part_of_a_name_or_another_spelling_leads_to_it() -> None:
    chosen = chosen_by([])
    assert alike("units", "3", chosen) == ["growth.max_units=3", "growth.max_total_units=3"]
    assert alike("epoch", "3", chosen)[0] == "stop.epochs=3"
    assert places("no_such_key") == alike("zzzzzzz", "3", chosen) == []


@pytest.mark.parametrize(
    ("typed", "meant"),
    {
        "seed =3": "seed=3",
        "seed 3": "seed=3",
        "seed==3": "seed=3",
        "-seed 3": "seed=3",
        "--batch-size 32": "batch_size=32",
        "lr = 0.1": "optimizer.lr=0.1",
        "method tiny": "method=tiny",
        "vgg": "model=vgg",
        "seed=0, 1": "seed=0,1",
        "optimizer.lr = -1": "optimizer.lr=-1",
    }.items(),
)
def test_what_was_meant_is_read_from_what_was_typed(typed: str, meant: str) -> None:
    assert next(_mistakes(typed.split()))[2] == [meant]


@pytest.mark.parametrize(
    "typed",
    [
        "seed=3 label= run_dir=a=b",
        "-m seed=0,1 --cfg job",
        "~trigger.every +trigger@trigger.of.late=every",
        "model.hidden=[64,64] logger=[csv,wandb]",
        "dataset.path=./a:b dataset.pattern='*.txt'",
        "hydra.launcher.n_jobs=2 stop.epochs=3 stop.epochs=4",
        "--multirun --config-name train",
    ],
)
def test_what_is_right_is_left_alone(typed: str) -> None:
    assert list(_mistakes(typed.split())) == []


def test_what_was_mistyped_after_a_run_is_said_before_what_is_not_allowed() -> None:
    with pytest.raises(UserError, match=r"^epochs 200: .*: type stop.epochs=200$"):
        only(["epochs", "200"], ["stop"], "a resumed run keeps its configuration")
    with pytest.raises(UserError, match=r"^seed=3: .*; only stop can be given$"):
        only(["seed=3"], ["stop"], "a resumed run keeps its configuration")


def test_tab_completes_what_can_be_explained() -> None:
    assert "method=tiny" in candidates("grow list method=ti")
    assert "stop.epochs" in candidates("grow list stop.")
    assert "report" in candidates("grow help re")


def test_a_fresh_process_knows_the_model_that_depends_on_the_dataset() -> None:
    # composing alone must register the resolver: elsewhere in these tests another module has done so
    code = "from grow_cli.commands.composition import composed; print(composed(['dataset=cifar10', 'method=tiny']).model.name)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "cnn\n"
