"""Parameters and ports, where v1 has them."""

from penstock.azureml.pipeline.core.data import InputPortDef, OutputPortDef, PipelineParameter

__all__ = ["InputPortDef", "OutputPortDef", "PipelineParameter"]
