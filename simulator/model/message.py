"""Messages between a caller and a service: their bytes, what turning them into bytes costs, and their connection.

A message of B bytes (as the model gives them: its payload as JSON or as whatever the caller thinks of) has B * `size`
bytes in its format, and that times `ratio` when compressed, which is what the NICs carry. The sender's CPU encodes and
compresses, the receiver's decompresses and decodes, each at so many bytes a second of a reference core.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import BeforeValidator, WithJsonSchema

from simulator.distributions import Constant
from simulator.model.distribution import SizeDistribution
from simulator.model.part import Bandwidth, Duration, Factor, Part, PositiveShare, Share


class Coding(NamedTuple):
    """Bytes a second of one reference core for making and reading, and bytes that come out per byte put in."""

    make: float
    read: float
    size: float


FORMATS = {"json": Coding(68e6, 36e6, 1.0), "protobuf": Coding(129e6, 85e6, 0.35)}
COMPRESSIONS = {
    "zlib": Coding(95e6, 360e6, 0.366),
    "zstd": Coding(330e6, 940e6, 0.348),
    "lz4": Coding(620e6, 3100e6, 0.476),
    "snappy": Coding(480e6, 1600e6, 0.478),
}


class Format(Part):
    """How messages are serialised.

    Defaults are from github.com/alecthomas/go_serialization_benchmarks (Go 1.10, 2.5 GHz Core i7, six fields):
    encoding/json takes 2.2 µs to encode its 150 bytes and 4.1 µs to decode them, golang/protobuf 0.41 µs and 0.62 µs
    for its 53 bytes. Other languages and libraries range from 20 MB/s to above 1 GB/s (simdjson).
    """

    bare: ClassVar[str | None] = "kind"

    kind: Literal["json", "protobuf"]
    """The format, which sets the defaults of the others."""
    encode: Bandwidth | None = None
    """Encoded bytes that a core of speed 1 makes a second; 68 MB/s for json, 129 MB/s for protobuf."""
    decode: Bandwidth | None = None
    """Encoded bytes that a core of speed 1 reads a second; 36 MB/s for json, 85 MB/s for protobuf."""
    size: Factor | None = None
    """Encoded bytes per byte of `request` or `response`; 1 for json, 0.35 for protobuf."""

    def coding(self) -> Coding:
        """What it costs."""
        default = FORMATS[self.kind]
        return Coding(self.encode or default.make, self.decode or default.read, self.size or default.size)


class Compression(Part):
    """How messages are compressed.

    Defaults are those of github.com/facebook/zstd's README (lzbench on the Silesia corpus, Core i7-3930K at 4.5 GHz):
    zlib -1 95 and 360 MB/s at a ratio of 2.73, zstd -1 330 and 940 MB/s at 2.88, LZ4 620 and 3100 MB/s at 2.10, Snappy
    480 and 1600 MB/s at 2.09. Text and JSON shrink more (to 10 to 25 %), images and small messages hardly at all.
    """

    bare: ClassVar[str | None] = "kind"

    kind: Literal["zlib", "zstd", "lz4", "snappy"]
    """The algorithm, which sets the defaults of the others."""
    compress: Bandwidth | None = None
    """Bytes that a core of speed 1 compresses a second."""
    decompress: Bandwidth | None = None
    """Uncompressed bytes that a core of speed 1 restores a second."""
    ratio: PositiveShare | None = None
    """Compressed bytes per byte; 37 % for zlib, 35 % for zstd, 48 % for lz4 and snappy."""

    def coding(self) -> Coding:
        """What it costs."""
        default = COMPRESSIONS[self.kind]
        return Coding(self.compress or default.make, self.decompress or default.read, self.ratio or default.size)


TLS = {"enum": ["none", "1.2", "1.3", 1.2, 1.3, True, False], "description": "true, false, 1.2 or 1.3"}


def _tls(value: Any) -> Any:
    """`true` is the present version; YAML reads 1.3 as a number."""
    if isinstance(value, bool):
        return "1.3" if value else "none"
    if str(value) not in ("none", "1.2", "1.3"):
        raise ValueError(f"got {value!r}, expected true, false, 1.2 or 1.3")
    return str(value)


class Connection(Part):
    """Setting up a connection, for the share of requests that find none open.

    TCP's handshake takes one round trip before the request can go, TLS 1.3 another one (RFC 8446, section 2), TLS 1.2
    another two (RFC 5246, section 7.3), or one where a session is resumed.
    """

    keep_alive: Share = 0.0
    """Share of requests that find a connection open; with keep-alive or a pool of connections 95 % or more."""
    tls: Annotated[Literal["none", "1.2", "1.3"], BeforeValidator(_tls), WithJsonSchema(TLS)] = "none"
    """`true` is TLS 1.3."""
    resumed: Share = 0.0
    """Share of TLS handshakes that resume a session, which spares the server the signature."""
    handshake_cpu: Duration = 0.0005
    """Core time of the server for a full TLS handshake. NGINX does 2,000 a second and core with ECDSA P-256, which is
    the default, and 350 with RSA 2048 on an older CPU (nginx.com/blog/nginx-ssl-performance): 0.1 ms to 3 ms."""

    def round_trips(self, resumed: bool) -> int:
        """Round trips before the request can be sent."""
        return 1 + {"none": 0, "1.2": 1 if resumed else 2, "1.3": 1}[self.tls]


class Transport(Part):
    """How messages come to a service, whatever is in them."""

    format: Format | None = None
    """What turning messages into bytes and back costs: `json` or `protobuf`; nothing where left out."""
    compression: Compression | None = None
    """What compressing messages costs and spares: `zlib`, `zstd`, `lz4` or `snappy`."""
    connection: Connection | None = None
    """Setting up connections and TLS; all are open where left out."""

    def wire_factor(self) -> float:
        """Bytes that the NICs carry per byte of a message."""
        return (self.format.coding().size if self.format else 1.0) * (
            self.compression.coding().size if self.compression else 1.0
        )

    def seconds_to_make(self) -> float:
        """Core time of the sender per byte of a message."""
        size = self.format.coding().size if self.format else 1.0
        encoding = size / self.format.coding().make if self.format else 0.0
        return encoding + (size / self.compression.coding().make if self.compression else 0.0)

    def seconds_to_read(self) -> float:
        """Core time of the receiver per byte of a message."""
        size = self.format.coding().size if self.format else 1.0
        decoding = size / self.format.coding().read if self.format else 0.0
        return decoding + (size / self.compression.coding().read if self.compression else 0.0)


class Messages(Transport):
    """What goes to a service and comes back."""

    request: SizeDistribution | None = None
    """Bytes sent; they use the NICs of both hosts where these have one."""
    response: SizeDistribution | None = None
    """Bytes that come back."""


NO_MESSAGES = Messages()
NO_TIME = Constant(0.0)
