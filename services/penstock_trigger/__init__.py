"""The trigger service: turns time into run requests, one run per tick.

consumes  the buckets `schedules` and `cursors`, `query.schedule.*`, and `event.*.*.run.*` (to know
          when the run before has ended)
emits     `request.run`, `request.cancel`, `event.trigger.<name>.<what>`
remembers one cursor per schedule, in the bucket `cursors`

Any number of copies may run. APScheduler wakes each of them at the next due time; nothing is polled.
"""
