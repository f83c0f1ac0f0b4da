"""`grow explain`: why each neuron exists, as one page that works from the disk and without a network."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grow_cli.analysis.figures import save_page
from grow_cli.analysis.folds import draw_planes
from grow_cli.analysis.numbers import score_text
from grow_cli.analysis.report.look import document
from grow_cli.analysis.report.own import picture_of, state_of
from grow_cli.records.folder import RunFolder
from grow_cli.records.mistakes import Neuron, read_mistakes
from grow_cli.records.words import counted, were
from grow_cli.tasks import task_in

if TYPE_CHECKING:
    from grow_cli.config import Config


def write_page(folder: RunFolder, config: Config, output: Path) -> Path:
    """Write the page and return its path; UserError where the run has no neurons that were grown for mistakes."""
    neurons = read_mistakes(folder)
    planes = draw_planes(folder, config, [neuron.row for neuron in neurons])
    cards = "\n".join(_card(neuron, planes.get(int(neuron.row["neuron"]))) for neuron in neurons)
    summary = folder.read_summary()
    title = f"Why each neuron exists: {config.model.name} on {config.dataset.name}, seed {config.seed}"
    facts = [str(folder.path)]
    task = task_in(summary, "test")
    value = summary.get(task.column("test"))
    if value is not None:
        facts.append(f"test {task.words} {score_text(task, value)}")
    body = f'<p>{escape(tell(neurons))}</p>\n{_LEGEND}<div class="gallery large">\n{cards}\n</div>'
    return save_page(document(title, " · ".join(facts), body), output)


def tell(neurons: list[Neuron]) -> str:
    """A sentence: how many of the instances the net is right about."""
    kept = [n.row for n in neurons if n.row["rolled_back"] == "0"]
    undone = len(neurons) - len(kept)
    said = [row for row in kept if row["right_at_end"] is not None]
    sentence = f"{counted(len(kept), 'neuron')} {were(len(kept))} grown, each for a mistake"
    if len(kept) == 1:
        sentence = sentence.replace(", each", "")
    if undone:
        sentence += f" ({undone} more {were(undone)} taken back)"
    if kept and len(said) == len(kept):
        right = sum(row["right_at_end"] == "1" for row in said)
        sentence += (
            f"; at the end the net classifies {right} of {len(said)} of these correctly ({right / len(said):.0%})"
        )
    return sentence + "."


def _card(neuron: Neuron, plane: bytes | None) -> str:
    row = {key: None if value is None else escape(str(value)) for key, value in neuron.row.items()}
    png = plane or neuron.png
    told = f"the mistake that neuron {row['neuron']} was grown for"
    shown, kind = ("", "") if png is None else picture_of(png, told)
    state, word = state_of(neuron)
    counts = [row["cluster"], *(row[key] for key in ("cluster_after", "cluster_at_end") if row[key] is not None)]
    distance = float(str(neuron.row["distance"]))
    said = f", now {row['predicted_at_end']}" if row["predicted_at_end"] is not None and state == "wrong" else ""
    return f"""<figure class="{kind}">
{shown}
<figcaption>
<p class="head">neuron {row["neuron"]} <span class="{state}">{word}</span></p>
<p><b>{row["predicted"]} → {row["true"]}</b>{said}</p>
<p>cluster: {" → ".join([*map(_count, counts[:-1]), _mistakes(counts[-1])])}</p>
<p class="small">step {_count(row["step"])}; {_mistakes(row["mistakes"])} in all; {distance:.2g} from its folding point</p>
</figcaption></figure>"""


def _count(cell: Any) -> str:
    return f"{int(cell):,}"


def _mistakes(cell: Any) -> str:
    return counted(int(cell), "mistake")


_LEGEND = """<p class="note">Each neuron folds the decision surface where it is nearest to its mistake: <b>predicted → true</b> is
what the net said of that instance before the neuron came, and what it should have said. A cluster's three counts are the mistakes
in it before, when the net grew next (or at the end), and at the end. In a plane the cross is the mistake and the dashed line the
neuron's.</p>
"""
