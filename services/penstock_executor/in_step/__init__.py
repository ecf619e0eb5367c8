"""What only steps see: a `sitecustomize` that hooks their interpreters, and stand-ins for Azure's packages.

    site/sitecustomize.py       first on every step's PYTHONPATH; takes itself off sys.path again
    hooks.py                    directory listings in name order, and a finder that comes last
    standins/                   azureml, mltable, mldesigner: found only where the real ones are not
    bin/                        programs that come with them, last on a step's PATH

Everything here runs in interpreters of other environments, from python 3.8 on, and may use the standard
library only. It is never imported by the executor itself.
"""
