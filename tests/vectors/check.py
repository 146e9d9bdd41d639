"""Verifies every row of manifest.json and selection.json with a verifier of its own, written from the rules alone."""

import base64
import calendar
import json
import re
import struct
import sys
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding

HERE = Path(__file__).parent
MAX_DEPTH = 256


class Bad(Exception):
    """The code that inspect prints."""


def read_varint(data, at):
    n = shift = 0
    while True:
        byte = data[at]
        at += 1
        n |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return n, at
        if shift > 63:
            raise ValueError("varint")


def protobuf(data):
    """The last value of each field."""
    fields, at = {}, 0
    while at < len(data):
        tag, at = read_varint(data, at)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise ValueError("field 0")
        if wire == 0:
            value, at = read_varint(data, at)
        elif wire in (1, 2, 5):
            size, at = (8, at) if wire == 1 else (4, at) if wire == 5 else read_varint(data, at)
            value, at = data[at : at + size], at + size
            if at > len(data):
                raise ValueError("too short")
        else:
            raise ValueError("wire type")
        fields[number] = value
    return fields


def cbor(data, at=0, depth=0):
    if depth > MAX_DEPTH:
        raise ValueError("depth")
    major, info = data[at] >> 5, data[at] & 31
    at += 1
    if major == 7:
        if info in (20, 21, 22):
            return [False, True, None][info - 20], at
        if info != 27:
            raise ValueError("simple value")
        (f,) = struct.unpack(">d", data[at : at + 8])
        if f != f or f in (float("inf"), float("-inf")):
            raise ValueError("float")
        return f, at + 8
    n = info
    if info >= 24:
        if info > 27:
            raise ValueError("length")
        size = 1 << (info - 24)
        if at + size > len(data):
            raise ValueError("too short")
        n, at = int.from_bytes(data[at : at + size], "big"), at + size
        if n < (24 if size == 1 else 1 << (4 * size)):
            raise ValueError("not minimal")
    if major == 0:
        return n, at
    if major == 1:
        return -1 - n, at
    if major in (2, 3):
        if at + n > len(data):
            raise ValueError("too short")
        piece = data[at : at + n]
        return (piece if major == 2 else piece.decode()), at + n
    if major == 4:
        items = []
        for _ in range(n):
            item, at = cbor(data, at, depth + 1)
            items.append(item)
        return items, at
    if major == 5:
        entries = {}
        for _ in range(n):
            key, at = cbor(data, at, depth + 1)
            if not isinstance(key, str) or key in entries:
                raise ValueError("key")
            entries[key], at = cbor(data, at, depth + 1)
        return entries, at
    link, at = cbor(data, at, depth + 1)
    if n != 42 or not isinstance(link, bytes) or link[:1] != b"\0":
        raise ValueError("tag")
    return {"/": b32(link[1:])}, at


def b32(cid):
    return "b" + base64.b32encode(cid).decode().lower().rstrip("=")


def instant(text):
    """Nanoseconds since 1970."""
    m = re.fullmatch(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:Z|([+-])(\d\d):(\d\d))", text, re.ASCII)
    if not m:
        raise ValueError(text)
    year, month, day, hour, minute, second = map(int, m.groups()[:6])
    if not (1 <= month <= 12 and 1 <= day <= calendar.monthrange(year, month)[1] and hour < 24 and minute < 60 and second < 60):
        raise ValueError(text)
    seconds = calendar.timegm((year, month, day, hour, minute, second))
    if m[8]:
        seconds -= (int(m[9]) * 60 + int(m[10])) * 60 * (1 if m[8] == "+" else -1)
    return seconds * 10**9 + int((m[7] or "").ljust(9, "0"))


def multihash(name):
    n = int(name[1:], 36)
    cid = n.to_bytes((n.bit_length() + 7) // 8, "big")
    assert cid[:2] == b"\x01\x72"
    return cid[2:]


def load_key(public):
    try:
        fields = protobuf(public)
        kind, raw = fields[1], fields[2]
    except (ValueError, KeyError, IndexError):
        raise Bad("public_key_malformed")
    if kind > 3:
        raise Bad("key_type_unsupported")
    try:
        if kind == 1:
            return "ed25519", ed25519.Ed25519PublicKey.from_public_bytes(raw)
        if kind == 2:
            return "secp256k1", ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), raw)
        return ("ecdsa" if kind else "rsa"), serialization.load_der_public_key(raw)
    except ValueError:
        raise Bad("public_key_malformed")


def verify_signature(kind, key, signature, message):
    try:
        if kind == "ed25519":
            key.verify(signature, message)
        elif kind == "rsa":
            key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
        else:
            key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except Exception:
        raise Bad("signature_invalid")


def read_data(data):
    try:
        entries, end = cbor(data)
        if end != len(data) or not isinstance(entries, dict):
            raise ValueError("not one map")
        for name, kind in (("Value", bytes), ("Validity", bytes), ("ValidityType", int), ("Sequence", int), ("TTL", int)):
            value = entries.get(name, 0 if name == "TTL" and name not in entries else None)
            if type(value) is not kind or kind is int and not 0 <= value < 2**63:
                raise ValueError(name)
    except (ValueError, IndexError, struct.error):
        raise Bad("data_malformed")
    return entries


def path(value):
    if value == b"":
        return "/ipfs/bafkqaaa"
    if value[:1] == b"/":
        return value.decode()
    return "/ipfs/" + b32(b"\x01\x70" + value if value[:2] == b"\x12\x20" else value)


def dag_json(value):
    if isinstance(value, bytes):
        return {"/": {"bytes": base64.b64encode(value).decode().rstrip("=")}}
    if isinstance(value, list):
        return [dag_json(v) for v in value]
    if isinstance(value, dict):
        return value if "/" in value else {k: dag_json(v) for k, v in value.items()}
    return value


def verify(record, name, at):
    """What inspect says of a valid record; raises Bad. Also (sequence, end, bytes) to select by."""
    if len(record) > 10_240:
        raise Bad("too_large")
    try:
        pb = protobuf(record)
    except (ValueError, IndexError):
        raise Bad("malformed")
    if not pb.get(8):
        raise Bad("signature_missing")
    if not pb.get(9):
        raise Bad("data_missing")
    mh = multihash(name)
    public = pb.get(7) or (mh[2:] if mh[0] == 0 else None)
    if public is None:
        raise Bad("public_key_missing")
    kind, key = load_key(public)
    if mh != (b"\0" + bytes([len(public)]) + public if len(public) <= 42 else b"\x12\x20" + sha256(public).digest()):
        raise Bad("public_key_mismatch")
    data = read_data(pb[9])
    verify_signature(kind, key, pb[8], b"ipns-signature:" + pb[9])
    if 1 in pb or 2 in pb:
        for number, field in ((1, "Value"), (3, "ValidityType"), (4, "Validity"), (5, "Sequence"), (6, "TTL")):
            if pb.get(number) != data.get(field):
                raise Bad("field_mismatch")
    if data["ValidityType"] != 0:
        raise Bad("validity_type_unsupported")
    try:
        end = instant(data["Validity"].decode())
    except ValueError:
        raise Bad("validity_malformed")
    if end <= instant(at):
        raise Bad("expired")
    known = ("Value", "Validity", "ValidityType", "Sequence", "TTL")
    shown = {
        "valid": True,
        "error": None,
        "value": path(data["Value"]),
        "sequence": data["Sequence"],
        "ttl_ns": data.get("TTL"),
        "validity": data["Validity"].decode(),
        "validity_type": 0,
        "v1": 2 in pb,
        "public_key": {"type": kind, "embedded": 7 in pb},
        "metadata": dag_json({k: v for k, v in data.items() if k not in known}),
    }
    return shown, (data["Sequence"], end, record)


def check(row):
    try:
        return verify((HERE / row["file"]).read_bytes(), row["name"], row["at"])[0]
    except Bad as bad:
        return {"valid": False, "error": str(bad)}


def winner(row):
    valid = {}
    for file in row["files"]:
        try:
            valid[file] = verify((HERE / file).read_bytes(), row["name"], row["at"])[1]
        except Bad:
            pass
    return max(valid, key=valid.get, default=None)


if __name__ == "__main__":
    manifest = json.loads((HERE / "manifest.json").read_text())
    selection = json.loads((HERE / "selection.json").read_text())
    wrong = [(row["file"], row["expect"], got) for row in manifest if (got := check(row)) != row["expect"]]
    wrong += [(row["what"], row["winner"], got) for row in selection if (got := winner(row)) != row["winner"]]
    listed = {row["file"] for row in manifest}
    wrong += [
        (file.name, "in manifest.json", "not listed")
        for file in (HERE / "records").iterdir()
        if f"records/{file.name}" not in listed
    ]
    for what, expected, got in wrong:
        print(f"{what}: expected {expected}, got {got}")
    print(f"{len(manifest)} rows, {len(selection)} selections, {len(wrong)} wrong")
    sys.exit(bool(wrong))
