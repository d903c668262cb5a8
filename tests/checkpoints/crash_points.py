"""A process that dies, or a disk that fails, before the n-th file-system call of what is tested."""

import builtins
import io
import os
from itertools import count

CALLS = ["mkdir", "open", "fsync", "rename", "replace", "close", "unlink", "rmdir"]


def count_calls(monkeypatch, act):
    """Make every file-system call first ask act(number of the call, its name); the names, as they come.

    A file that was opened asks once more: an old one may be empty by then and the new bytes not there yet.
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
    """Whether a process of its own, killed before its call `number`, did not get to the end of `work`."""
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
    """The same without a process: from that call on nothing has an effect any more. 20 times as fast."""

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
    """For each number of a call a function of the work that makes it crash there, until it gets to its end."""
    for number in count(1):
        assert number < most, "there are more calls than that"
        crashed = []
        yield lambda work, number=number, crashed=crashed: crashed.append(how(monkeypatch, number, work))
        if not crashed[-1]:
            return
