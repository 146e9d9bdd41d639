// A js Delegated Routing V1 server on 127.0.0.1, over a Helia whose DHT talks to three js DHT servers in this process.
//   node http.mjs [PORT=0]
// Prints {"ready":true,"port":N} when it serves; lives until stdin closes or SIGTERM.
import { createDelegatedRoutingV1HttpApiServer } from '@helia/delegated-routing-v1-http-api-server'
import { withLibp2pLight } from '@helia/libp2p'
import { createHeliaLight } from 'helia'
import { AMINO, exitWithParent, options, startServers, tableSize, until } from './dht.mjs'
import { print } from './ipns.mjs'

exitWithParent()
const servers = await startServers(3)
const helia = await withLibp2pLight(createHeliaLight(), options(AMINO)).start()
await helia.libp2p.services.dht.setMode('server')
for (const server of servers) await helia.libp2p.dial(server.getMultiaddrs())
await until(() => tableSize(helia.libp2p) === servers.length)

const http = await createDelegatedRoutingV1HttpApiServer(helia, {
  listen: { host: '127.0.0.1', port: Number(process.argv[2] ?? 0) }
})
print({ ready: true, port: http.server.address().port })
