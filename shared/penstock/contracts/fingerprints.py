"""What reuse is keyed by: the parts of a step that can change its results, and their digest.

    part            what it holds
    kind            version of this recipe; a new recipe never meets fingerprints of an old one
    code            digest of the source snapshot, or of the files in `hash_paths`
    command         the command with its ${{…}} still inside
    environment     digest of what the command runs in, without its name and version
    variable:<n>    digest of an environment variable's text, never the text: it may be a secret
    parameter:<n>   a literal input, as JSON, so that 3 and "3" differ
    input:<n>       digest of a data input's content
    output:<n>      how an output is declared
    source          where an import brings its data from (never reused: what lies there may change)
    destination     where a copy writes to, and `asset` what it registers (never reused either)

Names of steps, compute targets, retries, timeouts, priorities and descriptions are no parts: they
cannot change a result. Golden fingerprints are in tests/contract/; changing one throws away
everybody's reuse, so it goes with a new number in RECIPE.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from penstock.contracts.events import Part
from penstock.contracts.plans import Bound, PlannedOutput, PlannedStep
from penstock.contracts.spec import PRIMITIVES, EnvironmentSpec, environment_bytes
from penstock.ids import Digest, digest_of, is_digest

RECIPE = "command/1"
TEXT_MAX = 160
"""Characters up to which a part is kept as text; longer ones are kept as their digest."""
SHOWN_MAX = 60
NAMED_MAX = 3

NONE = "none"
_FORMS = {"uri_file": "file:", **dict.fromkeys(PRIMITIVES, "value:")}
"""How a tree reaches the command, where that is not as a folder."""
_DIGESTED = "blake3:"

Obstacle = Literal[
    "", "off", "refresh", "named", "nondeterministic", "import", "copy", "gone", "unfinished"
]
"""Why a step is not reused although nothing need have changed.

off, refresh: the request said so · named: a rerun named the step · nondeterministic: the step said so · import, copy: the place is outside of the store · gone: the outputs no longer
exist · unfinished: the run compared with has no results to offer.
"""

_OBSTACLES: dict[str, str] = {
    "off": "reuse is off in this run",
    "refresh": "this run refreshes results",
    "named": "the rerun names this step",
    "nondeterministic": "the step is not deterministic",
    "import": "what lies there may have changed",
    "copy": "what lies there may have been changed by others",
}


def parts_of(step: PlannedStep, inputs: Mapping[str, str]) -> dict[str, str]:
    """Return a step's fingerprint parts, given the content digests of its data inputs by name.

    Inputs bound to a stored artifact need not be given. The order of the result means nothing.

    Raises:
        KeyError: an input that comes from another step has no digest yet.
    """
    parts = {
        "kind": RECIPE if step.kind == "command" else f"{step.kind}/1",
        "code": step.code_digest or step.code or NONE,
        "command": _text(step.command),
        "environment": environment_part(step.environment),
    }
    for name, value in step.environment_variables.items():
        parts[f"variable:{name}"] = _DIGESTED + digest_of(_bytes(value))
    for name, bound in step.inputs.items():
        if is_data(bound):
            digest = inputs[name] if bound.step else inputs.get(name, bound.artifact)
            parts[f"input:{name}"] = _FORMS.get(bound.type, "") + digest
        else:
            parts[f"parameter:{name}"] = _text(msgspec.json.encode(bound.value).decode())
    for name, output in step.outputs.items():
        parts[f"output:{name}"] = _declaration(name, output)
    if step.source is not None:
        parts["source"] = _text(step.source.text())
    if step.destination is not None:
        parts["destination"] = _text(step.destination.text())
    if step.asset is not None:
        parts["asset"] = _text(f"{step.asset.kind}:{step.asset.name}:{step.asset.version}")
    return parts


def environment_part(environment: EnvironmentSpec | None) -> str:
    """Return what a fingerprint sees of an environment; it is also what executors build it under."""
    if environment is None:
        return NONE
    return _DIGESTED + digest_of(environment_bytes(environment))


def is_data(bound: Bound) -> bool:
    """Say whether an input is a tree of files (stored, or still to be made) and not a literal."""
    return bool(bound.step or bound.artifact)


def known_inputs(
    step: PlannedStep, outputs_of: Mapping[str, Mapping[str, str]]
) -> dict[str, str] | None:
    """Return the digests of a step's data inputs, None while one is unknown.

    `outputs_of` is step → output → tree digest, as far as steps have ended.
    """
    digests: dict[str, str] = {}
    for name, bound in step.inputs.items():
        if bound.step:
            digest = outputs_of.get(bound.step, {}).get(bound.output, "")
            if not digest:
                return None
            digests[name] = digest
        elif bound.artifact:
            digests[name] = bound.artifact
    return digests


def fingerprint(parts: Mapping[str, str]) -> Digest:
    """Return the digest of all parts, whatever their order."""
    return digest_of(msgspec.json.encode(dict(parts), order="sorted"))


def compared(new: Mapping[str, str], old: Mapping[str, str] | None) -> tuple[Part, ...]:
    """Return every part beside its older self: what changed comes first, each group by name.

    Without anything to compare with (`old` None) nothing counts as changed and `old` is empty.
    """
    if old is None:
        return tuple(Part(part=name, new=new[name]) for name in sorted(new))
    parts = [
        Part(
            part=name,
            changed=new.get(name, "") != old.get(name, ""),
            old=old.get(name, ""),
            new=new.get(name, ""),
        )
        for name in sorted({*new, *old})
    ]
    return tuple(sorted(parts, key=lambda part: not part.changed))


def reason_of(
    parts: Sequence[Part],
    *,
    compared_with: str = "",
    reused_from: str = "",
    obstacle: Obstacle = "",
) -> str:
    """Return in one line why a step is reused (`reused_from`: a run) or is not.

    `parts` come from `compared`; `compared_with` is the run they were compared with, or empty.
    """
    if reused_from:
        return f"same as run {reused_from}"
    if obstacle in _OBSTACLES:
        return _OBSTACLES[obstacle]
    if obstacle == "gone":
        return f"same as run {compared_with or 'before'}, but its outputs no longer exist"
    if not compared_with:
        return "first run of this step"
    changed = [part for part in parts if part.changed]
    if not changed:
        return f"same as run {compared_with}, which has no results to reuse"
    first = f"{changed[0].part} {_change(changed[0])}"
    others = [part.part for part in changed[1:]]
    if not others:
        return first
    named = ", ".join(others[:NAMED_MAX])
    more = f" and {len(others) - NAMED_MAX} more" if len(others) > NAMED_MAX else ""
    return f"{first}; also {named}{more}"


def _change(part: Part) -> str:
    if not part.old:
        return f"added: {_shown(part.new)}"
    if not part.new:
        return f"removed: {_shown(part.old)}"
    return f"changed: {_shown(part.old)} → {_shown(part.new)}"


def _shown(text: str) -> str:
    """Return a part's text short enough to stand twice on one line."""
    kind, _, last = text.rpartition(":")
    if is_digest(last):
        return f"{last[:8]}…" if kind in ("", "blake3") else f"{kind}:{last[:8]}…"
    line = " ".join(text.split())
    return line if len(line) <= SHOWN_MAX else line[: SHOWN_MAX - 1] + "…"


def _text(text: str) -> str:
    # A short text that looks like a digest of ours is digested too: no text can pose as another.
    if len(text) <= TEXT_MAX and not text.startswith(_DIGESTED):
        return text
    return _DIGESTED + digest_of(_bytes(text))


def _declaration(name: str, output: PlannedOutput) -> str:
    if output.type in PRIMITIVES:
        return f"value:{output.type}"
    # Azure's table and model types are folders to us: calling one the other changes no byte.
    return f"uri_file:{output.file or name}" if output.type == "uri_file" else "uri_folder"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
