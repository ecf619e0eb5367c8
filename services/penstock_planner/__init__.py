"""The planner: request in, plan out.

Consumes: `request.run`, `request.cancel`, `request.rerun` (stream `requests`); `query.plan`, `query.pipeline.*`.
Emits: plan parts and cancels into scheduler inboxes; answers to whoever asked; `run.refused` events.
Remembers: nothing. Registered pipelines, specs and idempotency keys are in buckets.
"""
