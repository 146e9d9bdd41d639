"""Records and key files made by hand, where the exact bytes matter. Run after make.mjs: adds to its manifest.json and keys.json."""

import base64
import hashlib
import json
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from wire import Link, Raw, cbor, cbor_pairs, ec_key, ed25519_key, field, name_of, pem_key

HERE = Path(__file__).parent
RECORDS = HERE / "records"
KEYS = HERE / "keys"

# Test keys: public for all the world, worth nothing.
ALICE, MALLORY = ed25519_key(1), ed25519_key(2)
RSA, RSA_OTHER = pem_key(KEYS / "rsa.pem"), pem_key(KEYS / "rsa-other.pem")
SECP256K1 = ec_key(ec.SECP256K1(), 3)
ECDSA = ec_key(ec.SECP256R1(), 4)

VALUE = "/ipfs/bafkqac3jobxhgidsn5rww4yk"
EOL = "2126-01-31T15:56:12.714899293Z"
NOW = "2026-06-01T00:00:00Z"
MAX = 2**63 - 1
PREFIX = b"ipns-signature:"
DROP = object()

PB_VALUE, PB_SIGNATURE_V1, PB_VALIDITY_TYPE, PB_VALIDITY, PB_SEQUENCE, PB_TTL, PB_KEY, PB_SIGNATURE_V2, PB_DATA = range(1, 10)

manifest = []


def kept(fields):
    return {k: v for k, v in fields.items() if v is not DROP}


class Made:
    """A record. `data` changes the CBOR map and `pb` the protobuf fields (DROP leaves one out); `raw` is the CBOR whole."""

    def __init__(self, key=ALICE, *, v1=True, data={}, raw=None, pb={}, sign=None, head=b"", tail=b""):
        self.key = key
        self.data = kept(
            {"TTL": 300_000_000_000, "Value": VALUE.encode(), "Sequence": 1, "Validity": EOL.encode(), "ValidityType": 0} | data
        )
        body = cbor(self.data) if raw is None else raw
        fields = {}
        if v1:
            get = lambda name: self.data.get(name, DROP)
            fields = {
                PB_VALUE: get("Value"),
                PB_SIGNATURE_V1: key.sign(self.data["Value"] + self.data["Validity"] + b"EOL"),
                PB_VALIDITY_TYPE: get("ValidityType"),
                PB_VALIDITY: get("Validity"),
                PB_SEQUENCE: get("Sequence"),
                PB_TTL: get("TTL"),
            }
        fields |= {PB_KEY: DROP if key.inline else key.public, PB_SIGNATURE_V2: (sign or key.sign)(PREFIX + body), PB_DATA: body}
        self.fields = kept(fields | pb)
        self.bytes = head + b"".join(field(n, v) for n, v in sorted(self.fields.items())) + tail


def write(file, record):
    """A Made or plain bytes, under a name of its own."""
    path = RECORDS / f"{file}.ipns-record"
    assert not path.exists(), file
    path.write_bytes(getattr(record, "bytes", record))


def listed(file, what, name, at, expect):
    manifest.append({"file": f"records/{file}.ipns-record", "name": name, "at": at, "by": "hand", "what": what, "expect": expect})


def good_again(file, what, made, at=NOW, value=None, metadata={}):
    """One more row for a written file."""
    data = made.data
    listed(
        file,
        what,
        made.key.name,
        at,
        {
            "valid": True,
            "error": None,
            "value": value or data["Value"].decode(),
            "sequence": data["Sequence"],
            "ttl_ns": data.get("TTL"),
            "validity": data["Validity"].decode(),
            "validity_type": 0,
            "v1": PB_SIGNATURE_V1 in made.fields,
            "public_key": {"type": made.key.type, "embedded": PB_KEY in made.fields},
            "metadata": metadata,
        },
    )


def good(file, what, made, **how):
    write(file, made)
    good_again(file, what, made, **how)
    return made


def bad_again(file, error, what, name, at=NOW):
    listed(file, what, name, at, {"valid": False, "error": error})


def bad(file, error, what, made, name=None, at=NOW):
    write(file, made)
    bad_again(file, error, what, name or made.key.name, at)


def instant(text):
    return {"Validity": text.encode()}


def padded(size):
    """A record of exactly this many bytes, and the padding that its metadata holds."""
    pad = "x" * 9000
    pad = "x" * (len(pad) + size - len(Made(data={"_pad": pad}).bytes))
    made = Made(data={"_pad": pad})
    assert len(made.bytes) == size
    return made, pad


def keys_and_shapes():
    for key in (ALICE, RSA, SECP256K1, ECDSA):
        good(f"{key.type}-v1v2", f"{key.type}, V1+V2", Made(key))
        good(f"{key.type}-v2", f"{key.type}, V2 only", Made(key, v1=False))
    good("key-embedded-inline", "the key is in the name and, needlessly, in the record", Made(pb={PB_KEY: ALICE.public}))

    made = Made()
    unknown = field(100, 7) + field(101, b"later") + b"\xb5\x06" + bytes(4) + b"\xb9\x06" + bytes(8)
    good("pb-unknown-fields", "unknown protobuf fields of every wire type", Made(tail=unknown))
    reverse = b"".join(field(n, v) for n, v in sorted(made.fields.items(), reverse=True))
    write("pb-any-order", reverse)
    good_again("pb-any-order", "protobuf fields in descending order", made)
    good("pb-data-twice-signed-last", "data twice: the last counts, and is the signed one", Made(head=field(PB_DATA, b"garbage")))
    other = cbor(made.data | {"Sequence": 2})
    bad(
        "pb-data-twice-other-last",
        "signature_invalid",
        "data twice: the last is well-formed but not signed",
        Made(v1=False, tail=field(PB_DATA, other)),
    )
    bad(
        "pb-data-twice-garbage-last",
        "data_malformed",
        "data twice: the last is garbage",
        Made(v1=False, tail=field(PB_DATA, b"\xff\xff")),
    )

    made, pad = padded(10_240)
    good("size-10240", "the largest record", made, metadata={"_pad": pad})
    bad("size-10241", "too_large", "a byte too many", padded(10_241)[0])
    bad("size-0", "signature_missing", "empty file", b"", ALICE.name)
    bad("pb-garbage", "malformed", "not protobuf", b"\xff" * 64, ALICE.name)
    bad("pb-truncated", "malformed", "the last ten bytes are missing", Made().bytes[:-10], ALICE.name)
    bad("pb-field-zero", "malformed", "a protobuf field numbered zero", Made(tail=b"\0\0"))
    bad("pb-html", "malformed", "a web page in place of a record", b"<!doctype html><title>502 Bad Gateway</title>", ALICE.name)


def values():
    digest = b"\x12\x20" + hashlib.sha256(b"hello\n").digest()
    b32 = lambda cid: "b" + base64.b32encode(cid).decode().lower().rstrip("=")
    raw, dag_pb = b"\x01\x55" + digest, b"\x01\x70" + digest
    for v1 in (True, False):
        form = "v1v2" if v1 else "v2"
        good(f"value-empty-{form}", "an empty value means the empty file", Made(v1=v1, data={"Value": b""}), value="/ipfs/bafkqaaa")
        good(f"value-cid-v1-{form}", "the value is a binary CIDv1", Made(v1=v1, data={"Value": raw}), value=f"/ipfs/{b32(raw)}")
        good(
            f"value-cid-v0-{form}",
            "the value is a binary CIDv0, shown as v1",
            Made(v1=v1, data={"Value": digest}),
            value=f"/ipfs/{b32(dag_pb)}",
        )
    good("value-subpath", "the value has a subpath", Made(data={"Value": f"{VALUE}/a b/ü".encode()}))
    good("value-ipns", "the value is another name", Made(data={"Value": f"/ipns/{RSA.name}".encode()}))


def numbers():
    for form, v1 in (("v1v2", True), ("v2", False)):
        good(f"largest-numbers-{form}", "sequence and TTL 2^63-1", Made(v1=v1, data={"Sequence": MAX, "TTL": MAX}))
        good(f"zero-numbers-{form}", "sequence and TTL 0", Made(v1=v1, data={"Sequence": 0, "TTL": 0}))
    good("ttl-missing-v2", "no TTL", Made(v1=False, data={"TTL": DROP}))
    good("ttl-missing-v1v2", "no TTL, neither in CBOR nor in protobuf", Made(data={"TTL": DROP}))
    for name in ("Sequence", "TTL"):
        for what, number in (("2^63", Raw(cbor(2**63))), ("2^64-1", Raw(cbor(2**64 - 1))), ("-1", -1), ("1.0", 1.0), ("text", "1")):
            file = f"data-{name.lower()}-{what.replace('^', 'e')}"
            bad(file, "data_malformed", f"{name} is {what}", Made(v1=False, data={name: number}))


def metadata():
    simple = {"_note": "héllo", "_n": 7, "_b": b"\0\1\2", "_map": {"a": 1, "bb": {"c": [True, None]}}}
    # Bytes and links are shown as DAG-JSON shows them.
    shown = simple | {"_b": {"/": {"bytes": "AAEC"}}}
    good("metadata", "metadata: text, integer, bytes, nested map", Made(data=simple), metadata=shown)
    good("metadata-v2", "the same, V2 only", Made(v1=False, data=simple), metadata=shown)
    cid = b"\x01\x55\0\5hello"
    good(
        "metadata-kinds",
        "metadata: negative, 64-bit and fractional numbers, empty things, a link",
        Made(
            data={
                "_neg": -7,
                "_min": -(2**63),
                "_max": MAX,
                "_float": 1.5,
                "_empty": [b"", "", [], {}],
                "_link": Link(cid),
            }
        ),
        metadata={
            "_neg": -7,
            "_min": -(2**63),
            "_max": MAX,
            "_float": 1.5,
            "_empty": [{"/": {"bytes": ""}}, "", [], {}],
            "_link": {"/": "b" + base64.b32encode(cid).decode().lower().rstrip("=")},
        },
    )
    good("metadata-unprefixed", "metadata without the underscore", Made(data={"note": "x"}), metadata={"note": "x"})
    good(
        "metadata-nested-64",
        "metadata 64 lists deep",
        Made(data={"_deep": Raw(b"\x81" * 63 + b"\x80")}),
        metadata={"_deep": json.loads("[" * 64 + "]" * 64)},
    )


def dag_cbor():
    def wrong(file, what, raw=None, v1=False, **data):
        bad(f"data-{file}", "data_malformed", what, Made(v1=v1, raw=raw, data=data))

    base = Made().data
    pairs = list(base.items())
    good("data-unsorted-v1v2", "CBOR keys in descending order", Made(raw=cbor_pairs(pairs[::-1])))
    good("data-unsorted-v2", "the same, V2 only", Made(v1=False, raw=cbor_pairs(pairs[::-1])))

    wrong("garbage", "data is no CBOR", b"\xff\xff\xff")
    wrong("truncated", "data ends too early", cbor(base)[:-1])
    wrong("trailing", "a byte after the map", cbor(base) + b"\0")
    wrong("trailing-v1v2", "the same, V1+V2", cbor(base) + b"\0", v1=True)
    wrong("list", "data is a list", cbor(list(base.values())))
    wrong("integer", "data is an integer", cbor(1))
    wrong("empty-map", "data is an empty map", cbor({}))
    for name in ("Value", "Validity", "ValidityType", "Sequence"):
        wrong(f"no-{name.lower()}", f"no {name}", **{name: DROP})
    wrong("value-text", "Value is a text string", Value=VALUE)
    wrong("validity-text", "Validity is a text string", Validity=EOL)
    wrong("validitytype-text", "ValidityType is a text string", ValidityType="EOL")
    wrong("validitytype-negative", "ValidityType is negative", ValidityType=-1)
    wrong("value-null", "Value is null", Value=None)

    wrong("duplicate-key", "Sequence twice", cbor_pairs(pairs + [("Sequence", 2)]))
    wrong("duplicate-metadata", "a metadata key twice", cbor_pairs(pairs + [("_a", 1), ("_a", 1)]))
    wrong("long-integer", "an integer longer than need be", Sequence=Raw(b"\x18\x01"))
    wrong("long-length", "a length longer than need be", Value=Raw(b"\x59\0" + cbor(VALUE.encode())[1:]))
    wrong("endless-map", "a map of indefinite length", b"\xbf" + cbor(base)[1:] + b"\xff")
    wrong("endless-bytes", "bytes of indefinite length", Value=Raw(b"\x5f" + cbor(VALUE.encode()) + b"\xff"))
    wrong("nan", "NaN in metadata", _f=float("nan"))
    wrong("infinity", "infinity in metadata", _f=float("inf"))
    wrong("undefined", "undefined in metadata", _u=Raw(b"\xf7"))
    wrong("tag", "a tag other than 42 in metadata", _t=Raw(b"\xc0" + cbor(NOW)))
    wrong("integer-key", "an integer as a map key in metadata", _m=Raw(b"\xa1\x01\x01"))
    wrong("utf8", "a text string that is not UTF-8", _s=Raw(b"\x62\xc3\x28"))
    wrong("deep", "metadata 5,000 lists deep", _deep=Raw(b"\x81" * 4999 + b"\x80"))
    wrong("huge-length", "bytes that claim to be 2^63-1 long", _b=Raw(b"\x5b\x7f" + b"\xff" * 7))
    wrong("huge-list", "a list that claims 2^32-1 items", _l=Raw(b"\x9a\xff\xff\xff\xff"))


def signatures():
    def flip(sign):
        def flipped(message):
            *most, last = sign(message)
            return bytes([*most, last ^ 1])

        return flipped

    for key in (ALICE, RSA, SECP256K1, ECDSA):
        bad(f"signature-broken-{key.type}", "signature_invalid", f"signatureV2 broken, {key.type}", Made(key, sign=flip(key.sign)))
    bad(
        "signature-no-prefix",
        "signature_invalid",
        "signed without ipns-signature:",
        Made(sign=lambda m: ALICE.sign(m.removeprefix(PREFIX))),
    )
    bad("signature-short", "signature_invalid", "signatureV2 is cut short", Made(sign=lambda m: ALICE.sign(m)[:63]))

    def plus_order(message):
        order = 2**252 + 27742317777372353535851937790883648493
        signature = ALICE.sign(message)
        return signature[:32] + (int.from_bytes(signature[32:], "little") + order).to_bytes(32, "little")

    bad("signature-malleable", "signature_invalid", "Ed25519 with the group order added to s", Made(sign=plus_order))
    rs = lambda m: b"".join(n.to_bytes(32, "big") for n in decode_dss_signature(ECDSA.sign(m)))
    bad("signature-ecdsa-raw", "signature_invalid", "ECDSA signature as r and s, not DER", Made(ECDSA, sign=rs))
    bad("name-of-another", "signature_invalid", "somebody else's inline name", Made(), MALLORY.name)

    good("v1-signature-garbage", "signatureV1 is not verified", Made(pb={PB_SIGNATURE_V1: b"garbage"}))
    for what, gone in (("dropped", DROP), ("empty", b"")):
        for form, v1 in (("v1v2", True), ("v2", False)):
            bad(f"signature-{what}-{form}", "signature_missing", f"signatureV2 {what}", Made(v1=v1, pb={PB_SIGNATURE_V2: gone}))
            bad(f"data-{what}-{form}", "data_missing", f"data {what}", Made(v1=v1, pb={PB_DATA: gone}))
    bad("v1-only", "signature_missing", "V1 only", Made(pb={PB_SIGNATURE_V2: DROP, PB_DATA: DROP}))

    # Which of two faults is told first.
    bad(
        "order-data-before-signature",
        "data_malformed",
        "bad CBOR and a broken signature",
        Made(v1=False, raw=cbor(1), sign=flip(ALICE.sign)),
    )
    bad("order-key-before-data", "public_key_missing", "no key and bad CBOR", Made(RSA, v1=False, raw=cbor(1), pb={PB_KEY: DROP}))
    past = instant("2026-01-01T00:00:00Z")
    bad(
        "order-signature-before-fields",
        "signature_invalid",
        "a broken signature and a field that differs",
        Made(sign=flip(ALICE.sign), pb={PB_SEQUENCE: 2}),
    )
    bad("order-fields-before-expired", "field_mismatch", "a field that differs, and expired", Made(data=past, pb={PB_SEQUENCE: 2}))
    bad(
        "order-signature-before-expired",
        "signature_invalid",
        "a broken signature, and expired",
        Made(data=past, sign=flip(ALICE.sign)),
    )


def public_keys():
    bad("key-dropped", "public_key_missing", "an RSA record without its key", Made(RSA, pb={PB_KEY: DROP}))
    bad("key-swapped", "public_key_mismatch", "another RSA key in its place", Made(RSA, pb={PB_KEY: RSA_OTHER.public}))
    bad("key-foreign-rsa", "public_key_mismatch", "signed by another RSA key, which is embedded", Made(RSA_OTHER), RSA.name)
    foreign = Made(MALLORY, pb={PB_KEY: MALLORY.public})
    bad(
        "key-foreign-under-rsa", "public_key_mismatch", "signed by an attacker's embedded key, under an RSA name", foreign, RSA.name
    )
    bad_again("key-foreign-under-rsa", "public_key_mismatch", "the same under an inline name", ALICE.name)
    bad(
        "key-foreign-honest",
        "public_key_mismatch",
        "rightly signed for an inline name, but another key is embedded",
        Made(pb={PB_KEY: MALLORY.public}),
    )
    # The next names are hashes of what is embedded, so nothing but the key itself is wrong.
    for file, error, what, public in (
        ("key-garbage", "public_key_malformed", "the key is no protobuf", b"\xff" * 64),
        ("key-garbage-rsa", "public_key_malformed", "an RSA key that is no DER", field(1, 0) + field(2, b"garbage" * 10)),
        ("key-garbage-ecdsa", "public_key_malformed", "an ECDSA key that is no DER", field(1, 3) + field(2, b"garbage" * 10)),
        ("key-long-ed25519", "public_key_malformed", "an Ed25519 key of 64 bytes", field(1, 1) + field(2, bytes(range(64)))),
        ("key-no-data", "public_key_malformed", "a key protobuf without key", field(1, 0) + field(3, bytes(64))),
        ("key-type-9", "key_type_unsupported", "a key of the unknown type 9", field(1, 9) + field(2, bytes(range(64)))),
    ):
        bad(file, error, what, Made(pb={PB_KEY: public}), name_of(public))


def fields():
    for file, changed in (
        ("value", {PB_VALUE: b"/ipfs/bafkqaaa"}),
        ("validity-type", {PB_VALIDITY_TYPE: 1}),
        ("validity", {PB_VALIDITY: b"2126-01-31T15:56:12.714899294Z"}),
        ("sequence", {PB_SEQUENCE: 2}),
        ("ttl", {PB_TTL: 1}),
    ):
        bad(f"field-{file}", "field_mismatch", f"protobuf {file} differs from CBOR", Made(pb=changed))
        if file != "validity-type":  # absent or zero: the rules leave it open
            (number,) = changed
            bad(f"field-{file}-absent", "field_mismatch", f"protobuf {file} is absent, V1+V2", Made(pb={number: DROP}))
    bad(
        "field-same-instant",
        "field_mismatch",
        "protobuf validity is the same instant in other bytes",
        Made(data=instant("2126-01-31T15:56:12Z"), pb={PB_VALIDITY: b"2126-01-31T15:56:12.0Z"}),
    )
    bad("field-ttl-only-protobuf", "field_mismatch", "a TTL in protobuf only", Made(data={"TTL": DROP}, pb={PB_TTL: 1}))
    unsigned = {PB_SIGNATURE_V1: DROP}
    bad(
        "field-value-no-v1",
        "field_mismatch",
        "a different value, without signatureV1",
        Made(pb=unsigned | {PB_VALUE: b"/ipfs/bafkqaaa"}),
    )
    bad(
        "field-value-alone-no-v1",
        "field_mismatch",
        "a different value and nothing else, without signatureV1",
        Made(v1=False, pb={PB_VALUE: b"/ipfs/bafkqaaa"}),
    )
    bad(
        "field-value-same-alone-no-v1",
        "field_mismatch",
        "the same value, but the other fields are absent",
        Made(v1=False, pb={PB_VALUE: VALUE.encode()}),
    )
    bad(
        "field-v1-alone",
        "field_mismatch",
        "signatureV1, but the fields are absent",
        Made(v1=False, pb={PB_SIGNATURE_V1: b"garbage"}),
    )
    good("field-all-same-no-v1", "all fields equal, without signatureV1", Made(pb=unsigned))
    good(
        "field-stray-no-v1",
        "without signatureV1 and value the other fields do not count",
        Made(v1=False, pb={PB_SEQUENCE: 99, PB_TTL: 1}),
    )


def validities():
    for digits, text in (
        (0, "2126-01-31T15:56:12Z"),
        (1, "2126-01-31T15:56:12.7Z"),
        (5, "2126-01-31T15:56:12.71489Z"),
        (6, "2126-01-31T15:56:12.714899Z"),
        (9, "2126-01-31T15:56:12.714899293Z"),
    ):
        made = good(f"validity-{digits}-digits", f"{digits} digits of fraction", Made(data=instant(text)))
    good_again("validity-9-digits", "a nanosecond before the end", made, at="2126-01-31T15:56:12.714899292Z")
    bad_again("validity-9-digits", "expired", "a nanosecond after the end", ALICE.name, at="2126-01-31T15:56:12.714899294Z")

    made = good(
        "validity-offset", "an offset of two hours", Made(data=instant("2026-06-01T01:30:00+02:00")), at="2026-05-31T23:29:59Z"
    )
    bad_again("validity-offset", "expired", "two hours earlier in UTC than it looks", ALICE.name)
    good(
        "validity-offset-west", "an offset to the west: later in UTC than it looks", Made(data=instant("2026-05-31T22:45:00-01:30"))
    )
    good("validity-offset-minutes", "an offset to the west of less than an hour", Made(data=instant("2026-05-31T23:45:00-00:30")))
    good(
        "validity-9999",
        "the last year, which 64 bits of nanoseconds do not reach",
        Made(data=instant("9999-12-31T23:59:59.999999999Z")),
    )
    bad("validity-1969", "expired", "before 1970", Made(data=instant("1969-12-31T23:59:59.5Z")))
    bad("expired", "expired", "expired", Made(data=instant("2026-05-31T23:59:59.999999999Z")))
    bad("expired-v2", "expired", "expired, V2 only", Made(v1=False, data=instant("2026-05-31T23:59:59Z")))

    for file, what, text in (
        ("space", "a space for T", b"2126-01-31 15:56:12Z"),
        ("lower-case", "lower-case t and z", b"2126-01-31t15:56:12z"),
        ("month-13", "month 13", b"2126-13-31T15:56:12Z"),
        ("february-30", "30 February", b"2126-02-30T15:56:12Z"),
        ("hour-24", "hour 24", b"2126-01-31T24:00:00Z"),
        ("no-zone", "no zone", b"2126-01-31T15:56:12"),
        ("no-seconds", "no seconds", b"2126-01-31T15:56Z"),
        ("date", "a date alone", b"2126-01-31"),
        ("trailing", "a blank at the end", b"2126-01-31T15:56:12Z "),
        ("utf8", "not UTF-8", b"2126-01-31T15:56:12\xff"),
        ("empty", "empty", b""),
    ):
        bad(f"validity-{file}", "validity_malformed", f"validity: {what}", Made(data={"Validity": text}))
    for form, v1 in (("v1v2", True), ("v2", False)):
        bad(f"validity-type-1-{form}", "validity_type_unsupported", "ValidityType 1", Made(v1=v1, data={"ValidityType": 1}))


def selection():
    """Sets of candidates for one name, and which of them wins."""
    sets = []

    def among(slug, what, winner, *losers):
        """The winner (or None) and the losers as (error or None, Made or bytes)."""
        files = []
        for i, (error, made) in enumerate([*([(None, winner)] if winner else []), *losers]):
            file = f"select-{slug}-{'abcd'[i]}"
            if error:
                bad(file, error, f"selection: {what}", made, ALICE.name)
            else:
                good(file, f"selection: {what}", made)
            files.append(f"records/{file}.ipns-record")
        # The winner does not come first, so that nobody passes by taking the first.
        sets.append(
            {"what": what, "name": ALICE.name, "at": NOW, "files": files[1:] + files[:1], "winner": files[0] if winner else None}
        )

    def rec(sequence=5, eol=EOL, **how):
        return Made(data={"Sequence": sequence, "Validity": eol.encode()}, **how)

    fine = lambda made: (None, made)
    flip = lambda message: ALICE.sign(message + b"x")
    among("sequence", "the higher sequence, though it ends earlier", rec(6, "2125-01-01T00:00:00Z"), fine(rec(5)), fine(rec(4)))
    among("sequence-bytes", "9 before 10 as text, not as a number", rec(10), fine(rec(9)))
    among("sequence-largest", "neighbours at 2^63", rec(MAX), fine(rec(MAX - 1)), fine(rec(0)))
    among(
        "end", "equal sequence: the later end", rec(eol="2126-02-01T00:00:00Z"), fine(rec()), fine(rec(eol="2126-01-31T00:00:00Z"))
    )
    among(
        "end-1ns",
        "equal sequence: later by a nanosecond",
        rec(eol="2126-01-31T15:56:12.000000002Z"),
        fine(rec(eol="2126-01-31T15:56:12.000000001Z")),
        fine(rec(eol="2126-01-31T15:56:12Z")),
    )
    among(
        "end-offset",
        "ends compare as instants, not as text",
        rec(eol="2126-01-31T15:00:00Z"),
        fine(rec(eol="2126-01-31T16:00:00+02:00")),
    )
    among(
        "end-fraction",
        "half a second is later than .09",
        rec(eol="2126-01-31T15:56:12.5Z"),
        fine(rec(eol="2126-01-31T15:56:12.49Z")),
        fine(rec(eol="2126-01-31T15:56:12.09Z")),
    )

    def tie(*records):
        return sorted(records, key=lambda made: made.bytes, reverse=True)

    one, *others = tie(*(Made(data={"Sequence": 5, "Value": f"/ipfs/bafkqaaa/{i}".encode()}) for i in range(3)))
    among("bytes", "equal sequence and end: bytewise larger", one, *map(fine, others))
    one, other = tie(rec(), rec(v1=False))
    among("bytes-v2", "the same between V1+V2 and V2 only", one, fine(other))
    one, other = tie(rec(eol="2126-01-31T15:56:12Z"), rec(eol="2126-01-31T15:56:12.000Z"))
    among("bytes-same-instant", "the same end written in two ways: bytewise larger", one, fine(other))

    among(
        "broken",
        "a broken signature with a higher sequence is ignored",
        rec(5),
        ("signature_invalid", rec(9, sign=flip)),
        fine(rec(4)),
    )
    among("expired", "an expired one with a higher sequence is ignored", rec(5), ("expired", rec(9, "2026-01-01T00:00:00Z")))
    among(
        "v1-only",
        "V1 only with a higher sequence is ignored",
        rec(5),
        ("signature_missing", rec(9, pb={PB_SIGNATURE_V2: DROP, PB_DATA: DROP})),
    )
    among("mismatch", "a sequence raised in protobuf only is ignored", rec(5), ("field_mismatch", rec(4, pb={PB_SEQUENCE: 9})))
    among("unreadable", "bytes that are no record are ignored", rec(5), ("malformed", b"\xff" * 64), ("signature_missing", b""))
    among("none", "nothing valid: no winner", None, ("expired", rec(9, "2026-01-01T00:00:00Z")), ("malformed", b"\xff" * 64))
    return sets


def key_files():
    rows = []

    def add(file, form, key, content):
        (KEYS / file).write_bytes(content)
        rows.append({"file": file, "format": form, "type": key.type, "name": key.name, "by": "hand"})

    for key in (ALICE, RSA, SECP256K1, ECDSA):
        add(f"{key.type}.key", "libp2p-protobuf-cleartext", key, key.protobuf)
        add(f"{key.type}.pem", "pem-pkcs8-cleartext", key, key.pem())
    add("rsa-other.pem", "pem-pkcs8-cleartext", RSA_OTHER, RSA_OTHER.pem())
    secret = ALICE.private.private_bytes_raw()
    public = ALICE.public[4:]
    add(
        "ed25519-96.key", "libp2p-protobuf-cleartext", ALICE, field(1, 1) + field(2, secret + public + public)
    )  # as libp2p wrote them until 2019
    return rows


def save(path, rows):
    path.write_text("[\n" + ",\n".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows) + "\n]\n")


def by_js(path):
    return [row for row in json.loads(path.read_text()) if row["by"] != "hand"]


if __name__ == "__main__":
    for old in RECORDS.glob("*.ipns-record"):
        if not old.name.startswith("js-"):
            old.unlink()
    for part in (keys_and_shapes, values, numbers, metadata, dag_cbor, signatures, public_keys, fields, validities):
        part()
    save(HERE / "selection.json", selection())
    save(HERE / "manifest.json", by_js(HERE / "manifest.json") + manifest)
    save(KEYS / "keys.json", by_js(KEYS / "keys.json") + key_files())
