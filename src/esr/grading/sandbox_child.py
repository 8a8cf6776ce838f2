"""What runs inside the sandbox; its text is handed to a bare interpreter, so it uses the standard library alone.

Lines of JSON on standard input and output. The first line is the limits. Roles:

`candidate`: takes {"source"}, runs it, answers {} or {"error"}; then answers {"call", "args", "kwargs"} with {"value"} or {"error"}.
`judge`: takes {"setup", "test", "names", "check"}, runs the test with a stand-in for each of `names` that sends a call out and waits
for its answer, and ends with {"verdict": true or false, "error"}.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs

import json
import os
import sys


def encode(value, depth=0):
    """A value of plain built-in types as JSON; anything else is refused, subclasses too: they could compare as they like."""
    kind = type(value)
    if depth > 100:
        raise TypeError("nested too deeply")
    if value is None or kind in (bool, str):
        return value
    if kind is int:
        return {"int": hex(value)}
    if kind is float:
        return {"float": value.hex() if value == value and abs(value) != float("inf") else repr(value)}
    if kind is complex:
        return {"complex": [encode(value.real), encode(value.imag)]}
    if kind in (bytes, bytearray):
        return {kind.__name__: bytes(value).hex()}
    if kind in (list, tuple, set, frozenset):
        return {kind.__name__: [encode(v, depth + 1) for v in value]}
    if kind is dict or (
        kind.__module__ == "collections" and kind.__name__ in ("defaultdict", "Counter", "OrderedDict")
    ):
        return {"dict": [[encode(k, depth + 1), encode(v, depth + 1)] for k, v in dict.items(value)]}
    if kind in (range, zip, map, filter, enumerate) or kind.__name__ in (
        "dict_keys",
        "dict_values",
        "dict_items",
        "generator",
    ):
        return {"list": [encode(v, depth + 1) for v in value]}
    raise TypeError(f"a {kind.__name__} cannot be compared")


def decode(tree):
    """The value that `encode` was given."""
    if tree is None or isinstance(tree, (bool, str)):
        return tree
    ((kind, body),) = tree.items()
    if kind == "int":
        return int(body, 16)
    if kind == "float":
        return float(body) if body in ("nan", "inf", "-inf") else float.fromhex(body)
    if kind == "complex":
        return complex(*map(decode, body))
    if kind in ("bytes", "bytearray"):
        return {"bytes": bytes, "bytearray": bytearray}[kind].fromhex(body)
    if kind == "dict":
        return {decode(k): decode(v) for k, v in body}
    return {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}[kind](map(decode, body))


def limit(limits):
    """Resource limits on this process."""
    import resource

    for name, value in limits.items():
        resource.setrlimit(getattr(resource, name), (value, value))


def candidate(read, write):
    space = {"__name__": "__main__", "__builtins__": __builtins__}
    try:
        exec(compile(read()["source"], "<candidate>", "exec"), space)
        write({})
    except BaseException as error:
        write({"error": type(error).__name__})
    while True:
        message = read()
        try:
            args, kwargs = decode(message["args"]), decode(message["kwargs"])
            write({"value": encode(space[message["call"]](*args, **kwargs))})
        except BaseException as error:
            write({"error": type(error).__name__})


def judge(read, write):
    job = read()

    def stand_in(name):
        def call(*args, **kwargs):
            write({"call": name, "args": encode(args), "kwargs": encode(kwargs)})
            answer = read()
            if "error" in answer:
                raise RuntimeError(f"the candidate raised {answer['error']}")
            return decode(answer["value"])

        call.__name__ = name
        return call

    space = {"__name__": "__judge__", "same": same}
    try:
        exec(compile(job["setup"], "<setup>", "exec"), space)
        space["reference"] = space.get(job["check"] or "")
        space.update({name: stand_in(name) for name in job["names"]})
        exec(compile(job["test"], "<test>", "exec"), space)
        write({"verdict": True, "error": ""})
    except BaseException as error:
        write({"verdict": False, "error": f"{type(error).__name__}: {error}"[:300]})


def same(out, expected, atol=0.0):
    """evalplus's comparison: equal, or floats (alone or in lists and tuples) within atol (1e-6 if 0) and a relative 1e-7."""
    if out == expected:
        return True
    if isinstance(expected, float) and isinstance(out, (int, float)):
        return abs(out - expected) <= (atol or 1e-6) + 1e-7 * abs(expected)
    if isinstance(expected, (list, tuple)) and isinstance(out, type(expected)) and len(out) == len(expected):
        return bool(expected) and all(same(o, e, atol) for o, e in zip(out, expected))
    return False


def main(role):
    """Keep the real channels under other numbers; what the program prints or reads goes nowhere."""
    source, sink = os.fdopen(os.dup(0), "r", encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    sys.setrecursionlimit(5000)
    limit(json.loads(source.readline()))

    def read():
        line = source.readline()
        if not line:
            os._exit(0)
        return json.loads(line)

    def write(message, sink=sink, dumps=json.dumps):
        sink.write(dumps(message) + "\n")
        sink.flush()

    {"candidate": candidate, "judge": judge}[role](read, write)


if __name__ == "__main__":
    sys.path += sys.argv[2:]
    main(sys.argv[1])
