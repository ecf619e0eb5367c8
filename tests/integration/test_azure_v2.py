# mypy: ignore-errors
"""A script as it is written for SDK v2, its import lines changed, run on real services."""

import textwrap
from pathlib import Path

import pytest
from tests.integration.test_azureml_v1 import ran, services

from penstock.testing.fleet import Fleet

pytestmark = [pytest.mark.server, pytest.mark.slow]
__all__ = ["services"]

COMPONENT = """
$schema: https://azuremlschemas.azureedge.net/latest/commandComponent.schema.json
name: count_words
version: 1
type: command
inputs:
  text: {type: uri_file}
  least: {type: integer, default: 1}
outputs:
  counts: {type: uri_folder}
code: ./src
environment: azureml:AzureML-sklearn-1.5@latest
command: python count.py ${{inputs.text}} ${{inputs.least}} ${{outputs.counts}}/counts.txt
"""
COUNT = """
import collections, sys
text, least, out = sys.argv[1:]
counts = collections.Counter(open(text).read().split())
with open(out, "w") as file:
    for word, count in counts.most_common():
        if count >= int(least):
            file.write(f"{count} {word}\\n")
"""
SCRIPT = """
from pathlib import Path
from penstock.azure.ai.ml import Input, MLClient, Output, command, dsl, load_component, load_job
from penstock.azure.ai.ml.entities import CronTrigger, JobSchedule
from penstock.azure.ai.ml.exceptions import JobException
from penstock.azure.identity import DefaultAzureCredential

ml_client = MLClient.from_config(credential=DefaultAzureCredential())
count_words = load_component(source="count.yml")

@dsl.pipeline(description="Counts words", compute="serverless")
def words(text, least: int = 1):
    counted = count_words(text=text, least=least)
    counted.environment = None
    upper = command(
        name="upper",
        command="tr a-z A-Z < ${{inputs.counts}}/counts.txt > ${{outputs.loud}}/counts.txt",
        inputs={"counts": Input(type="uri_folder")},
        outputs={"loud": Output(type="uri_folder")},
    )
    loud = upper(counts=counted.outputs.counts)
    return {"loud": loud.outputs.loud}

job = words(text=Input(type="uri_file", path="words.txt"), least=2)
job.settings.force_rerun = False
job = ml_client.jobs.create_or_update(job, experiment_name="words")
ml_client.jobs.stream(job.name)
assert ml_client.jobs.get(job.name).status == "Completed"
assert set(job.jobs) == {"counted", "loud"}
ml_client.jobs.download(job.name, output_name="loud", download_path="got")
assert Path("got/named-outputs/loud/counts.txt").read_text() == "3 TO\\n2 BE\\n"
assert job.name in [found.name for found in ml_client.jobs.list()]

failing = ml_client.create_or_update(command(name="failing", command="exit 3"))
try:
    ml_client.jobs.stream(failing.name)
except JobException as error:
    print("failed as it should:", error.code)

again = ml_client.jobs.create_or_update(load_job("pipeline.yml"))
ml_client.jobs.stream(again.name)

schedule = JobSchedule(
    name="nightly", trigger=CronTrigger(expression="30 2 * * 1-5"), create_job=words(
        text=Input(type="uri_file", path="words.txt")))
ml_client.schedules.begin_create_or_update(schedule).result()
fired = ml_client.schedules.trigger("nightly")
ml_client.jobs.stream(fired.name)
ml_client.schedules.begin_disable("nightly").result()
ml_client.schedules.begin_delete("nightly").result()
print("done")
"""
PIPELINE = """
type: pipeline
jobs:
  counted:
    component: ./count.yml
    inputs: {text: {type: uri_file, path: words.txt}}
"""


def test_a_script_for_v2_runs(services: Fleet, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "count.py").write_text(COUNT)
    (tmp_path / "count.yml").write_text(
        COMPONENT.replace("environment: azureml:AzureML-sklearn-1.5@latest\n", "")
    )
    (tmp_path / "words.txt").write_text("to be or not to be that is to say\n")
    (tmp_path / "pipeline.yml").write_text(PIPELINE)
    (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPT))
    said = ran(services, tmp_path, "script.py")
    assert "failed as it should: E_RUN_FAILED" in said
    assert said.splitlines()[-1] == "done"


COMPONENTS = '''
from pathlib import Path
from penstock.mldesigner import Input, Output, command_component


@command_component(name="split_text", display_name="Split", environment=None)
def split(text: Input(type="uri_file"), words: Output(type="uri_folder"), least: int = 2, note: str = None) -> int:
    """Splits a text into words."""
    found = [word for word in Path(text).read_text().split() if len(word) >= least]
    Path(words, "words.txt").write_text("\\n".join(found))
    assert note is None
    return len(found)


@command_component
def check(words: Input(type="uri_folder"), count: int, out: Output(type="uri_file")):
    found = Path(words, "words.txt").read_text().split()
    assert len(found) == count, (found, count)
    Path(out).write_text(" ".join(found))
'''
BUILDING = """
from components import check, split
from penstock.azure.ai.ml import Input, MLClient, dsl

@dsl.pipeline
def checking(text):
    parts = split(text=text)
    checked = check(words=parts.outputs.words, count=parts.outputs.output)
    return {"text": checked.outputs.out}

client = MLClient.from_config()
job = client.jobs.create_or_update(checking(text=Input(type="uri_file", path="words.txt")))
client.jobs.stream(job.name)
client.jobs.download(job.name, output_name="text", download_path="../got")
"""


def test_components_written_as_functions_run(services: Fleet, tmp_path: Path) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "components.py").write_text(COMPONENTS)
    (folder / "building.py").write_text(BUILDING)
    (folder / "words.txt").write_text("a be cee a dee\n")
    ran(services, folder, "building.py")
    (found,) = (path for path in (tmp_path / "got").rglob("*") if path.is_file())
    assert found.read_text() == "be cee dee"


REGISTERING = """
from pathlib import Path
from penstock.azure.ai.ml import Input, MLClient, Output, command, dsl, load_component
from penstock.azure.ai.ml.entities import AmlCompute, AzureBlobDatastore, Data, Environment, Model
from penstock.azure.ai.ml.exceptions import ResourceNotFoundError
from penstock.azure.identity import DefaultAzureCredential

ml_client = MLClient(DefaultAzureCredential(), "subscription", "group", "workspace")

text = Data(name="text", version="1", type="uri_file", path="words.txt", description="words", tags={"a": "b"})
text = ml_client.data.create_or_update(text)
print("data", text.name, text.version, text.id)
assert ml_client.create_or_update(
    Data(name="text", type="uri_file", path="words.txt")).version == "1"  # equal content
Path("words.txt").write_text("or not\\n")
assert ml_client.create_or_update(Data(name="text", type="uri_file", path="words.txt")).version == "2"

greeting = Environment(name="greeting", image="example/none", description="says hello")
greeting = ml_client.environments.create_or_update(greeting)
assert ml_client.environments.get("greeting", label="latest").image == "example/none"

counting = ml_client.create_or_update(load_component(source="count.yml"))
print("component", counting.name, counting.version, sorted(counting.inputs))
louder = command(
    name="louder", code="src",
    command="tr a-z A-Z < ${{inputs.counts}}/counts.txt > ${{outputs.loud}}/counts.txt; "
        "echo ${{inputs.mark}} >> ${{outputs.loud}}/counts.txt",
    inputs={"counts": Input(type="uri_folder"), "mark": "!"},
    outputs={"loud": Output(type="uri_folder")},
    environment=f"{greeting.name}@latest",
)
louder = ml_client.create_or_update(louder.component)
for absent in ("nobody", "words"):
    try:
        ml_client.components.get(absent)
    except ResourceNotFoundError as error:
        print("absent", error.code)
try:
    ml_client.models.get("text", version="1")
except ResourceNotFoundError as error:
    print("absent", error.code)

try:
    cluster = ml_client.compute.get("cpu-cluster")
except ResourceNotFoundError as error:
    print("absent", error.code)
    cluster = ml_client.compute.begin_create_or_update(AmlCompute(
        name="cpu-cluster", type="amlcompute", size="STANDARD_DS3_V2", max_instances=4)).result()
assert ml_client.compute.get("cpu-cluster").name == "cpu-cluster"
assert {one.name for one in ml_client.compute.list()} >= {"cpu-cluster", "default"}

@dsl.pipeline(default_compute=cluster.name)
def words(text, least: int = 1):
    counted = ml_client.components.get("count_words", version="1")(text=text, least=least)
    loud = ml_client.components.get(name="louder")(counts=counted.outputs.counts)
    loud.environment = ml_client.environments.get("greeting", version=greeting.version)
    return {"loud": loud.outputs.loud}

def told(path):
    job = words(text=Input(type="uri_file", path=path), least=1)
    job = ml_client.jobs.create_or_update(job, experiment_name="registered")
    ml_client.jobs.stream(job.name)
    ml_client.jobs.download(job.name, output_name="loud", download_path=job.name)
    return Path(job.name, "named-outputs/loud/counts.txt").read_text().split()

assert told("azureml:text@latest") == ["1", "OR", "1", "NOT", "!"]
first = ml_client.data.get("text", version="1")
assert (first.description, first.tags) == ("words", {"a": "b"})
ml_client.data.archive("text", version="2")
assert ml_client.data.get("text", label="latest").version == "1"
assert [one.version for one in ml_client.data.list(name="text")] == ["1"]
for path in (first.path, first.id, "azureml:text@latest"):
    assert told(path) == ["2", "TO", "2", "BE", "1", "OR", "1", "NOT", "!"], path
ml_client.data.restore("text", version="2")
assert [one.version for one in ml_client.data.list(name="text")] == ["2", "1"]
assert {one.name for one in ml_client.components.list()} >= {"count_words", "louder"}
(listed,) = ml_client.components.list(name="louder")
assert sorted(listed.inputs) == ["counts", "mark"]

ml_client.models.create_or_update(Model(name="net", path="src", type="custom_model"))
assert ml_client.models.get("net", label="latest").type == "custom_model"
try:
    ml_client.create_or_update(Data(name="text", version="1", path="src"))
except Exception as error:
    print("changed", error.code)
ml_client.create_or_update(
    AzureBlobDatastore(name="lake", account_name="account", container_name="box"))
assert ml_client.datastores.get("lake").container_name == "box"
assert ml_client.datastores.get_default().name in [one.name for one in ml_client.datastores.list()]
ml_client.datastores.delete("lake")
print("done")
"""


def test_what_a_script_registers_it_and_others_use_by_name(services: Fleet, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "count.py").write_text(COUNT)
    (tmp_path / "count.yml").write_text(
        COMPONENT.replace("environment: azureml:AzureML-sklearn-1.5@latest\n", "")
    )
    (tmp_path / "words.txt").write_text("to be or not to be\n")
    (tmp_path / "script.py").write_text(REGISTERING)
    said = [line for line in ran(services, tmp_path, "script.py").splitlines() if " " in line]
    assert [
        line for line in said if line.split()[0] in ("data", "component", "absent", "changed")
    ] == [
        "data text 1 azureml:text:1",
        "component count_words 1 ['least', 'text']",
        *["absent E_NOT_FOUND"] * 4,
        "changed E_EXISTS",
    ]
