// N js-libp2p DHT servers on 127.0.0.1 that validate and select IPNS records.
//   node dht.mjs [N=20] [PROTOCOL=/ipfs/kad/1.0.0]
// Prints {"addr":…} for each, then {"ready":true}; lives until stdin closes or SIGTERM.
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { identify } from '@libp2p/identify'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { ipnsSelector } from 'ipns/selector'
import { ipnsValidator } from 'ipns/validator'
import { createLibp2p } from 'libp2p'
import { print } from './ipns.mjs'

export const AMINO = '/ipfs/kad/1.0.0'

/** What a libp2p node here is made of; Helia takes the same. */
export const options = protocol => ({
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  // By default js takes 5 inbound connections a second from one IP, which here is everybody.
  connectionManager: { inboundConnectionThreshold: 1e6, maxIncomingPendingConnections: 1e4 },
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

/** Starts n servers, joined as a tree; the DHT's own queries do the rest. */
export async function startServers (n, protocol = AMINO) {
  const nodes = []
  for (let i = 0; i < n; i++) {
    const node = await createLibp2p(options(protocol))
    await node.services.dht.setMode('server')
    if (i > 0) await node.dial(nodes[(i - 1) >> 1].getMultiaddrs())
    nodes.push(node)
  }
  await until(() => nodes.every(node => tableSize(node) >= Math.min(n - 1, 10)))
  return nodes
}

/** Waits for a condition; gives up quietly after ten seconds. */
export async function until (done) {
  for (let i = 0; i < 100 && !done(); i++) await new Promise(resolve => setTimeout(resolve, 100))
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

if (import.meta.main) {
  exitWithParent()
  const nodes = await startServers(Number(process.argv[2] ?? 20), process.argv[3])
  for (const node of nodes) print({ addr: node.getMultiaddrs()[0].toString() })
  print({ ready: true })
}
