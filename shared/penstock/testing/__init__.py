"""For tests, ours and users': real servers on free ports, fakes held to the conformance suites."""
