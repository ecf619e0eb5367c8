"""The artifact service: the only holder of the object store's credentials.

Consumes: stage, upload, commit, fetch and exist requests.
Emits: grants, and `data.<name>.committed` events when a dataset's content has changed.
Remembers: objects, and the bucket `artifacts`. What it keeps in memory only saves it work.

    stage   leave to upload a large manifest            upload  leave to upload what the store lacks
    commit  everything is there, right and durable      fetch   leave to read a committed tree
    exist   which trees are whole

A tree is committed when its manifest lies in the store, and that is written last: after every
object was found with the right size and was read back and had the right digest. Any number of
copies may serve; a tree may be uploaded through one and committed through another.
"""
