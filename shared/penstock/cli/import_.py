"""`penstock import`: say what of a folder of Azure ML files runs here, and what has to change."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import click

from penstock.cli.output import note, output_option, print_data

if TYPE_CHECKING:
    from penstock.cli.importing import Finding


@click.command(short_help="Say what of Azure ML's files runs here, and what has to change.")
@click.argument("path", type=click.Path(exists=True))
@click.option("--write", is_flag=True, help="Change the import lines of Python files in place.")
@output_option
def command(*, path: str, write: bool, output: str) -> int:
    """Look at a file, or at all YAML and Python files of a folder.

    \b
    penstock import pipelines/            a report; exit code 1 if something cannot run
    penstock import train.py --write      change its import lines
    """  # noqa: D301 - click reads this backspace
    from pathlib import Path

    from penstock.cli.importing import findings, rewritten

    root = Path(path)
    found = list(findings(root))
    if output in ("json", "yaml"):
        print_data([_plain(one) for one in found], output)
    else:
        for one in found:
            instead = f"  →  {one.instead}" if one.instead else ""
            click.echo(f"{one.verdict:<8} {one.place}  {one.what}{instead}")
    counts = Counter(one.verdict for one in found)
    if write:
        files = dict.fromkeys(one.file for one in found if one.verdict == "changes")
        changed = 0
        for file in files:
            mine = [one for one in found if one.file == file]
            changed += rewritten(root if root.is_file() else root / file, mine)
        note(f"{changed} import lines changed in {len(files)} files")
    if not found:
        note("nothing of Azure ML's is here")
    else:
        note(
            f"{counts['runs']} run as they are · {counts['changes']} lines change · "
            f"{counts['cannot']} cannot run · {counts['note']} notes"
        )
    return 1 if counts["cannot"] else 0


def _plain(one: Finding) -> dict[str, object]:
    return {
        "verdict": one.verdict,
        "file": one.file,
        "line": one.line,
        "what": one.what,
        "instead": one.instead,
    }
