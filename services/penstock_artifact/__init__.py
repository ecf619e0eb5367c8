"""The artifact service: the only holder of the object store's credentials.

Consumes: stage, upload, commit, fetch and exist requests.
Emits: grants, commits, `data.<name>.committed` events.
Remembers: objects, and the bucket `artifacts`.
"""
