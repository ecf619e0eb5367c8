"""Which reply addresses are answered.

A service may publish where its callers may not. A caller who names `$JS.API.STREAM.DELETE.…`, or a
subject of the workspace itself, as its reply address would borrow that right: an empty answer is a
valid order to delete a stream, and any answer on the run log's subject spoils the run log.
"""

import logging

log = logging.getLogger("penstock.bus")


def answerable(subject: str, reply: str, *roots: str) -> str:
    """Return `reply` if it may be answered, else an empty text, after a warning.

    `roots`: first tokens of subjects that are ours, beside that of `subject`.
    """
    if not reply:
        return ""
    root = reply.partition(".")[0]
    odd = root.startswith("$") or not reply.isprintable() or any(c in reply for c in "*> ")
    if odd or root == subject.partition(".")[0] or root in roots:
        log.warning("%s %s: not answered on %s", "E_REPLY", subject, reply[:200])
        return ""
    return reply
