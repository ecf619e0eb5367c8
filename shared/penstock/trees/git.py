"""Where a source folder came from, as far as git knows. Never fails: a folder without git is fine."""

import os
import subprocess
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from penstock.contracts.spec import GitInfo

TIMEOUT_S = 10.0
TEXT_MAX = 500


def snapshot_git(root: Path) -> GitInfo:
    """Return commit, branch, whether there are uncommitted changes, and the remote without credentials."""
    commit = _said(root, "rev-parse", "--verify", "--quiet", "HEAD")
    branch = _said(root, "rev-parse", "--abbrev-ref", "HEAD") if commit else ""
    remote = _said(root, "config", "--get", "remote.origin.url")
    if not commit and not remote:
        return GitInfo()
    dirty = bool(_said(root, "status", "--porcelain", "--untracked-files=normal", "--", "."))
    return GitInfo(
        commit=commit,
        branch="" if branch == "HEAD" else branch,
        dirty=dirty,
        remote=_without_credentials(remote),
    )


def _said(root: Path, *arguments: str) -> str:
    """Return what git says, or nothing. Hooks and monitors of a foreign repository are not run."""
    command = ["git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"]
    try:
        done = subprocess.run(
            [*command, "-C", str(root), *arguments],
            capture_output=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=TIMEOUT_S,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"},
        )
    except (OSError, subprocess.SubprocessError, ValueError):
        return ""
    if done.returncode:
        return ""
    return done.stdout.decode("utf-8", "replace").strip()[:TEXT_MAX]


def _without_credentials(remote: str) -> str:
    try:
        parts = urlsplit(remote)
        if not parts.scheme or "@" not in parts.netloc:
            return remote
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return ""
    return urlunsplit((parts.scheme, host, parts.path, "", ""))
