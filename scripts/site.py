"""A hook of mkdocs (`make docs`): the pages at the top of the repository join those in docs/; no link leads out of the site."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.structure.files import Files

ROOT = Path(__file__).resolve().parent.parent
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "CONTRIBUTING.md", "CHANGELOG.md": "CHANGELOG.md"}


def on_files(files: Files, config: Any) -> Files:
    """mkdocs asks it which files there are."""
    from mkdocs.structure.files import File

    for source, target in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, target, content=re.sub(r"\]\(docs/", "](", text)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """mkdocs asks it for each page's text."""
    text = markdown.replace("](../README.md", "](index.md")
    if "/" not in page.file.src_uri:
        text = text.replace("](README.md", "](index.md")
    return re.sub(r"\[([^\]]*)\]\((?:\.\./)*(?:grow_cli|conf|scripts|tests|shared|LICENSE)[^)]*\)", r"\1", text)
