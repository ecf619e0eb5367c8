"""What makes an interpreter a fork server: `site` imports this while the interpreter starts.

It serves (fork_server.py) instead of returning. Only in a forked step does it return, so that the
interpreter goes on to start as any other and runs the step's script.
"""

import sys

_USUAL = frozenset(sys.modules) - {"sitecustomize"}  # first: what every start imports

import os.path  # noqa: E402 - see above

_FOLDER = os.path.dirname(__file__)  # noqa: PTH120 - pathlib is not loaded here
_ROOM = os.path.dirname(os.path.dirname(_FOLDER))  # noqa: PTH120 - as above

import ctypes  # noqa: E402, F401 - before _ROOM is looked at, which may be a site-packages
import json  # noqa: E402, F401
import socket  # noqa: E402, F401

sys.path.insert(0, _ROOM)
from penstock_executor import fork_server  # noqa: E402

sys.path.remove(_ROOM)
fork_server.serve_here(_FOLDER, _USUAL)
