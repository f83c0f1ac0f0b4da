"""MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100: read where torchvision keeps them, downloaded only if absent.

torchvision says which files there are, with which checksums, and fetches them. They are read here, each once and
checked as it is read, so that a damaged one can be named and nothing is unpickled whose checksum is wrong. The
distributed archives are also read if they are in data_dir; nothing is written then.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import math
import os
import pickle
import socket
import sys
import tarfile
import tempfile
import textwrap
import warnings
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from grow_cli.data.base import DatasetOption, RawData
from grow_cli.errors import UserError
from grow_cli.keys import key
from grow_cli.registry import option

if TYPE_CHECKING:
    from torch import Tensor

Read = Callable[[Path], bytes]
"""The content of a file, which an archive may hold."""

_STALLED_SECONDS = 30  # torchvision itself would wait for a silent server for ever


@dataclass
class Downloaded(DatasetOption):
    """What torchvision can download; a subclass says how its files are called and read."""

    source: ClassVar[str]
    """Its class in `torchvision.datasets`."""

    def _files(self, source: Any) -> list[str]:
        """Paths of its files, relative to `data_dir`."""
        raise NotImplementedError

    def _archives(self, source: Any) -> dict[str, tuple[str, list[str]]]:
        """Archive → its MD5 checksum, and which of `_files` it holds."""
        raise NotImplementedError

    def _unpack(self, archive: bytes, files: Sequence[str]) -> dict[str, bytes]:
        """Those files' contents."""
        raise NotImplementedError

    def _read(self, source: Any, data_dir: Path, read: Read) -> RawData:
        raise NotImplementedError

    def at_hand(self, data_dir: Path) -> bool:
        from torchvision import datasets

        return all((data_dir / file).exists() for file in self._files(getattr(datasets, self.source)))

    def load(self, data_dir: Path) -> RawData:
        from torchvision import datasets

        source = getattr(datasets, self.source)
        try:
            missing = [file for file in self._files(source) if not (data_dir / file).exists()]
            held = self._by_hand(source, data_dir, missing)
            absent = [file for file in missing if data_dir / file not in held]
            if absent:
                self._download(source, data_dir, absent)
            return self._read(source, data_dir, lambda path: held[path] if path in held else path.read_bytes())
        except OSError as error:
            raise UserError(
                f"dataset={self.name}: {error.filename} cannot be read ({error.strerror}): check its permissions"
            ) from error

    def _by_hand(self, source: Any, data_dir: Path, missing: Sequence[str]) -> dict[Path, bytes]:
        """The missing files that lie in archives, as they are distributed, where they should be or in a folder above."""
        held: dict[Path, bytes] = {}
        for name, (md5, files) in self._archives(source).items():
            wanted = [file for file in files if file in missing]
            places = [data_dir / folder / name for folder in Path(files[0]).parents] if wanted else []
            for path in [place for place in places if place.is_file()][:1]:
                data = path.read_bytes()
                found = hashlib.md5(data, usedforsecurity=False).hexdigest()
                if found != md5:
                    raise UserError(
                        f"dataset={self.name}: {path} is not the original file (its MD5 checksum is {found} instead of "
                        f"{md5}): replace it, or delete it so that it is downloaded"
                    )
                held |= {data_dir / file: content for file, content in self._unpack(data, wanted).items()}
        return held

    def _download(self, source: Any, data_dir: Path, missing: list[str]) -> None:
        # into a folder of its own, moved file by file once all are there with the right checksum: a download that
        # is cut off, or two at the same time, leave nothing that looks like a dataset
        silence = socket.getdefaulttimeout()
        try:
            socket.setdefaulttimeout(_STALLED_SECONDS)
            data_dir.mkdir(parents=True, exist_ok=True)
            with contextlib.ExitStack() as stack:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=data_dir, prefix=".download-")))
                if not sys.stderr.isatty():
                    stack.enter_context(contextlib.redirect_stderr(io.StringIO()))  # torchvision's progress bar
                source(folder, download=True)
                for file in missing:
                    (data_dir / file).parent.mkdir(parents=True, exist_ok=True)
                    os.replace(folder / file, data_dir / file)
        except (OSError, RuntimeError, EOFError, zlib.error) as error:
            names = ", ".join(Path(file).name for file in missing)
            folder = (data_dir / missing[0]).parent
            raise UserError(
                f"dataset={self.name}: {folder} lacks {names}, and downloading failed "
                f"({textwrap.shorten(str(error), 200)}): put the files there, uncompressed, or "
                f"{', '.join(self._archives(source))} into {data_dir}, or set data_dir to the folder that holds "
                f"{missing[0].partition('/')[0]}/"
            ) from error
        finally:
            socket.setdefaulttimeout(silence)

    def _damaged(self, path: Path, reason: str) -> UserError:
        return UserError(f"dataset={self.name}: {path} is damaged ({reason}): delete it so that it is downloaded again")


@option("dataset", "mnist")
@dataclass
class MNIST(Downloaded):
    """60,000 + 10,000 handwritten digits, (1, 28, 28)."""

    source: ClassVar[str] = "MNIST"

    def _files(self, source: Any) -> list[str]:
        return [f"{source.__name__}/raw/{Path(archive).stem}" for archive, _ in source.resources]

    def _archives(self, source: Any) -> dict[str, tuple[str, list[str]]]:
        files = self._files(source)
        return {archive: (md5, [file]) for (archive, md5), file in zip(source.resources, files, strict=True)}

    def _unpack(self, archive: bytes, files: Sequence[str]) -> dict[str, bytes]:
        return {file: gzip.decompress(archive) for file in files}

    def _read(self, source: Any, data_dir: Path, read: Read) -> RawData:
        train_images, train_labels, test_images, test_labels = (data_dir / file for file in self._files(source))
        classes = tuple(source.classes)
        train = self._pair(train_images, train_labels, len(classes), read)
        test = self._pair(test_images, test_labels, len(classes), read)
        return RawData(*train, *test, classes=classes)

    def _pair(self, images: Path, labels: Path, classes: int, read: Read) -> tuple[Tensor, Tensor]:
        x, y = self._idx(images, 3, read), self._idx(labels, 1, read)
        if len(x) != len(y):
            raise self._damaged(labels, f"{len(y)} labels for {len(x)} images")
        if len(y) and int(y.max()) >= classes:
            raise self._damaged(labels, f"it holds the label {int(y.max())}")
        return x.unsqueeze(1), y.long()

    def _idx(self, path: Path, dimensions: int, read: Read) -> Tensor:
        # IDX: two zero bytes, the type (8: uint8), the number of dimensions, each as a big-endian int32, then the bytes
        import torch

        data = read(path)
        start = 4 + 4 * dimensions
        if data[:4] != bytes([0, 0, 8, dimensions]) or len(data) < start:
            raise self._damaged(path, "it does not begin like the IDX file it should be")
        shape = [int.from_bytes(data[i : i + 4], "big") for i in range(4, start, 4)]
        if len(data) - start != math.prod(shape):
            raise self._damaged(path, f"{len(data):,} bytes instead of {start + math.prod(shape):,}")
        return torch.frombuffer(bytearray(data), dtype=torch.uint8, offset=start).view(shape)


@option("dataset", "fashion_mnist")
@dataclass
class FashionMNIST(MNIST):
    """60,000 + 10,000 articles of clothing, (1, 28, 28), ten classes."""

    source: ClassVar[str] = "FashionMNIST"


@option("dataset", "cifar10")
@dataclass
class CIFAR10(Downloaded):
    """50,000 + 10,000 photographs, (3, 32, 32), ten classes."""

    source: ClassVar[str] = "CIFAR10"
    photographs = True

    crop: int = key(4, at_least=0, unit="pixels")
    flip: bool = True

    def _files(self, source: Any) -> list[str]:
        listed = [name for name, _ in source.train_list + source.test_list]
        return [f"{source.base_folder}/{name}" for name in [*listed, source.meta["filename"]]]

    def _archives(self, source: Any) -> dict[str, tuple[str, list[str]]]:
        return {source.filename: (source.tgz_md5, self._files(source))}

    def _unpack(self, archive: bytes, files: Sequence[str]) -> dict[str, bytes]:
        found = {}
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
            for member in tar:  # in their order: going back would unpack again
                content = tar.extractfile(member) if member.name in files else None
                if content is not None:
                    found[member.name] = content.read()
        return found

    def _read(self, source: Any, data_dir: Path, read: Read) -> RawData:
        folder = data_dir / source.base_folder
        meta = self._pickle(folder / source.meta["filename"], source.meta["md5"], read)
        train, test = self._split(folder, source.train_list, read), self._split(folder, source.test_list, read)
        return RawData(*train, *test, classes=tuple(meta[source.meta["key"]]))

    def _split(self, folder: Path, files: list[list[str]], read: Read) -> tuple[Tensor, Tensor]:
        import numpy as np
        import torch

        batches = [self._pickle(folder / name, md5, read) for name, md5 in files]
        x = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32)
        y = np.concatenate([batch["labels"] if "labels" in batch else batch["fine_labels"] for batch in batches])
        return torch.from_numpy(x), torch.from_numpy(y).long()

    def _pickle(self, path: Path, md5: str, read: Read = Path.read_bytes) -> Any:
        data = read(path)
        if hashlib.md5(data, usedforsecurity=False).hexdigest() != md5:
            raise self._damaged(path, "its MD5 checksum is not the original's")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy 2.4 on the integers Python 2 pickled where it wants booleans
            return pickle.loads(data, encoding="latin1")


@option("dataset", "cifar100")
@dataclass
class CIFAR100(CIFAR10):
    """50,000 + 10,000 photographs, (3, 32, 32), a hundred (fine) classes."""

    source: ClassVar[str] = "CIFAR100"
