"""The time of a graph: launches that wait for others, and share what the GPU has.

A launch that runs alone takes as long as its slowest part: the launch itself, its bytes, its FLOP, its
instructions or its shared memory. Launches that run at the same time share each of the last four equally.
Both are optimistic: kernels that run together also share multiprocessors and caches.
"""

from collections import Counter


def parts(launch, machine):
    """Return resource → the seconds of it that this launch needs alone."""
    found = {
        "launch": machine.launch,
        "bytes": launch.moved / machine.bytes_per_second,
        "flop": sum(amount / machine.flop_per_second[kind] for kind, amount in launch.flop.items()),
        "instructions": launch.instructions / machine.instructions_per_second,
        "shared memory": launch.shared / machine.shared_bytes_per_second,
    }
    return {name: needed for name, needed in found.items() if needed > 0}


def alone(launch, machine):
    """Return the seconds of this launch if nothing else runs."""
    return max(parts(launch, machine).values())


def seconds(graph, machine):
    """Return the seconds from the first launch to the last end."""
    now, done, running, waiting = 0.0, set(), {}, dict(enumerate(graph))
    while waiting or running:
        for number in [n for n, launch in waiting.items() if launch.after <= done]:
            running[number] = parts(waiting.pop(number), machine)
        users = Counter(name for needs in running.values() for name in needs)
        users["launch"] = 1  # the latencies of launches pass side by side
        passed = min(need * users[name] for needs in running.values() for name, need in needs.items())
        now += passed
        for number, needs in [*running.items()]:
            left = {name: need - passed / users[name] for name, need in needs.items()}
            running[number] = {name: need for name, need in left.items() if need > 1e-15}
            if not running[number]:
                del running[number]
                done.add(number)
    return now


def longest_chain(graph):
    """Return the number of launches in the longest chain of dependencies."""
    depth = []
    for launch in graph:
        depth.append(1 + max((depth[n] for n in launch.after), default=0))
    return max(depth, default=0)


def races(graph):
    """Return (earlier, later) numbers of launches that are not ordered, and one writes what both touch."""
    before, found = [], []  # before: of each launch, all launches that end before it begins
    for later, second in enumerate(graph):
        before.append(set(second.after).union(*(before[n] for n in second.after)))
        unordered = (n for n in range(later) if n not in before[later])
        found += [(n, later) for n in unordered if _conflict(graph[n], second)]
    return found


def _conflict(first, second):
    pairs = (first.writes, second.reads), (first.reads, second.writes), (first.writes, second.writes)
    return any(a < d and c < b for some, others in pairs for a, b in some for c, d in others)
