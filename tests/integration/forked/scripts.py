"""Scripts that look at, or depend on, what a process is: each has to end the same way, plain or forked.

A name that ends in a digit is the same script with other arguments. What differs from process to
process (addresses, seeds, times) is not printed.
"""

from textwrap import dedent

SCRIPTS: dict[str, str] = {
    "nothing": "",
    "hello": "print('hello')",
    "globals": """
        print(sorted(globals())); print(__name__, __file__, __spec__, __package__, __doc__, __cached__)
        print(type(__loader__).__name__, __builtins__.__name__)
    """,
    "arguments": "import sys; print(sys.argv, sys.orig_argv, sys.executable, sys.prefix, sys.flags)",
    "paths": "import sys; print(sys.path, sys.path_hooks, sorted(sys.path_importer_cache)[:1], sys.platlibdir)",
    "modules": "import sys; print(sorted(sys.modules))",
    "settings": """
        import sys
        print(sys.warnoptions, sys._xoptions, sys.dont_write_bytecode, sys.pycache_prefix, sys.getrecursionlimit())
        print(sys.getswitchinterval(), sys.getprofile(), sys.gettrace(), sys.getfilesystemencoding(), sys.is_finalizing())
        print(sys.getfilesystemencodeerrors(), sys.float_info.max, sys.hash_info.width, hasattr(sys, 'last_type'))
    """,
    "variables": """
        import os, ctypes

        print(sorted(os.environ.items()))
        libc = ctypes.CDLL(None); libc.getenv.restype = ctypes.c_char_p
        print([libc.getenv(n.encode()) == os.environb[n.encode()] for n in sorted(os.environ)])
        print(libc.getenv(b'PENSTOCK_FORK_SERVER_ROOM'), type(os.environ._data))
        print(sorted(open('/proc/self/environ', 'rb').read().split(b'\\0')))
        os.system('env | sort')
        os.environ['NEW'] = 'x'; os.system('echo $NEW')
    """,
    "process": """
        import os, resource, signal
        print(os.getcwd(), os.getpid() == os.getpgid(0) == os.getsid(0), os.umask(0o22), os.getuid(), os.getgid())
        print(sorted(os.listdir('/proc/self/fd')), os.readlink('/proc/self/fd/0'), os.getpriority(os.PRIO_PROCESS, 0))
        print([resource.getrlimit(n) for n in range(16)], os.sched_getaffinity(0), len(os.listdir('/proc/self/task')))
        print([str(signal.getsignal(n)) for n in range(1, 65) if n not in (32, 33)], signal.pthread_sigmask(0, []))
        status = open('/proc/self/status').read().splitlines()
        print([l for l in status if l.split(':')[0] in ('Name', 'SigBlk', 'SigCgt', 'Threads', 'CapEff', 'Umask')])
        print([int(l.split()[1], 16) & 0x7fffffff for l in status if l.startswith('SigIgn')])
        print(open('/proc/self/cmdline', 'rb').read(), open('/proc/self/comm').read(), open('/proc/self/oom_score_adj').read())
        print(os.readlink('/proc/self/exe'), signal.set_wakeup_fd(-1), signal.getitimer(signal.ITIMER_REAL), os.isatty(1))
    """,
    "streams": """
        import sys
        for s in (sys.stdin, sys.stdout, sys.stderr):
            print(s.name, s.mode, s.encoding, s.errors, s.line_buffering, s.write_through, s.newlines, s.closed, s.isatty())
            print(type(s.buffer).__name__, s.fileno(), s.readable(), s.writable())
        print(sys.stdin.read() == '', sys.stdout is sys.__stdout__)
    """,
    "stack": """
        import sys, traceback, inspect, warnings
        def f(): traceback.print_stack(); print(len(inspect.stack()), sys._getframe(1).f_back)
        f()
        warnings.warn('top', stacklevel=1); warnings.warn('above', stacklevel=2); warnings.warn('far', stacklevel=9)
        try: sys._getframe(3)
        except ValueError as e: print(e)
    """,
    "recursion": """
        def f(n): return f(n + 1)
        try: f(0)
        except RecursionError as e: print(e)
        n = 0
        def g():
            global n
            n += 1; g()
        try: g()
        except RecursionError: print(n)
    """,
    "error": "def f():\n    raise ValueError('x')\nf()",
    "error in import": "import broken",
    "chained": """
        try:
            try: 1 / 0
            except ZeroDivisionError as e: raise KeyError('a') from e
        except KeyError: raise OSError(2, 'b')
    """,
    "group": "raise ExceptionGroup('g', [ValueError(1), TypeError('t')])",
    "notes": "e = ValueError('x'); e.add_note('a note'); raise e",
    "syntax": "print('a')\nif True\n    pass",
    "indentation": "if True:\npass",
    "encoding": "# -*- coding: latin-1 -*-\nprint('\\xe4'.encode())",
    "null": "print(1)\x00",
    "excepthook": "import sys\nsys.excepthook = lambda *a: print('hook', a[0].__name__)\nraise ValueError",
    "broken excepthook": "import sys\ndef h(*a): 1 / 0\nsys.excepthook = h\nraise ValueError('v')",
    "excepthook that exits": "import sys\ndef h(*a): sys.exit(9)\nsys.excepthook = h\nraise ValueError('v')",
    "no excepthook": "import sys\ndel sys.excepthook\nraise ValueError('v')",
    "no stderr": "import sys\nsys.stderr = None\nraise ValueError('v')",
    "exit nothing": "import sys; sys.exit()",
    "exit number": "import sys; sys.exit(7)",
    "exit big": "import sys; sys.exit(256 + 3)",
    "exit negative": "import sys; sys.exit(-1)",
    "exit huge": "import sys; sys.exit(1 << 70)",
    "exit text": "import sys; sys.exit('went wrong: ä')",
    "exit tuple": "raise SystemExit(1, 2)",
    "exit none": "raise SystemExit(None)",
    "exit true": "raise SystemExit(True)",
    "quit": "quit(4)",
    "os exit": "import os, sys; sys.stdout.write('lost?'); open('f', 'w').write('x'); os._exit(5)",
    "interrupt": "raise KeyboardInterrupt",
    "interrupt by signal": "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT); time.sleep(9)",
    "killed": "import os, signal; print('a'); os.kill(os.getpid(), signal.SIGKILL)",
    "terminated": "import os, signal, time; os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)",
    "crash": "import ctypes, faulthandler, sys\nfaulthandler.enable()\nsys.stderr.flush()\nctypes.string_at(0)",
    "abort": "import os; os.abort()",
    "handler": """
        import os, signal
        signal.signal(signal.SIGTERM, lambda n, f: print('term', n)); os.kill(os.getpid(), signal.SIGTERM)
        signal.signal(signal.SIGALRM, lambda n, f: print('alarm')); signal.setitimer(signal.ITIMER_REAL, 0.01); signal.pause()
    """,
    "child signal": """
        import os, signal
        signal.signal(signal.SIGCHLD, lambda n, f: print('child'))
        if os.fork() == 0: os._exit(3)
        print(os.waitpid(-1, 0)[1])
    """,
    "pipe closed": "import os, sys\nr, w = os.pipe(); os.close(r)\ntry: os.write(w, b'x')\nexcept BrokenPipeError: print('broken')",
    "atexit": """
        import atexit
        atexit.register(print, 'first'); atexit.register(print, 'second')
        @atexit.register
        def f(): raise ValueError('in atexit')
        print('end', atexit._ncallbacks() > 0)
    """,
    "atexit after error": "import atexit, sys\natexit.register(lambda: print('bye', hasattr(sys, 'last_value')))\n1 / 0",
    "finalizers": """
        import sys, weakref
        class A:
            def __init__(self, n): self.n = n
            def __del__(self): print('del', self.n, sys is not None, sys.is_finalizing() if sys else '')
        a, b, _c = A('a'), A('b'), A('_c')
        a.other, b.other = b, a
        weakref.finalize(_c, print, 'finalize')
        def f(x=A('default')): pass
    """,
    "unclosed file": "f = open('out.txt', 'w'); f.write('kept'); import atexit; g = open('g', 'w'); g.write('x' * 20000)",
    "unclosed file in a module": """
        import os, json
        os.mine, json.mine = open('one', 'w'), open('two', 'w')
        os.mine.write('kept'); json.mine.write('kept')
    """,
    "both names deleted": "import sys\ndel __file__, __cached__\nsys.exit(3)",
    "deleted file name": "import sys\ndel __file__\nsys.exit(3)",
    "no names": "import sys\nleave = sys.exit\nglobals().clear()\nraise SystemExit(4)",
    "no names and an end": "globals().clear()",
    "error taken back": """
        import sys
        def hook(*_): del sys.last_type, sys.last_value, sys.last_traceback
        sys.excepthook = hook
        1 / 0
    """,
    "error taken back at the end": """
        import atexit, sys
        @atexit.register
        def back(): del sys.last_type, sys.last_value, sys.last_traceback
        1 / 0
    """,
    "written by C": "import ctypes, os; ctypes.CDLL(None).printf(b'from C\\n')",
    "called by C at the end": """
        import ctypes
        called = ctypes.CFUNCTYPE(None)
        libc = ctypes.CDLL(None)
        libc.__cxa_atexit(libc.puts, b'bye', None)
    """,
    "another stdout at the end": "import sys; sys.stdout = open('out.txt', 'w'); print('kept')",
    "a full pipe at the end": """
        import os, sys
        fd = os.open('/dev/full', os.O_WRONLY)
        os.dup2(fd, 1)
        sys.stdout = os.fdopen(1, 'w')
        print('lost')
    """,
    "a finalizer that writes": """
        import sys
        class A:
            def __del__(self): print('del'); sys.stderr.write('err')
        a = A(); b = [A()]; b.append(b)
    """,
    "a daemon thread at the end": """
        import threading, time
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        print('end')
    """,
    "a fork that ends first": """
        import os, sys
        if os.fork(): print(os.wait()[1])
        else: print('child')
    """,
    "a fork that fails": """
        import os, sys
        if os.fork(): print(os.wait()[1])
        else: sys.exit(5)
    """,
    "unraisable": "class A:\n    def __del__(self): 1 / 0\na = A()\ndel a\nb = A()",
    "buffering": """
        import os, sys
        sys.stdout.write('a'); os.write(1, b'b'); print('c', end=''); os.write(1, b'd'); sys.stdout.buffer.write(b'e'); os.write(1, b'f')
        sys.stderr.write('x'); os.write(2, b'y')
    """,
    "big output": "import sys\nfor i in range(40000): print(i, 'x' * 20)\nsys.stderr.write('y' * 300000)",
    "binary output": "import sys; sys.stdout.buffer.write(bytes(range(256)) * 3)",
    "surrogates": "print('\\udc80')",
    "unicode": "print('äöü ☃ 𝄞'); import os; open('ä☃.txt', 'w').close(); print(sorted(os.listdir()))",
    "closed stdout": "import os; os.close(1)",
    "closed stdout with text": "import sys\nsys.stdout.write('x' * 9)\nimport os\nos.close(1)\nprint('y' * 100000)",
    "input": "try: input('? ')\nexcept EOFError as e: print(repr(e))",
    "threads": """
        import threading
        print(threading.current_thread() is threading.main_thread(), threading.active_count(), threading.get_ident() == threading.main_thread().ident)
        done = []
        ts = [threading.Thread(target=done.append, args=(i,)) for i in range(8)]
        [t.start() for t in ts]; [t.join() for t in ts]; print(sorted(done), threading.main_thread().native_id > 0)
    """,
    "thread goes on": """
        import threading, time, atexit
        atexit.register(print, 'atexit')
        def f(): time.sleep(0.05); print('thread ends')
        threading.Thread(target=f).start(); print('main ends')
    """,
    "daemon thread": """
        import threading, time
        def f():
            while True: time.sleep(0.001)
        threading.Thread(target=f, daemon=True).start(); time.sleep(0.01); print('end')
    """,
    "error in thread": "import threading\nt = threading.Thread(target=lambda: 1 / 0, name='T')\nt.start(); t.join(); print('on')",
    "executor": """
        from concurrent.futures import ThreadPoolExecutor
        e = ThreadPoolExecutor(3); print(sorted(e.map(lambda x: x * x, range(5)))); e.submit(print, 'late')
    """,
    "processes": """
        import multiprocessing as m
        def f(x): return x * x, __name__, m.current_process().name[:4]
        if __name__ == '__main__':
            for how in ('fork', 'spawn', 'forkserver'):
                with m.get_context(how).Pool(2) as pool: print(how, sorted({v[:2] for v in pool.map(f, range(6))}))
            q = m.get_context('spawn').Queue(); p = m.get_context('spawn').Process(target=q.put, args=(3,)); p.start(); print(q.get()); p.join(); print(p.exitcode)
            print(m.parent_process(), m.current_process().name, m.current_process().daemon, len(m.current_process().authkey))
    """,
    "process pool": """
        from concurrent.futures import ProcessPoolExecutor
        def f(x): return x + 1
        if __name__ == '__main__':
            with ProcessPoolExecutor(2) as e: print(list(e.map(f, range(4))))
    """,
    "shared memory": """
        from multiprocessing import shared_memory, Manager
        if __name__ == '__main__':
            s = shared_memory.SharedMemory(create=True, size=16); s.buf[0] = 7; print(s.buf[0]); s.close(); s.unlink()
            with Manager() as m: d = m.dict(); d['a'] = 1; print(dict(d))
    """,
    "fork": """
        import os, sys
        print('once'); sys.stdout.flush()
        pid = os.fork()
        if pid == 0: print('child', os.getppid() > 0); sys.exit(3)
        print('status', os.waitpid(pid, 0)[1])
    """,
    "subprocess": """
        import subprocess, sys, os
        print(subprocess.run([sys.executable, '-c', 'import sys; print(sys.argv, sys.stdin.read())', 'a'], input='in', capture_output=True, text=True))
        print(subprocess.run('echo $0; exit 3', shell=True).returncode, os.system('kill -9 $$'))
        p = subprocess.Popen(['sleep', '30']); p.kill(); print(p.wait())
        print(subprocess.run([sys.executable, 'hello.py'], capture_output=True).stdout)
    """,
    "exec": "import os, sys; os.execv(sys.executable, ['python', '-c', 'import sys, os; print(sys.argv, sorted(os.environ)[:3])'])",
    "daemon left": "import subprocess; subprocess.Popen(['sleep', '600'], start_new_session=True); print('gone')",
    "asyncio": """
        import asyncio
        async def f(): await asyncio.sleep(0.01); p = await asyncio.create_subprocess_exec('echo', 'hi'); return await p.wait()
        print(asyncio.run(f()))
    """,
    "pickling": """
        import pickle, dataclasses, enum, collections
        @dataclasses.dataclass
        class D: x: int = 3
        class E(enum.Enum): A = 1
        T = collections.namedtuple('T', 'a b')
        data = pickle.dumps([D(), E.A, T(1, 2), print, collections.OrderedDict(a=1)]); print(pickle.loads(data), b'__main__' in data)
    """,
    "source": """
        import inspect, sys, linecache
        def f():
            return 3
        print(inspect.getsource(f), inspect.getfile(f), inspect.getmodule(f), sys.modules['__main__'].f is f)
        class C: pass
        print(inspect.getsource(C), linecache.getline(__file__, 1))
    """,
    "main": "import __main__, sys; print(__main__ is sys.modules['__main__'], __main__.__dict__ is globals(), importlib if 'importlib' in globals() else None)",
    "reload": "import importlib, helper, json\nprint(helper.X); open('helper.py', 'w').write('X = 22222'); importlib.invalidate_caches(); importlib.reload(helper); print(helper.X); importlib.reload(json); print(json.dumps([1]))",
    "import again": "import sys, json\na = json\ndel sys.modules['json']\nimport json\nprint(a is json, json.loads('[1]'))",
    "specs": "import json, importlib.util, re\nprint(json.__spec__.name, json.__spec__.origin == json.__file__, type(json.__loader__).__name__, importlib.util.find_spec('re').origin == re.__file__, json.__spec__.loader is json.__loader__, json.__spec__._initializing)",
    "own modules": "import helper, package.inner; print(helper.X, helper.__file__, package.inner.Y, helper.__spec__.origin)",
    "relative": "from . import helper",
    "shadowing": "import shadow_of_json_is_here_not; print(1)",
    "typing": "import typing, dataclasses\n@dataclasses.dataclass\nclass A:\n    b: 'typing.Optional[int]' = None\nprint(typing.get_type_hints(A))",
    "logging": "import logging\nlogging.basicConfig(level='INFO', format='%(levelname)s %(name)s %(module)s:%(lineno)d %(funcName)s %(message)s')\nlogging.info('a'); logging.getLogger('x').error('b'); print(logging.getLogger().handlers[0].stream.name)",
    "log time": "import logging\nr = logging.LogRecord('a', 1, '', 1, '', (), None); print(0 <= r.relativeCreated < 5000)",
    "warnings": "import warnings; print([f[:3] for f in warnings.filters]); warnings.warn('w'); warnings.warn('d', DeprecationWarning); warnings.simplefilter('error'); warnings.warn('e')",
    "resource warning": "import warnings\nwarnings.simplefilter('always')\nopen('x', 'w').write('a')\nimport socket\nsocket.socket()",
    "limits": "import resource\nresource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\ntry: b'x' * (1 << 31)\nexcept MemoryError: print('no memory')",
    "cpu limit": "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (1, 2))\nwhile True: pass",
    "file limit": "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))\nopen('f', 'w').write('x' * 100)",
    "folder gone": "import os, shutil\nshutil.rmtree(os.getcwd())\ntry: os.getcwd()\nexcept FileNotFoundError as e: print(e.strerror)",
    "gc": "import gc; print(gc.isenabled(), gc.get_threshold(), gc.callbacks, gc.get_debug(), gc.garbage)\nclass A: pass\na = A(); a.a = a; del a; print(gc.collect() >= 1)",
    "random": "import random, secrets, uuid, tempfile, os\nprint(len({random.random(), random.random()}), os.path.dirname(tempfile.mkdtemp()) == os.environ['TMPDIR'], tempfile.gettempdir() == os.environ['TMPDIR'])",
    "time": "import time\nprint(time.process_time() < 2, time.tzname, time.thread_time() < 2, 0 < time.perf_counter())",
    "locale": "import locale; print(locale.getlocale(), locale.getpreferredencoding(), locale.setlocale(locale.LC_ALL), locale.localeconv()['decimal_point'])",
    "tracing": "import sys\nsys.settrace(lambda f, e, a: print(e, f.f_code.co_name) if e == 'call' and f.f_code.co_name == 'f' else None)\ndef f(): pass\nf()",
    "faulthandler": "import faulthandler, sys; print(faulthandler.is_enabled()); faulthandler.dump_traceback(all_threads=False)",
    "tracemalloc": "import tracemalloc; print(tracemalloc.is_tracing()); tracemalloc.start(); x = [1] * 1000; print(tracemalloc.get_traced_memory()[0] > 0)",
    "profile": "import cProfile\ncProfile.run('sum(range(10))', 'stats'); import pstats; print(pstats.Stats('stats').total_calls > 0)",
    "interpreters": "import builtins, sys; print(len(dir(builtins)), exit, copyright is not None, sys.builtin_module_names == sys.builtin_module_names, help)",
    "runpy": "import runpy; print(runpy.run_path('hello.py')['__name__'])",
    "exec text": "exec(compile('import sys\\ndef f():\\n  raise KeyError(sys._getframe().f_code.co_filename)\\nf()', 'made-up', 'exec'))",
    "site": "import site, sysconfig, sys; print(site.ENABLE_USER_SITE, site.getsitepackages(), sysconfig.get_path('purelib'), 'sitecustomize' in sys.modules, 'usercustomize' in sys.modules)",
    "contextvars": "import contextvars, decimal; print(decimal.getcontext().prec, list(contextvars.copy_context()))",
    "sockets": "import socket, select, ssl\na, b = socket.socketpair(); a.send(b'x'); print(b.recv(1), select.select([b], [], [], 0)[0], socket.getdefaulttimeout())",
    "importlib": "import sys; print([getattr(f, '__name__', '') for f in sys.meta_path if getattr(f, '__name__', '')])",
}
"""By name: the text of the script."""

FILES = {
    "helper.py": "X = 1\n",
    "broken.py": "def f(:\n",
    "package/__init__.py": "",
    "package/inner.py": "from .. package import other\nY = other.Z\n".replace(".. package", "."),
    "package/other.py": "Z = 3\n",
    "package/__main__.py": "import sys\nfrom . import inner\nprint(inner.Y, sys.argv, __spec__.name, __package__, sys.path[0], __file__)\n",
    "package/failing.py": "import sys, traceback\ntraceback.print_stack()\nprint(sys.argv)\nraise ValueError('in a module')\n",
}
"""What lies beside each script."""

COMMANDS = [
    "python nothing.py",
    "python ./hello.py",
    "python sub/../hello.py",
    "python sub/hello.py",
    "python link.py",
    "python missing.py",
    "python no/such/folder/missing.py",
    "python sub",
    "python app",
    "python app.zip x y",
    "python empty.pyc",
    "python -u arguments.py a 'b c' \"d\" ''",
    "python -B arguments.py",
    "python -O arguments.py",
    "python -OO globals.py",
    "python -W error warnings.py",
    "python -Wignore warnings.py",
    "python -X utf8 streams.py",
    "python -X utf8=1 -u -B streams.py",
    "python3 arguments.py",
    "A=1 B='x y' python variables.py",
    "PYTHONHASHSEED=0 python hash.py",
    "PYTHONUNBUFFERED= python buffering.py",
    "PYTHONUNBUFFERED= python os_exit.py",
    "PYTHONIOENCODING=latin-1 python streams.py",
    "PYTHONOPTIMIZE=1 python arguments.py",
    "PYTHONFAULTHANDLER=1 python crash.py",
    "PYTHONWARNINGS=error python warnings.py",
    "LC_ALL=C python streams.py",
    "LC_ALL=C python variables.py",
    "LC_ALL=POSIX python unicode.py",
    "PYTHONUTF8=0 LC_ALL=C PYTHONCOERCECLOCALE=0 python streams.py",
    "TZ=Asia/Tokyo python time.py",
    "python -m package a b",
    "python -m package.failing x",
    "python -m package.missing",
    "python -m no_such_module",
    "python -m hello",
    "python -m json.tool --help",
    "python -m timeit -n 1 -r 1 pass --help",
    "python -m stack",
    "python -m processes",
    "python ä.py",
]
"""Command lines beside `python <script>.py` for each script."""


def text_of(name: str) -> str:
    """Return a script's text."""
    return dedent(SCRIPTS[name]).strip() + "\n" if SCRIPTS[name] else ""


def file_name(name: str) -> str:
    """Return the name of a script's file."""
    return f"{name.replace(' ', '_')}.py"
