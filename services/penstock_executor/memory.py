"""What a container has used of the memory that it may have, read from its control group (versions 1 and 2).

Read where the kernel keeps it, because what the engine says is late or wrong: right after the end its
`OOMKilled` was false once and true another time for the same program (research/bus.md, 7).
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")


@dataclass
class Gauge:
    """Reads one container's figures; everything is 0 where the kernel does not tell."""

    folder: Path | None = None
    limit_bytes: int = 0
    _kills: int = 0
    _told: bool = False

    @classmethod
    def of(cls, pid: int, limit_bytes: int) -> "Gauge":
        """Return the gauge of the container whose init has this process id."""
        return cls(_folder(pid), limit_bytes)

    def begin(self) -> None:
        """Count from now on."""
        self._kills = self._all_kills()
        self._told = False

    def told(self, *, out_of_memory: bool) -> None:
        """Take note of what the engine says, for want of anything better."""
        self._told = out_of_memory

    @property
    def kills(self) -> int:
        """How many processes the kernel has killed since `begin`, because the limit was reached."""
        return max(self._all_kills() - self._kills, int(self._told))

    @property
    def peak_bytes(self) -> int:
        """The most that was used since the container began."""
        for name in ("memory.peak", "memory.max_usage_in_bytes"):
            text = self._read(name).strip()
            if text.isdigit():
                return int(text)
        return 0

    def _all_kills(self) -> int:
        for name in ("memory.events", "memory.oom_control"):
            for line in self._read(name).splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
        return 0

    def _read(self, name: str) -> str:
        with contextlib.suppress(OSError):
            return (self.folder / name).read_text() if self.folder is not None else ""
        return ""


def _folder(pid: int) -> Path | None:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            _, kinds, path = line.split(":", 2)
            if "memory" in kinds.split(","):
                return GROUPS / "memory" / path.lstrip("/")
            if not kinds and (GROUPS / "cgroup.controllers").exists():
                return GROUPS / path.lstrip("/")
    return None
