"""Every error code has a page that says what it means and what to try, and every page has a code."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "shared" / "docs" / "errors"
LITERAL = re.compile(r"[\"'](E_[A-Z][A-Z0-9_]*[A-Z0-9])[\"']")
PREFACE = """# Error codes

Every error that penstock raises on purpose is printed as `CODE where: what was found (what to do)`.
Codes are stable. Each has a page that says what it means and what to try.

| code | in short |
|---|---|"""
HEADINGS = ("## What it means", "## What to try")


def codes() -> dict[str, str]:
    """Return every error code of the source and the first file that has it."""
    found: dict[str, str] = {}
    for room in ("shared/penstock", "services"):
        for file in sorted((ROOT / room).rglob("*.py")):
            for code in LITERAL.findall(file.read_text(encoding="utf-8")):
                found.setdefault(code, str(file.relative_to(ROOT)))
    return found


def pages() -> set[str]:
    return {page.stem for page in PAGES.glob("E_*.md")}


def test_every_error_code_has_a_page() -> None:
    missing = {code: file for code, file in codes().items() if code not in pages()}
    assert not missing, f"write shared/docs/errors/<code>.md for {missing}"


def test_every_page_belongs_to_a_code() -> None:
    assert pages() <= set(codes())


def test_every_page_says_what_it_means_and_what_to_try() -> None:
    for page in PAGES.glob("E_*.md"):
        text = page.read_text(encoding="utf-8")
        assert text.startswith(f"# {page.stem}\n"), page.name
        for heading in HEADINGS:
            body = text.partition(heading)[2].partition("\n## ")[0]
            assert len(body.split()) >= 5, f"{page.name}: {heading} is empty"


def index() -> str:
    """Return the text of the folder's README: every code with the first words of its page."""
    rows = []
    for page in sorted(PAGES.glob("E_*.md")):
        body = page.read_text(encoding="utf-8").partition(HEADINGS[0])[2].partition("\n## ")[0]
        words = re.split(r"(?<=[.:;])\s", " ".join(body.split()), maxsplit=1)[0].rstrip(".:;")
        rows.append(f"| [{page.stem}]({page.name}) | {words} |")
    return "\n".join([PREFACE, *rows, ""])


def test_the_list_of_pages_is_up_to_date() -> None:
    text = (PAGES / "README.md").read_text(encoding="utf-8")
    assert text == index(), f"run: python {Path(__file__).relative_to(ROOT)}"


if __name__ == "__main__":
    (PAGES / "README.md").write_text(index(), encoding="utf-8")
