"""Disks that can be full and that can lose their power: ext4 on a loop image. Needs root.

A power cut keeps what had reached the disk and nothing else: whoever writes is stopped (SIGSTOP), the
image file is copied, and the copy is mounted in place of the original. What was written and not
fsynced sits in the mounted file system's cache, not in the image, so it is lost like with a real cut.
The kernel goes on writing back what is dirty meanwhile, and a copy that it wrote into is of no moment
in time: it may hold neither a block nor the journal's word of it. Such a copy is made again.
"""

import contextlib
import os
import shutil
import subprocess
import time
from pathlib import Path

MIB = 1024 * 1024
COPIES_MAX = 50


def possible() -> bool:
    """Say whether disks can be made here: root, loop devices, ext4 and its tools."""
    if os.getuid() != 0 or not Path("/dev/loop-control").exists():
        return False
    return all(shutil.which(tool) for tool in ("mkfs.ext4", "mount", "umount"))


def _call(*words: str | Path) -> None:
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise OSError(f"{' '.join(map(str, words))}: {done.stderr.strip()}")


class Disk:
    """One small disk, mounted at `point`."""

    def __init__(self, folder: Path, name: str, size_mib: int) -> None:
        self.folder = folder
        self.name = name
        self.point = folder / name
        self.size_bytes = size_mib * MIB
        self.cuts = 0

    @property
    def image(self) -> Path:
        """The file that is the disk now; each power cut leaves the old one and makes the next."""
        return self.folder / f"{self.name}.{self.cuts}.img"

    @property
    def _filler(self) -> Path:
        return self.point / "filler"

    def make(self) -> None:
        """Make and mount an empty disk."""
        self.point.mkdir(parents=True, exist_ok=True)
        with self.image.open("wb") as file:
            file.truncate(self.size_bytes)
        _call("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=1", self.image)
        self._mount()

    def cut(self) -> None:
        """Lose the power. Whoever writes here must be stopped before, and dead before `come_back`."""
        before = self.image
        self.cuts += 1
        for _ in range(COPIES_MAX):
            written_at = before.stat().st_mtime_ns
            _call("cp", "--sparse=always", "--reflink=auto", before, self.image)
            if before.stat().st_mtime_ns == written_at:
                return
        raise OSError(f"{before} was written to all the time")

    def come_back(self) -> None:
        """Mount what the disk held when the power went."""
        self._unmount()
        (self.folder / f"{self.name}.{self.cuts - 1}.img").unlink()
        self._mount()

    def fill(self) -> int:
        """Take all space that is left; return how many bytes that was."""
        taken = 0
        with self._filler.open("ab", buffering=0) as file:
            for size in (
                64 * MIB,
                MIB,
                4096,
            ):  # ever finer; allocated and not written, so it is quick
                with contextlib.suppress(OSError):
                    while True:
                        os.posix_fallocate(file.fileno(), taken, size)
                        taken += size
        return taken

    def free(self) -> None:
        """Give the space back."""
        self._filler.unlink(missing_ok=True)

    def unmount(self) -> None:
        """Take the disk away, and its image."""
        if os.path.ismount(self.point):
            self._unmount()
        self.image.unlink(missing_ok=True)

    def _unmount(self) -> None:
        """Unmount, waiting for the last process that was killed to let go."""
        for _ in range(50):
            with contextlib.suppress(OSError):
                _call("umount", self.point)
                return
            time.sleep(0.1)
        _call("umount", "-l", self.point)

    def _mount(self) -> None:
        _call("mount", "-o", "loop,commit=300", self.image, self.point)
