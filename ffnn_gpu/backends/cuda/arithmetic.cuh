// Types, scalar functions and sums of all kernels. kernels.py puts this text before kernels.cu, whose kernels
// each compute one operation, and before formulas.cuh, whose templates compute a formula that is an argument.
//
// Conventions
// - T is the type in memory: float, double, and with -DWITH_16_BIT also __half and __nv_bfloat16.
// - Arithmetic is in Arithmetic<T>: double for double, float for the others. Sums over rows and losses are in
//   double.
// - Matrices that enter products, and values added to them, have type T. Statistics, targets, weights,
//   losses and gradients of parameters have type Arithmetic<T>.
// - Matrices are row-major and contiguous, with B rows of O (or C, I) columns. Flat vectors have n elements.
// - A null pointer means that the argument is absent.
// - Any grid is valid, because every loop strides over it. Blocks have 256 threads.
// - No atomics on floating-point numbers: every sum has a fixed order, so results are the same in every run.
// - KERNEL under a template defines its entries, name_f32 and so on, with T and A = Arithmetic<T>. kernels.py
//   launches them. It compiles kernels.cu for one type at a time, with -DONLY_F32 or -DONLY_F64, in half the time.
// - The same text is compiled by NVRTC for the GPU and by g++ for the tests on a CPU (tests/emulation).

#if defined(WITH_16_BIT) && !defined(CUDA_ON_CPU)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

typedef long long Index;

#define THREADS 256
#define WARP 32
#define ALL_LANES 0xffffffffu
#define INF __int_as_float(0x7f800000)

// ------------------------------------------------------------------ entries

// With -DOF_MEMBERS, a launch is for all members of a pack: the blocks with z = r compute member r. Its arguments are
// those of member 0 plus row r of `members`: bytes for a pointer, the difference of the bits for a number.
#ifdef OF_MEMBERS
template <int bytes> struct BitsOf { typedef unsigned type; };
template <> struct BitsOf<8> { typedef unsigned long long type; };
template <typename P> __device__ __forceinline__ void add(P& x, Index row) {
  union { P value; typename BitsOf<sizeof(P)>::type bits; } u;
  u.value = x;
  u.bits += (typename BitsOf<sizeof(P)>::type)row;
  x = u.value;
}
template <typename T> __device__ __forceinline__ void add(T*& x, Index row) { x = (T*)((char*)x + row); }
struct Member {
  const Index* members;
  template <typename... P> __device__ __forceinline__ void operator()(P&... arguments) const {
    const Index* row = members + (Index)blockIdx.z * sizeof...(P);
    (add(arguments, *row++), ...);
  }
};
#define LIST(...) __VA_ARGS__
#define OF_ENTRY(PARAMETERS) (LIST PARAMETERS, const Index* members)
#define OF_MEMBER(ARGUMENTS) Member{members} ARGUMENTS;
#else
#define OF_ENTRY(PARAMETERS) PARAMETERS
#define OF_MEMBER(ARGUMENTS)
#endif

#define ENTRY(NAME, S, TYPE, PARAMETERS, ARGUMENTS)                                 \
  namespace S {                                                                     \
  typedef TYPE T;                                                                   \
  typedef Arithmetic<T> A;                                                          \
  typedef LossGradient<T> D;                                                        \
  extern "C" __global__ void __launch_bounds__(THREADS)                             \
      NAME##_##S OF_ENTRY(PARAMETERS) { OF_MEMBER(ARGUMENTS) NAME<T> ARGUMENTS; }   \
  }                                                                                 \
  using S::NAME##_##S;

#ifdef ONLY_F64
#define IF_F32(...)
#else
#define IF_F32(...) __VA_ARGS__
#endif
#ifdef ONLY_F32
#define IF_F64(...)
#else
#define IF_F64(...) __VA_ARGS__
#endif
#ifdef WITH_16_BIT
#define IF_16_BIT(...) __VA_ARGS__
#else
#define IF_16_BIT(...)
#endif

#define KERNEL_32_64(NAME, PARAMETERS, ARGUMENTS)            \
  IF_F32(ENTRY(NAME, f32, float, PARAMETERS, ARGUMENTS))     \
  IF_F64(ENTRY(NAME, f64, double, PARAMETERS, ARGUMENTS))
#define KERNEL(NAME, PARAMETERS, ARGUMENTS)                  \
  KERNEL_32_64(NAME, PARAMETERS, ARGUMENTS)                  \
  IF_16_BIT(ENTRY(NAME, f16, __half, PARAMETERS, ARGUMENTS)  \
            ENTRY(NAME, bf16, __nv_bfloat16, PARAMETERS, ARGUMENTS))

// Loop i from this thread's index in the grid to n, in steps of the grid's size.
#define FOR_EACH(i, n) \
  for (Index i = (Index)blockIdx.x * blockDim.x + threadIdx.x; i < (n); i += (Index)gridDim.x * blockDim.x)
// Loop `row` from this warp's index in the grid to B, in steps of the grid's number of warps.
#define FOR_EACH_ROW(row, B) \
  for (Index row = (Index)blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP; row < (B); \
       row += (Index)gridDim.x * (blockDim.x / WARP))

// i mod O and i / O. Why two cases: 64-bit division takes several times as long as 32-bit division.
__device__ __forceinline__ int column_of(Index i, int O) { return i >> 32 ? (int)(i % O) : (int)((unsigned)i % (unsigned)O); }
__device__ __forceinline__ Index row_of(Index i, int O) { return i >> 32 ? i / O : (Index)((unsigned)i / (unsigned)O); }

// ------------------------------------------------------------------ types

template <typename T> struct ArithmeticOf { typedef float type; };
template <> struct ArithmeticOf<double> { typedef double type; };
template <typename T> using Arithmetic = typename ArithmeticOf<T>::type;
template <typename T> struct LossGradientOf { typedef T type; };
// The type of ∂L/∂z: float for __half, because ∂L/∂z is small.
template <typename T> using LossGradient = typename LossGradientOf<T>::type;

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ double widen(double x) { return x; }
__device__ __forceinline__ double widen(unsigned char x) { return x; }
__device__ __forceinline__ double widen(int x) { return x; }
__device__ __forceinline__ double widen(Index x) { return (double)x; }

template <typename T> struct Narrow;
template <> struct Narrow<float> { __device__ static __forceinline__ float from(double x) { return (float)x; } };
template <> struct Narrow<double> { __device__ static __forceinline__ double from(double x) { return x; } };

// Convert from any type of data.
template <typename T> struct Cast { template <typename S> __device__ static __forceinline__ T from(S x) { return (T)x; } };

#ifdef WITH_16_BIT
template <> struct LossGradientOf<__half> { typedef float type; };
__device__ __forceinline__ float widen(__half x) { return __half2float(x); }
__device__ __forceinline__ float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
template <> struct Narrow<__half> { __device__ static __forceinline__ __half from(float x) { return __float2half_rn(x); } };
template <> struct Narrow<__nv_bfloat16> {
  __device__ static __forceinline__ __nv_bfloat16 from(float x) { return __float2bfloat16_rn(x); }
};
template <> struct Cast<__half> {
  template <typename S> __device__ static __forceinline__ __half from(S x) { return Narrow<__half>::from((float)x); }
};
template <> struct Cast<__nv_bfloat16> {
  template <typename S> __device__ static __forceinline__ __nv_bfloat16 from(S x) {
    return Narrow<__nv_bfloat16>::from((float)x);
  }
};
#endif

// N elements of T, read and written in one access: 16 bytes, or fewer beside packs of a wider type.
template <typename T, int N = 16 / sizeof(T)> struct __align__(N * sizeof(T)) Pack {
  static const int width = N;
  T at[N];
};
template <typename T> __device__ __forceinline__ const Pack<T>& pack(const T* x, Index k) {
  return reinterpret_cast<const Pack<T>*>(x)[k];
}
template <typename T> __device__ __forceinline__ Pack<T>& pack(T* x, Index k) { return reinterpret_cast<Pack<T>*>(x)[k]; }

// The number of whole packs in n elements, or 0 if an array starts off a 16-byte boundary. Null is aligned.
template <typename T, typename... Arrays> __device__ __forceinline__ Index packs_in(Index n, const T* x, const Arrays*... more) {
  return ((unsigned long long)x | ... | (unsigned long long)more) % 16 ? 0 : n / Pack<T>::width;
}

// ------------------------------------------------------------------ scalar functions, NaN in → NaN out

__device__ __forceinline__ float exp_(float x) { return expf(x); }
__device__ __forceinline__ double exp_(double x) { return exp(x); }
__device__ __forceinline__ float log_(float x) { return logf(x); }
__device__ __forceinline__ double log_(double x) { return log(x); }
__device__ __forceinline__ float sin_(float x) { return sinf(x); }
__device__ __forceinline__ double sin_(double x) { return sin(x); }
__device__ __forceinline__ float cos_(float x) { return cosf(x); }
__device__ __forceinline__ double cos_(double x) { return cos(x); }
__device__ __forceinline__ float sqrt_(float x) { return sqrtf(x); }
__device__ __forceinline__ double sqrt_(double x) { return sqrt(x); }

// Why not fmax: if one argument is NaN, it returns the other, which hides the NaN. Here a NaN in x stays.
template <typename A> __device__ __forceinline__ A largest(A x, A y) { return x < y ? y : x; }
template <typename A> __device__ __forceinline__ A smallest(A x, A y) { return y < x ? y : x; }
template <typename A> __device__ __forceinline__ bool is_finite(A x) { return x - x == A(0); }
template <typename A> __device__ __forceinline__ A sign(A x) { return x > A(0) ? A(1) : x < A(0) ? A(-1) : x; }

// ------------------------------------------------------------------ sums in a fixed order

template <typename A> __device__ __forceinline__ A warp_sum(A x) {  // the same value in every lane
  for (int o = WARP / 2; o > 0; o >>= 1) x += __shfl_xor_sync(ALL_LANES, x, o);
  return x;
}
template <typename A> __device__ __forceinline__ A warp_largest(A x) {
  for (int o = WARP / 2; o > 0; o >>= 1) x = largest(x, __shfl_xor_sync(ALL_LANES, x, o));
  return x;
}

// Σ over the threads of a block (a multiple of 32, at most 1024). Only thread 0 receives the value. Two calls
// need a barrier between them.
__device__ __forceinline__ double block_sum(double x) {
  __shared__ double of_warp[WARP];
  x = warp_sum(x);
  if (threadIdx.x % WARP == 0) of_warp[threadIdx.x / WARP] = x;
  __syncthreads();
  if (threadIdx.x < WARP) x = warp_sum(threadIdx.x < blockDim.x / WARP ? of_warp[threadIdx.x] : 0.0);
  return x;
}

// Σ over all threads of the grid, in a fixed order: the last block to finish adds the sums of the blocks.
// Returns true in the one thread that receives the sum.
//   partial (gridDim.x,); finished: 0 before and after the launch
__device__ __forceinline__ bool grid_sum(double& x, double* partial, unsigned* finished) {
  __shared__ bool last;
  x = block_sum(x);
  if (threadIdx.x == 0) {
    partial[blockIdx.x] = x;
    __threadfence();
    last = atomicAdd(finished, 1u) == gridDim.x - 1;
  }
  __syncthreads();
  if (!last) return false;
  __threadfence();
  x = 0;
  for (unsigned i = threadIdx.x; i < gridDim.x; i += blockDim.x) x += partial[i];
  x = block_sum(x);
  if (threadIdx.x == 0) *finished = 0;
  return threadIdx.x == 0;
}

// The divisor of a mean: *total, or B if `total` is null; 1 if all weights are zero
__device__ __forceinline__ double divisor(const double* total, int B) {
  double N = total ? *total : (double)B;
  return N == 0 ? 1.0 : N;
}

// ------------------------------------------------------------------ random numbers (backends/reference/philox.py)

__device__ __forceinline__ uint4 philox4x32(uint4 c, unsigned k0, unsigned k1) {
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    unsigned hi0 = __umulhi(0xD2511F53u, c.x), lo0 = 0xD2511F53u * c.x;
    unsigned hi1 = __umulhi(0xCD9E8D57u, c.z), lo1 = 0xCD9E8D57u * c.z;
    c = make_uint4(hi1 ^ c.y ^ k0, lo1, hi0 ^ c.w ^ k1, lo0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c;
}
