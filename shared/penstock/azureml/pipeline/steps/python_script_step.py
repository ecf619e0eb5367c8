"""`PythonScriptStep`, where v1 has it as well."""

from penstock.azureml.pipeline.steps import PythonScriptStep

__all__ = ["PythonScriptStep"]
