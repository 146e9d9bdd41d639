// js `ipns` as the scripts here and in ../vectors use it: keys, names, records, and one way to print them.
import { createPrivateKey } from 'node:crypto'
import { generateKeyPairFromSeed, privateKeyFromRaw } from '@libp2p/crypto/keys'
import { multihashToIPNSRoutingKey, unmarshalIPNSRecord } from 'ipns'
import { ipnsValidator } from 'ipns/validator'
import { base36 } from 'multiformats/bases/base36'
import { CID } from 'multiformats/cid'

export { privateKeyFromRaw, privateKeyToProtobuf } from '@libp2p/crypto/keys'
export { createIPNSRecord, createIPNSRecordWithExpiration, marshalIPNSRecord } from 'ipns'
export { sha256 } from 'multiformats/hashes/sha2'
export { base36, CID }

export const ed25519 = seedHex => generateKeyPairFromSeed('Ed25519', Buffer.from(seedHex, 'hex'))

/** An RSA key as js libp2p holds it, from PKCS#8 PEM text. */
export const rsa = pem => privateKeyFromRaw(createPrivateKey(pem).export({ type: 'pkcs1', format: 'der' }))

export const nameOf = key => key.publicKey.toCID().toString(base36)

export const parseName = name => name.startsWith('k') ? CID.parse(name, base36) : CID.parse(name)

/** Verifies against the name and returns the fields, or throws what js throws. */
export async function verify (name, bytes) {
  await ipnsValidator(multihashToIPNSRoutingKey(parseName(name).multihash), bytes)
  const record = unmarshalIPNSRecord(bytes)
  return {
    value: record.value,
    sequence: record.sequence,
    ttl_ns: record.ttl ?? null,
    validity: record.validity,
    v1: record.signatureV1 != null
  }
}

/** JSON with 64-bit integers as plain numbers. */
export const json = value => JSON.stringify(value, (_, v) => typeof v === 'bigint' ? JSON.rawJSON(v.toString()) : v)

export const print = value => console.log(json(value))
