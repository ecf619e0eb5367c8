"""The parent of `azure.ai.ml`."""
