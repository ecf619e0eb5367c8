"""The SDK: pipelines in Python, a client for the bus, and what a step may say from inside."""
