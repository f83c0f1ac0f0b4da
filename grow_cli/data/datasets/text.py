"""Texts, predicted byte by byte."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from grow_cli.data.base import DatasetOption, RawData
from grow_cli.errors import UserError, check
from grow_cli.files import expanded
from grow_cli.keys import key
from grow_cli.registry import option

if TYPE_CHECKING:
    from grow_cli.config import Config
    from grow_cli.data.corpus import File


@dataclass
class Texts(DatasetOption):
    """Files of bytes, seen through windows (`grow_cli.data.corpus`); a subclass says which files."""

    language: ClassVar[bool] = True

    validation: float = key(0.05, at_least=0, below=1, role="split")
    test: float = key(0.05, above=0, below=1, role="split")
    """Fraction of the corpus that is the test part; it does not depend on `split_seed`."""
    context: int = key(64, at_least=1, at_most=2**20, unit="bytes")
    """Bytes per window: the net's context, and the length of a sample."""
    measured: int | None = key(2**18, at_least=1, unit="byte", null="for all")
    """Bytes of each part on which a net is measured, in fixed windows spread evenly over it; null: all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, neutral in (("crop", 0), ("flip", False), ("scale", 1.0)):
            value = getattr(self, name)
            check(
                value in (neutral, None),
                f"dataset.{name}={value}: text has no pixels and no scale: leave it at {neutral}",
            )

    def check_run(self, config: Config) -> list[str]:
        if config.label_smoothing:
            raise UserError(
                f"label_smoothing={config.label_smoothing}: the loss of text would no longer be its bits per byte: leave it "
                "at 0"
            )
        return super().check_run(config)

    def files(self) -> list[File]:
        """The texts, in an order that is the same everywhere."""
        raise NotImplementedError(f"{type(self).__name__} must define files")

    def load(self, data_dir: Path) -> RawData:
        from grow_cli.data import corpus

        files = self.files()
        known = corpus.digest(files)
        return corpus.raw_text(corpus.cut(files, self.validation, self.test, self.cut_by(None)), self.context, known)


@option("dataset", "python")
@dataclass
class Python(Texts):
    """The standard library of the running interpreter without its tests: about 10 MB of source, no download.

    Another version of Python has another library: `corpus` in summary.json tells them apart.
    """

    def files(self) -> list[File]:
        import sysconfig

        from grow_cli.data.corpus import BY_PATH, python_files

        root = Path(sysconfig.get_path("stdlib"))
        found = python_files(root)
        if len(found) < BY_PATH:
            raise UserError(
                f"dataset=python: {root} holds {len(found)} Python files: this Python's standard library is installed "
                "without sources; use dataset=text dataset.root=FOLDER"
            )
        return found


@option("dataset", "text")
@dataclass
class Text(Texts):
    """A file, or the files below a folder, as bytes in any encoding."""

    root: str | None = key(None, role="data", path=True)
    """The file or folder."""
    pattern: str = key("*.txt", role="data")
    """Which files of a folder are read, at any depth (`*.md`, `*`)."""

    def files(self) -> list[File]:
        from grow_cli.data.corpus import text_files

        if not self.root:
            raise UserError("dataset=text needs dataset.root: a file, or a folder of texts")
        return text_files(expanded(self.root), self.pattern)
