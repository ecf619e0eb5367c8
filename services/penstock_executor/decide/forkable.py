"""Which commands are nothing but a Python script, told as the shell would tell it.

A fork server runs `[NAME=value …] python [options] script.py [arguments …]` and `python [options] -m
module [arguments …]`. Everything that needs a shell (operators, expansions, patterns, comments) or an
interpreter of its own is not forkable, and neither is whatever we are not sure about: a plain
process is always right. The words of what is forkable are those that `bash -c` would make of it; a
test compares the two.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

PROGRAMS = frozenset({"python", "python3"})
SWITCH = "PENSTOCK_FORK_SERVER"
"""Variable of a step: `off` gives it a plain process."""
WORDS_MAX = 4096

_SAFE = re.compile(r"[A-Za-z0-9_@%+=:,./-]")
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_ESCAPED_IN_QUOTES = '$`"\\'
_OPTIONS = re.compile(r"-[uBObsP]+")
_JOINED = re.compile(r"-W.+")
_X_OPTIONS = frozenset({"utf8", "utf8=0", "utf8=1", "faulthandler", "no_debug_ranges"})

OF_THE_SHELL = re.compile(
    r"BASH.*|_|CDPATH|COMP_.*|COPROC|DIRSTACK|ENV|EPOCHREALTIME|EPOCHSECONDS|EUID|FUNCNAME|FUNCNEST|"
    r"GLOBIGNORE|GROUPS|HIST(CMD|CONTROL|FILE|FILESIZE|IGNORE|SIZE|TIMEFORMAT)|HOST(FILE|NAME|TYPE)|"
    r"IFS|LINENO|MACHTYPE|OLDPWD|OPT(ARG|ERR|IND)|OSTYPE|PIPESTATUS|POSIXLY_CORRECT|PPID|PS\d|RANDOM|"
    r"READLINE_.*|REPLY|SECONDS|SHELL|SHELLOPTS|SRANDOM|TIMEFORMAT|TMOUT|UID"
)
"""Variables that mean something to the shell itself."""
NOT_ASSIGNED = frozenset({"PATH", "PWD", "SHLVL", "PYTHONPATH"})
"""Variables in front of a command that change how it is found, or what it finds."""

OF_THE_START = re.compile(
    r"PYTHON(?!PATH$).*|LD_.*|LC_.*|LANG|LANGUAGE|TZ|HOME|USER|LOGNAME|MALLOC_.*|GLIBC_TUNABLES|"
    r"(OMP|OPENBLAS|GOTO|MKL|KMP|BLIS|VECLIB|NUMEXPR|GOMP|GOMPI|CUDA|NVIDIA|HIP|ROCR|TF|XLA|JAX|TORCH|"
    r"PYTORCH|ARROW|NPY|NUMBA|SCIPY|SKLEARN|PANDAS|POLARS|RAYON)_.*"
)
"""Variables that an interpreter, or native code that it loads, reads when it starts: a server is started
with them, and serves steps that have the same."""
_HONOURED = frozenset(
    {
        "PYTHONCOERCECLOCALE",
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONFAULTHANDLER",
        "PYTHONHASHSEED",
        "PYTHONINTMAXSTRDIGITS",
        "PYTHONIOENCODING",
        "PYTHONNODEBUGRANGES",
        "PYTHONNOUSERSITE",
        "PYTHONOPTIMIZE",
        "PYTHONPATH",
        "PYTHONPYCACHEPREFIX",
        "PYTHONSAFEPATH",
        "PYTHONUNBUFFERED",
        "PYTHONUSERBASE",
        "PYTHONUTF8",
        "PYTHONWARNINGS",
    }
)
"""What a fork server may be started with; another PYTHON… variable asks for a plain process."""


@dataclass(frozen=True, slots=True)
class Program:
    """A command that is one Python script or module."""

    name: str
    """The interpreter, as it was typed."""
    options: tuple[str, ...]
    kind: Literal["script", "module"]
    target: str
    """Path of the script, or name of the module."""
    arguments: tuple[str, ...]
    assigned: Mapping[str, str] = field(default_factory=dict)
    """Variables set in front of the command."""

    @property
    def typed(self) -> tuple[str, ...]:
        """Return the words of the command."""
        dash_m = ("-m",) if self.kind == "module" else ()
        return (self.name, *self.options, *dash_m, self.target, *self.arguments)


def program_of(text: str) -> Program | None:
    """Return what a command line runs, if it is one Python script or module and nothing else."""
    words = words_of(text)
    if words is None:
        return None
    assigned: dict[str, str] = {}
    for position, (word, name) in enumerate(words):
        if name is None:
            rest = [w for w, _ in words[position:]]
            return _python(rest, assigned)
        if OF_THE_SHELL.fullmatch(name) or name in NOT_ASSIGNED:
            return None
        assigned[name] = word
    return None


def words_of(text: str) -> list[tuple[str, str | None]] | None:
    """Return the words of a simple command, as a shell makes them; None if it is anything else.

    With each word comes the name of the variable that it assigns to (then the word is the value).
    """
    if _CONTROL.search(text):
        return None
    text = text.strip(" \t\n")
    words: list[tuple[str, str | None]] = []
    position = 0
    while position < len(text):
        if text[position] in " \t":
            position += 1
            continue
        if text.startswith("\\\n", position):
            position += 2
            continue
        leading = all(name is not None for _, name in words)
        found = _word(text, position, leading=leading)
        if found is None or len(words) >= WORDS_MAX:
            return None
        word, name, position = found
        words.append((word, name))
    return words


def _word(text: str, start: int, *, leading: bool) -> tuple[str, str | None, int] | None:
    """Return the word at `start`, the name it assigns to, and where it ends."""
    name = None
    position = start
    assignment = _ASSIGNMENT.match(text, start) if leading else None
    if assignment:
        name = assignment.group(1)
        position = assignment.end()
    parts: list[str] = []
    while position < len(text) and text[position] not in " \t":
        character = text[position]
        if character == "'":
            end = text.find("'", position + 1)
            if end < 0:
                return None
            parts.append(text[position + 1 : end])
            position = end + 1
        elif character == '"':
            quoted = _in_quotes(text, position + 1)
            if quoted is None:
                return None
            parts.append(quoted[0])
            position = quoted[1]
        elif character == "\\":
            if position + 1 >= len(text):
                return None
            following = text[position + 1]
            parts.append("" if following == "\n" else following)
            position += 2
        elif _SAFE.match(character) or (ord(character) > 0x9F and character.isalnum()):  # noqa: PLR2004
            parts.append(character)
            position += 1
        else:
            return None
    return "".join(parts), name, position


def _in_quotes(text: str, position: int) -> tuple[str, int] | None:
    """Return the text in double quotes up to the closing one, and where it ends."""
    parts: list[str] = []
    while position < len(text):
        character = text[position]
        if character == '"':
            return "".join(parts), position + 1
        if character in "$`":
            return None
        if character == "\\" and position + 1 < len(text):
            following = text[position + 1]
            if following == "\n":
                position += 2
                continue
            if following in _ESCAPED_IN_QUOTES:
                parts.append(following)
                position += 2
                continue
        parts.append(character)
        position += 1
    return None


def _python(words: Sequence[str], assigned: Mapping[str, str]) -> Program | None:
    name, *rest = words
    if name not in PROGRAMS:
        return None
    options: list[str] = []
    while rest:
        word = rest.pop(0)
        if word == "-m":
            if not rest or not rest[0] or rest[0].startswith("-"):
                return None
            return Program(name, tuple(options), "module", rest[0], tuple(rest[1:]), assigned)
        if not word.startswith("-"):
            if not word:
                return None
            return Program(name, tuple(options), "script", word, tuple(rest), assigned)
        if _OPTIONS.fullmatch(word):
            options.append(word)
        elif word in ("-W", "-X") and rest:
            value = rest.pop(0)
            if word == "-X" and value not in _X_OPTIONS:
                return None
            options += [word, value]
        elif _JOINED.fullmatch(word) or (word.startswith("-X") and word[2:] in _X_OPTIONS):
            options.append(word)
        else:
            return None
    return None


def start_variables(variables: Mapping[str, str]) -> dict[str, str] | None:
    """Return those variables of a step that a server has to be started with; None: no server may be."""
    found = {}
    for name, value in variables.items():
        if name.startswith("PYTHON") and name not in _HONOURED:
            return None
        if name != "_" and OF_THE_SHELL.fullmatch(name):
            return None
        if "%" in name:  # a function of bash
            return None
        if OF_THE_START.fullmatch(name):
            found[name] = value
    return None if variables.get(SWITCH, "").lower() == "off" else found


def seen_by_python(variables: Mapping[str, str], path: str) -> dict[str, str]:
    """Return the variables as bash passes them on to the interpreter at `path` that it becomes."""
    level = variables.get("SHLVL", "")
    found = dict(variables)
    found["SHLVL"] = level if level.isdigit() and len(level) <= 2 and level != "0" else "0"  # noqa: PLR2004
    found["_"] = path
    return found
