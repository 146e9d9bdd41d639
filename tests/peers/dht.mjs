// N js-libp2p DHT servers on 127.0.0.1 that validate and select IPNS records.
//   node dht.mjs [N=20] [PROTOCOL=/ipfs/kad/1.0.0] [--announce PORT,PORT,…]
// Prints {"addr":…} for each, then {"ready":true}; lives until stdin closes or SIGTERM.
// Reads commands from stdin, {"id":…,"cmd":…,…} a line, and answers each with a line of that id (README.md).
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { identify } from '@libp2p/identify'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { peerIdFromString } from '@libp2p/peer-id'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { multihashToIPNSRoutingKey, unmarshalIPNSRecord } from 'ipns'
import { ipnsSelector } from 'ipns/selector'
import { ipnsValidator } from 'ipns/validator'
import { createLibp2p } from 'libp2p'
import { createIPNSRecord, ed25519, marshalIPNSRecord, nameOf, parseName, print, verify } from './ipns.mjs'

export const AMINO = '/ipfs/kad/1.0.0'

/** What a libp2p node here is made of; Helia takes the same. With `port` it tells others that it is there. */
export const options = (protocol, port) => ({
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0'], announce: port == null ? [] : [`/ip4/127.0.0.1/tcp/${port}`] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  // By default js takes 5 inbound connections a second from one IP, which here is everybody. A busy machine is slow.
  connectionManager: {
    inboundConnectionThreshold: 1e6,
    maxIncomingPendingConnections: 1e4,
    dialTimeout: 60_000,
    addressDialTimeout: 60_000,
    inboundUpgradeTimeout: 60_000
  },
  connectionMonitor: { enabled: false },
  services: {
    identify: identify(),
    ping: ping(),
    dht: kadDHT({
      protocol,
      clientMode: false,
      peerInfoMapper: passthroughMapper, // keep loopback addresses
      initialQuerySelfInterval: 100,
      validators: { ipns: ipnsValidator },
      selectors: { ipns: ipnsSelector }
    })
  }
})

export const tableSize = node => node.services.dht.routingTable.size

/**
 * Starts n servers, joined as a tree; the DHT's own queries do the rest. With ports to announce `listens` is told who is
 * where, and all listen before any dials.
 */
export async function startServers (n, protocol = AMINO, announce = [], listens = () => {}) {
  const nodes = []
  for (let i = 0; i < n; i++) {
    const node = await createLibp2p(options(protocol, announce[i]))
    await node.services.dht.setMode('server')
    const [at] = node.components.transportManager.getAddrs()
    listens({ peer: node.peerId.toString(), listens: Number(at.toString().split('/')[4]) })
    nodes.push(node)
  }
  for (let i = 1; i < n; i++) await nodes[i].dial(nodes[(i - 1) >> 1].getMultiaddrs())
  await until(() => nodes.every(node => tableSize(node) >= Math.min(n - 1, 10)))
  return nodes
}

/** Waits for a condition; gives up quietly after ten seconds. */
export async function until (done) {
  for (let i = 0; i < 100 && !await done(); i++) await new Promise(resolve => setTimeout(resolve, 100))
}

/** Ends the process with its parent: when stdin closes, or on SIGTERM. */
export function exitWithParent () {
  process.stdin.resume().on('end', () => process.exit())
  process.on('SIGTERM', () => process.exit())
  // A peer that goes away resets its sockets, which js-libp2p does not always catch.
  process.on('uncaughtException', error => {
    if (/^(ECONNRESET|ECONNREFUSED|EPIPE)$/.test(error.code)) return
    console.error(error)
    process.exit(1)
  })
}

const routingKey = name => multihashToIPNSRoutingKey(parseName(name).multihash)
const base64 = bytes => Buffer.from(bytes).toString('base64')

/** The commands, over nodes that may be stopped one by one. */
const commands = nodes => {
  const at = i => {
    if (nodes[i]?.status !== 'started') throw new Error(`no node ${i}`)
    return nodes[i]
  }

  // As contentRouting.put, which hides who took the record.
  const put = async (i, name, record, signal) => {
    const stored = []
    const errors = {}
    for await (const event of at(i).services.dht.put(routingKey(name), record, { signal })) {
      if (event.name === 'PEER_RESPONSE' && event.record != null) stored.push(event.from.toString())
      if (event.name === 'QUERY_ERROR') errors[event.from] = event.error.message
    }
    const good = stored.filter(peer => errors[peer] == null)
    return { name, record: base64(record), stored: good, errors }
  }

  return {
    async publish ({ node = 0, seed, value, sequence, lifetime = 3600, ttl = 300, v2Only = false }, signal) {
      const key = await ed25519(seed)
      const record = await createIPNSRecord(key, value, BigInt(sequence), lifetime * 1000, {
        ttlNs: BigInt(ttl) * 1_000_000_000n,
        v1Compatible: !v2Only
      })
      return put(node, nameOf(key), marshalIPNSRecord(record), signal)
    },
    put: ({ node = 0, name, record }, signal) => put(node, name, Buffer.from(record, 'base64'), signal),
    async resolve ({ node = 0, name }, signal) {
      const record = await at(node).contentRouting.get(routingKey(name), { signal })
      return { name, ...await verify(name, record), record: base64(record) }
    },
    /** What each node holds itself: a sequence, null, or why the record it holds is not valid. */
    stored: async ({ name }) => ({
      nodes: await Promise.all(nodes.map(async ({ status, services: { dht } }) => {
        if (status !== 'started') return null
        try {
          // Reads /dht/record/{base32 of the routing key} in its datastore, a libp2p record.
          const { value } = await dht.contentFetching.getLocal(routingKey(name))
          return unmarshalIPNSRecord(value).sequence
        } catch (error) {
          return error.name === 'NotFoundError' ? null : error.message
        }
      }))
    }),
    /** Dials, and waits for the peer to come into the routing table: it must answer identify and ping. */
    async connect ({ node = 0, addr }, signal) {
      const { remotePeer: peer } = await at(node).dial(multiaddr(addr), { signal })
      const start = performance.now()
      let table = false
      await until(async () => (table = await at(node).services.dht.routingTable.find(peer) != null))
      return { peer: peer.toString(), table, ms: Math.round(performance.now() - start) }
    },
    table ({ node = 0 }) {
      const { routingTable } = at(node).services.dht
      return { size: routingTable.size, peers: Array.from(routingTable.kb.toIterable(), peer => peer.peerId.toString()) }
    },
    provide: async ({ node = 0, cid }, signal) => at(node).contentRouting.provide(parseName(cid), { signal }),
    async findProviders ({ node = 0, cid }, signal) {
      const providers = []
      for await (const { id, multiaddrs } of at(node).contentRouting.findProviders(parseName(cid), { signal })) {
        providers.push({ peer: id.toString(), addrs: multiaddrs.map(String) })
      }
      return { providers }
    },
    /** Asks the others: what this node knows already is no answer. */
    async findPeer ({ node = 0, peer }, signal) {
      const { multiaddrs } = await at(node).peerRouting.findPeer(peerIdFromString(peer), { signal, useCache: false })
      return { peer, addrs: multiaddrs.map(String) }
    },
    kill: ({ node = 0 }) => at(node).stop()
  }
}

async function answer (line, ready) {
  let id = null
  try {
    const { cmd, timeout = 30, ...command } = JSON.parse(line)
    id = command.id
    const known = commands(await ready)
    if (!Object.hasOwn(known, cmd)) throw new Error(`no command ${cmd}`)
    const signal = AbortSignal.timeout(timeout * 1000)
    // Not every path inside heeds the signal.
    const late = new Promise((resolve, reject) => signal.addEventListener('abort', () => reject(new Error(`nothing in ${timeout} s`))))
    print({ id, ok: true, ...await Promise.race([known[cmd](command, signal), late]) })
  } catch (error) {
    print({ id, ok: false, error: error.errors?.map(String).join('; ') ?? String(error) })
  }
}

if (import.meta.main) {
  exitWithParent()
  const { values, positionals: [n = 20, protocol] } = parseArgs({ options: { announce: { type: 'string' } }, allowPositionals: true })
  const announce = values.announce?.split(',')
  const servers = startServers(Number(n), protocol, announce, announce && print)
  createInterface({ input: process.stdin }).on('line', line => answer(line, servers))
  for (const node of await servers) print({ addr: node.getMultiaddrs()[0].toString() })
  print({ ready: true })
}
