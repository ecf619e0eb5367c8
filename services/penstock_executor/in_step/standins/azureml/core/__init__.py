"""What step scripts import from `azureml.core`."""

from .dataset import Dataset
from .datastore import Datastore
from .experiment import Experiment
from .model import Model
from .run import Run
from .workspace import Workspace

VERSION = "1.61.0"
__version__ = VERSION

__all__ = ["VERSION", "Dataset", "Datastore", "Experiment", "Model", "Run", "Workspace"]
