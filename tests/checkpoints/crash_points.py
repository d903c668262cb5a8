"""Let a process die, or a disk fail, before the n-th file-system call of the tested function."""

import builtins
import io
import os
from itertools import count

CALLS = ["mkdir", "open", "fsync", "rename", "replace", "close", "unlink", "rmdir"]


def count_calls(monkeypatch, act):
    """Call act(number, name) before every file-system call; return the list that collects the names.

    After a file is opened, act is called again: an old file may be empty by then, and the new bytes are not
    written yet.
    """
    seen = []

    def ask(name):
        seen.append(name)
        act(len(seen), name)

    def around(name, original):
        def call(*args, **kwargs):
            ask(name)
            result = original(*args, **kwargs)
            if name == "open a file":
                try:
                    ask("write a file")
                except BaseException:
                    result.close()
                    raise
            return result

        return call

    for name in CALLS:
        monkeypatch.setattr(os, name, around(name, getattr(os, name)))
    opening = around("open a file", open)
    for module in (builtins, io):
        monkeypatch.setattr(module, "open", opening)
    return seen


def is_killed(monkeypatch, number, work):
    """Run work() in a new process that exits before its call `number`; return whether it exits there."""
    child = os.fork()
    if child == 0:
        try:
            with monkeypatch.context() as patch:
                count_calls(patch, lambda k, name: os._exit(9) if k == number else None)
                work()
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9), "the child failed by itself"
    return code == 9


class Death(BaseException):
    pass


def dies(monkeypatch, number, work):
    """Like is_killed without a process: from call `number` on, every call raises. 20 times as fast."""

    def act(k, name):
        if k >= number:
            raise Death

    with monkeypatch.context() as patch:
        count_calls(patch, act)
        try:
            work()
        except Death:
            return True
    return False


def crashes(monkeypatch, how, most=100):
    """Yield a function that crashes work() at its first call, then at its second, until work() succeeds."""
    for number in count(1):
        assert number < most, "there are more calls than that"
        crashed = []
        yield lambda work, number=number, crashed=crashed: crashed.append(how(monkeypatch, number, work))
        if not crashed[-1]:
            return
