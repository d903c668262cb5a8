"""A pytest plugin, `-p tests.backends.cuda.unpooled`: allocate device arrays outside of CuPy's pool.

Why: compute-sanitizer checks the bounds of allocations. It does not detect an access past an array
inside the pool.
"""

import cupy

cupy.cuda.set_allocator(None)
