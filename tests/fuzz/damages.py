"""Damages of a run folder's files: what can happen to any file, and what can be wrong with one of each kind."""

from __future__ import annotations

import io
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

TYPED = (
    *("method=fold", "model=mlp_fold", "model.hidden=[4]", "dataset=moons", "dataset.samples=120", "batch_size=60"),
    *(
        "stop.epochs=6",
        "trigger=every",
        "trigger.every=2",
        "trigger.unit=epochs",
        "growth.until=1",
        "growth.max_events=2",
    ),
    *("method.neurons_per_event=1", "method.steps=3", "checkpoint.events=true", "progress=off"),
)
FILES = (
    *(".hydra/config.yaml", ".hydra/overrides.yaml", "metrics.csv", "growth.jsonl", "summary.json"),
    *("checkpoints/last.pt", "checkpoints/before-1.pt", "mistakes/mistakes.csv", "mistakes/neuron-001.png"),
)
COMMANDS: dict[str, tuple[str, ...]] = {
    "report": ("report", "r"),
    "compare": ("compare", "r", "good"),
    "sweep report": ("report", "r", "good", "-o", "page.html"),
    "plot": ("plot", "r"),
    "plots": ("plot", "r", "good"),
    "score": ("plot", "r", "--picture", "score"),
    "boundaries": ("plot", "r", "--picture", "boundaries"),
    "explain": ("explain", "r"),
    "export": ("export", "r"),
    "eval": ("eval", "r"),
    "controls": ("controls", "r", "--only", "static-parameters"),
    "replay": ("controls", "r", "--only", "random-replay"),
    "resume": ("resume", "r"),
    "train": ("train", *TYPED, "run_dir=r"),
}


Damage = Callable[[Path], None]


def _bytes(content: bytes) -> Damage:
    return lambda path: (path.unlink(), path.write_bytes(content))[0]


def _in_place(make: Callable[[Path], Any]) -> Damage:
    def spoil(path: Path) -> None:
        path.rename(path.with_name("elsewhere"))
        make(path)

    return spoil


def _text(change: Callable[[str], str]) -> Damage:
    return lambda path: (path.write_text(change(path.read_text(errors="replace"))), None)[1]


def _second_line(change: Callable[[str], str]) -> Damage:
    def changed(text: str) -> str:
        lines = text.splitlines(keepends=True)
        at = min(1, len(lines) - 1)
        return "".join([*lines[:at], change(lines[at]), *lines[at + 1 :]])

    return _text(changed)


EVERYWHERE: dict[str, Damage] = {
    "removed": lambda path: path.unlink(),
    "empty": _bytes(b""),
    "a line's end": _bytes(b"\n"),
    "cut": lambda path: _bytes(path.read_bytes()[: path.stat().st_size // 2])(path),
    "not UTF-8": _bytes(b"\xff\xfe\n\x80"),
    "zeros": _bytes(b"\0" * 4096),
    "three": _bytes(b"3\n"),
    "null": _bytes(b"null\n"),
    "a list": _bytes(b"[1, [2]]\n"),
    "an object": _bytes(b'{"a": {"b": 1}}\n'),
    "deep": _bytes(b"[" * 100_000),
    "a long number": _bytes(b"1" * 5000),
    "a folder": _in_place(lambda path: path.mkdir()),
    "a pipe": _in_place(os.mkfifo),
    "a link": _in_place(lambda path: path.symlink_to("elsewhere")),
    "a link to nowhere": _in_place(lambda path: path.symlink_to("nowhere")),
}
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(9)
)


def _json(change: Callable[[dict[str, Any]], Any]) -> Damage:
    """Of summary.json, or of growth.jsonl's first line."""

    def changed(text: str) -> str:
        lines = text.splitlines() if text.startswith('{"event') else [text]
        found = json.loads(lines[0])
        change(found)
        return "\n".join([json.dumps(found), *lines[1:]]) + "\n"

    return _text(changed)


def _checkpoint(change: Callable[[dict[str, Any]], Any]) -> Damage:
    def spoil(path: Path) -> None:
        state = torch.load(path, weights_only=True)
        change(state)
        buffer = io.BytesIO()
        torch.save(state, buffer)
        _bytes(buffer.getvalue())(path)

    return spoil


def _set(*keys: Any) -> Callable[[Any], None]:
    *where, last, value = keys

    def change(found: Any) -> None:
        for key in where:
            found = found[key]
        found[last] = value

    return change


def _without(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda found: found.pop(name, None)


def of_its_own(name: str, whole: Path) -> dict[str, Damage]:
    """What can be wrong with a file of this kind only; generated from what is in it."""
    path = whole / "r" / name
    if name == "metrics.csv":
        header = path.read_text().splitlines()[0].split(",")
        cells = ("", "nan", "inf", "-1", "1e308", "1e-400", "x", '"', "True", "0x10", "1_0", "9" * 400)
        damages = {
            f"{cell[:9]} in {column}": _second_line(lambda line, c=cell, i=i: _cell(line, i, c))
            for (i, column), cell in itertools.product(enumerate(header), cells)
        }
        damages |= {f"without {c}": _text(lambda text, i=i: _without_column(text, i)) for i, c in enumerate(header)}
        return damages | {
            "torn": _text(lambda text: text + "7,1."),
            "a cell more": _second_line(lambda line: line.replace("\n", ",1\n")),
            "a cell less": _second_line(lambda line: line.rpartition(",")[0] + "\n"),
            "a column twice": _text(lambda text: text.replace("epoch", "step", 1)),
            "CRLF": _text(lambda text: text.replace("\n", "\r\n")),
        }
    if name in ("summary.json", "growth.jsonl"):
        text = path.read_text()
        fields = json.loads(text.splitlines()[0] if name == "growth.jsonl" else text)
        values = (
            None,
            3,
            -1,
            "x",
            "${oc.env:HOME}",
            [],
            {},
            [1],
            {"a": "b"},
            True,
            float("nan"),
            1e308,
            10**400,
            2**63,
        )
        damages = {f"{key} is {str(value)[:12]}": _json(_set(key, value)) for key in fields for value in values} | {
            f"without {key}": _json(_without(key)) for key in fields
        }
        details = fields.get("details", {})
        damages |= {
            f"details.{k} is {v}": _json(_set("details", k, v)) for k in details for v in (None, 3, "x", [3], {})
        }
        return damages | {
            "torn": _text(lambda text: text + '{"event": 3, "st'),
            "a blank line": _text(lambda t: t + "\n"),
        }
    if name == ".hydra/config.yaml":
        import yaml

        keys = yaml.safe_load(path.read_text())
        nested = [(k, i) for k, of in keys.items() if isinstance(of, dict) for i in of]
        values = (None, 3, "x", "${oc.env:HOME}", "${", "???", [], {"a": 1}, [None])
        damages = {f"{k} is {v}": _yaml(_set(k, v)) for k in keys for v in values}
        damages |= {f"{k}.{i} is {v}": _yaml(_set(k, i, v)) for k, i in nested for v in values}
        damages |= {f"without {k}": _yaml(_without(k)) for k in keys}
        return damages | {
            "a bomb": _text(lambda text: BOMB + text),
            "a tag": _text(lambda text: text + "x: !!python/object/apply:os.system [touch owned]\n"),
            "a date": _text(lambda text: text + "label: !!timestamp 2024-01-01\n"),
        }
    if name == ".hydra/overrides.yaml":
        return {
            "a bomb": _text(lambda text: BOMB),
            "interpolated": _text(lambda text: text + "- label=${oc.env:HOME}\n"),
        }
    if name.endswith(".pt"):
        return dict(_of_a_checkpoint(torch.load(path, weights_only=True)))
    if name == "mistakes/mistakes.csv":
        header = path.read_text().splitlines()[0].split(",")
        cells = ("", "x", "-1", "99", "1e308", "../../x", "/etc/hostname", '"', "\x00")
        return {
            f"{cell!r} in {column}": _second_line(lambda line, c=cell, i=i: _cell(line, i, c))
            for (i, column), cell in itertools.product(enumerate(header), cells)
        } | {f"without {c}": _text(lambda text, i=i: _without_column(text, i)) for i, c in enumerate(header)}
    return {}


def _of_a_checkpoint(state: dict[str, Any]) -> Iterator[tuple[str, Damage]]:
    for key in state:
        yield f"without {key}", _checkpoint(_without(key))
        for value in (None, 3, "x", {}, [1]):
            yield f"{key} is {value}", _checkpoint(_set(key, value))
        if isinstance(state[key], dict):
            for inner in state[key]:
                yield f"without {key}.{inner}", _checkpoint(lambda s, k=key, i=inner: s[k].pop(i))
                for value in ("x", {"a": 1}, torch.zeros(7, 7)):
                    yield f"{key}.{inner} is {str(value)[:12]}", _checkpoint(_set(key, inner, value))
    for name in state.get("optimizer", {}).get("state", {}):
        yield f"moments of {name}", _checkpoint(_set("optimizer", "state", name, "exp_avg", torch.zeros(7, 7)))


def _yaml(change: Callable[[dict[str, Any]], Any]) -> Damage:
    import yaml

    def changed(text: str) -> str:
        found = yaml.safe_load(text)
        change(found)
        return yaml.safe_dump(found)

    return _text(changed)


def _cell(line: str, index: int, cell: str) -> str:
    cells = line.rstrip("\n").split(",")
    return ",".join([*cells[:index], cell, *cells[index + 1 :]]) + "\n"


def _without_column(text: str, index: int) -> str:
    return "".join(
        ",".join(c for i, c in enumerate(line.split(",")) if i != index) + "\n" for line in text.splitlines()
    )


def cases(whole: Path) -> list[tuple[str, str, Damage, str]]:
    """(file, damage's name, damage, command), all of them."""
    found = []
    for name in FILES:
        damages = EVERYWHERE | of_its_own(name, whole)
        found += [(name, told, damage, command) for told, damage in damages.items() for command in COMMANDS]
    return found


def spoil(whole: Path, place: Path, name: str, damage: Damage, command: str) -> None:
    """A copy of the folders in `place`, where the file is damaged; without its summary, where the run is to be resumed."""
    shutil.copytree(whole, place)
    if command == "resume" and name != "summary.json":
        (place / "r" / "summary.json").unlink()
    damage(place / "r" / name)
