// The js delegated-routing client with js `ipns`, against any Delegated Routing V1 server.
//   node client.mjs BASEURL put SEED VALUE SEQUENCE [--lifetime SECONDS] [--ttl SECONDS] [--v2-only]
//   node client.mjs BASEURL put-file NAME FILE
//   node client.mjs BASEURL get NAME
//   node client.mjs BASEURL providers|peers|closest CID
// SEED is an Ed25519 seed, 64 hex digits. Prints one JSON line; exit 0 if "ok", else 1.
import { readFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { delegatedRoutingV1HttpApiClient } from '@helia/delegated-routing-v1-http-api-client'
import { defaultLogger } from '@libp2p/logger'
import { createIPNSRecord, ed25519, marshalIPNSRecord, nameOf, parseName, print, verify } from './ipns.mjs'

const { positionals: [url, command, ...args], values: flags } = parseArgs({
  allowPositionals: true,
  options: {
    lifetime: { type: 'string', default: '3600' },
    ttl: { type: 'string', default: '300' },
    'v2-only': { type: 'boolean', default: false }
  }
})
const client = delegatedRoutingV1HttpApiClient({ url, cacheTTL: 0 })({ logger: defaultLogger() })

const show = async (name, bytes) => ({
  ok: true,
  name,
  ...await verify(name, bytes),
  record: Buffer.from(bytes).toString('base64')
})

// The client swallows errors here: an unreachable server looks like an empty answer.
async function list (answers) {
  const records = []
  for await (const { ID, Addrs, Protocols } of answers) {
    records.push({ ID: ID.toString(), Addrs: Addrs.map(String), Protocols })
  }
  return { ok: true, records }
}

const commands = {
  async put (seed, value, sequence) {
    const key = await ed25519(seed)
    const record = await createIPNSRecord(key, value, BigInt(sequence), Number(flags.lifetime) * 1000, {
      ttlNs: BigInt(flags.ttl) * 1_000_000_000n,
      v1Compatible: !flags['v2-only']
    })
    const bytes = marshalIPNSRecord(record)
    await client.putIPNS(key.publicKey.toCID(), bytes)
    return show(nameOf(key), bytes)
  },
  async 'put-file' (name, file) {
    await client.putIPNS(parseName(name), await readFile(file))
    return { ok: true, name }
  },
  // The client hands over what it got, so it is verified here.
  get: async name => show(name, await client.getIPNS(parseName(name))),
  providers: cid => list(client.getProviders(parseName(cid))),
  peers: cid => list(client.getPeers(parseName(cid))),
  closest: cid => list(client.getClosestPeers(parseName(cid)))
}

try {
  await client.start()
  print(await commands[command](...args))
} catch (error) {
  print({ ok: false, error: error.name, message: error.message })
  process.exitCode = 1
}
await client.stop()
