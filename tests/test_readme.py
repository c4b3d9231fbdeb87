import re

import pytest

from tests.readme_tables import README, with_tables

ROOT = README.parent


def test_the_readmes_tables_are_the_projects_tables() -> None:
    text = README.read_text(encoding="utf-8")
    assert text == with_tables(text), "run: python -m tests.readme_tables"


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "exported/README.md"])
def test_every_link_to_a_file_of_the_project_leads_somewhere(document: str) -> None:
    path = ROOT / document
    links = re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (path.parent / link).exists()]
    assert missing == []


def test_nothing_committed_names_a_registry_or_a_path_of_one_machine() -> None:
    forbidden = re.compile("|".join(["pypi" + r"\.org", "python" + "hosted", "registry" + r"\.npmjs", r"(?<![\w.])/" + "(?:work|root)/"]))
    patterns = ("*.md", "*.toml", "*.txt", "Makefile", "cellclf/**/*.py", "tests/**/*.py", "benchmarks/**/*", "docs/**/*", "exported/*.md")
    made_here = ROOT / "benchmarks" / "gpu" / "carry"  # ignored by git
    found = (path for pattern in patterns for path in ROOT.glob(pattern) if made_here not in path.parents)
    files = [path for path in found if path.is_file() and path.suffix not in (".png", ".pyc")]
    assert [str(path.relative_to(ROOT)) for path in files if forbidden.search(path.read_text(encoding="utf-8", errors="replace"))] == []
