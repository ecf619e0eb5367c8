"""Pure decisions of the planner: bytes to request, spec and request to plan, plan to forecast.

    reading     bytes → RunRequest, CancelRequest, RerunRequest, PipelineSpec
    plan        spec + request → Plan → parts for the scheduler     (draft, parameters, inputs, steps)
    forecast    plan + what the buckets hold → what would be reused
    rerun       plan + what became of an earlier run → what runs again

A refusal is an Invalid that tells everything that is wrong, not the first thing only.
Equal input gives equal output, whatever the order of mappings: a redelivered request is planned
again, byte for byte.
"""
