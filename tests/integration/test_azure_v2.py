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
