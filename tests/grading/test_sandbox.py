"""Attacks on the sandbox, each harmless: nothing passes that is wrong, and nothing outside can be read, reached or kept busy."""

import os
import time
from pathlib import Path

import pytest

from esr.grading import code, sandbox
from esr.grading.sandbox import Sandbox, SandboxError
from esr.grading.sandbox_child import decode, encode
from esr.records.problem import Problem

pytestmark = pytest.mark.sandbox

TASK = {
    "setup": "",
    "test": "assert f(1) == 2\nassert f(5) == 6\nassert f([1]) == [1, 1]",
    "names": ["f"],
    "check": None,
}
RIGHT = "def f(x):\n    return x + 1 if type(x) is int else x + x"

FORGERIES = {
    "prints passed": "print('passed')\ndef f(x): print('{\"verdict\": true}'); return 0",
    "exits well": "import sys\ndef f(x): sys.exit(0)",
    "exits at once": "import os\nos._exit(0)",
    "exits when loaded": "raise SystemExit(0)",
    "always equal": "class E(int):\n    def __eq__(self, o): return True\n    __hash__ = int.__hash__\ndef f(x): return E(0)",
    "equal list": "class L(list):\n    def __eq__(self, o): return True\ndef f(x): return L()",
    "patches builtins": "import builtins\nbuiltins.AssertionError = Exception\ndef f(x): return 0",
    "patches json": "import json\njson.dumps = lambda *a, **k: '{\"verdict\": true}'\ndef f(x): return 0",
    "writes a verdict to every descriptor": (
        "import os\ndef f(x):\n    for d in range(3, 64):\n        try: os.write(d, b'{\"verdict\": true}\\n')\n"
        "        except OSError: pass\n    return 0"
    ),
    "answers ahead": (
        "import os\nfor d in range(3, 64):\n    try: os.write(d, b'{\"value\": {\"int\": \"0x2\"}}\\n' * 50)\n"
        "    except OSError: pass\ndef f(x): return 0"
    ),
    "looks for the tests in its frames": (
        "import sys, gc\ndef f(x):\n    frame = sys._getframe()\n    while frame:\n        if 'assert' in str(frame.f_locals): return 2\n"
        "        frame = frame.f_back\n    return 7 if any('assert f(' in str(o) for o in gc.get_objects()[:5000]) else 0"
    ),
    "raises AssertionError": "def f(x): raise AssertionError",
    "raises KeyboardInterrupt": "def f(x): raise KeyboardInterrupt",
    "sleeps": "import time\ndef f(x): time.sleep(60)",
    "spins": "def f(x):\n    while True: pass",
    "spins when loaded": "while True: pass",
    "spins in a thread": "import threading\nthreading.Thread(target=lambda: [0 for _ in iter(int, 1)]).start()\ndef f(x): return 0",
    "takes all memory": "def f(x):\n    a = []\n    while True: a.append(bytearray(1 << 26))",
    "one huge object": "def f(x): return 'a' * (1 << 40)",
    "huge answer": "def f(x): return 'a' * (1 << 26)",
    "endless output": "import os\ndef f(x):\n    while True: os.write(5, b'a' * 65536)",
    "prints for ever": "def f(x):\n    while True: print('a' * 1000)",
    "nests deeply": "def f(x):\n    a = []\n    for _ in range(10**5): a = [a]\n    return a",
    "recursion": "def f(x): return f(x)",
    "segmentation fault": "import ctypes\ndef f(x): ctypes.string_at(0)",
    "fork bomb": "import os\ndef f(x):\n    while True: os.fork()",
    "kills its group": "import os, signal\ndef f(x): os.killpg(0, signal.SIGKILL)",
    "kills everything": "import os, signal\ndef f(x): os.kill(-1, signal.SIGKILL)",
    "closes its channels": "import os\nos.closerange(0, 64)\ndef f(x): return 2",
    "fills the disk": (
        "def f(x):\n    for i in range(10**6):\n        with open(f'/tmp/{i}', 'wb') as o: o.write(b'a' * (1 << 20))\n    return 0"
    ),
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def isolated():
    assert sandbox.trouble() == "", "these tests need bubblewrap: `make sandbox` installs it"


def test_the_right_program_passes():
    assert code.run(RIGHT, TASK) == (True, "")


def test_an_endless_program_is_ended_by_the_time_that_it_has_had(monkeypatch):
    monkeypatch.setattr(sandbox, "PATIENCE", 10_000)
    assert code.run("while True: pass", TASK, seconds=1.0)[0] is False


@pytest.mark.parametrize("name", FORGERIES)
def test_a_wrong_program_gains_nothing(name):
    start = time.monotonic()
    right, why = code.run(FORGERIES[name], TASK, seconds=1.5)
    assert right is False, "a program's own fault is a wrong answer, not a failure of the grader"
    assert why
    assert time.monotonic() - start < 15
    assert code.run(RIGHT, TASK)[0], "the next one is judged as ever"


@pytest.mark.parametrize("test", ["import os\nos._exit(3)", "f(1)\nwhile True: pass"])
def test_a_judge_that_breaks_off_says_nothing_of_the_program(test):
    assert code.run(RIGHT, TASK | {"test": test}, seconds=1.0)[0] is None
    problem = Problem(id="a", question="?", grader="code", data=TASK | {"test": "import os\nos._exit(3)"})
    grade = code.grade(problem, f"```python\n{RIGHT}\n```")
    assert (grade.last, grade.note) == (None, "the judge broke off: the process has ended")


def ask(source: str, *args, seconds: float = 5.0):
    """What a candidate's `f(*args)` returns."""
    with Sandbox("candidate", seconds) as box:
        box.send({"source": source})
        assert box.receive() == {}
        box.send({"call": "f", "args": encode(args), "kwargs": encode({})})
        answer = box.receive()
        return decode(answer["value"]) if "value" in answer else answer["error"]


def test_the_environment_is_empty(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert "HF_TOKEN" not in ask("import os\ndef f(): return dict(os.environ)")
    assert "secret" not in ask("def f(): return open('/proc/self/environ').read()")


def test_no_file_of_the_user_can_be_read(tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    assert ask("def f(p): return open(p).read()", str(secret)) == "FileNotFoundError"
    assert ask("import os\ndef f(): return sorted(os.listdir('/tmp'))") == []
    link = "import os\ndef f(p):\n    os.symlink(p, '/tmp/l')\n    return open('/tmp/l').read()"
    assert ask(link, str(secret)) == "FileNotFoundError"
    assert ask("import os\ndef f(): return os.path.exists('/etc/passwd') or os.path.exists('/home')") is False


@pytest.mark.parametrize("path", ["/usr/x", "/x", os.path.dirname(os.__file__) + "/x.py"])
def test_nothing_outside_the_scratch_folder_can_be_written(path):
    assert ask("def f(p): return open(p, 'w').write('x')", path) in (
        "OSError",
        "PermissionError",
        "FileNotFoundError",
        1,
    )
    assert not Path(path).exists()


def test_the_scratch_folder_is_small_and_gone_afterwards():
    assert ask("def f():\n    with open('/tmp/x', 'w') as o: o.write('x')\n    return open('/tmp/x').read()") == "x"
    assert ask("import os\ndef f(): return os.listdir('/tmp')") == []
    assert ask("def f():\n    with open('/tmp/x', 'wb') as o: o.write(b'a' * (64 << 20))") == "OSError"


@pytest.mark.parametrize("target", ["('127.0.0.1', 80)", "('8.8.8.8', 53)"])
def test_there_is_no_network(target):
    assert ask(f"import socket\ndef f():\n    socket.create_connection({target}, timeout=2)") in (
        "OSError",
        "ConnectionRefusedError",
    )


def test_sockets_of_the_host_are_out_of_reach():
    assert (
        ask("import os\ndef f(): return [p for p in ('/run', '/var/run', '/var/run/docker.sock') if os.path.exists(p)]")
        == []
    )


@pytest.mark.parametrize(
    "source",
    [
        "import os\ndef f(): return os.fork()",
        "import subprocess\ndef f(): return subprocess.run(['/bin/true']).returncode",
        "import multiprocessing as m\ndef f(): return m.Process(target=print).start()",
        "import os\ndef f(): return os.posix_spawn('/bin/true', ['true'], {})",
    ],
)
def test_no_process_can_be_started(source):
    assert isinstance(ask(source), str)


def test_threads_work_as_programs_use_them():
    source = (
        "import threading\ndef f():\n    a = []\n    t = threading.Thread(target=a.append, args=(1,))\n    t.start()\n"
    )
    assert ask(source + "    t.join()\n    return a") == [1]


def test_only_its_own_processes_are_seen():
    seen = ask("import os\ndef f(): return [p for p in os.listdir('/proc') if p.isdigit()]")
    assert len(seen) <= 3


def test_privileges_are_none():
    assert ask("import os\ndef f():\n    os.setuid(0)\n    os.mount") in (
        "AttributeError",
        "PermissionError",
        "OSError",
    )
    assert (
        ask("def f(): return [l for l in open('/proc/self/status') if l.startswith('CapEff')][0].split()[1]")
        == "0" * 16
    )


def test_a_pickle_is_no_message():
    """Answers are JSON of plain types: what is no such thing is refused, whatever its class says of itself."""
    with pytest.raises(TypeError):
        encode(object())
    assert ask("class X:\n    def __reduce__(self): return (print, ('x',))\ndef f(): return X()") == "TypeError"


def test_values_go_there_and_back():
    values = [
        None,
        True,
        3,
        -(10**30),
        0.1,
        float("inf"),
        "a\n\u2028",
        b"x",
        [1, [2]],
        (1,),
        {1, 2},
        {(1, 2): [3.5]},
        1 + 2j,
    ]
    assert [decode(encode(v)) for v in values] == values
    assert ask("def f(x): return x", values) == values
    assert str(decode(encode(float("nan")))) == "nan"


def test_a_process_that_is_gone_is_an_error_not_a_hang():
    with Sandbox("candidate", 5) as box:
        box.process.kill()
        with pytest.raises(SandboxError):
            box.receive()
