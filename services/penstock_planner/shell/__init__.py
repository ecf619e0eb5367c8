"""The planner's hands: it takes requests in, puts plans into inboxes, and gives answers.

intake      the durable stream of requests     → runs
runs        run, cancel, rerun                 → inboxes, buckets
callers     reply addresses, and answers to them
pipelines   registered pipelines and specs
queries     plan (a forecast), pipeline create, list, show
"""
