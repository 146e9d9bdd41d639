"""What a peer in Python is to the test that starts it: a process that answers commands in JSON lines and ends with its parent."""
import fcntl, glob, json, os, shutil, signal, tempfile, threading, time


def wait(seconds, condition):
    end = time.monotonic() + seconds
    while not (result := condition()) and time.monotonic() < end:
        time.sleep(0.05)
    return result


def fail(why):
    raise RuntimeError(why)


def scratch(prefix):
    """A directory, locked as long as this process lives; those of processes that were killed go."""
    for lock in glob.glob(os.path.join(tempfile.gettempdir(), prefix + "*", "lock")):
        try:
            with open(lock) as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(os.path.dirname(lock), ignore_errors=True)
        except OSError:
            pass  # in use, or gone
    root = tempfile.mkdtemp(prefix=prefix)
    lock = os.open(root + "/new", os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.rename(root + "/new", root + "/lock")
    return root


printing = threading.Lock()


def say(**line):
    with printing:
        print(json.dumps(line), flush=True)


def answer(line, commands, *peer):
    id, first = None, threading.Lock()

    def reply(**line):
        if first.acquire(blocking=False):
            say(id=id, **line)

    try:
        command = json.loads(line)
        id, cmd, timeout = command.pop("id", None), command.pop("cmd", None), command.pop("timeout", 90)
        late = threading.Timer(timeout, reply, kwargs={"ok": False, "error": f"nothing in {timeout} s"})
        late.daemon = True
        late.start()
        reply(ok=True, **(commands.get(cmd) or fail(f"no command {cmd}"))(*peer, **command))
        late.cancel()
    except Exception as error:
        reply(ok=False, error=f"{type(error).__name__}: {error}")


def serve(prefix, start, commands):
    """Starts the peer in a directory of its own, prints its addresses, and answers until stdin closes or SIGTERM."""
    # Libraries may write to stdin (Kubo's does when it makes a key): they get another.
    lines = os.fdopen(os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    root = scratch(prefix)

    def end(status=0):
        shutil.rmtree(root, ignore_errors=True)
        os._exit(status)

    # A handler would wait for the main thread, and the signal may well reach a thread of the library's.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=lambda: (signal.sigwait({signal.SIGTERM}), end()), daemon=True).start()
    try:
        peer = start(root)
        for addr in peer.addrs:
            say(addr=addr)
        say(ready=True)
    except Exception as error:
        say(error=str(error))
        end(1)
    try:
        for line in lines:
            threading.Thread(target=answer, args=(line, commands, peer), daemon=True).start()
    finally:
        end()
