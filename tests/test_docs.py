"""What the documents point at is there: files, headings and keys of the configuration."""

import re
from pathlib import Path

import pytest

from configs import default

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "results" / "README.md"]
FOLDERS = "vae_jcc|configs|launch|benchmarks|tests|tools|docs|results|notebooks"


def anchors(document):
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_named_files_exist(document):
    text = document.read_text()
    for target in re.findall(r"\]\((?!https?://)([^)]+)\)", text):
        path, _, anchor = target.partition("#")
        linked = (document.parent / path).resolve() if path else document
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target
    for name in re.findall(rf"`((?:{FOLDERS})/[\w./-]+\.(?:py|sh|md|json|yaml|ipynb))`", text):
        assert (ROOT / name).exists() or "NAME" in name, name


def test_keys_on_command_lines_exist():
    for document in DOCUMENTS:
        for key in re.findall(r"--config\.([\w.]+)=", document.read_text()):
            node = default.get_config()
            for part in key.split("."):
                assert part in node, f"{document.name}: --config.{key}"
                node = node[part]
