"""Trees of files: read from a disk, moved to and from the object store, written to a disk.

`scan.py` makes a manifest of a folder, `client.py` stores and fetches trees through the artifact
service, `cache.py` keeps contents on this machine, `materialise.py` writes a tree below a folder and
nowhere else, `git.py` says where a source folder came from.
"""
