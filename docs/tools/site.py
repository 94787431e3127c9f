"""Hooks of MkDocs (see mkdocs.yml): the whole repository as one site, whose links are those that GitHub follows.

Markdown outside docs/ (README.md, results, model cards) becomes pages, and so does every source file that a page links
to. Links are written for GitHub, relative to the file that they stand in; here they are turned to pages of the site.
"""

from __future__ import annotations

import posixpath
import re
import tempfile
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
OUTSIDE = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "benchmarks/RESULTS.md", "samples/README.md")
CARDS = "models/pretrained/*/MODEL_CARD.md"
LINK = re.compile(r"(\]\(|(?:src|href)=\")([^)\"#\s]+)")  # of Markdown, or of HTML inside it
FENCE = re.compile(r"^(```+).*?^\1\s*$", re.MULTILINE | re.DOTALL)
LANGUAGES = {".py": "python", ".toml": "toml", ".js": "javascript", ".sh": "sh", ".yml": "yaml", ".service": "ini"}

tree = tempfile.TemporaryDirectory(prefix="rill-site-")


@event_priority(100)  # before mkdocstrings reads its paths
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Show the packages to mkdocstrings as an installation has them: models and streaming inside of asr."""
    package = Path(tree.name) / "asr"
    package.mkdir(exist_ok=True)
    for path in [*(ROOT / "asr").iterdir(), ROOT / "models", ROOT / "streaming"]:
        link = package / path.name
        if not link.exists():
            link.symlink_to(path)
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [tree.name]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and pictures outside of docs/."""
    pages = [ROOT / name for name in OUTSIDE] + sorted(ROOT.glob(CARDS))
    for path in pages:
        _add(files, config, path)
    for path in [*pages, *(ROOT / "docs").rglob("*.md")]:
        for target in _targets(path):
            if target.is_file() and files.get_file_from_path(_place(target)) is None:
                _add(files, config, target)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links for GitHub to links inside the site; code stays as it is."""
    if page.file.abs_src_path is None or page.file.src_uri.startswith("source/"):
        return markdown
    path = Path(page.file.abs_src_path)

    def turned(match: re.Match[str]) -> str:
        target = _resolved(path, match[2])
        if target is None:
            return match[0]
        return match[1] + posixpath.relpath(_place(target), posixpath.dirname(page.file.src_uri))

    parts, last = [], 0
    for fence in FENCE.finditer(markdown):
        parts += [LINK.sub(turned, markdown[last : fence.start()]), fence[0]]
        last = fence.end()
    return "".join([*parts, LINK.sub(turned, markdown[last:])])


def _targets(path: Path) -> list[Path]:
    """The files of the repository that a page links to."""
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    return [target for match in LINK.finditer(text) if (target := _resolved(path, match[2])) is not None]


def _resolved(path: Path, link: str) -> Path | None:
    """The file that a relative link in a page leads to; None for links to other places."""
    if ":" in link:
        return None
    return (path.parent / link).resolve()


def _place(path: Path) -> str:
    """Where a file of the repository lies in the site, as a path of a source."""
    name = path.relative_to(ROOT).as_posix()
    if name == "README.md":
        return "index.md"
    if name.startswith("docs/") and not name.startswith("docs/tools/"):
        return name.removeprefix("docs/")
    return name if path.suffix in (".md", ".png", ".svg", ".csv") else f"source/{name}.md"


def _add(files: Files, config: MkDocsConfig, path: Path) -> None:
    place = _place(path)
    if not place.startswith("source/"):
        files.append(File.generated(config, place, abs_src_path=str(path)))
        return
    name, language = path.relative_to(ROOT).as_posix(), LANGUAGES.get(path.suffix, "text")
    content = f"# {name}\n\n````{language}\n{path.read_text(encoding='utf-8')}````\n"
    files.append(File.generated(config, place, content=content))
