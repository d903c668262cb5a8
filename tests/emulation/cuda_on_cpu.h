// CUDA C++ as a kernel sees it, for g++ on a CPU: keywords, types, intrinsics, collectives, atomics.
//
// A kernel's source is compiled unchanged after this header. fibers.h runs it, shadow.h checks its memory
// accesses. An intrinsic that is missing here causes a compile error with its name. Kernels may test
// `#ifdef CUDA_ON_CPU` around inline PTX only.
#pragma once
#include <math.h>

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

// -------------------------------------------------------------------------------- keywords
#define CUDA_ON_CPU 1
// In `*p = f()` and `g(*p)`, where f returns or g takes a struct, g++ instruments the access only if f and g
// are inlined. Therefore they always are, and recursion is a compile error.
#define EMU_INLINED __attribute__((always_inline))
#define EMU_INLINE inline EMU_INLINED
#define __global__
#define __device__ EMU_INLINED
#define __host__
#define __constant__
#define __shared__ thread_local  // in a function it implies static, and `extern __shared__ T x[]` stays legal
#define __forceinline__ inline EMU_INLINED
#define __noinline__ __attribute__((noinline))
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)
#define EMU_UNCHECKED __attribute__((no_sanitize("thread"), noinline))
#define EMU_CALLER __builtin_return_address(0)
#define EMU_LINE int line = __builtin_LINE()  // as a default argument: the line of the call

// -------------------------------------------------------------------------------- vector types
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

namespace emu {
template <class T> struct Element { using type = T; };  // the type of one element of T: float for float4
}

#define EMU_VECTOR(T, NAME)                                                                             \
  struct __align__(2 * sizeof(T)) NAME##2 { T x, y; };                                                  \
  struct NAME##3 { T x, y, z; };                                                                        \
  struct __align__(4 * sizeof(T) > 16 ? 16 : 4 * sizeof(T)) NAME##4 { T x, y, z, w; };                  \
  EMU_INLINE NAME##2 make_##NAME##2(T x, T y) { return {x, y}; }                                            \
  EMU_INLINE NAME##3 make_##NAME##3(T x, T y, T z) { return {x, y, z}; }                                    \
  EMU_INLINE NAME##4 make_##NAME##4(T x, T y, T z, T w) { return {x, y, z, w}; }                            \
  namespace emu {                                                                                       \
  template <> struct Element<NAME##2> { using type = T; };                                              \
  template <> struct Element<NAME##3> { using type = T; };                                              \
  template <> struct Element<NAME##4> { using type = T; };                                              \
  }
EMU_VECTOR(float, float)
EMU_VECTOR(double, double)
EMU_VECTOR(int, int)
EMU_VECTOR(unsigned, uint)
EMU_VECTOR(short, short)
EMU_VECTOR(unsigned short, ushort)
EMU_VECTOR(signed char, char)
EMU_VECTOR(unsigned char, uchar)
EMU_VECTOR(long long, longlong)
EMU_VECTOR(unsigned long long, ulonglong)

// -------------------------------------------------------------------------------- provided by fibers.h
namespace emu {
struct Position { uint3 thread, block; dim3 block_dim, grid_dim; int lane; };
extern Position here;  // of the running fiber

void block_barrier(int line);
void warp_barrier(unsigned mask, int line);
uint64_t warp_shuffle(unsigned mask, uint64_t bits, int source, int line);
unsigned warp_ballot(unsigned mask, bool predicate, int line);
void fence();
void before_atomic(const void* address, int bytes, void* pc);
}  // namespace emu

#define threadIdx (emu::here.thread)
#define blockIdx (emu::here.block)
#define blockDim (emu::here.block_dim)
#define gridDim (emu::here.grid_dim)
static const int warpSize = 32;

#include "cuda_numbers.h"

// -------------------------------------------------------------------------------- collectives
inline void __syncthreads(EMU_LINE) { emu::block_barrier(line); }
inline void __syncwarp(unsigned mask = ~0u, EMU_LINE) { emu::warp_barrier(mask, line); }
inline void __threadfence() { emu::fence(); }
inline void __threadfence_block() { emu::fence(); }
inline unsigned __ballot_sync(unsigned mask, int p, EMU_LINE) { return emu::warp_ballot(mask, p != 0, line); }
inline int __any_sync(unsigned mask, int p, EMU_LINE) { return emu::warp_ballot(mask, p != 0, line) != 0; }
inline int __all_sync(unsigned mask, int p, EMU_LINE) { return emu::warp_ballot(mask, p != 0, line) == mask; }

namespace emu {
template <class T> EMU_INLINE T shuffle(unsigned mask, T value, int source, int line) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable<T>::value);
  uint64_t word = 0;
  __builtin_memcpy(&word, &value, sizeof value);
  word = warp_shuffle(mask, word, source, line);
  __builtin_memcpy(&value, &word, sizeof value);
  return value;
}
}  // namespace emu
// If the source is outside the group of `width` lanes, the caller receives its own value, as on a GPU.
template <class T> EMU_INLINE T __shfl_sync(unsigned mask, T value, int source, int width = 32, EMU_LINE) {
  return emu::shuffle(mask, value, (emu::here.lane & ~(width - 1)) | (source & (width - 1)), line);
}
template <class T> EMU_INLINE T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, EMU_LINE) {
  int lane = emu::here.lane, source = lane ^ bits;
  return emu::shuffle(mask, value, source > (lane | (width - 1)) ? lane : source, line);
}
template <class T> EMU_INLINE T __shfl_down_sync(unsigned mask, T value, int by, int width = 32, EMU_LINE) {
  int lane = emu::here.lane;
  return emu::shuffle(mask, value, (lane & (width - 1)) + by < width ? lane + by : lane, line);
}
template <class T> EMU_INLINE T __shfl_up_sync(unsigned mask, T value, int by, int width = 32, EMU_LINE) {
  int lane = emu::here.lane;
  return emu::shuffle(mask, value, (lane & (width - 1)) >= by ? lane - by : lane, line);
}

#include "cuda_matrices.h"

// -------------------------------------------------------------------------------- memory
template <class T> EMU_INLINE T __ldg(const T* p) { return *p; }
template <class T> EMU_INLINE T __ldcs(const T* p) { return *p; }
template <class T> EMU_INLINE void __stcs(T* p, T value) { *p = value; }

template <class T, class F> EMU_UNCHECKED T emu_update(T* p, void* pc, F f) {
  emu::before_atomic(p, sizeof(T), pc);
  T old = *p;
  *p = f(old);
  return old;
}
#define EMU_ATOMIC(NAME, T, EXPRESSION) \
  EMU_UNCHECKED inline T NAME(T* p, T v) { return emu_update(p, EMU_CALLER, [v](T old) -> T { return EXPRESSION; }); }
#define EMU_ATOMICS(T)                                 \
  EMU_ATOMIC(atomicAdd, T, old + v)                    \
  EMU_ATOMIC(atomicExch, T, (void(old), v))            \
  EMU_ATOMIC(atomicMax, T, old < v ? v : old)          \
  EMU_ATOMIC(atomicMin, T, v < old ? v : old)
#define EMU_INTEGER_ATOMICS(T)                         \
  EMU_ATOMICS(T)                                       \
  EMU_ATOMIC(atomicAnd, T, old & v)                    \
  EMU_ATOMIC(atomicOr, T, old | v)                     \
  EMU_ATOMIC(atomicXor, T, old ^ v)                    \
  EMU_UNCHECKED inline T atomicCAS(T* p, T expected, T v) { \
    return emu_update(p, EMU_CALLER, [expected, v](T old) { return old == expected ? v : old; }); }
EMU_INTEGER_ATOMICS(int)
EMU_INTEGER_ATOMICS(unsigned)
EMU_INTEGER_ATOMICS(unsigned long long)
EMU_ATOMIC(atomicSub, int, old - v)
EMU_ATOMIC(atomicSub, unsigned, old - v)
EMU_ATOMIC(atomicInc, unsigned, old >= v ? 0 : old + 1)
EMU_ATOMIC(atomicDec, unsigned, old == 0 || old > v ? v : old - 1)
EMU_ATOMIC(atomicAdd, float, old + v)  // the order of the sum depends on the schedule, as on a GPU
EMU_ATOMIC(atomicAdd, double, old + v)
EMU_ATOMIC(atomicExch, float, (void(old), v))

// -------------------------------------------------------------------------------- launching
namespace emu {
int launch(const char* name, void (*thunk)(void*), void* call, const unsigned* geometry);

template <class T> constexpr const char* dtype() {  // the NumPy name of T
  using E = typename Element<T>::type;
  if (std::is_same<E, __half>::value || std::is_same<E, __half2>::value) return "float16";
  if (std::is_same<E, __nv_bfloat16>::value || std::is_same<E, __nv_bfloat162>::value) return "bfloat16";
  if (std::is_same<E, bool>::value) return "bool";
  if (std::is_floating_point<E>::value) return sizeof(E) == 4 ? "float32" : "float64";
  const char* const names[] = {"int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"};
  constexpr int size = sizeof(E) == 1 ? 0 : sizeof(E) == 2 ? 1 : sizeof(E) == 4 ? 2 : 3;
  return std::is_integral<E>::value ? names[2 * size + std::is_unsigned<E>::value] : "unknown";
}
// Appends "* float32 " for a pointer, "const* float32 " for a pointer to const, else "value float32 ".
template <class P> void describe(char* text) {
  using T = std::remove_pointer_t<P>;
  strcat(text, !std::is_pointer<P>::value ? "value " : std::is_const<T>::value ? "const* " : "* ");
  strcat(strcat(text, dtype<std::remove_cv_t<T>>()), " ");
}
template <class... P> const char* signature(void (*)(P...)) {
  static char text[64 * 24];
  static_assert(sizeof...(P) <= 64, "a kernel of more than 64 parameters");
  text[0] = 0;
  (describe<P>(text), ...);
  return text;
}
template <class... P> struct Call {
  void (*kernel)(P...);
  void** arguments;
  template <size_t... I> EMU_UNCHECKED void apply(std::index_sequence<I...>) { kernel(*(std::remove_cv_t<P>*)arguments[I]...); }
  EMU_UNCHECKED static void run(void* call) { ((Call*)call)->apply(std::index_sequence_for<P...>{}); }
};
template <class... P> int launch_kernel(const char* name, void (*kernel)(P...), void** arguments, const unsigned* geometry) {
  Call<P...> call{kernel, arguments};
  return launch(name, &Call<P...>::run, &call, geometry);
}
constexpr int first(int threads = 1024, ...) { return threads; }
}  // namespace emu
// One line per kernel, written by cuda_build.py: launch bounds, signature and the entry for Python.
#define EMU_KERNEL(NAME, ...)                                                                                    \
  extern "C" {                                                                                                   \
  int emu_launch_##NAME(void** arguments, const unsigned* geometry) {                                            \
    return emu::launch_kernel(#NAME, &NAME, arguments, geometry);                                                \
  }                                                                                                              \
  const char* emu_signature_##NAME() { return emu::signature(&NAME); }                                           \
  int emu_threads_##NAME() { return emu::first(__VA_ARGS__); }                                                   \
  }
