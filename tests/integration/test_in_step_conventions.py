"""What step scripts written for Azure ML find in a step, on a real executor: plainly and forked."""

import json
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.bus.nats import connect
from penstock.contracts.plans import PlannedOutput
from penstock.contracts.subjects import Subjects
from penstock.contracts.work import AttemptSucceeded, WorkInput
from penstock.testing.attempts import Attempts, Given
from penstock.testing.fleet import Fleet
from penstock.testing.servers import NatsServer
from penstock.trees.client import TreeClient

pytestmark = [pytest.mark.server]

RUN = """
import os
from azureml.core import Run, Workspace, Dataset, Model
from azureml.core.run import Run as SameRun
assert Run is SameRun
run = Run.get_context()
run.log('accuracy', 0.5)
run.log('accuracy', 0.75)
run.log_list('losses', [3, 2, 1])
run.log_row('epochs', epoch=1, loss=0.5)
run.log_row('epochs', epoch=2, loss=0.25)
run.log_table('confusion', {'a': [1, 0], 'b': [0, 1]})
run.parent.log('from-parent', 1)
run.tag('stage', 'test')
os.makedirs('outputs', exist_ok=True)
open('model.pkl', 'w').write('weights')
run.upload_file('outputs/model.pkl', 'model.pkl')
run.upload_file('notes.txt', 'model.pkl')
model = run.register_model('mine', 'outputs/model.pkl', tags={'a': 'b'})
with run.child_run('fold1') as child:
    child.log('score', 4)
ws = run.experiment.workspace
print(run.id.endswith('.step'), run.parent.id == os.environ['PENSTOCK_RUN_ID'], run.experiment.name)
print(ws.name, ws.get_mlflow_tracking_uri() == os.environ.get('MLFLOW_TRACKING_URI', ''))
print(sorted(run.input_datasets), os.path.exists(run.input_datasets['data']))
print(sorted(os.listdir(run.input_datasets['data'])), run.get_metrics()['accuracy'])
print(Dataset.get_by_name(ws, 'data').to_pandas_dataframe().shape)
print(run.input_datasets['data'].take(2).to_pandas_dataframe().a.tolist())
print(os.path.basename(Model.get_model_path('data')), sorted(run.get_file_names()))
"""
SAYS = [
    (
        "penstock: model 'mine' is kept with the run's files, in outputs/models/mine; to have it registered, "
        "write it to an output that is declared with `name: mine` and a model type"
    ),
    "True True numbers",
    "{workspace} True",
    "['data'] True",
    "['first.csv', 'second.csv'] [0.5, 0.75]",
    "(4, 2)",
    "[1, 2]",
    "data ['outputs/model.pkl', 'outputs/models/mine/model.pkl', 'outputs/notes.txt']",
]
TABLE = """
import json, sys, mltable
for folder in sys.argv[1:]:
    table = mltable.load(folder)
    rows = table.to_pandas_dataframe()
    print(json.dumps(rows.to_dict(orient='list')))
"""


@pytest.fixture(scope="module", params=["auto", "off"])
def fleet(
    request: pytest.FixtureRequest, nats: NatsServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """An executor with fork servers, and one without."""
    root = tmp_path_factory.mktemp("conventions")
    workspace = f"t{secrets.token_hex(5)}"
    with Fleet(root, bus=nats.url, store=f"file:{root / 'store'}", workspace=workspace) as fleet:
        fleet.start("artifact")
        fleet.start("executor", slots="2", fork_server=request.param, drain_s="1")
        yield fleet


@pytest.fixture
async def attempts(fleet: Fleet, nats: NatsServer, tmp_path: Path) -> AsyncIterator[Attempts]:
    names = Subjects(fleet.workspace)
    bus = await connect(nats.url, name="attempts")
    trees = TreeClient(bus, names, cache=tmp_path / "cache", patience_s=20)
    attempts = Attempts(bus, names, trees)
    await attempts.open()
    yield attempts
    await trees.close()
    await bus.close()


async def stored(attempts: Attempts, folder: Path, files: dict[str, str]) -> str:
    """Return the digest of a tree with these files."""
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return (await attempts.trees.put_folder(folder, "test")).digest


async def ran(
    attempts: Attempts, folder: Path, script: str, arguments: str = "", **fields: Any
) -> tuple[AttemptSucceeded, dict[str, bytes], Given]:
    """Run a script as a step, twice: the second time a fork server is ready if there is one."""
    code = await stored(attempts, folder / "code", {"step.py": script})
    for step in ("first", "step"):
        given = await attempts.give(
            f"python step.py {arguments}", code=code, **{"step": step, **fields}
        )
        result = await given.success()
    return result, await attempts.archived(given), given


async def test_a_script_of_sdk_v1_finds_its_run(
    attempts: Attempts, fleet: Fleet, tmp_path: Path
) -> None:
    data = await stored(
        attempts,
        tmp_path / "data",
        {"second.csv": "a,b\n3,x\n4,y\n", "first.csv": "a,b\n1,x\n2,y\n"},
    )
    inputs = {"data": WorkInput(type="uri_folder", artifact=data), "rate": WorkInput(value=0.1)}
    result, files, _ = await ran(attempts, tmp_path, RUN, inputs=inputs, experiment="numbers")
    lines = [line.format(workspace=fleet.workspace) for line in SAYS]
    assert files["stdout.txt"].decode().splitlines() == lines
    assert result.metrics == {
        "accuracy": 0.75,
        "losses": [3, 2, 1],
        "epochs": {"epoch": [1, 2], "loss": [0.5, 0.25]},
        "confusion": {"a": [1, 0], "b": [0, 1]},
        "from-parent": 1,
        "fold1/score": 4,
    }
    assert result.tags == {"stage": "test", "model:mine": "outputs/models/mine"}
    assert files["outputs/model.pkl"] == files["outputs/notes.txt"] == b"weights"


TABLES: dict[str, tuple[str, dict[str, str], dict[str, list[Any]]]] = {
    "delimited": (
        "paths: [{folder: .}]\ntransformations: [{read_delimited: {delimiter: ';', header: all_files_same_headers}}]",
        {"b.csv": "x;y\n3;4\n", "a.csv": "x;y\n1;2\n"},
        {"x": [1, 3], "y": [2, 4]},
    ),
    "no-header": (
        "paths: [{pattern: ./*.csv}]\ntransformations: [{read_delimited: {header: no_header}}]",
        {"a.csv": "1,2\n"},
        {"Column1": [1], "Column2": [2]},
    ),
    "first-header": (
        "paths: [{file: ./a.csv}, {file: ./b.csv}]\ntransformations: [{read_delimited: {header: from_first_file}}]",
        {"a.csv": "x,y\n1,2\n", "b.csv": "3,4\n"},
        {"x": [1, 3], "y": [2, 4]},
    ),
    "json-lines": (
        "paths: [{file: ./a.jsonl}]\ntransformations: [{read_json_lines: {invalid_lines: drop}}]",
        {"a.jsonl": '{"x": 1}\nbad\n{"x": 2}\n'},
        {"x": [1, 2]},
    ),
    "columns": (
        (
            "paths: [{file: ./a.csv}]\ntransformations:\n- read_delimited\n- keep_columns: [x, z]\n- drop_columns: z\n"
            "- convert_column_types: [{columns: x, column_type: string}]\n- skip: 1\n- take: 1"
        ),
        {"a.csv": "x,y,z\n1,2,3\n4,5,6\n7,8,9\n"},
        {"x": ["4"]},
    ),
    "filter": (
        (
            "paths: [{file: ./a.csv}]\ntransformations:\n- read_delimited:\n    infer_column_types: true\n"
            '- filter: \'col("x") > 1 and not (col("y") == "b")\''
        ),
        {"a.csv": "x,y\n1,a\n2,b\n3,c\n"},
        {"x": [3], "y": ["c"]},
    ),
    "partition": (
        (
            "paths: [{pattern: ./*/*.csv}]\ntransformations:\n- read_delimited: {}\n"
            "- extract_columns_from_partition_format: {partition_format: '/{store}/{file_name}.csv'}"
        ),
        {"north/a.csv": "x\n1\n", "south/b.csv": "x\n2\n"},
        {"x": [1, 2], "store": ["north", "south"], "file_name": ["a", "b"]},
    ),
}


async def test_tables_are_read_as_their_file_says(attempts: Attempts, tmp_path: Path) -> None:
    inputs = {}
    for number, (text, files, _) in enumerate(TABLES.values()):
        digest = await stored(attempts, tmp_path / str(number), {**files, "MLTable": text})
        inputs[f"t{number}"] = WorkInput(type="mltable", artifact=digest)
    arguments = " ".join(f"${{{{inputs.t{number}}}}}" for number in range(len(TABLES)))
    _, kept, _ = await ran(attempts, tmp_path, TABLE, arguments, inputs=inputs)
    found = [json.loads(line) for line in kept["stdout.txt"].splitlines()]
    assert found == [rows for _, _, rows in TABLES.values()]


COMPONENT = """
from __future__ import annotations
import enum, pathlib
from mldesigner import command_component, Input, Output

class Kind(enum.Enum):
    small = 'S'

@command_component(name='prep_data', version='1', environment='x')
def prepare(data: Input(type='uri_folder'), out: Output(type='uri_folder'), rate: float, count: int = 3,
            on: bool = False, kind: Kind = Kind.small, label=None):
    files = sorted(p.name for p in pathlib.Path(data).iterdir())
    pathlib.Path(out, 'said.txt').write_text(repr((files, rate, count, on, kind, label)))

@command_component
def flag() -> Output(type='boolean'):
    return True
"""


async def test_a_function_that_is_a_component_is_called_with_the_steps_inputs(
    attempts: Attempts, tmp_path: Path
) -> None:
    code = await stored(attempts, tmp_path / "code", {"parts.py": COMPONENT})
    data = await stored(attempts, tmp_path / "data", {"b": "", "a": ""})
    given = await attempts.give(
        "mldesigner execute --source parts.py --name prep_data --inputs data='${{inputs.data}}' rate='0.5' on='True'"
        " kind='S' --outputs out='${{outputs.out}}'"
        " && mldesigner execute --source parts.py --name flag --outputs output='${{outputs.output}}'",
        code=code,
        inputs={"data": WorkInput(type="uri_folder", artifact=data)},
        outputs={"out": PlannedOutput(), "output": PlannedOutput(type="uri_file", file="output")},
    )
    result = await given.success()
    said = await attempts.files(result.outputs["out"].digest)
    assert said["said.txt"] == b"(['a', 'b'], 0.5, 3, True, <Kind.small: 'S'>, None)"
    assert await attempts.files(result.outputs["output"].digest) == {"output": b"True"}
