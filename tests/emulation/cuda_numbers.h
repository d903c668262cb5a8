// CUDA's numbers for g++ on a CPU: 16-bit floats and arithmetic intrinsics. Included by cuda_on_cpu.h.
//
// Rounding follows IEEE 754: no contraction to fma, no flush of denormals. Fast intrinsics are as accurate as
// the C library.
#pragma once

// -------------------------------------------------------------------------------- 16-bit floats
namespace emu {
template <class To, class From> inline To bits(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  __builtin_memcpy(&to, &from, sizeof to);
  return to;
}

inline uint16_t bfloat16_of(float f) {  // to nearest, ties to even
  uint32_t u = bits<uint32_t>(f);
  if ((u & 0x7fffffff) > 0x7f800000) return 0x7fff;
  return uint16_t((u + 0x7fff + (u >> 16 & 1)) >> 16);
}
inline float float_of_bfloat16(uint16_t h) { return bits<float>(uint32_t(h) << 16); }

inline uint16_t half_of(float f) {  // to nearest, ties to even
  uint32_t u = bits<uint32_t>(f), sign = u >> 16 & 0x8000, a = u & 0x7fffffff;
  if (a > 0x7f800000) return 0x7fff;
  if (a >= 0x477ff000) return uint16_t(sign | 0x7c00);                              // 65520 and more: infinity
  if (a < 0x38800000) return uint16_t(sign | uint32_t(lrintf(bits<float>(a) * 0x1p24f)));  // subnormal
  uint32_t r = a - 0x38000000;                                                             // exponent bias 127 → 15
  return uint16_t(sign | (r + 0xfff + (r >> 13 & 1)) >> 13);
}
inline float float_of_half(uint16_t h) {
  uint32_t sign = uint32_t(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 1023;
  if (exponent == 0) return bits<float>(sign | bits<uint32_t>(float(mantissa) * 0x1p-24f));
  return bits<float>(sign | (exponent == 31 ? 0x7f800000 : (exponent + 112) << 23) | mantissa << 13);
}
}  // namespace emu

// The default constructor must stay trivial: shared memory is never constructed (emu_ignore_guards).
// Arithmetic is deleted: it would round to 16 bits on a GPU and not here. Convert to float first.
#define EMU_16_BIT(T, OF, FLOAT_OF)                                                                     \
  struct __align__(2) T {                                                                               \
    uint16_t bits;                                                                                      \
    T() = default;                                                                                      \
    EMU_INLINED T(float f) : bits(emu::OF(f)) {}                                                                    \
    EMU_INLINED operator float() const { return emu::FLOAT_OF(bits); }                                              \
  };                                                                                                    \
  T operator+(T, T) = delete;                                                                           \
  T operator-(T, T) = delete;                                                                           \
  T operator*(T, T) = delete;                                                                           \
  T operator/(T, T) = delete;                                                                           \
  EMU_INLINE T emu_raw(T*, unsigned short u) { T t; t.bits = u; return t; }
EMU_16_BIT(__half, half_of, float_of_half)
EMU_16_BIT(__nv_bfloat16, bfloat16_of, float_of_bfloat16)
struct __align__(4) __half2 { __half x, y; };
struct __align__(4) __nv_bfloat162 { __nv_bfloat16 x, y; };
typedef __half half;
typedef __half2 half2;
typedef __nv_bfloat16 nv_bfloat16;
typedef __nv_bfloat162 nv_bfloat162;

EMU_INLINE __half __float2half(float f) { return f; }
EMU_INLINE __half __float2half_rn(float f) { return f; }
EMU_INLINE float __half2float(__half h) { return h; }
EMU_INLINE __half2 __floats2half2_rn(float x, float y) { return {x, y}; }
EMU_INLINE __half2 __float22half2_rn(float2 f) { return {f.x, f.y}; }
EMU_INLINE float2 __half22float2(__half2 h) { return {h.x, h.y}; }
EMU_INLINE unsigned short __half_as_ushort(__half h) { return h.bits; }
EMU_INLINE __half __ushort_as_half(unsigned short u) { return emu_raw((__half*)0, u); }
EMU_INLINE __nv_bfloat16 __float2bfloat16(float f) { return f; }
EMU_INLINE __nv_bfloat16 __float2bfloat16_rn(float f) { return f; }
EMU_INLINE float __bfloat162float(__nv_bfloat16 h) { return h; }
EMU_INLINE __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {x, y}; }
EMU_INLINE __nv_bfloat162 __float22bfloat162_rn(float2 f) { return {f.x, f.y}; }
EMU_INLINE float2 __bfloat1622float2(__nv_bfloat162 h) { return {h.x, h.y}; }
EMU_INLINE unsigned short __bfloat16_as_ushort(__nv_bfloat16 h) { return h.bits; }
EMU_INLINE __nv_bfloat16 __ushort_as_bfloat16(unsigned short u) { return emu_raw((__nv_bfloat16*)0, u); }

// -------------------------------------------------------------------------------- arithmetic
namespace emu {
// PTX max and min return the number if one operand is NaN, and order +0 > −0. In C the sign of 0 is open.
template <class F> inline F largest(F a, F b) {
  if (isnan(a)) return b;
  if (isnan(b)) return a;
  return a == b ? (signbit(a) ? b : a) : a < b ? b : a;
}
template <class F> inline F smallest(F a, F b) {
  if (isnan(a)) return b;
  if (isnan(b)) return a;
  return a == b ? (signbit(a) ? a : b) : b < a ? b : a;
}
inline float fmaxf_(float a, float b) { return largest(a, b); }
inline float fminf_(float a, float b) { return smallest(a, b); }
inline float fmax_(float a, float b) { return largest(a, b); }
inline float fmin_(float a, float b) { return smallest(a, b); }
inline double fmax_(double a, double b) { return largest(a, b); }
inline double fmin_(double a, double b) { return smallest(a, b); }
}  // namespace emu
#define fmaxf emu::fmaxf_
#define fminf emu::fminf_
#define fmax emu::fmax_
#define fmin emu::fmin_
inline float max(float a, float b) { return emu::largest(a, b); }
inline float min(float a, float b) { return emu::smallest(a, b); }
inline double max(double a, double b) { return emu::largest(a, b); }
inline double min(double a, double b) { return emu::smallest(a, b); }
#define EMU_MIN_MAX(T)                                      \
  inline T min(T a, T b) { return b < a ? b : a; }          \
  inline T max(T a, T b) { return a < b ? b : a; }
EMU_MIN_MAX(int)
EMU_MIN_MAX(unsigned)
EMU_MIN_MAX(long)
EMU_MIN_MAX(unsigned long)
EMU_MIN_MAX(long long)
EMU_MIN_MAX(unsigned long long)

// Macros, because glibc itself declares __expf and similar names. The versions of a GPU are less accurate.
#define __expf expf
#define __exp10f exp10f
#define __logf logf
#define __log2f log2f
#define __log10f log10f
#define __powf powf
#define __sinf sinf
#define __cosf cosf
#define __tanf tanf
#define __sincosf sincosf
inline float rsqrtf(float x) { return float(1 / sqrt(double(x))); }
inline double rsqrt(double x) { return 1 / sqrt(x); }
inline float normcdff(float x) { return float(0.5 * erfc(-x * M_SQRT1_2)); }
inline double normcdf(double x) { return 0.5 * erfc(-x * M_SQRT1_2); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __frcp_rn(float a) { return 1 / a; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
inline float __saturatef(float a) { return a > 0 ? (a < 1 ? a : 1) : 0; }
inline int __float2int_rn(float f) { return int(lrintf(f)); }
inline int __float2int_rz(float f) { return int(f); }
inline unsigned __float2uint_rn(float f) { return unsigned(llrintf(f)); }
inline float __int2float_rn(int i) { return float(i); }
inline float __uint2float_rn(unsigned u) { return float(u); }
inline unsigned __float_as_uint(float f) { return emu::bits<unsigned>(f); }
inline int __float_as_int(float f) { return emu::bits<int>(f); }
inline float __uint_as_float(unsigned u) { return emu::bits<float>(u); }
inline float __int_as_float(int i) { return emu::bits<float>(i); }
inline long long __double_as_longlong(double f) { return emu::bits<long long>(f); }
inline double __longlong_as_double(long long i) { return emu::bits<double>(i); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((unsigned long long)a * b >> 32); }
inline int __mulhi(int a, int b) { return int((long long)a * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return (unsigned long long)((unsigned __int128)a * b >> 64);
}
inline int __popc(unsigned u) { return __builtin_popcount(u); }
inline int __popcll(unsigned long long u) { return __builtin_popcountll(u); }
inline int __ffs(int i) { return __builtin_ffs(i); }
inline int __clz(int i) { return i ? __builtin_clz(unsigned(i)) : 32; }
inline int __clzll(long long i) { return i ? __builtin_clzll((unsigned long long)i) : 64; }
