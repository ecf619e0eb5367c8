"""Run by `site` at the start of every interpreter of a step: see hooks.py.

Another `sitecustomize` that the step has is run as if this one were not here.
"""

import os.path
import sys


def _install() -> None:
    folder = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib is not loaded here
    room = os.path.dirname(folder)  # noqa: PTH120
    sys.path[:] = [path for path in sys.path if path != folder]
    sys.path.insert(0, room)
    try:
        import hooks  # type: ignore[import-not-found]
    finally:
        sys.path.remove(room)
        sys.modules.pop("hooks", None)
    hooks.install()


_install()
del sys.modules["sitecustomize"], _install
import sitecustomize  # type: ignore[import-not-found]  # noqa: E402, F401 - the step's own, or the error that site.py expects
