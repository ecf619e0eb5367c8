"""`azure.ai.ml.dsl`."""

from penstock.azure.ai.ml.pipelines import group, pipeline

__all__ = ["group", "pipeline"]
