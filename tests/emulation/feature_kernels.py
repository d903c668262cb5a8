"""Kernels with every CUDA construct of the emulator; each test of test_emulator.py launches one."""

FEATURES = r"""
#include <cuda_bf16.h>
#include <cuda_fp16.h>
constexpr int FULL = 0xffffffff;
__constant__ float table[4] = {1.f, 2.f, 3.f, 4.f};
__device__ const int primes[] = {2, 3, 5, 7};

template <typename T> __device__ __forceinline__ T choose(int which, T x, T y) {
  switch (which) {
    case 0: return fmax(x, y);
    case 1: return fmin(x, y);
    case 2: return max(x, y);
    default: return min(x, y);
  }
}
#define CHOOSE(NAME, T)                                                                     \
  extern "C" __global__ void __launch_bounds__(32)                                          \
  NAME(const T* x, const T* y, T* z, int n) {                                               \
    int i = threadIdx.x;                                                                    \
    if (i < n) for (int k = 0; k < 4; k++) z[i * 4 + k] = choose<T>(k, x[i], y[i]);         \
  }
CHOOSE(choose_float, float)
CHOOSE(choose_double, double)

extern "C" __global__ void unary(const float* x, float* y, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  float v = x[i], *out = y + i * 12;
  out[0] = expf(v), out[1] = __expf(v), out[2] = logf(fabsf(v)), out[3] = log1pf(fabsf(v));
  out[4] = expm1f(v), out[5] = tanhf(v), out[6] = erfcf(v), out[7] = normcdff(v);
  out[8] = sqrtf(fabsf(v)), out[9] = rsqrtf(fabsf(v));
  out[10] = fmaf(v, v, 1.f), out[11] = isnan(v) ? 1.f : isfinite(v) ? 2.f : 3.f;
}
extern "C" __global__ void integers(const unsigned* x, unsigned* y, const float* f,
                                    unsigned long long* wide) {
  int i = threadIdx.x;
  y[3 * i] = __umulhi(x[i], x[i + 1]);
  y[3 * i + 1] = __float_as_uint(f[i]);
  y[3 * i + 2] = __popc(x[i]) + __clz(x[i]) + primes[i & 3] + static_cast<unsigned>(table[i & 3]);
  wide[i] = __umul64hi((unsigned long long)x[i] << 32, (unsigned long long)x[i + 1] << 32);
}
extern "C" __global__ void narrow(const float* x, __half* h, __nv_bfloat16* b, int n) {
  __shared__ __half s[32];
  __shared__ __nv_bfloat162 t[32];
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  s[threadIdx.x] = __float2half(x[i]);
  t[threadIdx.x] = __floats2bfloat162_rn(0.f, x[i]);
  h[i] = s[threadIdx.x];
  b[i] = i & 1 ? __float2bfloat16(x[i]) : t[threadIdx.x].y;
}
extern "C" __global__ void widen(const __half* h, const __nv_bfloat16* b, float* from_half,
                                 float* from_bfloat16) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  from_half[i] = __half2float(h[i]);
  from_bfloat16[i] = __bfloat162float(b[i]);
}
extern "C" __global__ void vectors(const double* d, const int* a, const unsigned* u, double* x, int* b,
                                   unsigned* v) {
  int i = threadIdx.x;
  double2 pair = reinterpret_cast<const double2*>(d)[i];
  reinterpret_cast<double2*>(x)[i] = make_double2(pair.y, pair.x);
  int4 four = reinterpret_cast<const int4*>(a)[i];
  reinterpret_cast<int4*>(b)[i] = make_int4(four.w, four.z, four.y, four.x);
  uint4 p = reinterpret_cast<const uint4*>(u)[i];
  uint2 q = make_uint2(p.x + p.y, p.z + p.w);
  reinterpret_cast<uint2*>(v)[i] = q;
}
extern "C" __global__ void lanes(int* y) {
  int t = threadIdx.x, *out = y + 8 * t;
  out[0] = __shfl_xor_sync(FULL, t, 5), out[1] = __shfl_down_sync(FULL, t, 3);
  out[2] = __shfl_up_sync(FULL, t, 3), out[3] = __shfl_sync(FULL, t, 7);
  out[4] = __shfl_down_sync(FULL, t, 3, 8), out[5] = __ballot_sync(FULL, t % 3 == 0);
  out[6] = __any_sync(FULL, t == 40), out[7] = (int)__shfl_xor_sync(FULL, (double)t, 1);
}
extern "C" __global__ void atomics(int* a, unsigned* u, unsigned long long* w, float* f) {
  int t = blockIdx.x * blockDim.x + threadIdx.x;
  atomicAdd(a, 1), atomicSub(a + 1, 1), atomicMax(a + 2, t), atomicMin(a + 3, -t);
  atomicOr(a + 4, 1 << (t & 7));
  atomicInc(u, 6u), atomicAdd(w, 1ull << 33), atomicAdd(f, 0.5f);
  while (atomicCAS(a + 5, 0, 1) != 0) {}  // a lock, handed on with fences
  __threadfence();
  a[6] += t;
  __threadfence();
  atomicExch(a + 5, 0);
}
extern "C" __global__ void indices(int* y) {
  int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  y[block * blockDim.x * blockDim.y * blockDim.z + thread] = 1000 * block + thread;
}
extern "C" __global__ void everyone_fences(float* partial, int* count, float* out) {
  __shared__ int ticket;
  partial[blockIdx.x * blockDim.x + threadIdx.x] = 1.f;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) ticket = atomicAdd(count, 1);
  __syncthreads();
  if (ticket != (int)gridDim.x - 1 || threadIdx.x != 5) return;
  float sum = 0.f;
  for (int i = 0; i < (int)(gridDim.x * blockDim.x); i++) sum += partial[i];
  *out = sum;
}
extern "C" __global__ void dynamic(float* y, int n) {
  extern __shared__ __align__(16) unsigned char raw[];
  float* s = reinterpret_cast<float*>(raw);
  for (int i = threadIdx.x; i < n; i += blockDim.x) s[i] = i;
  __syncthreads();
  if (threadIdx.x == 0) y[0] = s[n - 1];
}
extern "C" __global__ void optional(const float* x, bool* seen, unsigned char* bytes, long long* wide,
                                    long long step) {
  seen[0] = x != nullptr, bytes[0] = 200, wide[0] = step * WIDTH;
}
extern "C" __global__ void follow(const float* x, float* y) { y[0] = x[0]; }
extern "C" __global__ void shared_garbage(float* y) {
  __shared__ float s[2];
  if (y[0] > 0.f) s[0] = 1.f;
  y[1] = s[0];
}
extern "C" __global__ void wild(int* y, int i) { y[i] = 1; }
extern "C" __global__ void deep(int* y, int n) {
  int local[1 << 17];
  for (int i = 0; i < n; i++) local[i] = i;
  y[0] = local[n - 1];
}
"""

# One form of load or store each; every thread of a launch does the same.
STATEMENTS = {
    "float": "y[0] = one(x[0]);",
    "compound": "y[0] += x[0];",
    "vector_copy": "((float4*)y)[0] = ((const float4*)x)[1];",
    "vector_made": "((float4*)y)[0] = make_float4(x[0], 2.f, 3.f, 4.f);",
    "vector_returned": "((float4*)y)[0] = four(x[0]);",
    "vector_loaded": "((float4*)y)[0] = __ldg((const float4*)x);",
    "vector_by_value": "y[0] = first(((const float4*)x)[0]);",
    "vector_member": "((float4*)y)->y = ((const float4*)x)->z;",
    "vector_shuffled": "((float2*)y)[0] = __shfl_xor_sync(~0u, ((const float2*)x)[0], 1);",
    "struct": "((Triple*)y)[0] = triple(((const Triple*)x)[0]);",
    "half": "((__half*)y)[0] = __float2half(__half2float(((const __half*)x)[0]));",
    "half_converted": "((__half*)y)[0] = static_cast<float>(((const __half*)x)[0]);",
    "half2": "((__half2*)y)[0] = __float22half2_rn(__half22float2(((const __half2*)x)[0]));",
    "bfloat16": "((__nv_bfloat16*)y)[0] = __float2bfloat16(__bfloat162float(((const __nv_bfloat16*)x)[0]));",
    "template": "y[0] = loaded(x); stored(y, x);",
}
HELPERS = """
struct Triple { float a, b, c; };
__device__ float one(float v) { return v; }
__device__ float4 four(float v) { return make_float4(v, v, v, v); }
__device__ float first(float4 v) { return v.x; }
__device__ Triple triple(Triple t) { t.a = 1.f; return t; }
template <typename T> __device__ T loaded(const T* p) { return *p; }
template <typename T> __device__ void stored(T* p, const T* q) { *p = loaded(q); }
"""


def statements():
    """One text with a kernel <name>_ for each statement."""
    kernels = [
        f'extern "C" __global__ void {k}_(const float* x, float* y) {{ {text} }}\n'
        for k, text in STATEMENTS.items()
    ]
    return HELPERS + "".join(kernels)
