"""A pytest plugin, `-p tests.backends.cuda.unpooled`: each device array is an allocation of its own, not a part of CuPy's pool.

Why: compute-sanitizer knows the ends of allocations, and an access past an array inside the pool looks right to it.
"""

import cupy

cupy.cuda.set_allocator(None)
