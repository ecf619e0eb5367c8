"""Presigned URLs with signed headers (AWS Signature Version 4, query form).

Why not the client library's: minio-py signs only `host`, so its URL can be used again and with any
body until it expires. With `if-none-match: *` and `content-length` among the signed headers, a server
that checks the signature lets exactly one write of exactly that size through.
Source: docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

ALGORITHM = "AWS4-HMAC-SHA256"
EXPIRES_S_MAX = 7 * 86_400
UNSIGNED = "UNSIGNED-PAYLOAD"


@dataclass(frozen=True)
class Signer:
    """A key that signs for one region. The secret is left out of the representation."""

    key: str
    secret: str = field(repr=False)
    region: str = "us-east-1"

    def url(
        self,
        method: str,
        url: str,
        *,
        at: float,
        expires_s: float,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> str:
        """Return `url` signed for one method, these headers and this query, from `at` for `expires_s`."""
        parts = urlsplit(url)
        moment = datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%SZ")
        scope = f"{moment[:8]}/{self.region}/s3/aws4_request"
        signed = {name.lower(): value.strip() for name, value in (headers or {}).items()}
        signed["host"] = parts.netloc
        names = ";".join(sorted(signed))
        parameters = {
            **(query or {}),
            "X-Amz-Algorithm": ALGORITHM,
            "X-Amz-Credential": f"{self.key}/{scope}",
            "X-Amz-Date": moment,
            "X-Amz-Expires": str(max(1, min(EXPIRES_S_MAX, int(expires_s)))),
            "X-Amz-SignedHeaders": names,
        }
        canonical_query = "&".join(
            f"{_escaped(name)}={_escaped(value)}" for name, value in sorted(parameters.items())
        )
        canonical = "\n".join(
            [
                method,
                quote(parts.path, safe="/-_.~%"),
                canonical_query,
                *(f"{name}:{signed[name]}" for name in sorted(signed)),
                "",
                names,
                UNSIGNED,
            ]
        )
        text = "\n".join([ALGORITHM, moment, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        signature = hmac.new(self._derived(moment[:8]), text.encode(), hashlib.sha256).hexdigest()
        return (
            f"{parts.scheme}://{parts.netloc}{parts.path}?{canonical_query}"
            f"&X-Amz-Signature={signature}"
        )

    def _derived(self, day: str) -> bytes:
        key = f"AWS4{self.secret}".encode()
        for part in (day, self.region, "s3", "aws4_request"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return key


def _escaped(text: str) -> str:
    return quote(text, safe="-_.~")
