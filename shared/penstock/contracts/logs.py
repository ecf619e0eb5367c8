"""Chunks of what a step writes: raw bytes as the body, three headers to put them in order.

Subject: `<workspace>.log.<run>.<step>.<attempt>.<stream>`, stream = stdout · stderr · metrics · end.
Bodies are raw bytes (metrics: JSON lines). `end` is an empty last chunk: nothing more will come.
Within one stream of one attempt and delivery, `Penstock-Offset` counts bytes without a gap.
"""

STREAMS = ("stdout", "stderr", "metrics", "end")
OFFSET = "Penstock-Offset"  # bytes of this stream before this chunk
TIME = "Penstock-Time"  # seconds since 1970 when the chunk was read
DELIVERY = "Penstock-Delivery"  # which delivery of the attempt wrote it
CHUNK_BYTES_MAX = 64 * 1024
ATTEMPT_BYTES_MAX = 100 * 1024 * 1024
FLUSH_S = 0.1
