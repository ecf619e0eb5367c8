"""One module per kind of work; importing a module enters its workloads into the registry."""
