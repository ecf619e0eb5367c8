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
