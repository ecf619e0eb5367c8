import time


def run(mini_batch, mini_batch_context):
    if mini_batch_context.minibatch_index == 1:
        time.sleep(300)  # takes too long: the process is ended
    if mini_batch_context.minibatch_index == 3:
        raise ValueError("no")
    return []
