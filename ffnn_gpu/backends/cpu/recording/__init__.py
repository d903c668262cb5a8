"""Training steps and predictions recorded once as a table of compiled commands, then replayed without Python.

operations, commands             a backend's operations as commands; arguments, which checks what they read
recorder, partition              what a step records: its commands, and how threads share one
members                          the commands of the members of a pack
command_table, recorded_step     the table, and the calls that it serves
threads, cores                   the thread pool that replays a table, and how many threads a process gets
"""
