"""Names, keys and records, as far as kubo.py needs them to seed a node and to look into it: no package is needed for this."""
import hashlib, time

BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"
BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def digits(text, alphabet):
    number = 0
    for character in text:
        number = number * len(alphabet) + alphabet.index(character)
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def routing_key(name):
    """Of a name as base36 CID or as base58 multihash (`1…` is the identity hash: its zero is lost in the number)."""
    multihash = digits(name[1:], BASE36)[2:] if name[0] == "k" else bytes(name[0] == "1") + digits(name, BASE58)
    return b"/ipns/" + multihash


def name_of(multihash):
    number, text = int.from_bytes(b"\x01\x72" + multihash, "big"), ""
    while number:
        number, digit = divmod(number, 36)
        text = BASE36[digit] + text
    return "k" + text


def ed25519_public(seed):
    p = 2**255 - 19
    d = -121665 * pow(121666, -1, p) % p

    def add(a, b):
        (x1, y1), (x2, y2) = a, b
        t = d * x1 * x2 * y1 * y2
        return (x1 * y2 + x2 * y1) * pow(1 + t, -1, p) % p, (y1 * y2 + x1 * x2) * pow(1 - t, -1, p) % p

    scalar = int.from_bytes(hashlib.sha512(seed).digest()[:32], "little") & (2**254 - 8) | 2**254
    point, base = (0, 1), (0x216936D3CD6E53FEC0A4E231FDD6DC5C692CC7609525A7B2C9562D608F25D51A, 4 * pow(5, -1, p) % p)
    while scalar:
        if scalar & 1:
            point = add(point, base)
        base, scalar = add(base, base), scalar >> 1
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def cbor(major, value):
    number = value if isinstance(value, int) else len(value)
    size = next(i for i, limit in enumerate((24, 2**8, 2**16, 2**32, 2**64)) if number < limit)
    head = bytes([major << 5 | (23 + size if size else number)]) + (number.to_bytes(1 << size - 1, "big") if size else b"")
    return head + (b"" if isinstance(value, int) else value)


def varint(number):
    return bytes([number & 127 | 128]) + varint(number >> 7) if number > 127 else bytes([number])


def draft(value, sequence):
    """All that the republisher reads of a record; it makes and signs one of its own from that."""
    eol = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 60)).encode()
    data = b"\xa5" + b"".join(cbor(3, key) + cbor(major, field) for key, major, field in (
        (b"TTL", 0, 0), (b"Value", 2, value.encode()), (b"Sequence", 0, sequence), (b"Validity", 2, eol), (b"ValidityType", 0, 0)))
    return b"\x4a" + varint(len(data)) + data


def fields(message):
    """A protobuf message as {field: number or bytes}."""
    found, at = {}, 0

    def number():
        nonlocal at
        shift = result = 0
        while True:
            result, shift, at = result | (message[at] & 127) << shift, shift + 7, at + 1
            if message[at - 1] < 128:
                return result

    while at < len(message):
        tag = number()
        found[tag >> 3] = value = number()
        if tag & 7 == 2:
            found[tag >> 3], at = message[at:at + value], at + value
    return found


def from_cbor(data, key):
    at = data.index(cbor(3, key)) + 1 + len(key)
    small = data[at] & 31
    size = 0 if small < 24 else 1 << small - 24
    number = int.from_bytes(data[at + 1:at + 1 + size], "big") if size else small
    return data[at + 1 + size:at + 1 + size + number] if data[at] >> 5 == 2 else number
