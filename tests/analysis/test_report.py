"""`grow report`: the numbers behind its charts, what is said where there are none, and the pages in a browser."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from grow_cli.analysis.report.charts import scale
from grow_cli.analysis.report.confusion import SHADE, confusion, confusion_table, worst
from grow_cli.analysis.report.curves import curves, growth_end, reading_charts, reading_title, size_and_rate
from grow_cli.analysis.report.events import hover, stages
from grow_cli.analysis.report.own import own_charts, own_html
from grow_cli.analysis.report.reading import COLUMNS, read_run
from grow_cli.analysis.report.run import architecture, run_page
from grow_cli.analysis.report.sweep import average, sweep_page
from grow_cli.analysis.runs import read_records
from grow_cli.records.events import growth_events
from grow_cli.records.folder import RunFolder

QUICK = "subset=300 batch_size=32 stop.epochs=20 evaluate.every=25 evaluate.unit=steps progress=off".split()
SOON = "trigger=every trigger.every=50 trigger.unit=steps growth.max_events=2".split()
RUNS = {
    "depth": (
        *(*QUICK, *SOON, "method=alether", "method.rank=3", "method.warmup_steps=10"),
        *("trajectory.every=5", "trajectory.window=6", "evaluate.test_every=2"),
    ),
    "width": (*QUICK, *SOON, "method=tiny", "model=mlp_tiny", "growth.neurons=4"),
    "mistakes": (*QUICK, *SOON, "method=fold", "model=mlp_fold", "model.hidden=[2]"),
    "linear": (*QUICK, "method=static", "model=mlp", "model.hidden=[]"),
    "regression": "method=static dataset=curve stop.epochs=3 progress=off".split(),
}
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
in_a_browser = pytest.mark.skipif(BROWSER is None, reason="there is no chromium here")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs above and a sweep, which no test may change."""
    from grow_cli.cli import main

    folder = tmp_path_factory.mktemp("trained")
    sweep = ("-m", "method=tiny,static", "seed=0,1", "model=mlp_tiny", *QUICK, *SOON, "hydra.sweep.dir=sweep")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["grow"])
        patch.chdir(folder)
        for arguments in (*((*overrides, f"run_dir={name}") for name, overrides in RUNS.items()), sweep):
            with pytest.raises(SystemExit) as left:
                main(["train", *arguments])
            assert not left.value.code
    return folder


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(trained, tmp_path / "runs"))


def rewrite(folder: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    """Change the lines of growth.jsonl."""
    path = folder / "growth.jsonl"
    lines = change([json.loads(line) for line in path.read_text().splitlines()])
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def charts_of(page: str) -> dict[str, Any]:
    """The data in a page."""
    return dict(json.loads(re.findall(r"^const CHARTS = (.*);$", page, re.MULTILINE)[-1]))


def without_plotly(page: str) -> str:
    """The page without its first script, the library, which holds XML namespaces and the like."""
    return re.sub(r"<script>.*?</script>", "", page, count=1, flags=re.DOTALL)


def same(found: list[Any], expected: list[Any]) -> bool:
    """Equal, an empty cell being None."""
    return found == [None if isinstance(v, float) and math.isnan(v) else v for v in expected]


@pytest.mark.parametrize("name", RUNS)
def test_the_page_holds_metrics_csv_on_every_axis(runs: Path, grow: Callable[..., Any], name: str) -> None:
    outcome = grow("report", runs / name)
    assert outcome.code == 0, outcome.err
    assert outcome.out.strip() == str(runs / name / "report.html")
    page = Path(outcome.out.strip()).read_text(encoding="utf-8")
    metrics, chart = pd.read_csv(runs / name / "metrics.csv"), charts_of(page)["curves"]
    columns = [c for c in metrics if re.fullmatch("(train|val|test)_(accuracy|r2|loss)", c)]
    drawn = [trace for trace in chart["data"] if trace["yaxis"] != "y3"]
    assert len(drawn) == len(columns)
    for column in columns:
        assert any(same(trace["y"], metrics[column].tolist()) for trace in drawn), column
    for axis in COLUMNS:
        for x in chart["axes"][axis]["x"][: len(drawn)]:
            assert x == metrics[axis].tolist()
    read = [c for c in metrics if c.startswith("trigger/")]
    charts = charts_of(page)
    assert sum(key.startswith("reading-") for key in charts) == len(read)
    for i, column in enumerate(read):
        assert same(charts[f"reading-{i}"]["data"][0]["y"], metrics[column].tolist())


def test_plotly_knows_every_key_of_every_chart(trained: Path) -> None:
    from plotly.graph_objects import Figure

    pages = [run_page(RunFolder(trained / name)) for name in RUNS]
    for page in (*pages, sweep_page([trained / "sweep"], trained / "report.html")):
        for chart in page.charts.values():
            Figure(data=chart.data, layout=chart.layout)


def test_an_event_stands_at_the_evaluation_that_it_followed_on_every_axis(trained: Path) -> None:
    run = read_run(RunFolder(trained / "width"))
    rows = run.metrics.set_index("step")
    for axis in COLUMNS:
        expected = [event.step if axis == "step" else rows[axis][event.step] for event in run.events]
        assert run.places(axis) == expected
        chart = curves(run).axes[axis]
        grown = [x for x, event in zip(expected, run.events, strict=True) if event.units_added]
        assert chart["x"][-1] == expected
        end = growth_end(run, axis)
        assert chart["lines"] == [*grown, *([] if end is None else [end])]
    assert len(set(run.places("parameters"))) > 1


def test_hover_text_has_widths_units_losses_and_readings(trained: Path) -> None:
    event = next(e for e in growth_events(RunFolder(trained / "width")) if e.units_added)
    text = hover(event)
    for part in (
        f"widths {event.widths_before} → {event.widths_after}",
        f"+{event.units_added} units (width), hidden 1",
        f"{event.parameters_before:,} → {event.parameters_after:,}",
        f"{event.loss_before:.4g} → {event.loss_after:.4g} → {event.loss_settled:.4g}",
        "steps since 50",
    ):
        assert part in text


def test_rollbacks_and_firings_that_added_nothing_look_different(runs: Path) -> None:
    def change(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        first = events[0]
        back = first | {"event": 3, "step": 150, "kind": "rollback", "units_added": -first["units_added"], "site": ""}
        back |= {"widths_before": first["widths_after"], "widths_after": first["widths_before"]}
        back |= {"details": {"reason": "growth event 1 is undone"}}
        nothing = first | {"event": 2, "step": 100, "units_added": 0, "details": {"reason": "no eigenvalue"}}
        return [first, nothing | {"widths_before": first["widths_after"]}, back]

    rewrite(runs / "width", change)
    run = read_run(RunFolder(runs / "width"))
    marks = curves(run).data[-1]
    assert marks["marker"]["symbol"] == ["triangle-up", "circle", "triangle-down"]
    assert len(set(marks["marker"]["color"])) == 3
    assert marks["marker"]["size"][1] < marks["marker"]["size"][0]
    assert "taken back" in marks["text"][2]
    assert "no eigenvalue" in marks["text"][1]
    first = run.events[0]
    assert [s[3] for s in stages(run)] == [
        [int(w) for w in getattr(first, key).split("-")] for key in ("widths_before", "widths_after", "widths_before")
    ]


def test_architecture_has_a_bar_for_each_stage_and_a_piece_for_each_layer(trained: Path) -> None:
    run = read_run(RunFolder(trained / "depth"))
    chart = architecture(run)
    assert [trace["y"] for trace in chart.data] == [[64, 64, 64], [64, 64, 64], [None, 64, 64], [None, None, 64]]
    linear = architecture(read_run(RunFolder(trained / "linear")))
    assert [trace["name"] for trace in linear.data] == ["no hidden layer"]


def test_parameters_and_rate_are_drawn_and_where_growing_ended(trained: Path) -> None:
    run = read_run(RunFolder(trained / "width"))
    chart = size_and_rate(run)
    assert [trace["y"] for trace in chart.data] == [run.column("parameters"), run.column("lr")]
    assert chart.data[0]["line"]["shape"] == "vh"  # a row above an event has the size before it
    epochs, until = run.config["stop"]["epochs"], run.config["growth"]["until"]
    rows = run.metrics.set_index("epoch")
    end = growth_end(run, "step")
    assert end is not None
    before, after = rows[rows["step"] <= end], rows[rows["step"] >= end]
    assert before.index[-1] <= until * epochs <= after.index[0]
    assert chart.axes["step"]["lines"][-1] == end
    assert chart.layout["shapes"][-1]["label"]["text"] == "growing ends"
    run.config["growth"]["until"] = 1.0
    assert growth_end(run, "step") is None
    assert "label" not in size_and_rate(run).layout["shapes"][-1]


def test_a_readings_title_is_words() -> None:
    titles = {
        "epochs_since": "Epochs since the trigger last fired",
        "steps_until": "Steps until the next growth",
        "flops_until": "FLOPs until the next growth",
        "a.adf_pvalue": "a: ADF p-value",
        "stagnant_windows": "Stagnant windows",
    }
    assert {name: reading_title(name) for name in titles} == titles


def test_the_growth_log_says_how_many_of_its_lines_grew_the_net(runs: Path) -> None:
    def change(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        nothing = [e | {"event": 10 + i, "units_added": 0, "details": {}} for i, e in enumerate(events * 2)]
        return [*events, *nothing]

    lines = growth_events(RunFolder(runs / "width"))
    grown = sum(event.units_added > 0 for event in lines)
    rewrite(runs / "width", change)
    page = run_page(RunFolder(runs / "width")).html()
    assert grown
    assert f"Growth log: {grown} of {3 * len(lines)} firings grew the net</summary>" in page


def test_the_confusion_matrix_counts_every_test_sample_and_agrees_with_the_test_score(trained: Path) -> None:
    run = read_run(RunFolder(trained / "width"))
    found = confusion(run)
    assert found is not None
    names, matrix = found
    assert names == [str(digit) for digit in range(10)]
    samples = sum(map(sum, matrix))
    assert samples == run.summary["data"]["counts"]["test"]
    assert sum(matrix[i][i] for i in range(10)) / samples == pytest.approx(run.summary["test_accuracy"])
    assert confusion(read_run(RunFolder(trained / "regression"))) is None


@pytest.mark.parametrize(
    "change",
    [
        {"data": {"counts": {"train": 10**9, "test": 10**9}}},  # it would take long
        {"data": {"classes": "evil"}},
        {"data": {}},
        {"status": "interrupted"},
    ],
)
def test_no_confusion_matrix_where_it_is_not_to_be_had_in_a_moment(runs: Path, change: dict[str, Any]) -> None:
    folder = RunFolder(runs / "width")
    summary = folder.read_summary()
    data = summary["data"] | change["data"] if change.get("data") else change.get("data", summary["data"])
    folder.write_summary(summary | change | {"data": data})
    assert confusion(read_run(folder)) is None


def test_a_report_downloads_no_data(tmp_path: Path) -> None:
    from grow_cli.data.datasets.downloaded import CIFAR10, MNIST
    from grow_cli.data.datasets.image_folder import ImageFolder

    for option in (MNIST(name="mnist"), CIFAR10(name="cifar10"), ImageFolder(name="image_folder")):
        assert not option.at_hand(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_most_frequent_mistakes_are_told_and_shaded_and_names_are_escaped() -> None:
    names, matrix = ["<a>", "b", "c"], [[5, 0, 1], [4, 6, 0], [0, 0, 9]]
    assert (
        worst(names, matrix)
        == "5 of 25 test samples are misclassified; most often: b taken for <a> (4), <a> taken for c (1)."
    )
    assert worst(names, [[1, 0, 0], [0, 1, 0], [0, 0, 1]]) == ""
    html = confusion_table(names, matrix)
    assert "<a>" not in html
    assert f'var(--wrong) {SHADE}%, transparent)">4<' in html
    assert f'var(--right) {SHADE}%, transparent)">9<' in html


def test_thresholds_are_drawn_where_the_summary_has_them(runs: Path) -> None:
    folder = RunFolder(runs / "width")
    (chart,) = reading_charts(read_run(folder))
    assert chart.data[1]["y"] == [50, 50]
    summary = folder.read_summary()
    del summary["thresholds"]
    folder.write_summary(summary)
    (chart,) = reading_charts(read_run(folder))
    assert len(chart.data) == 1


def test_what_the_method_logged_is_drawn(trained: Path) -> None:
    found = {name: {c.name: c for c in own_charts(read_run(RunFolder(trained / name)))} for name in RUNS}
    assert set(found["depth"]) == {"coefficients", "phases", "spectra-modes", "signal"}
    assert set(found["width"]) == {"spectra-eigenvalues", "phases"}
    assert set(found["mistakes"]) == {"mistakes", "phases"}
    assert not found["linear"]
    events = growth_events(RunFolder(trained / "width"))
    entries = [p for event in events for p in event.details.get("proposals", [])]
    traces = {trace["name"]: trace for trace in found["width"]["spectra-eigenvalues"].data}
    assert traces["added as units"]["y"] == [v for p in entries for v in p["eigenvalues"][: p["units"]] if v > 0]
    event = growth_events(RunFolder(trained / "depth"))[0]
    tensors = event.details["proposals"][0]["tensors"].values()
    assert found["depth"]["coefficients"].data[0]["y"][: len(tensors)] == [t["beta"] for t in tensors]
    modes = {trace["name"]: trace for trace in found["depth"]["spectra-modes"].data}
    in_subspace = [v for t in tensors for v in t["singular_values"][: t["rank"]] if v > 0]
    assert modes["in the subspace"]["y"][: len(in_subspace)] == in_subspace
    assert found["depth"]["signal"].data[0]["y"][: len(tensors)] == [t["snr"] for t in tensors]
    assert all(math.isfinite(t["snr"]) and len(t["singular_values"]) == 5 for t in tensors), "velocities of 6 snapshots"


@pytest.mark.parametrize("noisy", [False, True])
def test_what_a_method_did_not_believe_is_said(runs: Path, noisy: bool) -> None:
    names = list(growth_events(RunFolder(runs / "depth"))[0].details["proposals"][0]["tensors"])

    def fell_back(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        made = events[0]["details"]["proposals"][0]
        made["fallback"] = "copy"
        if noisy:
            made["noisy"] = names[:2]
        else:
            del made["tensors"]
        return events[:1]

    rewrite(runs / "depth", fell_back)
    run = read_run(RunFolder(runs / "depth"))
    charts = {chart.name: chart for chart in own_charts(run)}
    told = "(fallback for 2 tensors: copy)" if noisy else "(fallback: copy)"
    assert told in hover(run.events[0])
    assert told in stages(run)[1][2]
    if noisy:
        assert charts["signal"].data[1]["text"] == names[:2]
    else:
        assert "signal" not in charts


def test_a_fallback_marks_the_tensors_of_its_own_block_alone(runs: Path) -> None:
    def two_blocks(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        (made,) = events[0]["details"]["proposals"]
        name = next(iter(made["tensors"]))
        noisy = made | {"fallback": "copy", "noisy": [name], "source": "block 2"}
        events[0]["details"]["proposals"] = [made | {"source": "block 1"}, noisy]
        return events[:1]

    rewrite(runs / "depth", two_blocks)
    charts = {chart.name: chart for chart in own_charts(read_run(RunFolder(runs / "depth")))}
    believed, fell_back = charts["signal"].data
    assert (len(believed["y"]), len(fell_back["y"])) == (11, 1)
    assert fell_back["text"][0].startswith("block 2 ")
    assert len(charts["spectra-modes"].layout["xaxis"]["categoryarray"]) == 12, "a place for each tensor of each block"


def test_events_stand_in_their_order_whatever_was_taken_from_them(runs: Path) -> None:
    def first_took_nothing(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for made in events[0]["details"]["proposals"]:
            made["units"] = 0
        return events

    rewrite(runs / "width", first_took_nothing)
    chart = next(c for c in own_charts(read_run(RunFolder(runs / "width"))) if c.name == "spectra-eigenvalues")
    places = chart.layout["xaxis"]["categoryarray"]
    assert places == sorted(places, key=lambda place: int(place.split("<br>")[0]))
    assert places[0].startswith("1<br>")


@pytest.mark.parametrize("proposals", [None, 3, [3], [{"fallback": "copy", "noisy": 3}]])
def test_what_is_no_list_of_proposals_does_not_end_a_report(runs: Path, proposals: Any) -> None:
    rewrite(runs / "depth", lambda events: [events[0] | {"details": {"proposals": proposals}}])
    assert "+64 units (depth)" in run_page(RunFolder(runs / "depth")).html()


def test_candidates_are_drawn_with_the_threshold_and_those_without_a_logarithm_are_counted(runs: Path) -> None:
    candidates = [
        {"site": "hidden 1", "kind": k, "ratio": r} for k, r in (("width", 2.0), ("depth", -1), ("width", None))
    ]
    rewrite(runs / "width", lambda events: [event | {"details": {"candidates": candidates}} for event in events[:1]])
    run = read_run(RunFolder(runs / "width"))
    run.config["method"]["tau"] = 1.5
    chart = next(c for c in own_charts(run) if c.name == "candidates")
    assert chart.data[0]["y"] == [2.0]
    assert chart.data[1]["y"] == [0.5, 0.5]
    assert chart.note.startswith("2 more")


def test_mistakes_are_a_gallery_of_embedded_pictures(trained: Path) -> None:
    html = own_html(read_run(RunFolder(trained / "mistakes")))
    rows = pd.read_csv(trained / "mistakes" / "mistakes" / "mistakes.csv")
    assert html.count("data:image/png;base64,") == len(rows) > 0
    assert f"<b>{rows['predicted'][0]} → {rows['true'][0]}</b>" in html


def test_text_from_files_is_escaped(runs: Path) -> None:
    evil = "</script><img src=x onerror=alert(1)>"
    folder = RunFolder(runs / "width")
    folder.write_summary(folder.read_summary() | {"device": evil, "label": evil, "versions": {evil: evil}})
    (folder.path / ".hydra" / "overrides.yaml").write_text(json.dumps([evil]))
    rewrite(folder.path, lambda events: [e | {"site": evil, "readings": {evil: 1.0}} for e in events])
    page = run_page(folder).html()
    assert "<img" not in without_plotly(page)
    assert evil not in page
    assert evil not in json.dumps(charts_of(page))


def test_the_page_asks_for_nothing_from_the_network(trained: Path) -> None:
    page = run_page(RunFolder(trained / "mistakes")).html()
    assert "default-src 'none'" in page
    assert not re.findall(r"(?:src|href)=.?(?:https?:)?//", without_plotly(page))
    assert page.count("plotly.js (basic - minified) v") == 1
    assert len(page.encode()) < 1.5e6


def test_an_interrupted_run_is_drawn_as_far_as_it_came(runs: Path, grow: Callable[..., Any]) -> None:
    folder = RunFolder(runs / "width")
    kept = {k: v for k, v in folder.read_summary().items() if not k.startswith(("train_", "val_", "test_", "thresh"))}
    folder.write_summary(kept | {"status": "interrupted", "error": "interrupted by signal 2"})
    assert grow("report", folder.path).code == 0
    page = (folder.path / "report.html").read_text()
    assert "interrupted · " in page
    assert "these numbers are from its last evaluation" in page
    (folder.path / "summary.json").unlink()
    outcome = grow("report", folder.path, "-o", runs / "killed.html")
    assert outcome.code == 0, outcome.err
    assert "digits · mlp · tiny · every · seed 0" in (runs / "killed.html").read_text()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda folder: (folder / "metrics.csv").unlink(), "has no metrics.csv yet"),
        (lambda folder: (folder / "metrics.csv").write_text(""), "is empty: wait"),
        (lambda folder: (folder / "metrics.csv").write_text("step,seconds\n"), "is empty: wait"),
        (lambda folder: (folder / "metrics.csv").write_text("step,seconds\n1,2\n"), "has no column flops"),
        (lambda folder: (folder / "growth.jsonl").write_text("{\n"), "growth.jsonl is damaged (line 1"),
    ],
)
def test_a_folder_without_what_is_needed_is_refused(
    runs: Path, grow: Callable[..., Any], spoil: Callable[[Path], Any], sentence: str
) -> None:
    spoil(runs / "width")
    outcome = grow("report", runs / "width")
    assert outcome.code == 2
    assert sentence in outcome.err.replace("\n", " ")
    assert not (runs / "width" / "report.html").exists()


def test_wrong_arguments_are_refused(trained: Path, grow: Callable[..., Any], tmp_path: Path) -> None:
    for arguments, sentence in (
        ((), "needs a run folder"),
        ((tmp_path / "nowhere",), "holds no run"),
        ((trained / "width", "-o", "page.pdf"), "a page's name must end in .html"),
        ((trained / "width", "-o", tmp_path / "no" / "page.html"), "cannot be written"),
    ):
        outcome = grow("report", *arguments)
        assert outcome.code == 2
        assert sentence in outcome.err.replace("\n", " ")


def test_a_sweep_has_the_comparison_a_curve_for_each_way_and_links_to_the_runs(
    runs: Path, grow: Callable[..., Any]
) -> None:
    folder = min(path.parent for path in (runs / "sweep").glob("*/.hydra"))
    assert grow("report", folder).code == 0
    outcome = grow("report", runs / "sweep")
    assert outcome.code == 0, outcome.err
    page = (runs / "sweep" / "report.html").read_text()
    charts, records = charts_of(page), read_records([runs / "sweep"])
    assert len(charts["curves-0"]["data"]) == 4  # a curve and a band each
    assert [trace.get("opacity", 1) for trace in charts["curves-0"]["data"]] == [1, 0, 1, 0]  # shown when asked for
    of = [r for r in records if r.label == "tiny"]
    values = [pd.read_csv(r.folder.metrics)["val_accuracy"] for r in of]
    assert charts["curves-0"]["data"][0]["y"] == pytest.approx(sum(values) / 2)
    points = [x for trace in charts["final-0"]["data"] if "mean" not in trace["name"] for x in trace["x"]]
    assert sorted(points) == sorted(r.summary["test_accuracy"] for r in records)
    for key in ("parameters", "training_flops"):
        x = [x for trace in charts[f"cost-{key}-0"]["data"] for x in trace["x"]]
        assert sorted(x) == sorted(r.summary[key] for r in records)
    (link,) = re.findall(r'<a href="([^"]*)">', without_plotly(page))
    assert link.endswith("/report.html")
    assert not link.startswith(("/", "."))
    assert "test accuracy, %" in page  # of the comparison's table


def test_several_runs_of_several_datasets_are_one_page(trained: Path, grow: Callable[..., Any], tmp_path: Path) -> None:
    outcome = grow("report", trained / "width", trained / "regression", trained / "linear")
    assert outcome.code == 0, outcome.err
    assert outcome.out.strip() == "report.html"
    charts = charts_of((tmp_path / "report.html").read_text())
    assert {"curves-0", "curves-1"} <= set(charts)


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, grow_cli.commands.report\n"
        "heavy = {'plotly', 'pandas', 'numpy', 'torch'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_average_is_over_what_all_runs_have() -> None:
    x, mean, deviation = average([([0, 2, 4], [0.0, 2.0, 4.0]), ([1, 3], [3.0, 5.0])])
    assert x == [1, 2, 3]
    assert mean == [2, 3, 4]
    assert deviation == pytest.approx([math.sqrt(2)] * 3)
    assert average([([5, 5], [1.0, 2.0])]) == ([5], [2], [0])  # the last of several at one place
    assert average([([0, 1], [1.0, 1.0]), ([2, 3], [1.0, 1.0])]) == ([], [], [])
    assert average([([0, 1], [math.nan, math.nan])]) == ([], [], [])


def test_an_axis_is_logarithmic_only_where_that_can_be_drawn() -> None:
    assert scale([1.0, None, 100.0])["type"] == "log"
    for values in ([1.0, 2.0], [0.0, 100.0], [-1.0, 5.0], [], [None]):
        assert scale(values) == {"type": "linear"}


# It runs after the page's own script and writes what it found into the page.
_ASK = """<script>
const violations = [];
</script>"""
_CHECK = """<script>
window.addEventListener("load", () => setTimeout(() => {
  const root = document.documentElement;
  const asked = performance.getEntriesByType("resource").map(entry => entry.name).filter(name => !/^(data|blob):/.test(name));
  const found = {violations, asked, drawn: root.dataset.drawn, wide: root.scrollWidth, window: innerWidth, charts: {}};
  for (const id of Object.keys(CHARTS)) {
    const div = document.getElementById(id);
    found.charts[id] = {
      points: div._fullData.map(trace => (trace.x || []).length),
      traces: div.querySelectorAll(".scatterlayer .trace, .barlayer .trace, .boxlayer .trace").length,
      visible: div._fullData.length, width: div.getBoundingClientRect().width,
      svg: div.querySelector("svg.main-svg").getBoundingClientRect().width};
  }
  for (const button of document.querySelectorAll("nav.axes button[data-axis=seconds]")) button.click();
  const switched = document.getElementById(Object.keys(CHARTS).find(id => id.startsWith("curves")));
  setTimeout(() => {
    found.switched = {x: switched.data.map(trace => Array.from(trace.x)), title: switched.layout.xaxis.title.text,
      shapes: (switched.layout.shapes || []).map(shape => shape.x0)};
    const out = document.createElement("pre");
    out.id = "found"; out.textContent = JSON.stringify(found); document.body.append(out);
  }, 500);
}, 500));
</script>"""


def opened(page: Path, folder: Path, width: int = 1200) -> dict[str, Any]:
    """What a browser made of the page; its console must be empty."""
    html = page.read_text(encoding="utf-8")
    listen = 'document.addEventListener("securitypolicyviolation", e => violations.push(e.blockedURI));'
    html = html.replace("<title>", _ASK.replace("</script>", f"{listen}</script>") + "<title>", 1)
    begin, end = html.rsplit("</body>", 1)
    probed = page.with_name("probed.html")
    probed.write_text(begin + _CHECK + "</body>" + end, encoding="utf-8")
    assert BROWSER is not None
    quiet = "--no-first-run --disable-background-networking --disable-component-update --disable-sync --disable-quic".split()
    flags = f"--headless --no-sandbox --disable-gpu --virtual-time-budget=8000 --window-size={width},3000".split()
    places = [f"--user-data-dir={folder / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND"]
    done = subprocess.run(
        [BROWSER, *flags, *quiet, *places, "--enable-logging=stderr", "--v=0", "--dump-dom", probed.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert not console, console
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found is not None, done.stderr[-2000:]
    return dict(json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")))


@in_a_browser
@pytest.mark.parametrize("name", ["depth", "width", "mistakes", "regression"])
def test_a_browser_draws_every_chart_of_a_run(runs: Path, grow: Callable[..., Any], tmp_path: Path, name: str) -> None:
    assert grow("report", runs / name).code == 0
    page = runs / name / "report.html"
    charts, found = charts_of(page.read_text(encoding="utf-8")), opened(page, tmp_path)
    assert not found["violations"]
    assert not found["asked"]
    assert int(found["drawn"]) == len(charts) == len(found["charts"])
    rows = len(pd.read_csv(runs / name / "metrics.csv"))
    assert found["charts"]["curves"]["points"][0] == rows
    for key, chart in found["charts"].items():
        assert chart["points"] == [len(trace["x"]) for trace in charts[key]["data"]], key
        assert chart["traces"] == chart["visible"], key
        assert chart["svg"] <= chart["width"] + 1
    expected = charts["curves"]["axes"]["seconds"]
    assert found["switched"] == {"x": expected["x"], "title": "seconds", "shapes": expected["lines"]}


@in_a_browser
def test_a_browser_draws_every_chart_of_a_sweep(runs: Path, grow: Callable[..., Any], tmp_path: Path) -> None:
    assert grow("report", runs / "sweep").code == 0
    page = runs / "sweep" / "report.html"
    charts, found = charts_of(page.read_text(encoding="utf-8")), opened(page, tmp_path, width=500)
    assert not found["violations"]
    assert not found["asked"]
    assert found["wide"] <= found["window"] <= 500
    assert int(found["drawn"]) == len(charts) == len(found["charts"])
    expected = charts["curves-0"]["axes"]["seconds"]
    assert found["switched"]["x"] == expected["x"]
