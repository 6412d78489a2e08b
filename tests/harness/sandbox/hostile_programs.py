"""Programs that mean harm or do it by accident, each with the verdict that it must get.

Each defines `solve(a, b)`, whose right answer is the sum. An attempt to get out returns the right
answer only if every way was refused, so that `pass` means: it was held.
"""

from __future__ import annotations

from tests.harness.sandbox.hostile_forms import Hostile, always_equal, held, in_call, right, wrong

T, L, X = "fail:tests", "fail:load", "fail:exited"
PLAIN = [
    Hostile("right", right(""), "pass"),
    Hostile("wrong", wrong(""), T),
    Hostile("raises", in_call("raise ValueError('no')"), T),
    Hostile("syntax error", "def solve(a, b:\n", L),
    Hostile("null byte", "def solve(a, b):\n    return 1\0\n", L),
    Hostile("empty", "", L),
    Hostile("no entry point", "def other(a, b): return a + b", L),
    Hostile("raises at load", right("raise RuntimeError"), L),
    Hostile("nested source", right("x = " + "(" * 5000 + ")" * 5000), L),
    Hostile("lone surrogate", right("x = '\ud800'"), L),
    Hostile("input()", in_call("input()\nreturn a + b"), T),
]
ENDLESS = [
    Hostile("endless loop", in_call("while True: pass"), "timeout:cpu"),
    Hostile("endless load", right("while True: pass"), "timeout:cpu"),
    Hostile("sleep", in_call("import time\ntime.sleep(1e6)"), "timeout:wall-idle"),
    Hostile("lock", in_call("import threading\nthreading.Event().wait()"), "timeout:wall-idle"),
    Hostile(
        "catches everything",
        in_call("while True:\n    try:\n        while True: pass\n    except BaseException: pass"),
        "timeout:cpu",
    ),
    Hostile(
        "ignores signals",
        right(
            "import signal\nfor n in range(1, 65):\n"
            "    try: signal.signal(n, signal.SIG_IGN)\n    except (OSError, ValueError): pass\n"
            "while True: pass"
        ),
        "timeout:cpu",
    ),
    Hostile(
        "threads that spin",
        right(
            "import threading\n"
            "def spin():\n    while True: pass\n"
            "threading.stack_size(1 << 18)\n"
            "for _ in range(8): threading.Thread(target=spin).start()\nspin()"
        ),
        "timeout:cpu",
    ),
    Hostile("huge power", in_call("return 10 ** 10 ** 9"), "timeout:cpu"),
    Hostile(
        "exception whose text loops",
        in_call(
            "class Bad(Exception):\n    def __str__(self):\n        while True: pass\nraise Bad()"
        ),
        "timeout:cpu",
    ),
    Hostile("settrace", right("import sys\nsys.settrace(lambda *a: None)"), "pass"),
    Hostile(
        "raises its own CPU limit",
        right(
            "import resource\n"
            "try: resource.setrlimit(resource.RLIMIT_CPU, (999, 999))\n"
            "except (OSError, ValueError): pass\nwhile True: pass"
        ),
        "timeout:cpu",
    ),
]
DEATHS = [
    Hostile("unbounded recursion", in_call("return solve(a, b)"), T),
    Hostile(
        "recursion in C",
        in_call(
            "import sys\nsys.setrecursionlimit(10**9)\n"
            "class A:\n    def __getattr__(self, name): return getattr(self, name)\nA().x"
        ),
        "fail:signal fail:tests fail:memory",  # newer interpreters notice
    ),
    Hostile("null dereference", in_call("import ctypes\nctypes.string_at(0)"), "fail:signal"),
    Hostile("abort", in_call("import os\nos.abort()"), "fail:signal"),
    Hostile("one huge allocation", in_call("return bytes(1 << 40)"), "fail:memory"),
    Hostile(
        "many small allocations",
        in_call("x = []\nwhile True: x.append(bytearray(1 << 20))"),
        "fail:memory",
    ),
    Hostile("memory at load", right("x = bytearray(1 << 34)"), "fail:memory"),
    Hostile("sys.exit at load", right("import sys\nsys.exit(0)"), X),
    Hostile("sys.exit in the call", in_call("import sys\nsys.exit(0)"), X),
    Hostile("os._exit at load", right("import os\nos._exit(0)"), X),
    Hostile("os._exit in the call", in_call("import os\nos._exit(0)"), X),
    Hostile("raise SystemExit", in_call("raise SystemExit('All tests passed')"), X),
    Hostile("keyboard interrupt", in_call("raise KeyboardInterrupt"), T),
    Hostile("atexit", wrong("import atexit, os\natexit.register(os._exit, 0)"), T),
    Hostile("closes all descriptors", right("import os\nos.closerange(0, 256)"), "fail:protocol"),
    Hostile(
        "closes its channel and waits",
        right("import os, time\nos.close(3)\ntime.sleep(60)"),
        "fail:protocol",
    ),
]
FLOODS = [
    Hostile("prints for ever", in_call("while True: print('x' * 10000)"), "fail:output"),
    Hostile(
        "prints for ever, at load",
        right("import sys\nwhile True: sys.stderr.write('x' * 10000)"),
        "fail:output",
    ),
    Hostile("prints a little", in_call("print('x' * 10000)\nreturn a + b"), "pass"),
    Hostile("a huge result", in_call("return 'x' * (20 << 20)"), "fail:output"),
    Hostile("a long list", in_call("return ['x' * 1000] * 20000"), "fail:output"),
    Hostile(
        "nested result",
        in_call("x = []\nfor _ in range(100000): x = [x]\nreturn x"),
        "fail:output",
    ),
    Hostile("a list within itself", in_call("x = []\nx.append(x)\nreturn x"), "fail:output"),
    Hostile("a generator as result", in_call("yield a + b"), T),
    Hostile("an endless generator", in_call("while True: yield a + b"), T),
]
FORGERIES = [
    Hostile("always equal", always_equal("object", ""), T),
    Hostile("always equal int", always_equal("int", "0"), T),
    Hostile("always equal float", always_equal("float", "0"), T),
    Hostile("always equal str", always_equal("str", "''"), T),
    Hostile("always equal list", always_equal("list", ""), T),
    Hostile("always equal dict", always_equal("dict", ""), T),
    Hostile("always equal tuple", always_equal("tuple", ""), T),
    *(
        Hostile(
            f"answers {operator} itself",
            "class Yes:\n"
            "    def __bool__(self): return True\n"
            "    def __sub__(self, other): return 0\n"
            "    __lt__ = __le__ = __contains__ = __eq__ = lambda self, other: True\n"
            "def solve(a, b): return Yes()\n",
            T,
            tests=tests,
        )
        for operator, tests in {
            "a difference": "assert abs(candidate(2, 3) - 5) < 1e-9",
            "an order": "assert candidate(2, 3) <= 5",
            "membership": "assert 5 in candidate(2, 3)",
            "its own equality": "assert candidate(2, 3) == candidate(3, 2)",
        }.items()
    ),
    Hostile(
        "a class in the place of a function",
        "class solve:\n    def __init__(self, a, b): pass\n"
        "    def __sub__(self, other): return 0\n",
        T,
        tests="assert abs(candidate(2, 3) - 5) < 1e-9",
    ),
    Hostile("patched builtins", wrong("import builtins\nbuiltins.AssertionError = int"), T),
    Hostile("patched math", wrong("import math, operator\nmath.isclose = operator.eq = max"), T),
    Hostile("prints a pass", in_call("print('passed'); print('[\"pass\", \"\"]')\nreturn 0"), T),
    Hostile(
        "frames a pass",
        right(
            "import json, os\nfor m in (['pass', ''], 'pass'):\n"
            "    d = json.dumps(m).encode()\n    os.write(3, len(d).to_bytes(4, 'big') + d)"
        ),
        "fail:protocol",
    ),
    Hostile(
        "writes a pass to every descriptor",
        wrong(
            "import json, os\nd = json.dumps('pass').encode()\n"
            "for fd in range(4, 256):\n"
            "    try: os.write(fd, len(d).to_bytes(4, 'big') + d)\n    except OSError: pass"
        ),
        T,
    ),
    Hostile(
        "patched json",
        wrong('import json\njson.dumps = lambda *a, **k: \'["pass", ""]\''),
        "fail:protocol",
    ),
    Hostile("a huge length header", right("import os\nos.write(3, b'\\xff' * 8)"), "fail:protocol"),
    Hostile("garbage", right("import os\nos.write(3, b'\\0\\0\\0\\4}{][')"), "fail:protocol"),
    Hostile(
        "nested JSON",
        right("import os\nd = b'[' * 200000\nos.write(3, len(d).to_bytes(4, 'big') + d)"),
        "fail:protocol",
    ),
    Hostile(
        "half a message",
        right("import os, time\nos.write(3, b'\\0\\0\\1\\0abc')\ntime.sleep(60)"),
        "timeout:wall-idle",
    ),
    Hostile(
        "walks frames and the heap for the tests",
        "import gc, sys\n"
        "def texts():\n"
        "    frame, seen = sys._getframe(), []\n"
        "    while frame:\n"
        "        seen += [repr(v) for v in list(frame.f_locals.values())]\n"
        "        frame = frame.f_back\n"
        "    seen += [o for o in gc.get_objects() if isinstance(o, (list, dict, tuple, str))]\n"
        "    return seen\n"
        "def solve(a, b):\n"
        "    found = any('== ' + str(a + b) in str(t)[:100000] for t in texts())\n"
        "    return -1 if found else a + b\n",
        "pass",
    ),
    Hostile(
        "reads its memory for the tests",
        "import ctypes, sys\n"
        "def solve(a, b):\n"
        "    needle = b'assert candidate' + b'(2, 3)'\n"
        "    here = id(object()) & ~0xfffff\n"
        "    found = needle in ctypes.string_at(here, 1 << 18)\n"
        "    return -1 if found else a + b\n",
        "pass",
    ),
    Hostile(
        "looks for the judge",
        wrong(
            "import gc\nfor o in gc.get_objects():\n"
            "    if type(o).__name__ in ('Judge', 'Watch', 'Program'):\n"
            "        for n in ('why', 'ended'):\n"
            "            try: setattr(o, n, ('pass', ''))\n"
            "            except Exception: pass"
        ),
        T,
    ),
    Hostile(
        "swaps the serving loop",
        wrong(
            "import sys\nfor m in list(sys.modules.values()):\n"
            "    if getattr(m, '__name__', '').startswith('inside'):\n"
            "        for n in list(vars(m)):\n"
            "            if callable(vars(m)[n]) and n != 'send': setattr(m, n, lambda *a, **k: 5)"
        ),
        "fail:protocol",
    ),
    Hostile(
        "changes the type of an argument",
        "def solve(a, b): return a + b\nimport inside.candidate as c, json\n"
        "c._answer = lambda *a: json.dumps(['ok', 5, [[0, 'x']]])\n",
        "fail:protocol",
    ),
]
ESCAPES = [
    Hostile(f"refused: {name}", held(attempt), "pass")
    for name, attempt in {
        "fork": "if os.fork() == 0: os._exit(0)",
        "vfork": "call(58)",
        "forkpty": "os.forkpty()",
        "clone3": "call(435, 0, 0)",
        "posix_spawn": "os.posix_spawn('/bin/true', ['true'], {})",
        "subprocess": "import subprocess\nsubprocess.run(['true'])",
        "execve": "os.execv('/bin/true', ['true'])",
        "double fork": "if os.fork() == 0:\n    os.setsid()\n    os.fork()",
        "ptrace": "call(101, 16, 1, 0, 0)",
        "process_vm_readv": "call(310, os.getppid() or 1, 0, 0, 0, 0, 0)",
        "memory of others": "open('/proc/1/mem', 'rb').read(1)",
        "own memory file": "open('/proc/self/mem', 'rb').read(1)",
        "environment of others": "open('/proc/1/environ').read()",
        "inet": "socket.socket(socket.AF_INET, socket.SOCK_STREAM)",
        "inet6": "socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)",
        "vsock": "socket.socket(40, socket.SOCK_STREAM)",
        "netlink": "socket.socket(16, socket.SOCK_RAW)",
        "packet": "socket.socket(17, socket.SOCK_RAW)",
        "abstract socket of the host": "socket.socket(1).connect('\\0/tmp/.X11-unix/X0')",
        "users": "open('/etc/passwd').read()",
        "home": "os.listdir(os.path.expanduser('~root'))",
        "listing of /proc": "os.listdir('/proc')",
        "installed packages": "open(os.path.dirname(os.__file__)"
        " + '/site-packages/README.txt').read()",
        "write to the library": "open(os.__file__, 'a')",
        "write to /usr": "open('/usr/lib/x', 'w')",
        "write to the root": "open('/x', 'w')",
        "raised limits": "resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
        "raised processes": "resource.setrlimit(resource.RLIMIT_NPROC, (-1, -1))\n"
        "if os.fork() == 0: os._exit(0)",
        "user namespace": "call(272, 0x10000000)",
        "mount namespace": "call(272, 0x00020000)",
        "mount": "call(165, b'none', b'/tmp', b'tmpfs', 0, 0)",
        "unmount": "call(166, b'/tmp', 2)",
        "chroot": "os.chroot('/tmp')",
        "pivot_root": "call(155, b'/', b'/')",
        "another core": "os.sched_setaffinity(0, os.sched_getaffinity(0))",
        "setuid": "os.setuid(12345)",
        "setgid": "os.setgid(12345)",
        "chown": "os.chown('/tmp', 1, 1)",
        "mknod": "os.mknod('/tmp/null', 0o20666, os.makedev(1, 3))",
        "memfd": "os.memfd_create('x')",
        "shared memory": "call(29, 0, 4096, 0o1777)",
        "message queue": "call(68, 0, 0o1777)",
        "io_uring": "call(425, 8, ctypes.create_string_buffer(256))",
        "perf": "call(298, ctypes.create_string_buffer(128), 0, -1, -1, 0)",
        "bpf": "call(321, 0, ctypes.create_string_buffer(128), 128)",
        "keyctl": "call(250, 0, -1, 0)",
        "userfaultfd": "call(323, 0)",
        "seccomp": "call(317, 0, 0, 0)",
        "another executable mapping of a file": "call(319, b'x', 0)",
        "tty injection": "import fcntl, termios\nfcntl.ioctl(0, termios.TIOCSTI, b'x')",
        "host name": "socket.sethostname('x')",
        "clock": "import time\ntime.clock_settime(time.CLOCK_REALTIME, 0)",
        "reboot": "call(169, 0xfee1dead, 672274793, 0, 0)",
        "kernel log": "call(103, 2, ctypes.create_string_buffer(8), 8)",
        "an unknown call": "call(999)",
        "priorities": "os.setpriority(os.PRIO_PROCESS, 0, -5)",
        "signal to the parent": "os.kill(os.getppid() or 2**22 - 1, 0)",
        "inodes": "for i in range(5000): open(f'/tmp/{i}', 'w').close()",
        "disk": "for i in range(100):\n    open(f'/tmp/{i}', 'wb').write(bytes(1 << 19))",
        "one large file": "f = open('/tmp/x', 'wb')\nwhile True: f.write(bytes(1 << 19))",
        "many descriptors": "held = [os.dup(0) for _ in range(1000)]",
    }.items()
]
MISCHIEF = [
    # In tier A it is the first process of its own namespace, where signals to itself and to
    # everything reach nothing; in tier B they are refused.
    Hostile(
        "kills everything", right("import os\ntry: os.kill(-1, 9)\nexcept OSError: pass"), "pass"
    ),
    Hostile(
        "kills its group", right("import os\ntry: os.kill(0, 9)\nexcept OSError: pass"), "pass"
    ),
    Hostile(
        "kills its parent",
        right("import os\ntry: os.kill(os.getppid(), 9)\nexcept OSError: pass"),
        "pass",
    ),
    Hostile(
        "stops itself",
        right("import os\ntry: os.kill(os.getpid(), 19)\nexcept OSError: pass"),
        "pass",
    ),
    Hostile(
        "thread bomb",
        right(
            "import threading\nthreading.stack_size(32768)\nstop = threading.Event()\n"
            "try:\n    for _ in range(5000): threading.Thread(target=stop.wait).start()\n"
            "except (RuntimeError, MemoryError): pass\nstop.set()"
        ),
        "pass",
        # a thread that gets no memory may never say that it began
        "pass timeout:wall-idle timeout:cpu fail:load",
    ),
    Hostile(
        "fork bomb",
        right("import os\nfor _ in range(100):\n    try: os.fork()\n    except OSError: pass"),
        "pass",
    ),
    Hostile(
        "poison in /tmp",
        right(
            "import os\nassert os.path.realpath('/tmp') == '/tmp' or not os.listdir('/tmp')\n"
            "try: open('/tmp/poison', 'w').close()\nexcept OSError: pass"
        ),
        "pass",
    ),
    Hostile(
        "poison in modules",
        right(
            "import math, builtins\nassert not hasattr(math, 'poison')\n"
            "math.poison = builtins.sum = 1"
        ),
        "pass",
    ),
    Hostile(
        "names its thread", right("import ctypes\nctypes.CDLL(None).prctl(15, b'init')"), "pass"
    ),
    Hostile(
        "lowers its limits",
        right("import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (1, 1))"),
        "pass",
    ),
    Hostile(
        "colliding keys for the judge",
        "P = 2**61 - 1\ndef solve(a, b):\n    return {i * P for i in range(60000)}\n",
        "timeout:cpu",
    ),
]
HOSTILE = [*PLAIN, *ENDLESS, *DEATHS, *FLOODS, *FORGERIES, *ESCAPES, *MISCHIEF]
