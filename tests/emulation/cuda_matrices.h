// Tensor cores for g++ on a CPU: the functions that ffnn_gpu/backends/cuda/fused/matrices.cuh has in PTX.
//
// The lanes exchange registers and addresses by shuffles, so a lane that is missing is reported. Sums are in
// float, in the order of k; a tensor core adds in another order. Included by cuda_on_cpu.h.
#pragma once

namespace emu {
EMU_INLINE float number(__half, uint64_t word, int half) { return float_of_half(uint16_t(word >> 16 * half)); }
EMU_INLINE float number(__nv_bfloat16, uint64_t word, int half) { return float_of_bfloat16(uint16_t(word >> 16 * half)); }
}  // namespace emu

template <class T> EMU_INLINE void multiply_add(T type, float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, EMU_LINE) {
  const int g = emu::here.lane / 4, t = emu::here.lane % 4;
  float A[2][16], B[2][16];  // rows g and g + 8, columns 2t and 2t + 1
  for (int q = 0; q < 4; q++) {
    for (int pair = 0; pair < 2; pair++) {  // k from 8 pair on
      const uint64_t both = emu::shuffle(~0u, uint64_t(a[2 * pair + 1]) << 32 | a[2 * pair], 4 * g + q, line);
      for (int i = 0; i < 4; i++) A[i / 2][8 * pair + 2 * q + i % 2] = emu::number(type, both, i);
    }
    for (int column = 0; column < 2; column++) {
      const uint64_t both = emu::shuffle(~0u, uint64_t(b1) << 32 | b0, 4 * (2 * t + column) + q, line);
      for (int i = 0; i < 4; i++) B[column][8 * (i / 2) + 2 * q + i % 2] = emu::number(type, both, i);
    }
  }
  for (int i = 0; i < 4; i++)
    for (int k = 0; k < 16; k++) c[i] += A[i / 2][k] * B[i % 2][k];
}

namespace emu {
EMU_INLINE void matrices(unsigned (&r)[4], const void* row, bool transposed, int line) {
  const int g = here.lane / 4, t = here.lane % 4;
  for (int j = 0; j < 4; j++) {
    const uint16_t* at[2];
    for (int i = 0; i < 2; i++) {
      const int source = 8 * j + (transposed ? 2 * t + i : g);
      at[i] = (const uint16_t*)shuffle(~0u, uint64_t(row), source, line) + (transposed ? g : 2 * t + i);
    }
    r[j] = unsigned(*at[0]) | unsigned(*at[1]) << 16;
  }
  if (uint64_t(row) % 16) __builtin_trap();  // a row is 16 bytes at a multiple of 16
}
}  // namespace emu
EMU_INLINE void load_matrices(unsigned (&r)[4], const void* row, EMU_LINE) { emu::matrices(r, row, false, line); }
EMU_INLINE void load_transposed(unsigned (&r)[4], const void* row, EMU_LINE) { emu::matrices(r, row, true, line); }
