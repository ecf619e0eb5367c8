"""An image for tests of `docker` targets: Debian with Python, made by .ci/run, and `python` in it."""

import subprocess

BASE = "penstock-base:bookworm"
IMAGE = "penstock-test:bookworm"
BARE = "penstock-test:bare"
"""The same without any Python."""
_FILE = f"FROM {BASE}\nRUN ln -sf python3 /usr/bin/python\n"
_BARE_FILE = f"FROM {BASE}\nRUN rm -f /usr/bin/python*\n"


def docker(*words: str, stdin: str = "") -> str:
    """Run the engine's own command and return what it prints."""
    done = subprocess.run(
        ["docker", *words],
        input=stdin,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env={"DOCKER_BUILDKIT": "0", "PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/"},
    )
    return done.stdout.strip()


def missing() -> str:
    """Return why tests of containers cannot run here, having made their images otherwise."""
    try:
        docker("version")
    except (OSError, subprocess.SubprocessError):
        return "no Docker engine answers"
    try:
        docker("image", "inspect", BASE)
    except subprocess.SubprocessError:
        return f"there is no image {BASE}; .ci/run makes it"
    docker("build", "-q", "-t", IMAGE, "-", stdin=_FILE)
    docker("build", "-q", "-t", BARE, "-", stdin=_BARE_FILE)
    return ""
