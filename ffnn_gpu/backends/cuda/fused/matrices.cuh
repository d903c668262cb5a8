// Products of 16 × 16 by 16 × 8 matrices of 16-bit numbers on tensor cores, added in float, by one warp.
//
// Registers of the warp's lane 4 g + t hold, with two neighbouring numbers of a row in each word:
//   A (16, 16)   a[0], a[1], a[2], a[3]: columns 2t of rows g and g + 8, columns 2t + 8 of rows g and g + 8
//   B (16, 8)    b0, b1: rows 2t, 2t + 1 and 2t + 8, 2t + 9 of column g
//   C (16, 8)    c[0], c[1]: columns 2t, 2t + 1 of row g;  c[2], c[3]: the same of row g + 8
// So two C of neighbouring columns, rounded, are one A: a layer's output is the next layer's input in registers.
//
// Reference: PTX ISA, "Matrix Fragments for mma.m16n8k16" and "ldmatrix". The bodies for a CPU, where
// CUDA_ON_CPU is defined, are in tests/emulation/cuda_matrices.h.

#ifndef CUDA_ON_CPU
// c += A B
#define MULTIPLY_ADD(TYPE, NAME)                                                                               \
  __device__ __forceinline__ void multiply_add(TYPE, float (&c)[4], const unsigned (&a)[4], unsigned b0,       \
                                               unsigned b1) {                                                  \
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." NAME "." NAME ".f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "  \
                 "{%8,%9}, {%0,%1,%2,%3};"                                                                     \
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                                              \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));                              \
  }
MULTIPLY_ADD(__half, "f16")
MULTIPLY_ADD(__nv_bfloat16, "bf16")

// r[j] ← this lane's word of the 8 × 8 matrix j in shared memory, whose row i is at the `row` of lane 8 j + i
#define LOAD_MATRICES(NAME, KIND)                                                                              \
  __device__ __forceinline__ void NAME(unsigned (&r)[4], const void* row) {                                    \
    asm volatile("ldmatrix.sync.aligned.m8n8.x4" KIND ".shared.b16 {%0,%1,%2,%3}, [%4];"                       \
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])                                              \
                 : "r"((unsigned)__cvta_generic_to_shared(row))                                                \
                 : "memory");                                                                                  \
  }
LOAD_MATRICES(load_matrices, "")
LOAD_MATRICES(load_transposed, ".trans")
#endif

// two numbers as a word, the first one in its low half
__device__ __forceinline__ unsigned word_of(__half, float x, float y) {
  const __half2 both = __floats2half2_rn(x, y);
  return (unsigned)__half_as_ushort(both.x) | (unsigned)__half_as_ushort(both.y) << 16;
}
__device__ __forceinline__ unsigned word_of(__nv_bfloat16, float x, float y) {
  const __nv_bfloat162 both = __floats2bfloat162_rn(x, y);
  return (unsigned)__bfloat16_as_ushort(both.x) | (unsigned)__bfloat16_as_ushort(both.y) << 16;
}
__device__ __forceinline__ float2 numbers_of(__half, unsigned word) {
  return make_float2(__half2float(__ushort_as_half((unsigned short)(word & 0xffffu))),
                     __half2float(__ushort_as_half((unsigned short)(word >> 16))));
}
__device__ __forceinline__ float2 numbers_of(__nv_bfloat16, unsigned word) {
  return make_float2(__uint_as_float(word << 16), __uint_as_float(word & 0xffff0000u));
}
