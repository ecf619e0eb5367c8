"""The scheduler: plans, results and timers in; work, events and reuse out.

Consumes: the inbox and the due timers of the partitions it owns; `query.runs`, `query.run`, `query.why`.
Emits: attempts to do, stop orders, timers, public events, run summaries, reuse entries.
Remembers: the run log, one fenced writer per partition; nothing else is true.
"""
