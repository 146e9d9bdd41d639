"""Writes the seed corpora anew, from the committed vectors: `python3 seeds.py`."""

import hashlib
import json
from pathlib import Path

HERE = Path(__file__).parent
VECTORS = HERE.parent / "tests/vectors"
BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"
BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
TYPE = b"content-type: application/vnd.ipfs.ipns-record\r\n"

RECORDS = """
data-deep data-duplicate-key data-empty-map data-endless-map data-huge-length data-long-integer data-nan
data-sequence-2e63 data-tag data-trailing data-ttl--1 data-unsorted-v2 ecdsa-v1v2 ed25519-v1v2 ed25519-v2 expired
field-all-same-no-v1 field-stray-no-v1 field-ttl js-secp256k1-v1v2 js-value-subpath key-embedded-inline key-foreign-rsa
key-type-9 largest-numbers-v1v2 metadata metadata-kinds metadata-nested-64 pb-any-order pb-data-twice-signed-last
pb-truncated pb-unknown-fields rsa-v2 size-0 ttl-missing-v1v2 v1-only validity-9999 validity-offset validity-type-1-v2
value-cid-v0-v2
""".split()


def seeds(target, files):
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    assert len(files) <= 40, target
    for name, content in files.items():
        (folder / name).write_bytes(content)


def number(digits, alphabet):
    value = 0
    for digit in digits:
        value = value * len(alphabet) + alphabet.index(digit)
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def text(data, alphabet):
    value, digits = int.from_bytes(data, "big"), ""
    while value:
        value, digit = divmod(value, len(alphabet))
        digits = alphabet[digit] + digits
    return alphabet[0] * (len(data) - len(data.lstrip(b"\0"))) + digits


def multihash(name):
    return number(name[1:], BASE36)[2:]


def varint(value):
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def field(tag, content):
    if isinstance(content, int):
        return varint(tag << 3) + varint(content)
    return varint(tag << 3 | 2) + varint(len(content)) + content


def message(start, *headers, body=b""):
    return b"\r\n".join([start, *headers, b"content-length: %d" % len(body), b"", body])


def main():
    manifest = json.loads((VECTORS / "manifest.json").read_bytes())
    rows = {Path(row["file"]).stem: row for row in manifest}
    record = {stem: (VECTORS / rows[stem]["file"]).read_bytes() for stem in RECORDS}
    seeds("record_decode", record)
    hashes = {stem: multihash(rows[stem]["name"]) for stem in RECORDS}
    seeds("record_verify", {stem: bytes([len(hashes[stem])]) + hashes[stem] + record[stem] for stem in RECORDS})

    names = {}
    for kind in ["ed25519", "rsa", "secp256k1", "ecdsa"]:
        name = rows[f"{kind}-v1v2"]["name"]
        hash = multihash(name)
        cid = b"\x01\x72" + hash
        names |= {
            f"{kind}-base36": name.encode(),
            f"{kind}-base58": text(hash, BASE58).encode(),
            f"{kind}-multihash": hash,
            f"{kind}-routing-key": b"/ipns/" + hash,
            f"{kind}-base16-upper": b"F" + cid.hex().upper().encode(),
        }
    name = rows["ed25519-v1v2"]["name"]
    names |= {
        "path": f"/ipns/{name}/a/b".encode(),
        "url": f"ipns://{name}/".encode(),
        "url-in-path": b"ipfs://bafkqaaa/https://example.org",
        "another-codec": b"f" + (b"\x01\x55" + multihash(name)).hex().encode(),
        "dnslink": b"/ipns/example.org/a",
        "value": b"/ipfs/bafkqac3jobxhgidsn5rww4yk/a b",
        "value-binary": b"\x01\x55\x00\x05hello",
        "instant": b"2126-01-31T15:56:12.714899293Z",
        "instant-offset": b"2026-06-01T01:29:59.5+02:00",
    }
    seeds("name_parse", names)

    body = record["ed25519-v1v2"]
    path = f"/routing/v1/ipns/{name}".encode()
    etag = b'etag: "' + hashlib.sha256(body).hexdigest().encode() + b'"'
    date = b"date: Mon, 23 Nov 2026 10:00:00 GMT"
    typed = TYPE.strip()
    problem = b'{"error":{"code":"conflict","message":"a newer record is known"},"sequence":7}'
    cached = [typed, etag, date, b"cache-control: public, max-age=300", b"vary: Accept"]
    asks = [b"origin: https://example.org", b"access-control-request-method: PUT"]
    larger = (VECTORS / "records/size-10241.ipns-record").read_bytes()
    seeds("http_response", {
        "200-record": message(b"HTTP/1.1 200 OK", *cached, body=body),
        "200-record-rsa": message(b"HTTP/1.1 200 OK", typed, body=record["rsa-v2"]),
        "200-record-parameters": message(b"HTTP/1.1 200 OK", typed.upper() + b"; charset=x", body=body),
        "200-too-large": message(b"HTTP/1.1 200 OK", typed, body=larger),
        "200-html": message(b"HTTP/1.1 200 OK", b"content-type: text/html", body=b"<!doctype html><p>no"),
        "201": message(b"HTTP/1.1 201 Created"),
        "204": message(b"HTTP/1.1 204 No Content", date),
        "301": message(b"HTTP/1.1 301 Moved Permanently", b"location: https://example.org/routing/v1/ipns/x"),
        "304": message(b"HTTP/1.1 304 Not Modified", etag),
        "404": message(b"HTTP/1.1 404 Not Found", b"content-type: text/plain; charset=utf-8", body=b"routing: not found"),
        "409-sequence": message(b"HTTP/1.1 409 Conflict", b"content-type: application/json", body=problem),
        "429-seconds": message(b"HTTP/1.1 429 Too Many Requests", b"retry-after: 7"),
        "503-date": message(b"HTTP/1.1 503 Service Unavailable", b"retry-after: Mon, 23 Nov 2026 10:00:07 GMT", date),
        "date-rfc850": message(b"HTTP/1.1 200 OK", b"date: Monday, 23-Nov-26 10:00:00 GMT"),
        "date-asctime": message(b"HTTP/1.1 200 OK", b"date: Mon Nov 23 10:00:00 2026"),
        "get": message(b"GET " + path + b" HTTP/1.1", b"host: example.org", b"accept: application/vnd.ipfs.ipns-record"),
        "get-known": message(b"GET " + path + b" HTTP/1.1", b"accept: */*;q=0.5, text/html", b'if-none-match: W/"a", "b"'),
        "get-escaped": message(b"GET /routing/v1/ipns/%6b" + name[1:].encode() + b" HTTP/1.1"),
        "get-base58": message(b"GET /routing/v1/ipns/" + text(multihash(name), BASE58).encode() + b" HTTP/1.1"),
        "get-providers": message(b"GET /routing/v1/providers/bafkqaaa HTTP/1.1"),
        "head": message(b"HEAD " + path + b" HTTP/1.1"),
        "options": message(b"OPTIONS " + path + b" HTTP/1.1", *asks),
        "put": message(b"PUT " + path + b" HTTP/1.1", typed, body=body),
        "post": message(b"POST " + path + b" HTTP/1.1", typed, body=record["ed25519-v2"]),
        "put-empty": message(b"PUT " + path + b" HTTP/1.1", typed),
        "delete": message(b"DELETE " + path + b" HTTP/1.1"),
    })

    sent = 1_795_000_000
    kinds = ["ed25519-v1v2", "rsa-v2", "ecdsa-v1v2", "metadata"]
    stored = {f"record-{stem}": field(1, record[stem]) + field(2, sent) for stem in kinds}
    errors = {"ed25519-v1v2": "", "ed25519-v2": "timed out", "metadata-kinds": "größer"}
    rest = field(2, 172_800_000_000_000) + field(3, sent) + field(4, 2)
    own = {f"own-{stem}": field(1, record[stem]) + rest + field(5, error.encode()) for stem, error in errors.items()}
    odd = {
        "no-record": field(2, sent),
        "before-1970": field(1, body) + field(2, 2**64 - 1),
        "unknown-field": field(1, body) + field(2, sent) + field(15, b"later") + field(16, 1),
        "lifetime-largest": field(1, body) + field(2, 2**64 - 1),
        "truncated": field(1, body)[:-9],
        "error-not-utf8": field(1, body) + field(5, b"\xff\xfe"),
    }
    seeds("store_value", stored | own | odd)

    # Addresses as multiaddrs: /ip4/192.0.2.1/tcp/4001, /dns/example.org/udp/4001/quic-v1.
    addresses = [b"\x04\xc0\x00\x02\x01\x06\x0f\xa1", b"\x35\x0bexample.org\x91\x02\x0f\xa1\xcd\x03"]
    peer = b"\x12\x20" + hashlib.sha256(b"peer").digest()
    info = field(1, peer) + b"".join(field(2, address) for address in addresses) + field(3, 1)
    key = b"/ipns/" + multihash(name)
    kept = field(1, key) + field(2, body) + field(5, b"2026-11-23T10:00:00.123456789Z")
    closer = [field(8, info), field(8, field(1, multihash(name)))]
    messages = {
        "put-value": field(1, 0) + field(2, key) + field(3, kept),
        "put-value-other-key": field(1, 0) + field(2, key + b"x") + field(3, kept),
        "get-value": field(1, 1) + field(2, key) + field(10, 0),
        "get-value-found": field(1, 1) + field(2, key) + field(3, kept) + b"".join(closer),
        "get-value-nothing": field(1, 1) + field(2, key) + b"".join(closer * 30),
        "add-provider": field(1, 2) + field(2, b"\x12\x20" + bytes(32)) + field(9, info),
        "get-providers": field(1, 3) + field(2, b"\x12\x20" + bytes(32)),
        "get-providers-found": field(1, 3) + field(9, info) + b"".join(closer),
        "find-node": field(1, 4) + field(2, peer),
        "find-node-found": field(1, 4) + b"".join(closer),
        "ping": field(1, 5),
        "type-unknown": field(1, 6) + field(2, b"x"),
        "unknown-fields": field(1, 4) + field(2, peer) + field(77, b"later") + b"\xa5\x06\x00\x00\x00\x00",
        "peer-broken": field(1, 4) + field(8, field(1, b"nobody")) + field(8, info),
        "truncated": (field(1, 1) + field(2, key) + field(3, kept))[:-9],
    }
    framed = {f"framed-{stem}": varint(len(content)) + content for stem, content in messages.items()}
    framed["framed-twice"] = framed["framed-ping"] * 2
    framed["frame-too-large"] = varint(2**40) + b"x"
    seeds("dht_message", messages | framed)

    # Choices of the target, one byte each: a publish with its answers, a resolve, requests of others, time.
    answered = bytes([12, 0] * 6 + [13, 0] * 4 + [6, 0, 9, 20, 40] * 40)
    seeds("engine_inputs", {
        "publish": bytes([20, 0, 0, 0]) + answered + bytes([19, 255] * 20),
        "resolve-first": bytes([5, 1, 0, 1, 0]) + answered,
        "resolve-16": bytes([19, 1, 3, 0, 2]) + answered,
        "serve": bytes([3, 17, 0] + [12, 0] * 8 + [14, 0, 9, 1, 2, 6] * 12 + [14, 1, 8, 2, 2, 3, 9, 30] * 12),
        "clock": bytes([9, 0, 1, 1] + [18, 200, 0, 19, 90] * 20),
        "inquiries": bytes([12] + [5, 0, 3, 5, 1, 5, 2, 5, 3, 5, 4, 9] + [6, 0, 9, 9, 9] * 60),
    })


main()
