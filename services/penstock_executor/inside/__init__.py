"""What runs inside a step's container, before and beside the step. Standard library and `sh` only."""
