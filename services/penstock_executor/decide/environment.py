"""The variables a step sees: a short list from the executor, its own names, and what was declared.

Nothing else is inherited, so neither store nor bus credentials can reach a step this way.
Conventions of Azure ML are kept where they cost nothing (azure-compat §3.3).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import msgspec

from penstock.contracts.work import WorkItem
from penstock_executor.decide.command import text_of
from penstock_executor.decide.layout import Place

KEPT = frozenset(
    {
        "HOME",
        "LANG",
        "LANGUAGE",
        "LOGNAME",
        "TERM",
        "TZ",
        "USER",
        # certificates
        "CURL_CA_BUNDLE",
        "REQUESTS_CA_BUNDLE",
        "SSL_CERT_DIR",
        "SSL_CERT_FILE",
        # the way to the outside, and to a package index for `pip install` in a step
        "ALL_PROXY",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "NO_PROXY",
        "PIP_CERT",
        "PIP_CONFIG_FILE",
        "PIP_INDEX_URL",
        "UV_DEFAULT_INDEX",
        "UV_INDEX_URL",
        # accelerators
        "CUDA_VISIBLE_DEVICES",
        "HIP_VISIBLE_DEVICES",
        "LD_LIBRARY_PATH",
        "NVIDIA_VISIBLE_DEVICES",
    }
)
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
VARIABLE_BYTES_MAX = 128 * 1024 - 1  # Linux's MAX_ARG_STRLEN, which exec refuses as "too long"


@dataclass(frozen=True, slots=True)
class InStep:
    """Where a step finds what only steps see (in_step/), and penstock's own package."""

    folder: str = ""
    package: str = ""


@dataclass(frozen=True, slots=True)
class Bindings:
    """What inputs and outputs of an attempt became: paths of data, texts of literals."""

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Basis:
    """What the command's variables are made from, and the shell that reads it."""

    environ: Mapping[str, str]
    python_folder: str
    shell: str
    more: Mapping[str, str] = field(default_factory=dict)
    """What a step sees besides; everything else wins over it."""
    in_step: InStep = InStep()
    overlaid: bool = True
    """Whether what the step installs with pip lies over an environment of this machine."""


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what a step inherits of the executor's variables; URLs with credentials stay out."""
    return {
        name: value
        for name, value in environ.items()
        if (name.upper() in KEPT or name.startswith("LC_")) and "@" not in value
    }


def usual_variables(python_folder: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return those variables that are the same for all steps."""
    return inherited(environ) | {
        "PATH": f"{python_folder}:{environ.get('PATH') or PATH}",
        "PYTHONUNBUFFERED": "1",  # what was printed before a crash is kept, and seen at once
    }


def variables(
    item: WorkItem,
    place: Place,
    bindings: Bindings,
    *,
    declared: Mapping[str, str],
    environ: Mapping[str, str],
    python_folder: str,
    socket: str,
    in_step: InStep,
    workspace: str,
    packages: str = "",
    more: Mapping[str, str] = MappingProxyType({}),
) -> tuple[dict[str, str], list[str]]:
    """Return the step's variables, and the names of those that were too long to be passed on.

    `python_folder` holds the interpreter that `python` means; `more` are those of an image; `declared` are
    the step's own variables with their expressions already replaced: they win over everything. `packages` is
    where pip installs to by itself; empty: it has to be told.
    """
    literals = {
        name: data.value
        for name, data in item.inputs.items()
        if data.value is not None and not data.artifact
    }
    found = {**more, **usual_variables(python_folder, environ)}
    found |= {
        "PATH": f"{place.site}/bin:{found['PATH'].removeprefix(':')}:{in_step.folder}/bin",
        "PWD": place.code,
        "TMPDIR": place.temporary,
        # `pip install` in a step is private to it (azure-compat §0, item 8)
        **({} if packages else {"PIP_TARGET": place.site}),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PYTHONPATH": f"{in_step.folder}/site:{packages or place.site}",
        "PENSTOCK_PACKAGE": in_step.package,
        "PENSTOCK_RUN_ID": item.run,
        "PENSTOCK_STEP": item.step,
        "PENSTOCK_ATTEMPT": str(item.attempt),
        "PENSTOCK_PIPELINE": item.pipeline,
        "PENSTOCK_EXPERIMENT": item.experiment or item.pipeline,
        "PENSTOCK_PARAMETERS": _json({**item.parameters, **literals}),
        "PENSTOCK_INPUTS": _json({n: p for n, p in bindings.inputs.items() if n not in literals}),
        "PENSTOCK_OUTPUTS": _json(dict(bindings.outputs)),
        "PENSTOCK_TAGS": _json(item.tags),
        "PENSTOCK_STEP_SOCKET": socket,
        "AZUREML_RUN_ID": f"{item.run}.{item.step}",
        "AZUREML_ROOT_RUN_ID": item.run,
        "AZUREML_CR_EXECUTION_WORKING_DIR_PATH": place.code,
        "AZUREML_ARM_PROJECT_NAME": item.experiment or item.pipeline,
        "AZUREML_ARM_WORKSPACE_NAME": workspace,
        "MLFLOW_EXPERIMENT_NAME": item.experiment or item.pipeline,
    }
    if item.traceparent:
        found["TRACEPARENT"] = item.traceparent
    for name, path in bindings.inputs.items():
        if name in literals:
            found[f"AZUREML_PARAMETER_{name}"] = text_of(literals[name])
            found[f"AML_PARAMETER_{name}"] = text_of(literals[name])
        else:
            found[f"AZURE_ML_INPUT_{name}"] = path
            found[f"AZUREML_DATAREFERENCE_{name}"] = path
    for name, path in bindings.outputs.items():
        found[f"AZURE_ML_OUTPUT_{name}"] = path
        found.setdefault(name, path)  # as SDK v1 has it
    if bindings.outputs:
        found["AZUREML_DATASET_FILE_OUTPUTS"] = ";".join(bindings.outputs)
    found |= declared
    if "PYTHONPATH" in declared:
        found["PYTHONPATH"] = (
            f"{in_step.folder}/site:{packages or place.site}:{declared['PYTHONPATH']}"
        )
    long = [n for n, v in found.items() if len(n) + len(v.encode()) + 1 > VARIABLE_BYTES_MAX]
    return {n: v for n, v in found.items() if n not in long}, sorted(long)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
