"""Outputs as datasets, where v1 has them."""

from penstock.azureml.pipeline.core.data import PipelineOutputFileDataset

__all__ = ["PipelineOutputFileDataset"]
