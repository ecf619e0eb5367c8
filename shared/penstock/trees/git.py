"""Where a source folder came from, as far as git knows. Never fails: a folder without git is fine.

Every submission asks, so it is asked once: two processes side by side, and none where there is no git.
"""

import os
import subprocess
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from penstock.contracts.spec import GitInfo

TIMEOUT_S = 10.0
TEXT_MAX = 500


def snapshot_git(root: Path) -> GitInfo:
    """Return commit, branch, whether there are uncommitted changes, and the remote without credentials."""
    if not _in_repository(root):
        return GitInfo()
    asked = [
        _asked(root, "status", "--porcelain=v2", "--branch", "--untracked-files=normal", "--", "."),
        _asked(root, "config", "--get", "remote.origin.url"),
    ]
    status, remote = (_said(process) for process in asked)
    lines = status.splitlines()
    heads = dict(line[2:].split(" ", 1) for line in lines if line.startswith("# branch."))
    commit, branch = heads.get("branch.oid", ""), heads.get("branch.head", "")
    return GitInfo(
        commit="" if commit == "(initial)" else commit[:TEXT_MAX],
        branch="" if branch == "(detached)" or commit == "(initial)" else branch[:TEXT_MAX],
        dirty=any(not line.startswith("# ") for line in lines)
        and bool(remote or commit[:1] != "("),
        remote=_without_credentials(remote.strip()[:TEXT_MAX]),
    )


def _in_repository(root: Path) -> bool:
    if os.environ.get("GIT_DIR"):
        return True
    real = Path(os.path.realpath(root))
    return any(os.path.lexists(folder / ".git") for folder in (real, *real.parents))


def _asked(root: Path, *arguments: str) -> "subprocess.Popen[bytes] | None":
    """Ask git something. Hooks and monitors of a foreign repository are not run."""
    command = ["git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"]
    try:
        return subprocess.Popen(
            [*command, "-C", str(root), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"},
        )
    except (OSError, ValueError):
        return None


def _said(process: "subprocess.Popen[bytes] | None") -> str:
    """Return what git says, or nothing."""
    if process is None:
        return ""
    try:
        said, _ = process.communicate(timeout=TIMEOUT_S)
    except subprocess.SubprocessError:
        process.kill()
        process.communicate()
        return ""
    return "" if process.returncode else said.decode("utf-8", "replace")


def _without_credentials(remote: str) -> str:
    try:
        parts = urlsplit(remote)
        if not parts.scheme or "@" not in parts.netloc:
            return remote
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return ""
    return urlunsplit((parts.scheme, host, parts.path, "", ""))
