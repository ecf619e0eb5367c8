"""Azure's plugin of MLflow. There is nothing to plug in: MLFLOW_TRACKING_URI names an ordinary server."""
