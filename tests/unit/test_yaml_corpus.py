"""Bad pipeline files, each with the one line that is said about it (reliability.md §5c, corpus S).

They are read with `--strict`: without it unknown keys are notes, as for Azure ML's client.
"""

from pathlib import Path

import pytest

from penstock.errors import PenstockError
from penstock.sdk.pipeline_files import pipeline_of, read_pipeline
from penstock.sdk.yaml_text import BYTES_MAX, document_of

PARALLEL = (
    "type: pipeline\njobs:\n  a:\n    type: parallel\n"
    "    task: {entry_script: e.py}\n    input_data: ${{inputs.i}}\n"
)
HEAD = "type: pipeline\njobs:\n  train:\n    command: python train.py\n"

CORPUS: dict[str, tuple[str | bytes, str]] = {
    "nothing at all": ("", "E_EMPTY f.yml: no content"),
    "only a comment": ("# hello\n", "E_EMPTY f.yml: no content"),
    "too large": ("#" * (BYTES_MAX + 1), "E_TOO_LARGE f.yml: 1,048,577 bytes; allowed: 1 MiB"),
    "not UTF-8": (b"type: \xff", "E_YAML f.yml: not UTF-8 at byte 6"),
    "an alias of nothing": (
        "b: *x\n",
        "E_YAML_ALIAS f.yml:1:4: alias *x has no anchor before it (mark it with &x)",
    ),
    "an alias of what it stands in": (
        "a: &a [1, *a]\n",
        "E_YAML_ALIAS f.yml:1:11: alias *a stands in what it names",
    ),
    "an alias bomb": (
        "a0: &a0 [x, x]\n"
        + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)),
        ("E_YAML_ALIAS f.yml:5:35: alias *a3 makes the file too large; allowed: 20,000 values "
        "(write fewer aliases within aliases)"),
    ),
    "a python tag": (
        "a: !!python/object/apply:os.system ['true']\n",
        "E_YAML_TAG f.yml:1:4: tag !!python/object/apply:os.system; tags are not allowed",
    ),
    "a tag of its own": ("a: !thing 1\n", "E_YAML_TAG f.yml:1:4: tag !thing; tags are not allowed"),
    "a binary": ("a: !!binary aGk=\n", "E_YAML_TAG f.yml:1:4: tag !!binary; tags are not allowed"),
    "a step twice": (
        "type: pipeline\njobs:\n  train:\n    command: a\n  train:\n    command: b\n",
        "E_DUPLICATE_KEY f.yml:5:3: key 'jobs.train' occurs twice",
    ),
    "a tab": ("jobs:\n\ttrain: x\n", "E_YAML f.yml:2:1: a tab (indent with blanks)"),
    "two documents": (
        "a: 1\n---\nb: 2\n",
        "E_YAML_MULTI f.yml:2:1: a second document; allowed: one",
    ),
    "twenty thousand brackets": ("a: " + "[" * 20_000, "E_YAML f.yml:1:67: nesting over 64"),
    "a merge key of a text": (
        "a: {<<: b}\n",
        ("E_YAML f.yml:1:5: a merge key takes keys and values, or a list of such "
        "(for example <<: *base)"),
    ),
    "a merge key twice": (
        "a: {<<: {b: 1}, <<: {c: 1}}\n",
        "E_DUPLICATE_KEY f.yml:1:17: key 'a.<<' occurs twice",
    ),
    "a wrong value behind an alias": (
        "type: pipeline\njobs:\n  a: &a\n    command: x\n    limits: {timeout: -1}\n  b: {<<: *a}\n",
        "E_TYPE f.yml:5:14: jobs.a.limits.timeout: expected a number, 0 or more, found the number -1",
    ),
    "an unfinished list": (
        "a: [1, 2\n",
        "E_YAML f.yml:2:1: did not find expected ',' or ']'",
    ),
    "an octal": ("a: 017\n", "E_TYPE f.yml:1:4: 017 is read as 15 (quote this value)"),
    "a time": ("a: 12:30:45\n", "E_TYPE f.yml:1:4: 12:30:45 is read as 45045 (quote this value)"),
    "infinity": ("a: .inf\n", "E_NUMBER f.yml:1:4: .inf is not a number here"),
    "a huge number": (f"a: 1{'0' * 30}\n", f"E_NUMBER f.yml:1:4: 1{'0' * 30} is out of range"),
    "a list": ("- a\n", "E_TYPE f.yml:1:1: expected keys and values, found a list"),
    "no type": ("jobs: {a: {command: x}}\n", "E_TYPE f.yml: no `type` (add `type: pipeline`)"),
    "a type in camel case": (
        "type: Pipeline\n",
        "E_TYPE f.yml:1:1: 'Pipeline' is not a type (did you mean 'pipeline'?)",
    ),
    "neither pipeline nor command": (
        "display_name: x\n",
        "E_TYPE f.yml: neither a pipeline nor a command (add `type: pipeline` and `jobs:`, or a `command:`)",
    ),
    "a schedule": (
        "type: schedule\n",
        "E_TYPE f.yml:1:1: a schedule is not run (register it with: penstock schedule create --file)",
    ),
    "no steps": ("type: pipeline\njobs: {}\n", "E_EMPTY f.yml:2:1: no steps"),
    "an unknown key": (
        "type: pipeline\njbs:\n  a: {command: x}\n",
        "E_UNKNOWN_FIELD f.yml:2:1: unknown key 'jbs' (did you mean 'jobs'?)",
    ),
    "a misspelt key of a step": (
        HEAD + "    comand: x\n",
        "E_UNKNOWN_FIELD f.yml:5:5: unknown key 'comand' (did you mean 'command'?)",
    ),
    "a misspelt setting": (
        HEAD + "settings:\n  force_rerum: true\n",
        "E_UNKNOWN_FIELD f.yml:6:3: unknown key 'force_rerum' (did you mean 'force_rerun'?)",
    ),
    "a misspelt limit": (
        HEAD + "    limits: {timout: 3}\n",
        "E_UNKNOWN_FIELD f.yml:5:14: unknown key 'timout' (did you mean 'timeout'?)",
    ),
    "a step without command": (
        "type: pipeline\njobs:\n  a:\n    code: .\n",
        "E_MISSING f.yml:3:3: jobs.a.command is missing",
    ),
    "a component that is not there": (
        "type: pipeline\njobs:\n  a:\n    component: ./c.yml\n",
        "E_PATH f.yml:4:5: ./c.yml does not exist (looked at {folder}/c.yml)",
    ),
    "a component and a command": (
        "type: pipeline\njobs:\n  a:\n    component: azureml:c:1\n    command: x\n",
        "E_TYPE f.yml:5:5: `component` and `command` exclude each other",
    ),
    "a step of type pipeline without one": (
        "type: pipeline\njobs:\n  a:\n    type: pipeline\n",
        ("E_MISSING f.yml:4:5: a step of type pipeline without a component "
        "(add `component: ./pipeline.yml`)"),
    ),
    "an input mode that writes": (
        HEAD + "    inputs:\n      d: {mode: rw_mount}\n",
        ("E_TYPE f.yml:6:11: 'rw_mount' is not a known mode (did you mean 'ro_mount'?)"),
    ),
    "an output version without name": (
        HEAD + "    outputs:\n      d: {version: 1}\n",
        "E_TYPE f.yml:6:11: a version without a name (add `name:`)",
    ),
    "an environment of nothing": (
        HEAD + "    environment: {name: x}\n",
        "E_MISSING f.yml:5:5: an environment of nothing (give image, conda_file, build or pip)",
    ),
    "a conda file that is not there": (
        HEAD + "    environment: {image: x, conda_file: ./c.yml}\n",
        "E_PATH f.yml:5:29: ./c.yml does not exist (looked at {folder}/c.yml)",
    ),
    "code in a git repository": (
        HEAD + "    code: git+https://example.org/x.git\n",
        ("E_UNSUPPORTED f.yml:5:5: git+https://example.org/x.git is not on this machine "
        "(give a local folder)"),
    ),
    "a ray cluster": (
        HEAD + "    distribution: {type: ray}\n",
        ("E_UNSUPPORTED f.yml:5:20: a ray cluster is not started for a step "
        "(start ray inside the command)"),
    ),
    "too many processes": (
        HEAD + "    distribution: {type: pytorch, process_count_per_instance: 65}\n",
        "E_RANGE f.yml:5:5: 65 processes on one machine; allowed: 64",
    ),
    "a sweep without trial": (
        "type: pipeline\njobs:\n  a:\n    type: sweep\n",
        "E_MISSING f.yml:3:3: trial is missing (give a command component)",
    ),
    "a sweep without objective": (
        "type: pipeline\njobs:\n  a:\n    type: sweep\n    trial: {command: x}\n",
        "E_MISSING f.yml:3:3: objective is missing (a sweep needs it)",
    ),
    "a parallel step without task": (
        "type: pipeline\njobs:\n  a:\n    type: parallel\n",
        "E_MISSING f.yml:3:3: task is missing (give an entry_script)",
    ),
    "a number of processes in words": (
        PARALLEL + "    max_concurrency_per_instance: two\n",
        ("E_TYPE f.yml:7:5: jobs.a.max_concurrency_per_instance: expected a number, found the text 'two'"),
    ),
    "a partition key that is a number": (
        PARALLEL + "    partition_keys: 2020\n",
        ("E_TYPE f.yml:7:5: jobs.a.partition_keys: 2020 is read as the number 2020; expected a list of "
        "texts (quote this value)"),
    ),
    "a list for the size of a batch": (
        PARALLEL + "    mini_batch_size: [5]\n",
        "E_TYPE f.yml:7:5: jobs.a.mini_batch_size: expected a single value, found a list",
    ),
    "a spark step": (
        "type: pipeline\njobs:\n  a:\n    type: spark\n",
        ("E_UNSUPPORTED f.yml:4:5: step type 'spark' is not supported in this release: it needs Spark "
        "(write the step as a command that calls spark-submit)"),
    ),
    "a misspelt step type": (
        "type: pipeline\njobs:\n  a:\n    type: comand\n",
        "E_TYPE f.yml:4:5: 'comand' is not a known type (did you mean 'command'?)",
    ),
    "a version read as a number": (
        HEAD + "inputs:\n  v: {type: string, default: 3.10}\n",
        ("E_TYPE f.yml:6:21: inputs.v.default: 3.10 is read as the number 3.1; expected a text "
        "(quote this value)"),
    ),
    "no read as false": (
        HEAD + "inputs:\n  v: {type: string, default: NO}\n",
        ("E_TYPE f.yml:6:21: inputs.v.default: NO is read as the truth value false; expected a text "
        "(quote this value)"),
    ),
    "a text for an integer": (
        HEAD + "inputs:\n  v: {type: integer, default: many}\n",
        "E_TYPE f.yml:6:22: inputs.v.default: expected a value of type integer, found the text 'many'",
    ),
    "an unknown input type": (
        HEAD + "inputs:\n  v: {type: uri_foldr}\n",
        "E_TYPE f.yml:6:7: 'uri_foldr' is not a known type (did you mean 'uri_folder'?)",
    ),
    "data that is not there": (
        HEAD + "    inputs:\n      d: {type: uri_file, path: ./none.csv}\n",
        "E_PATH f.yml:6:27: ./none.csv does not exist (looked at {folder}/none.csv)",
    ),
    "code that is not there": (
        HEAD + "    code: ./none\n",
        "E_PATH f.yml:5:5: ./none does not exist (looked at {folder}/none)",
    ),
    "an output that is no binding": (
        HEAD + "    outputs: {m: somewhere}\n",
        ("E_TYPE f.yml:5:15: 'somewhere' is no binding; allowed: an object, nothing, or "
        "${{parent.outputs.…}}"),
    ),
    "a need that is none": (
        HEAD + "    depends_on: prepare\n  prep:\n    command: x\n",
        ("E_REF f.yml:3:3: step 'train' needs 'prepare', which is no step of this pipeline "
        "(did you mean 'prep'?)"),
    ),
    "a need of itself": (
        HEAD + "    depends_on: [train]\n",
        "E_REF f.yml:3:3: step 'train' needs 'train', which is itself",
    ),
    "a reference to no step": (
        HEAD + "    inputs:\n      d: ${{parent.jobs.prep.outputs.x}}\n",
        "E_REF f.yml:6:7: step 'train' needs 'prep', which is no step of this pipeline",
    ),
    "a cycle": (
        "type: pipeline\njobs:\n  a: {command: x, depends_on: b}\n  b: {command: x, depends_on: a}\n",
        "E_CYCLE f.yml:3:3: a -> b -> a",
    ),
    "a name with a dot": (
        "type: pipeline\njobs:\n  a.b: {command: x}\n",
        ("E_ID f.yml:3:3: 'a.b' is not a name; allowed: letters, digits, '_' and '-', at most 63, "
        "not beginning with '-'"),
    ),
    "a name that looks Latin": (
        "type: pipeline\njobs:\n  tr\u0430in: {command: x}\n",
        ("E_ID f.yml:3:3: 'tr\u0430in' is not a name; allowed: letters, digits, '_' and '-', at most 63, "
        "not beginning with '-'"),
    ),
    "a tag that is a number": (
        HEAD + "tags: {v: 3}\n",
        "E_TYPE f.yml:5:8: tags.v: 3 is read as the number 3; expected a text (quote this value)",
    ),
    "a variable nobody could read": (
        HEAD + "    environment_variables: {'A=B': x}\n",
        "E_ENV f.yml:5:29: 'A=B' cannot name a variable",
    ),
    "a negative timeout": (
        HEAD + "    limits: {timeout: -1}\n",
        "E_TYPE f.yml:5:14: jobs.train.limits.timeout: expected a number, 0 or more, found the number -1",
    ),
    "both spellings of steps": (
        HEAD + "steps: {}\n",
        "E_TYPE f.yml:5:1: `jobs` and `steps` are the same; give one",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CORPUS)
def test_what_is_wrong_is_said_in_one_line_with_its_place(name: str, tmp_path: Path) -> None:
    text, expected = CORPUS[name]
    data = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(PenstockError) as caught:
        pipeline_of(document_of(data, "f.yml"), tmp_path / "f.yml", strict=True)
    assert str(caught.value) == expected.replace("{folder}", str(tmp_path))


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(PenstockError, match="no such file") as caught:
        read_pipeline(tmp_path / "none.yml")
    assert caught.value.code == "E_NOT_FOUND"


def test_a_folder_is_refused_with_the_file_in_it(tmp_path: Path) -> None:
    (tmp_path / "pipeline.yml").write_text("x")
    with pytest.raises(PenstockError) as caught:
        read_pipeline(tmp_path)
    assert caught.value.code == "E_PATH"
    assert "pipeline.yml" in caught.value.hint
