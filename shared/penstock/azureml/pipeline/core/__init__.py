"""`azureml.pipeline.core`: graphs of steps, and what becomes of them."""

from penstock.azureml.core.pipeline_run import (
    PipelineRun,
    PortDataReference,
    StepRun,
    StepRunOutput,
)
from penstock.azureml.pipeline.core.data import (
    InputPortDef,
    OutputPortDef,
    PipelineData,
    PipelineOutputFileDataset,
    PipelineParameter,
    TrainingOutput,
)
from penstock.azureml.pipeline.core.module import Module, ModuleVersion
from penstock.azureml.pipeline.core.pipeline import Pipeline, StepSequence
from penstock.azureml.pipeline.core.published import PipelineEndpoint, PublishedPipeline
from penstock.azureml.pipeline.core.schedule import Schedule, ScheduleRecurrence, TimeZone
from penstock.sdk.steps import PipelineStep

__all__ = [
    "InputPortDef",
    "Module",
    "ModuleVersion",
    "OutputPortDef",
    "Pipeline",
    "PipelineData",
    "PipelineEndpoint",
    "PipelineOutputFileDataset",
    "PipelineParameter",
    "PipelineRun",
    "PipelineStep",
    "PortDataReference",
    "PublishedPipeline",
    "Schedule",
    "ScheduleRecurrence",
    "StepRun",
    "StepRunOutput",
    "StepSequence",
    "TimeZone",
    "TrainingOutput",
]
