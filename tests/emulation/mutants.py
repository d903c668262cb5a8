"""Correct kernels and bugs to plant in them. A bug replaces the only `old` of `kernel` by `new`.

The helpers of a kernel begin with its name, so that `variants` can rename them and compile all variants at
once.
"""

import re
from dataclasses import dataclass

KERNELS = {
    "scale": r"""
template <typename T> __device__ __forceinline__ T scale_one(T a, T x) { return a * x; }
extern "C" __global__ void __launch_bounds__(64)
scale(const float* __restrict__ x, float* __restrict__ y, float a, int n) {
  int t = blockIdx.x * blockDim.x + threadIdx.x, quads = n / 4;
  if (t < quads) {
    float4 v = reinterpret_cast<const float4*>(x)[t];
    v = make_float4(scale_one(a, v.x), scale_one(a, v.y), scale_one(a, v.z), scale_one(a, v.w));
    reinterpret_cast<float4*>(y)[t] = v;
  }
  int i = 4 * quads + t;
  if (i < n) y[i] = scale_one(a, __ldg(x + i));
}
""",
    "row_sum": r"""
extern "C" __global__ void row_sum(const float* x, float* y, int rows, int cols) {
  int lane = threadIdx.x & 31, row = blockIdx.x * 2 + (threadIdx.x >> 5);
  float sum = 0.f;
  if (row < rows)
    for (int j = lane; j < cols; j += 32) sum += x[row * cols + j];
  for (int k = 16; k > 0; k >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, k);
  float mean = __shfl_sync(0xffffffffu, sum, 0) / cols;
  if (row < rows && lane < 2) y[2 * row + lane] = lane ? mean : sum;
}
""",
    "transpose": r"""
extern "C" __global__ void transpose(const float* x, float* y, int rows, int cols) {
  __shared__ float tile[8][9];
  int i = blockIdx.y * 8 + threadIdx.y, j = blockIdx.x * 8 + threadIdx.x;
  if (i < rows && j < cols) tile[threadIdx.y][threadIdx.x] = x[i * cols + j];
  __syncthreads();
  int p = blockIdx.x * 8 + threadIdx.y, q = blockIdx.y * 8 + threadIdx.x;
  if (p < cols && q < rows) y[p * rows + q] = tile[threadIdx.x][threadIdx.y];
}
""",
    "matmul": r"""
extern "C" __global__ void matmul(const float* a, const float* b, float* c, int m, int k, int n) {
  __shared__ float as[8][8], bs[8][8];
  int ty = threadIdx.y, tx = threadIdx.x, i = blockIdx.y * 8 + ty, j = blockIdx.x * 8 + tx;
  float sum = 0.f;
  for (int l0 = 0; l0 < k; l0 += 8) {
    as[ty][tx] = i < m && l0 + tx < k ? a[i * k + l0 + tx] : 0.f;
    bs[ty][tx] = j < n && l0 + ty < k ? b[(l0 + ty) * n + j] : 0.f;
    __syncthreads();  // tiles complete
    #pragma unroll
    for (int l = 0; l < 8; l++) sum += as[ty][l] * bs[l][tx];
    __syncthreads();  // tiles free
  }
  if (i < m && j < n) c[i * n + j] = sum;
}
""",
    "total": r"""
extern "C" __global__ void total(const float* x, float* partial, unsigned int* count, float* out, int n) {
  extern __shared__ float s[];
  __shared__ bool last;
  int t = threadIdx.x, i = blockIdx.x * blockDim.x + t;
  s[t] = i < n ? x[i] : 0.f;
  for (int k = blockDim.x / 2; k > 0; k /= 2) {
    __syncthreads();
    if (t < k) s[t] += s[t + k];
  }
  if (t == 0) {
    partial[blockIdx.x] = s[0];
    __threadfence();
    last = atomicAdd(count, 1u) == gridDim.x - 1;
  }
  __syncthreads();
  if (last && t == 0) {
    float sum = 0.f;
    for (unsigned b = 0; b < gridDim.x; b++) sum += partial[b];
    *out = sum;
    *count = 0;
  }
}
""",
    "count": r"""
extern "C" __global__ void count(const int* label, int* counts, int n, int classes) {
  __shared__ int local[16];
  for (int c = threadIdx.x; c < 16; c += blockDim.x) local[c] = 0;
  __syncthreads();
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) atomicAdd(&local[label[i]], 1);
  __syncthreads();
  if (threadIdx.x < classes) atomicAdd(counts + threadIdx.x, local[threadIdx.x]);
}
""",
    "pair": r"""
extern "C" __global__ void pair(const float* x, float* y) {
  __shared__ float s[64];
  int t = threadIdx.x;
  unsigned mask = t & 16 ? 0xffff0000u : 0x0000ffffu;
  s[t] = x[t];
  __syncwarp(mask);
  float other = s[t ^ 1];
  __syncwarp(mask);
  s[t] = other;
  y[t] = s[t] - x[t];
}
""",
}


@dataclass(frozen=True)
class Mutant:
    """A planted bug and the error that must report it; "wrong" if only a comparison with NumPy shows it."""

    name: str
    kernel: str
    old: str
    new: str
    error: str

    def text(self):
        text = KERNELS[self.kernel]
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: {self.old!r} occurs {text.count(self.old)} times")
        return text.replace(self.old, self.new)


MUTANTS = (
    Mutant("tail guard includes n", "scale", "if (i < n)", "if (i <= n)", "Bounds"),
    Mutant("tail guard missing", "scale", "if (i < n) y[i]", "y[i]", "Bounds"),
    Mutant("tail guard stops early", "scale", "if (i < n)", "if (i < n - 1)", "wrong"),
    Mutant("vector guard missing", "scale", "if (t < quads)", "if (t <= quads)", "Bounds"),
    Mutant(
        "vector from an odd element",
        "scale",
        "reinterpret_cast<const float4*>(x)[t]",
        "*reinterpret_cast<const float4*>(x + 4 * t + (t > 0))",
        "Alignment",
    ),
    Mutant(
        "index overflows",
        "scale",
        "i = 4 * quads + t",
        "i = 4 * quads + t + (t << 20) * 4096 * quads",
        "Arithmetic",
    ),
    Mutant("shift by the width", "scale", "quads = n / 4", "quads = (n / 4) >> (31 + t + 1)", "Arithmetic"),
    Mutant("endless loop", "scale", "if (i < n)", "while (t == 3) i ^= 1;\n  if (i < n)", "Timeout"),
    Mutant("blocks overlap", "row_sum", "blockIdx.x * 2 +", "blockIdx.x +", "Race"),
    Mutant("row guard missing", "row_sum", "if (row < rows)\n", "if (row <= rows)\n", "Bounds"),
    Mutant("shuffle starts too low", "row_sum", "int k = 16", "int k = 8", "wrong"),
    Mutant("reduction misses lanes", "row_sum", "j += 32", "j += 33", "wrong"),
    Mutant(
        "shuffle in a branch",
        "row_sum",
        "float mean = __shfl_sync(0xffffffffu, sum, 0) / cols;",
        "float mean = sum / cols; if (lane < 4) mean = __shfl_sync(0xffffffffu, sum, 0) / cols;",
        "Divergence",
    ),
    Mutant(
        "early return before a shuffle",
        "row_sum",
        "float sum = 0.f;",
        "float sum = 0.f; if (lane >= rows) return;",
        "Divergence",
    ),
    Mutant(
        "no barrier before the tile is read", "transpose", "  __syncthreads();\n", "", "Uninitialized|Race"
    ),
    Mutant(
        "tile read where nobody wrote",
        "transpose",
        "i < rows && j < cols) tile",
        "i < rows && j < cols - 1) tile",
        "Uninitialized",
    ),
    Mutant(
        "tile row one too far",
        "transpose",
        "tile[threadIdx.x][threadIdx.y]",
        "tile[threadIdx.x + 1][threadIdx.y]",
        "Bounds|Uninitialized",
    ),
    Mutant(
        "tile not transposed",
        "transpose",
        "tile[threadIdx.x][threadIdx.y]",
        "tile[threadIdx.y][threadIdx.x]",
        "Uninitialized",
    ),
    Mutant(
        "barrier in a branch",
        "transpose",
        "  __syncthreads();",
        "  if (i < rows) __syncthreads();",
        "Divergence|Race",
    ),
    Mutant(
        "early return before a barrier",
        "transpose",
        "  if (i < rows && j < cols) tile",
        "  if (i >= rows) return;\n  if (j < cols) tile",
        "Divergence",
    ),
    Mutant(
        "different barriers",
        "transpose",
        "  __syncthreads();",
        "  if (threadIdx.x < 4)\n    __syncthreads();\n  else\n    __syncthreads();",
        "Divergence",
    ),
    Mutant(
        "tile used before it is complete",
        "matmul",
        "    __syncthreads();  // tiles complete\n",
        "",
        "Uninitialized|Race",
    ),
    Mutant("stale tile overwritten in use", "matmul", "    __syncthreads();  // tiles free\n", "", "Race"),
    Mutant("depth guard missing", "matmul", "i < m && l0 + tx < k ?", "i < m ?", "Bounds"),
    Mutant("no barrier in the tree", "total", "    __syncthreads();\n", "", "Uninitialized|Race"),
    Mutant("fence missing", "total", "    __threadfence();\n", "", "Race"),
    Mutant(
        "fence before the write",
        "total",
        "    partial[blockIdx.x] = s[0];\n    __threadfence();\n",
        "    __threadfence();\n    partial[blockIdx.x] = s[0];\n",
        "Race",
    ),
    Mutant("every block sums", "total", "if (last && t == 0)", "if (t == 0)", "Race"),
    Mutant("count without atomic", "total", "atomicAdd(count, 1u)", "(*count)++", "Race"),
    Mutant(
        "flag set by one, no barrier",
        "total",
        "  __syncthreads();\n  if (last",
        "  if (last",
        "Uninitialized|Race",
    ),
    Mutant("dynamic shared memory too small", "total", "s[t] = i < n", "s[t + 1] = i < n", "Bounds"),
    Mutant(
        "plain increment in shared memory",
        "count",
        "atomicAdd(&local[label[i]], 1)",
        "local[label[i]]++",
        "Race",
    ),
    Mutant(
        "plain increment between blocks",
        "count",
        "atomicAdd(counts + threadIdx.x, local[threadIdx.x])",
        "counts[threadIdx.x] += local[threadIdx.x]",
        "Race",
    ),
    Mutant("counters not cleared", "count", "c < 16", "c < 3", "Uninitialized"),
    Mutant("label out of range", "count", "local[label[i]]", "local[label[i] + 10]", "Bounds"),
    Mutant(
        "no __syncwarp before the neighbour",
        "pair",
        "  __syncwarp(mask);\n  float",
        "  float",
        "Uninitialized|Race",
    ),
    Mutant(
        "no __syncwarp before the overwrite",
        "pair",
        "  __syncwarp(mask);\n  s[t] = other",
        "  s[t] = other",
        "Race",
    ),
    Mutant(
        "mask of the other half",
        "pair",
        "0xffff0000u : 0x0000ffffu",
        "0x0000ffffu : 0xffff0000u",
        "Divergence",
    ),
    Mutant("neighbour in the other half", "pair", "s[t ^ 1]", "s[t ^ 17]", "Uninitialized|Race"),
)


def variants():
    """Return one text with every correct kernel, and every mutant i as mutant_i_<kernel>."""
    renamed = [
        re.sub(rf"\b{m.kernel}(\w*)(?=\()", rf"mutant_{i}_{m.kernel}\1", m.text())
        for i, m in enumerate(MUTANTS)
    ]
    return "\n".join([*KERNELS.values(), *renamed])
