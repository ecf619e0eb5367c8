"""`mldesigner`: components of SDK v2 written as functions.

    from mldesigner import command_component, Input, Output   →   from penstock.mldesigner import …

A file with such functions is read twice: by the program that builds the pipeline, and by the step that
calls one of them. The step has a stand-in of its own under the original name, of the standard library only.
"""

import os

if os.environ.get("PENSTOCK_STEP_SOCKET"):
    from mldesigner import Input, Output, command_component
else:
    from penstock.azure.ai.ml.values import Input, Output
    from penstock.mldesigner.components import command_component

__all__ = ["Input", "Output", "command_component"]
