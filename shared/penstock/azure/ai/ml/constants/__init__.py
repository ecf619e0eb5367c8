"""`azure.ai.ml.constants`: names of types and modes."""

from penstock.sdk.recurrence import TimeZone


class AssetTypes:
    """Types of data and models."""

    URI_FILE = "uri_file"
    URI_FOLDER = "uri_folder"
    MLTABLE = "mltable"
    MLFLOW_MODEL = "mlflow_model"
    CUSTOM_MODEL = "custom_model"
    TRITON_MODEL = "triton_model"


class InputOutputModes:
    """How data is handed to a step."""

    MOUNT = "mount"
    RO_MOUNT = "ro_mount"
    RW_MOUNT = "rw_mount"
    DOWNLOAD = "download"
    UPLOAD = "upload"
    DIRECT = "direct"
    EVAL_MOUNT = "eval_mount"
    EVAL_DOWNLOAD = "eval_download"


class NodeType:
    """Types of steps."""

    COMMAND = "command"
    PIPELINE = "pipeline"


__all__ = ["AssetTypes", "InputOutputModes", "NodeType", "TimeZone"]
