"""Our own stand-in for Azure ML's SDK v1 in a step: what step scripts use of it, over penstock's current run."""
