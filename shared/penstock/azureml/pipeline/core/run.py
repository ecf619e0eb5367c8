"""Runs, where v1 has them."""

from penstock.azureml.core.pipeline_run import PipelineRun, StepRun, StepRunOutput

__all__ = ["PipelineRun", "StepRun", "StepRunOutput"]
