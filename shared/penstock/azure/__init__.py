"""`azure.ai.ml` (Azure ML's SDK v2) and what scripts import beside it, under our own name."""
