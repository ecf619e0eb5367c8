"""The executor: one attempt of one step at a time per slot.

Consumes: the work of its compute targets; stop orders.
Emits: attempt started, succeeded, failed; log chunks; outputs and archived logs as artifacts.
Remembers: nothing durable; a cache of content, which may be deleted at any time.
"""
