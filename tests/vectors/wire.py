"""What make.py builds with: protobuf, DAG-CBOR and base36 writers that also write wrong things, and the keys."""

import hashlib
import struct

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

SECP256K1_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def varint(n):
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes(out) + bytes([n])


def field(number, value):
    """One protobuf field: an int as varint, bytes with their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


class Raw(bytes):
    """CBOR that is written as it stands."""


class Link(bytes):
    """A binary CID, written as tag 42."""


def cbor_head(major, n):
    for extra, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if n < 24:
            return bytes([major << 5 | n])
        if n < 1 << (8 * size):
            return bytes([major << 5 | extra]) + n.to_bytes(size, "big")
    raise ValueError(n)


def cbor_pairs(pairs):
    """A map in the given order, whatever the keys."""
    return cbor_head(5, len(pairs)) + b"".join(cbor(k) + cbor(v) for k, v in pairs)


def cbor(value):
    match value:
        case Raw():
            return bytes(value)
        case Link():
            return b"\xd8\x2a" + cbor(b"\0" + bytes(value))
        case None:
            return b"\xf6"
        case bool():
            return b"\xf5" if value else b"\xf4"
        case int():
            return cbor_head(0, value) if value >= 0 else cbor_head(1, -1 - value)
        case float():
            return b"\xfb" + struct.pack(">d", value)
        case bytes():
            return cbor_head(2, len(value)) + value
        case str():
            return cbor_head(3, len(value.encode())) + value.encode()
        case list():
            return cbor_head(4, len(value)) + b"".join(map(cbor, value))
        case dict():
            return cbor_pairs(sorted(value.items(), key=lambda kv: (len(kv[0].encode()), kv[0].encode())))
    raise TypeError(value)


def base36(data):
    n, digits = int.from_bytes(data, "big"), ""
    while n:
        n, digit = divmod(n, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return "k" + digits


def name_of(public):
    """The name of a public key protobuf: short keys are the name, long ones are hashed."""
    hashed = b"\x12\x20" + hashlib.sha256(public).digest()
    return base36(b"\x01\x72" + (b"\0" + varint(len(public)) + public if len(public) <= 42 else hashed))


class Key:
    TYPES = ["rsa", "ed25519", "secp256k1", "ecdsa"]

    def __init__(self, private):
        self.private = private
        public = private.public_key()
        curve = getattr(private, "curve", None)
        if isinstance(private, ed25519.Ed25519PrivateKey):
            self.type, raw, secret = "ed25519", public.public_bytes_raw(), private.private_bytes_raw() + public.public_bytes_raw()
        elif isinstance(curve, ec.SECP256K1):
            self.type = "secp256k1"
            raw = public.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
            secret = private.private_numbers().private_value.to_bytes(32, "big")
        else:
            # PKIX for both; the private key is PKCS#1 for RSA and SEC 1 for ECDSA, which is what OpenSSL calls traditional.
            self.type = "ecdsa" if curve else "rsa"
            raw = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
            secret = self.dump(serialization.Encoding.DER, serialization.PrivateFormat.TraditionalOpenSSL)
        number = self.TYPES.index(self.type)
        self.public = field(1, number) + field(2, raw)
        self.protobuf = field(1, number) + field(2, secret)
        self.name = name_of(self.public)
        self.inline = len(self.public) <= 42

    def dump(self, encoding, form):
        return self.private.private_bytes(encoding, form, serialization.NoEncryption())

    def pem(self):
        return self.dump(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)

    def sign(self, message):
        if self.type == "ed25519":
            return self.private.sign(message)
        if self.type == "rsa":
            return self.private.sign(message, padding.PKCS1v15(), hashes.SHA256())
        der = self.private.sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
        if self.type == "secp256k1":
            # Bitcoin's custom, which many verifiers insist on: the lower of the two possible s.
            r, s = decode_dss_signature(der)
            der = encode_dss_signature(r, min(s, SECP256K1_ORDER - s))
        return der


def ed25519_key(seed):
    return Key(ed25519.Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


def ec_key(curve, scalar):
    return Key(ec.derive_private_key(int.from_bytes(bytes([scalar]) * 32, "big"), curve))


def pem_key(path):
    return Key(serialization.load_pem_private_key(path.read_bytes(), None))
