"""The half of the shell that all services share: settings, one way to start and stop, log lines."""
