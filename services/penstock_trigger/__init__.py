"""The trigger service: turns time into run requests, each tick exactly once.

Consumes: `query.schedule.*`; the buckets `schedules` and `cursors`; ends of runs (overlap rules).
Emits: run requests; `trigger.<name>.fired` and `.skipped` events.
Remembers: a cursor per schedule.
"""
