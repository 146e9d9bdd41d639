// Records and key files made by js libp2p. Starts manifest.json and keys/keys.json; make.py adds the rest.
import { createECDH, createPrivateKey, createPublicKey } from 'node:crypto'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import {
  base36, CID, createIPNSRecordWithExpiration, ed25519, json, marshalIPNSRecord, nameOf, parseName, privateKeyFromRaw,
  privateKeyToProtobuf, rsa, sha256
} from '../peers/ipns.mjs'

const here = new URL('./', import.meta.url)
const lock = JSON.parse(await readFile(new URL('../peers/package-lock.json', here)))
const by = `js ipns ${lock.packages['node_modules/ipns'].version}`

const VALUE = '/ipfs/bafkqac3jobxhgidsn5rww4yk'
const EOL = '2126-01-31T15:56:12.714899293Z'
const NOW = '2026-06-01T00:00:00Z'
const MINUTE = 60_000_000_000n

// Test keys: public for all the world, worth nothing.
const keys = {
  ed25519: await ed25519('0a'.repeat(32)),
  rsa: await rsa(await readFile(new URL('keys/rsa.pem', here), 'utf8')),
  secp256k1: privateKeyFromRaw(Buffer.alloc(32, 0x0b))
}

const manifest = []

async function record (file, what, {
  key = 'ed25519', value = VALUE, shown = value, sequence = 1n, eol = EOL, written = eol, ttl = 5n * MINUTE, v1 = true,
  at = NOW, error
} = {}) {
  const made = await createIPNSRecordWithExpiration(keys[key], value, sequence, eol, { ttlNs: ttl, v1Compatible: v1 })
  file = `records/js-${file}.ipns-record`
  await writeFile(new URL(file, here), marshalIPNSRecord(made))
  const expect = error != null
    ? { valid: false, error }
    : {
        valid: true,
        error: null,
        value: shown,
        sequence,
        ttl_ns: ttl,
        validity: written,
        validity_type: 0,
        v1,
        public_key: { type: key, embedded: key === 'rsa' },
        metadata: {}
      }
  manifest.push({ file, name: nameOf(keys[key]), at, by, what, expect })
}

await rm(new URL('records', here), { recursive: true, force: true })
await mkdir(new URL('records', here))

for (const key of Object.keys(keys)) {
  await record(`${key}-v1v2`, `${key}, V1+V2`, { key })
  await record(`${key}-v2`, `${key}, V2 only`, { key, v1: false })
}
for (const sequence of [0n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 53n + 1n, 2n ** 63n - 1n]) {
  await record(`sequence-${sequence}`, `sequence ${sequence}`, { sequence })
}
await record('ttl-0', 'TTL zero', { ttl: 0n })
await record('ttl-1h', 'TTL of an hour', { ttl: 60n * MINUTE })
await record('ttl-largest', 'TTL 2^63-1', { ttl: 2n ** 63n - 1n, v1: false })
await record('validity-1ns', 'one nanosecond past a second', { eol: '2126-01-31T15:56:12.000000001Z' })
await record('validity-padded', 'js pads the fraction to nine digits', { eol: '2126-01-31T15:56:12Z', written: '2126-01-31T15:56:12.000000000Z' })
await record('validity-offset', 'js turns an offset into UTC', { eol: '2126-01-31T15:56:12.5+02:00', written: '2126-01-31T13:56:12.500000000Z' })
await record('value-ipns', 'the value is another name', { value: keys.rsa.publicKey, shown: `/ipns/${nameOf(keys.rsa)}` })
await record('value-cid', 'js turns a CID into a path', { value: parseName(VALUE.slice(6)), shown: VALUE })
await record('value-subpath', 'the value has a subpath, blanks and letters outside ASCII', { value: `${VALUE}/a b/ü/日本` })
await record('expired', 'expired', { eol: '2026-05-31T23:59:59.999999999Z', error: 'expired' })
await record('expired-not-yet', 'the same bytes as js-expired, a nanosecond before', {
  eol: '2026-05-31T23:59:59.999999999Z', at: '2026-05-31T23:59:59.999999998Z'
})

const files = []
for (const [type, key] of Object.entries(keys)) {
  const file = `js-${type}.key`
  await writeFile(new URL(`keys/${file}`, here), privateKeyToProtobuf(key))
  files.push({ file, format: 'libp2p-protobuf-cleartext', type, name: nameOf(key), by })
}

// js writes ECDSA private keys as the spec says, but not the public ones: the name is worked out here.
const ecdh = createECDH('prime256v1')
ecdh.setPrivateKey(Buffer.alloc(32, 0x0c))
const point = ecdh.getPublicKey()
const ecdsa = createPrivateKey({
  format: 'jwk',
  key: {
    kty: 'EC',
    crv: 'P-256',
    d: ecdh.getPrivateKey('base64url'),
    x: point.toString('base64url', 1, 33),
    y: point.toString('base64url', 33)
  }
})
const spki = createPublicKey(ecdsa).export({ type: 'spki', format: 'der' })
const protobuf = Buffer.concat([Buffer.from([8, 3, 18, spki.length]), spki])
await writeFile(new URL('keys/js-ecdsa.key', here), privateKeyToProtobuf(privateKeyFromRaw(ecdsa.export({ type: 'sec1', format: 'der' }))))
files.push({
  file: 'js-ecdsa.key',
  format: 'libp2p-protobuf-cleartext',
  type: 'ecdsa',
  name: CID.createV1(0x72, await sha256.digest(protobuf)).toString(base36),
  by
})

const lines = entries => `[\n${entries.map(json).join(',\n')}\n]\n`
await writeFile(new URL('manifest.json', here), lines(manifest))
await writeFile(new URL('keys/keys.json', here), lines(files))
