"""Values for a pipeline's inputs, as people give them: `-p name=value` on the command line, Python values.

The text of a parameter becomes what the pipeline declares; where nothing is declared (or known) it
is read as YAML would read it: 3 is a number, true a truth value, the rest texts.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from penstock.contracts.data import is_elsewhere, local_text
from penstock.contracts.spec import DATA, Input, PipelineSpec, Scalar
from penstock.errors import Invalid, NotFound
from penstock.ids import did_you_mean

_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_BOOLEANS = {"true": True, "false": False, "True": True, "False": False}


def pairs_of(texts: Iterable[str], what: str = "E_PARAM") -> dict[str, str]:
    """Return `name=value` texts as a dict.

    Raises:
        Invalid: E_PARAM, no name, no "=", or a name given twice.
    """
    result: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise Invalid(
                f"{text!r} is not name=value", code=what, where="-p", hint="for example -p lr=0.1"
            )
        if name in result:
            raise Invalid(f"{name!r} is given twice", code=what, where=f"-p {text}")
        result[name] = value
    return result


def typed(given: Mapping[str, str], spec: PipelineSpec | None) -> dict[str, Scalar]:
    """Return parameters with the types that the pipeline declares.

    Raises:
        Invalid: E_PARAM, a name the pipeline does not have, or a value that is not of its type.
    """
    if spec is not None:
        check_known(given, spec)
    return {
        name: _value(name, text, None if spec is None else _kind_of(spec, name))
        for name, text in given.items()
    }


def typed_like(given: Mapping[str, str], old: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Return parameters with the types that an earlier run's had.

    Raises:
        Invalid: E_PARAM, a value that is not of its type.
    """
    return {
        name: _value(name, text, _type_of(old[name]) if name in old else None)
        for name, text in given.items()
    }


def check_known(given: Iterable[str], spec: PipelineSpec) -> None:
    """Refuse a parameter that the pipeline does not have.

    Raises:
        Invalid: E_PARAM.
    """
    for name in given:
        if name not in spec.inputs:
            known = ", ".join(spec.inputs) or "none"
            raise Invalid(
                f"pipeline {spec.name!r} has no parameter {name!r}",
                code="E_PARAM",
                where=f"-p {name}",
                hint=did_you_mean(name, spec.inputs) or f"it has: {known}",
            )


def local_data(values: Mapping[str, object], spec: PipelineSpec) -> dict[str, Path]:
    """Return which parameters name a file or folder of this machine that has to be stored first.

    Raises:
        NotFound: E_NOT_FOUND, no such file or folder.
    """
    result: dict[str, Path] = {}
    for name, value in values.items():
        declared = spec.inputs.get(name)
        if not isinstance(declared, Input) or declared.type not in DATA:
            continue
        text = str(value)
        if is_elsewhere(text):
            continue
        path = Path(local_text(text))
        if not path.exists():
            raise NotFound(
                f"{text} does not exist",
                where=f"-p {name}",
                hint="give a local path, https:…, azureml://datastores/D/paths/P or artifact:<digest>",
            )
        result[name] = path
    return result


def _kind_of(spec: PipelineSpec, name: str) -> str:
    declared = spec.inputs[name]
    return declared.type if isinstance(declared, Input) else _type_of(declared)


def _type_of(value: Scalar) -> str:
    match value:
        case bool():
            return "boolean"
        case int() | float():
            return "number"
    return "string"


def _value(name: str, text: str, kind: str | None) -> Scalar:
    match kind:
        case None:
            return _guessed(text)
        case "boolean" if text in _BOOLEANS:
            return _BOOLEANS[text]
        case "integer" if _WHOLE.fullmatch(text):
            return int(text)
        case "number" if _NUMBER.fullmatch(text):
            return int(text) if _WHOLE.fullmatch(text) else float(text)
        case "boolean" | "integer" | "number":
            raise Invalid(
                f"{text!r} is not a value of type {kind}", code="E_PARAM", where=f"-p {name}"
            )
    return text


def _guessed(text: str) -> Scalar:
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _WHOLE.fullmatch(text) and len(text) <= 18:  # noqa: PLR2004 - fits 64 bits
        return int(text)
    if _NUMBER.fullmatch(text) and not text.lstrip("+-").startswith("0" * 2):
        return float(text)
    return text
