"""The repository names no package index and no place on anybody's machine."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
# With a gap in each, so that this file is not what it forbids.
FORBIDDEN = re.compile(
    r"""
    py[p]i\.(?:org|python) | python[h]osted | (?<!emit-)(?:extra-)?index[-]url
    | (?<![\w.~$}])/wor[k]/(?:main|shared) | /roo[t]/ | (?<!\w)/hom[e]/\w
    """,
    re.VERBOSE,
)
BINARY = {".png", ".jpg", ".ico", ".gz"}


def tracked() -> list[Path]:
    """Return the files of the repository: those git knows, or would know."""
    answer = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / name for name in answer.stdout.split("\0") if name]


def test_no_file_names_a_package_index_or_a_path_of_this_machine() -> None:
    found = []
    for file in tracked():
        if file.suffix in BINARY or not file.is_file():
            continue
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if FORBIDDEN.search(line):
                found.append(f"{file.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert not found, "\n".join(found)


def test_every_pinned_requirement_has_its_hashes() -> None:
    text = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8")
    pinned = re.findall(r"^([a-z0-9-]+)==\S+.*?(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
    blocks = re.split(r"^(?=[a-z0-9-]+==)", text, flags=re.MULTILINE)[1:]
    assert len(pinned) == len(blocks) > 20
    assert all("--hash=sha256:" in block for block in blocks)


def test_the_pinned_requirements_hold_everything_that_the_project_names() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    named = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    for name, extra in project["project"]["optional-dependencies"].items():
        if name != "mlflow":  # its hundred packages are installed by the one test that needs them
            named += extra
    wanted = {re.split(r"[\[<>=~! ]", name)[0].lower().replace("_", "-") for name in named}
    text = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8")
    assert wanted <= set(re.findall(r"^([a-z0-9-]+)==", text, re.MULTILINE))
