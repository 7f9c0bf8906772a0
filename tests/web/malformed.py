"""Requests that are not what they should be, as bytes; and odd ones that are all right."""

from __future__ import annotations

from dataclasses import dataclass

BODY = b'{"prompt": "a lighthouse", "size": "1024x1024", "quality": "low"}'
SIZE = b"%x" % len(BODY)
KEY = b"Authorization: Bearer %(key)s\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNKS = SIZE + b"\r\n" + BODY + b"\r\n0\r\n\r\n"
PATH = b"/v1/images/generations"
GET = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"


def post(framing: bytes, body: bytes = BODY, *, target: bytes = PATH, version: bytes = b"HTTP/1.1") -> bytes:
    """A request that would make an image, with a key and this framing."""
    head = b"POST " + target + b" " + version + b"\r\nHost: a\r\n" + KEY + b"Content-Type: application/json\r\n"
    return head + framing + b"\r\n" + body


def chunked(body: bytes) -> bytes:
    """The same with a body in these chunks."""
    return post(CHUNKED, body)


def get(*lines: bytes, target: bytes = b"/healthz", version: bytes = b"HTTP/1.1") -> bytes:
    """A request that needs no key, with these header lines."""
    return b"GET " + target + b" " + version + b"\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


HOST = b"Host: a"

FRAMING: dict[str, bytes] = {
    "length and chunked": post(LENGTH + CHUNKED, CHUNKS),
    "chunked and length": post(CHUNKED + LENGTH, CHUNKS),
    "length and identity": post(LENGTH + b"Transfer-Encoding: identity\r\n"),
    "two lengths that differ": post(LENGTH + b"Content-Length: 5\r\n"),
    "the same length twice": post(LENGTH + LENGTH),
    "a list of lengths": post(b"Content-Length: 65, 65\r\n"),
    "an empty length": post(b"Content-Length: \r\n"),
    "a negative length": post(b"Content-Length: -65\r\n"),
    "a length with a plus": post(b"Content-Length: +65\r\n"),
    "a length with a space inside": post(b"Content-Length: 6 5\r\n"),
    "a length in hex": post(b"Content-Length: 0x41\r\n"),
    "a length with an underscore": post(b"Content-Length: 6_5\r\n"),
    "a length with a fraction": post(b"Content-Length: 65.0\r\n"),
    "a length in other digits": post("Content-Length: ٦٥\r\n".encode()),
    "a length beyond 64 bits": post(b"Content-Length: 99999999999999999999999\r\n"),
    "a length of 64 bits": post(b"Content-Length: 18446744073709551615\r\n"),
    "a length of five thousand digits": post(b"Content-Length: " + b"0" * 5000 + b"65\r\n"),
    "xchunked": post(b"Transfer-Encoding: xchunked\r\n", CHUNKS),
    "chunked, identity": post(b"Transfer-Encoding: chunked, identity\r\n", CHUNKS),
    "chunked, chunked": post(b"Transfer-Encoding: chunked, chunked\r\n", CHUNKS),
    "chunked twice": post(CHUNKED + CHUNKED, CHUNKS),
    "chunked and another line": post(CHUNKED + b"Transfer-Encoding: identity\r\n", CHUNKS),
    "identity": post(b"Transfer-Encoding: identity\r\n"),
    "gzip, chunked": post(b"Transfer-Encoding: gzip, chunked\r\n", CHUNKS),
    "gzip": post(b"Transfer-Encoding: gzip\r\n"),
    "an empty coding": post(b"Transfer-Encoding: \r\n", CHUNKS),
    "a quoted coding": post(b'Transfer-Encoding: "chunked"\r\n', CHUNKS),
    "chunked behind a vertical tab": post(b"Transfer-Encoding: \x0bchunked\r\n", CHUNKS),
    "chunked with a parameter": post(b"Transfer-Encoding: chunked;a=b\r\n", CHUNKS),
    "chunked in HTTP/1.0": post(CHUNKED, CHUNKS, version=b"HTTP/1.0"),
    "chunked on a folded line": post(b"Transfer-Encoding:\r\n chunked\r\n", CHUNKS),
    "a length before a space and its colon": post(b"Content-Length : 65\r\n"),
}
CHUNKING: dict[str, bytes] = {
    "a negative chunk": chunked(b"-41\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "a chunk size with a plus": chunked(b"+41\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "a chunk size with 0x": chunked(b"0x41\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "a chunk size behind a space": chunked(b" 41\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "a chunk size before a space": chunked(b"41 \r\n" + BODY + b"\r\n0\r\n\r\n"),
    "no chunk size": chunked(b"\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "a chunk size beyond 64 bits": chunked(b"1" + b"0" * 16 + b"41\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "a chunk size that ends in LF": chunked(b"41\n" + BODY + b"\r\n0\r\n\r\n"),
    "chunk data that end in LF": chunked(b"41\r\n" + BODY + b"\n0\r\n\r\n"),
    "chunk data without an end": chunked(b"41\r\n" + BODY + b"0\r\n\r\n"),
    "more chunk data than said": chunked(b"5\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "a last chunk that ends in LF": chunked(b"41\r\n" + BODY + b"\r\n0\n\n"),
    "a chunk extension with LF": chunked(b"41;a=\nb\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "a chunk extension with CR": chunked(b"41;a=\rb\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "a chunk extension with NUL": chunked(b"41;a=\x00b\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "a length among the trailers": chunked(SIZE + b"\r\n" + BODY + b"\r\n0\r\nContent-Length: 5\r\n\r\n"),
    "a folded trailer": chunked(SIZE + b"\r\n" + BODY + b"\r\n0\r\nX: a\r\n b\r\n\r\n"),
}
LINES: dict[str, bytes] = {
    "lines that end in LF": get(HOST).replace(b"\r\n", b"\n"),
    "one line that ends in LF": b"GET /healthz HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
    "a head that ends in LF": b"GET /healthz HTTP/1.1\r\nHost: a\r\n\n",
    "lines that end in CR": get(HOST).replace(b"\r\n", b"\r"),
    "a line that ends in CR CR LF": b"GET /healthz HTTP/1.1\r\nHost: a\r\r\n\r\n",
    "CR in a header": get(HOST, b"X: a\rb"),
    "a folded header": get(HOST, b"X: a\r\n b"),
    "a header folded by a tab": get(HOST, b"X: a\r\n\tb"),
    "a fold before the first header": get(b" X: a", HOST),
    "a space before the colon": get(b"Host : a"),
    "a tab before the colon": get(b"Host\t: a"),
    "no colon": get(HOST, b"nothing"),
    "no name": get(HOST, b": x"),
    "NUL in a name": get(HOST, b"X\x00: x"),
    "a name beyond ASCII": get(HOST, "Xé: x".encode()),
    "a bracket in a name": get(HOST, b"X(y): x"),
    "NUL in a header": get(HOST, b"X: a\x00b"),
    "a bell in a header": get(HOST, b"X: a\x07b"),
    "DEL in a header": get(HOST, b"X: a\x7fb"),
    "a space before the method": b" " + GET,
}
HOSTS: dict[str, bytes] = {
    "no host": get(),
    "two hosts": get(HOST, b"Host: b"),
    "the same host twice": get(HOST, HOST),
    "an empty host": get(b"Host: "),
    "a list of hosts": get(b"Host: a, b"),
    "a host with a user": get(b"Host: root@a"),
    "a host with a path": get(b"Host: a/b"),
    "a host with a space": get(b"Host: a b"),
    "a host with a quote": get(b'Host: a"><script>'),
    "a host with an endless port": get(b"Host: a:99999999"),
    "two hosts in HTTP/1.0": get(HOST, HOST, version=b"HTTP/1.0"),
}
TARGETS: dict[str, bytes] = {
    "a URL of another host": get(HOST, target=b"http://b/healthz"),
    "a URL with a user": get(HOST, target=b"http://u:p@a/healthz"),
    "a URL of another scheme": get(HOST, target=b"ftp://a/healthz"),
    "an image from another host": post(LENGTH, target=b"http://b" + PATH),
    "a host alone": get(HOST, target=b"a:80"),
    "a path without a slash": get(HOST, target=b"healthz"),
    "a star that is not asked for its options": get(HOST, target=b"*"),
    "a fragment": get(HOST, target=b"/healthz#x"),
    "NUL in the path": get(HOST, target=b"/healthz\x00"),
    "a control byte in the path": get(HOST, target=b"/heal\x01thz"),
    "a tab in the path": get(HOST, target=b"/healthz\tx"),
    "a space in the path": get(HOST, target=b"/health z"),
    "bytes beyond ASCII in the path": get(HOST, target=b"/v1/models/\xc3\xa9"),
    "no UTF-8 in the path": get(HOST, target=b"/v1/models/\xff\xfe"),
    "no ASCII in the query": get(HOST, target=b"/healthz?a=\xff"),
    "CONNECT": b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
}
VERSIONS: dict[str, bytes] = {
    "no version": b"GET /healthz\r\n\r\n",
    "HTTP/0.9": get(HOST, version=b"HTTP/0.9"),
    "HTTP/1.2": get(HOST, version=b"HTTP/1.2"),
    "HTTP/2.0": get(HOST, version=b"HTTP/2.0"),
    "HTTP/11": get(HOST, version=b"HTTP/11"),
    "a version in small letters": get(HOST, version=b"http/1.1"),
    "another protocol": get(HOST, version=b"ICE/1.0"),
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    "a method in small letters": b"get" + GET[3:],
    "an unknown method": b"FOO" + GET[3:],
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40,
    "a word": b"hello\r\n\r\n",
    "an endless method": b"G" * 100_000,
    "HTTP/2 offered with two lengths": post(b"Connection: Upgrade\r\nUpgrade: h2c\r\n" + LENGTH + LENGTH),
    "HTTP/2 offered with length and chunked": post(b"Connection: Upgrade\r\nUpgrade: h2c\r\n" + LENGTH + CHUNKED),
}
TOO_LARGE: dict[str, tuple[bytes, int]] = {
    "a URL of 9 KiB": (get(HOST, target=b"/" + b"x" * 9000), 414),
    "a URL that never ends": (b"GET /" + b"x" * 100_000, 414),
    "a header of 33 KiB": (get(HOST, b"X: " + b"x" * 33_000), 431),
    "a header that never ends": (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 100_000, 431),
    "a name that never ends": (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X" * 100_000, 431),
    "many headers of 33 KiB": (get(HOST, *(b"X%d: " % n + b"x" * 1000 for n in range(34))), 431),
    "101 headers": (get(HOST, *(b"X%d: x" % n for n in range(100))), 431),
    "trailers of 40 KiB": (chunked(SIZE + b"\r\n" + BODY + b"\r\n0\r\nX: " + b"x" * 40_000 + b"\r\n\r\n"), 431),
    "a chunk extension that never ends": (chunked(b"41;a=" + b"x" * 2_000_000), 400),
    "chunks that are nearly all extension": (chunked((b"1;a=" + b"x" * 1000 + b"\r\n \r\n") * 2000), 400),
    "a trailer that never ends": (chunked(SIZE + b"\r\n" + BODY + b"\r\n0\r\nX: " + b"x" * 2_000_000), 400),
}
MALFORMED: dict[str, tuple[bytes, int]] = {
    **{
        name: (raw, 400)
        for group in (FRAMING, CHUNKING, LINES, HOSTS, TARGETS, VERSIONS)
        for name, raw in group.items()
    },
    **TOO_LARGE,
}
"""By name: the bytes, and the status of the one answer before the connection ends."""

CUT_SHORT: dict[str, bytes] = {
    "garbage behind a body": post(LENGTH, BODY + b"\x00\x01garbage\r\n\r\n"),
    "a body longer than said": post(b"Content-Length: 5\r\n"),
    "a body without a length": post(b""),
    "65 requests behind one that is not answered": post(LENGTH) + GET * 65,
    "frames behind an offer of a websocket": get(HOST, b"Connection: Upgrade", b"Upgrade: websocket")
    + b"\x81\x05hello",
}
"""What is wrong comes behind a request that is being served: the connection ends, at most that request is answered."""


@dataclass(frozen=True)
class Odd:
    """Bytes that are served: the statuses of the answers, and whether the connection ends with the last."""

    raw: bytes
    statuses: tuple[int, ...]
    ends: bool = False


ODD: dict[str, Odd] = {
    "a length with blanks around it": Odd(post(b"Content-Length: \t65 \t\r\n"), (200,)),
    "CHUNKED": Odd(post(b"TRANSFER-ENCODING: CHUNKED\r\n", CHUNKS), (200,)),
    "a short chunk extension": Odd(chunked(b"41;a=b\r\n" + BODY + b"\r\n0\r\n\r\n"), (200,)),
    "a key among the trailers": Odd(post(CHUNKED, CHUNKS[:-2] + KEY + b"\r\n").replace(KEY, b"", 1), (401,), ends=True),
    "a host among the trailers": Odd(chunked(CHUNKS[:-2] + b"Host: b\r\n\r\n"), (200,)),
    "an IPv6 host": Odd(get(b"Host: [::1]:8080"), (200,)),
    "a host with an underscore": Odd(get(b"Host: image_gateway:8080"), (200,)),
    "a URL of the host": Odd(get(HOST, target=b"http://A/healthz"), (200,)),
    "empty lines before the method": Odd(b"\r\n\r\n" + GET, (200,)),
    "bytes beyond ASCII in a header": Odd(get(HOST, b"X: \xff\xfe"), (200,)),
    "a key that is no UTF-8": Odd(post(LENGTH).replace(b"%(key)s", b"\xff\xfe"), (401,)),
    "NUL in the path, encoded": Odd(get(HOST, KEY[:-2], target=b"/v1/assets/%00"), (404,)),
    "a line break in the path, encoded": Odd(get(HOST, KEY[:-2], target=b"/v1/models/%0d%0aX:y"), (404,)),
    "dots in the path, encoded": Odd(get(HOST, KEY[:-2], target=b"/v1/%2e%2e/healthz"), (404,)),
    "a length beyond what is read": Odd(post(b"Content-Length: 999999999999\r\n", b""), (413,), ends=True),
    "100-continue": Odd(post(b"Expect: 100-continue\r\n" + LENGTH), (100, 200)),
    "100-continue with a wrong key": Odd(
        post(b"Expect: 100-continue\r\n" + LENGTH, b"").replace(b"%(key)s", b"no"), (401,), ends=True
    ),
    "an offer of a websocket": Odd(get(HOST, b"Connection: Upgrade", b"Upgrade: websocket"), (200,)),
    "an offer of HTTP/2, and a second request": Odd(
        post(b"Connection: Upgrade\r\nUpgrade: h2c\r\n" + LENGTH) + GET, (200, 200)
    ),
    "OPTIONS of a star": Odd(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", (404,)),
    "HTTP/1.0 twice": Odd(b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" * 2, (200,), ends=True),
    "a second request behind the last": Odd(get(HOST, b"Connection: close") + GET, (200,), ends=True),
    "garbage behind the last": Odd(get(HOST, b"Connection: close") + b"\x00\x01\x02", (200,), ends=True),
}
