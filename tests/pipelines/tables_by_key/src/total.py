import pandas as pd


def run(mini_batch, mini_batch_context):
    keys = mini_batch_context.partition_key_value
    return pd.DataFrame({"region": [keys["region"]], "total": [int(mini_batch["count"].sum())]})
