// Dropout of the outputs that a warp has in registers. See dense_stack.cuh.

// Dropout after one layer: its number, threshold and scale (dropout of kernels.cu)
struct Dropout {
  unsigned layer, threshold;
  float scale;
};
// Every layer's, by its place in the stack, and what they have in common. `row`: of the batch in the whole batch
struct Random {
  const Index* step;
  unsigned seed_low, seed_high, row;
  const Dropout* of_layer;
};

// factor: null, or a number that multiplies the rate
__device__ __forceinline__ Dropout dropout(unsigned layer, unsigned threshold, float scale, double rate, const double* factor) {
  if (!factor) return Dropout{layer, threshold, scale};
  const double p = rate * *factor;
  return Dropout{layer, (unsigned)smallest(rint(p * 4294967296.0), 4294967295.0), (float)(1.0 / (1.0 - p))};
}

// kept ← a bit for each number of a layer's output that stays: bits of the pairs (n, h) are 4 n + 2 h and the next one
//   `row`: of the whole batch, for row 0 of the warp; COLUMNS: of the layer, in eights
//   Four columns have the words of one Philox block. A lane computes the block of two rows for itself and its
//   neighbour, which has the other two columns. Why a loop that is not unrolled: it would need a hundred registers.
template <int COLUMNS>
__device__ __forceinline__ void draw(unsigned (&kept)[2], const Random& random, const Dropout& of, unsigned row, const Lane& at) {
  const unsigned step = (unsigned)*random.step;
  const bool odd = at.t & 1;
#pragma unroll
  for (int part = 0; part < (COLUMNS + 7) / 8; ++part) {
    unsigned bits = 0;
#pragma unroll 1
    for (int n = 0; n < 8 && 8 * part + n < COLUMNS; ++n) {
      const unsigned quad = 2 * (8 * part + n) + at.t / 2;
      const uint4 word = philox4x32(make_uint4(quad, row + at.g + (odd ? 8 : 0), step, of.layer), random.seed_low, random.seed_high);
      const unsigned mine[2] = {odd ? word.z : word.x, odd ? word.w : word.y};
      const unsigned theirs[2] = {__shfl_xor_sync(ALL_LANES, odd ? word.x : word.z, 1),
                                  __shfl_xor_sync(ALL_LANES, odd ? word.y : word.w, 1)};
#pragma unroll
      for (int i = 0; i < 4; ++i)
        bits |= (unsigned)(((i / 2 != 0) == odd ? mine[i % 2] : theirs[i % 2]) >= of.threshold) << (4 * n + i);
    }
    kept[part] = bits;
  }
}

// v ← v ⊙ mask
template <typename T, int N>
__device__ __forceinline__ void drop(float (&v)[N][4], const unsigned (&kept)[2], const Dropout& of, const Lane& at) {
  const float scale = widen(Narrow<T>::from(of.scale));
  each_pair(v, at, [&](int n, int h, int, float& x, float& y) {
    const unsigned bits = kept[n / 8] >> (n % 8 * 4 + 2 * h);
    x *= bits & 1 ? scale : 0.f, y *= bits & 2 ? scale : 0.f;
  });
}
