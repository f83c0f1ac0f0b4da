"""What every test may use: the command as a user types it, in this process or in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# the same examples every time: a red suite is reproduced by running it again
settings.register_profile("suite", derandomize=True)
settings.load_profile("suite")

REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str


# Tests of which the suite runs every so many-th case, and `make test-slow` the others: their cases take long and differ little.
SLICED = {
    "test_a_budget_of_flops_is_kept_to_a_step_and_the_rate_anneals_over_it": 2,
    "test_a_conv_chain_grown_twenty_times_changes_by_no_more_than_the_amplitude_explains": 4,
    "test_a_job_returns_what_it_reached_in_validation": 2,
    "test_a_key_of_text_keeps_what_was_typed_whatever_it_looks_like": 3,
    "test_a_list_of_sizes_that_would_take_minutes_to_build_is_refused_before_anything_is_built": 4,
    "test_a_mistake_is_a_sentence": 3,
    "test_a_mistake_is_answered_by_one_sentence": 8,
    "test_a_path_is_answered_with_a_line_that_composes": 3,
    "test_a_replay_makes_best_updates_where_the_schedule_has_them": 8,
    "test_a_restored_net_trains_on_as_if_it_had_never_grown": 6,
    "test_a_resumed_run_ends_to_the_bit_as_the_whole_one": 2,
    "test_a_resumed_run_is_charged_as_the_whole_one_wherever_it_was_interrupted": 2,
    "test_a_resumed_width_run_ends_as_the_whole_one": 3,
    "test_a_run_ends_and_its_uneven_net_is_evaluated": 4,
    "test_a_run_goes_on_and_is_finished_whatever_becomes_of_the_terminal": 2,
    "test_a_run_that_got_no_first_checkpoint_has_not_begun_and_is_begun_when_it_is_typed_again": 2,
    "test_a_run_that_the_significance_test_kept_small_says_so": 4,
    "test_a_step_that_trains_some_parameters_costs_what_its_backward_pass_computes": 4,
    "test_a_text_net_grows_by_every_kind_of_method": 4,
    "test_an_experiment_fixes_the_method_or_the_model_that_it_is_named_after": 4,
    "test_an_exported_net_is_as_exact_as_the_trained_one": 2,
    "test_an_interpolation_that_leads_nowhere_is_one_line_that_names_the_key": 3,
    "test_an_offer_does_what_its_search_has_measured": 3,
    "test_controls_match_their_run_in_size_and_cost": 3,
    "test_copies_equal_their_sources_and_say_so_in_the_log": 3,
    "test_each_picture_has_its_parts": 6,
    "test_every_depth_method_grows_every_block_model_and_trains_on": 3,
    "test_every_fires_at_each_evaluation_that_is_as_far_from_the_last": 16,
    "test_every_method_grows_every_model_again_and_again": 12,
    "test_every_option_composes": 4,
    "test_every_option_keeps_its_groups_contract": 6,
    "test_every_site_of_a_module_is_found_and_grown": 3,
    "test_every_way_of_a_study_can_be_composed_and_has_the_one_budget_of_the_study": 7,
    "test_every_way_of_every_benchmark_can_be_composed": 10,
    "test_float32_history_is_as_precise_as_float64": 2,
    "test_it_lowers_the_loss_on_every_kind_of_model_and_through_growth": 3,
    "test_max_units_neurons_and_parameters_are_limits": 4,
    "test_no_step_synchronises_with_the_host": 3,
    "test_proposition_3_2_no_k_neurons_do_better": 9,
    "test_tab_completes": 3,
    "test_the_eta_trigger_reads_every_method_and_grows_when_the_threshold_is_passed": 3,
    "test_the_keys_of_an_experiments_trigger_are_in_it": 3,
    "test_the_last_growth_is_judged_too": 3,
    "test_the_page_holds_metrics_csv_on_every_axis": 3,
    "test_the_threshold_is_distributed_as_if_gaussian_goals_were_drawn": 9,
    "test_the_winners_experiment_comes_to_what_was_trained": 2,
    "test_theorem_1_bounds_the_additions_in_a_row": 10,
    "test_weights_and_what_grows_are_float64_and_stay_so_when_measured_again": 4,
    "test_what_another_unit_costs_is_what_the_nets_flops_rise_by": 3,
    "test_what_cannot_be_is_one_sentence_before_training": 3,
    "test_what_cannot_fold_is_refused_in_a_sentence": 3,
    "test_what_is_trained_composes": 2,
    "test_width_and_depth_grow_from_any_depth_and_keep_the_function": 6,
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    seen: Counter[str] = Counter()
    for item in items:
        name = item.name.partition("[")[0]
        if name in SLICED and seen[name] % SLICED[name]:
            item.add_marker(pytest.mark.slow)
        seen[name] += 1


@pytest.fixture
def grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """`grow("train", "seed=1")` in this process, in an empty folder."""
    from grow_cli.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GROW_DEBUG", raising=False)
    monkeypatch.setattr(sys, "argv", ["grow"])

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return Outcome(int(left.value.code or 0), captured.out, captured.err)

    return call


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """`spawn("train", "seed=1")`: the command in a process of its own, in an empty folder; it ends with the test."""
    children: list[subprocess.Popen[str]] = []

    def call(*arguments: object) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-m", "grow_cli", *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ
            | {"PYTHONPATH": os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        children.append(child)
        return child

    yield call
    for child in children:
        if child.poll() is None:
            child.kill()
        child.communicate()


# A run that reaches every part in a second: few samples, growth at steps 50 and 100, a warm-up of 10 steps.
SMALL = (
    "subset=300",
    "batch_size=32",
    "optimizer.lr=1e-3",
    "stop.epochs=20",
    "evaluate.every=25",
    "evaluate.unit=steps",
    "trigger=every",
    "trigger.every=50",
    "trigger.unit=steps",
    "trajectory.every=5",
    "trajectory.window=6",
    "method.rank=3",
    "method.warmup_steps=10",
    "growth.max_events=2",
)


@pytest.fixture
def small() -> tuple[str, ...]:
    """Overrides of a run that takes a second."""
    return SMALL


@pytest.fixture
def wide() -> tuple[str, ...]:
    """The same for a method that grows width."""
    return (*(o for o in SMALL if not o.startswith("method.")), "model=mlp_tiny")


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Any]:
    """`make("method=copy")`: a loop on the small run, without the command around it."""
    import torch

    from grow_cli.commands.train import compose
    from grow_cli.data.tensors import load_data
    from grow_cli.records.folder import RunFolder
    from grow_cli.run import assemble
    from grow_cli.training.loop import Loop

    cpu = torch.device("cpu")
    loops: list[Loop] = []
    folders: list[RunFolder] = []

    def call(*overrides: str) -> Loop:
        method = next((o for o in overrides if o.startswith("method=")), "method=alether")
        blocks = {"method=alether": ("method.rank=3",), "method=copy": (), "method=random": ()}
        keys = ("method.warmup_steps=10", *blocks[method]) if method in blocks else ()
        other = any(o.startswith("trigger=") and o != "trigger=every" for o in overrides)
        shared = [o for o in SMALL if not o.startswith(("method.", "trigger") if other else "method.")]
        config = compose([method, *shared, *keys, *overrides, "progress=off"])
        data = load_data(config.dataset, data_dir=tmp_path, subset=config.subset, device=cpu)
        folders.append(RunFolder(tmp_path / f"run{len(folders)}"))
        folders[-1].create({})
        loops.append(assemble(config, folders[-1], data, cpu))
        return loops[-1]

    yield call
    for made in (*loops, *folders):
        made.close()


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Tests compute small things, and their threads would wait for each other where cores are shared."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _denormals() -> Iterator[None]:
    """A run has the processor count denormals as zero, which other tests rely on."""
    import torch

    yield
    torch.set_flush_denormal(False)
