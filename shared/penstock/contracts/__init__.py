"""What services say to each other: one module per conversation, bytes in codec.py, names in subjects.py.

A fact is a past participle, a wish says so. A new field has a default; any other change is a new
version beside the old one. Golden bytes of every message are in tests/contract/golden/.
"""
