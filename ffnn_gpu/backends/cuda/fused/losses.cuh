// Losses of the outputs that a warp has in registers. See dense_stack.cuh.

// The factors of ∂L/∂z: N = *total, or B if null; *share, or 1 if null; *scale (the loss scale), or 1 if null
struct Factors {
  const double *total, *share, *scale;
};

// Softmax cross-entropy of class indices (backends/reference/losses.py). A row's outputs lie in four lanes.
//   z ← ∂L/∂z; returns this lane's part of L. y (B,), w (B,) or null; `row`: of the batch, for row 0 of the warp
//   WEIGHTED: with weights v (C,) of classes; a row counts nothing if its label has none
template <bool WEIGHTED> struct CrossEntropyOfLabels {
  const int* y;
  const float *w, *v;
  float smoothing;
  __device__ __forceinline__ float of_class(int c) const { return WEIGHTED ? v[c] : 1.f; }
  template <int O, int N>
  __device__ __forceinline__ double operator()(float (&z)[N][4], double total, Index row, int rows, const Lane& at) const {
    const float on = 1.f - smoothing, off = smoothing / O;
    double loss = 0;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const bool valid = at.g + 8 * h < rows;
      const int label = valid ? y[row + at.g + 8 * h] : 0;
      float top = -INF, sum = 0, all = 0, picked = 0, weights = 0;
      bool mine = false;
#pragma unroll
      for (int n = 0; n < N; ++n)
#pragma unroll
        for (int j = 0; j < 2; ++j)
          if (8 * n + 2 * at.t + j < O) top = largest(top, z[n][2 * h + j]);
      top = largest(top, __shfl_xor_sync(ALL_LANES, top, 1));
      top = largest(top, __shfl_xor_sync(ALL_LANES, top, 2));
#pragma unroll
      for (int n = 0; n < N; ++n)
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          const int c = 8 * n + 2 * at.t + j;
          if (c >= O) continue;
          const float x = z[n][2 * h + j] - top;
          if (c == label) picked = x, mine = true;
          all += of_class(c) * x;
          weights += of_class(c);
          z[n][2 * h + j] = exp_(x);
          sum += z[n][2 * h + j];
        }
      sum += __shfl_xor_sync(ALL_LANES, sum, 1);
      sum += __shfl_xor_sync(ALL_LANES, sum, 2);
      weights += __shfl_xor_sync(ALL_LANES, weights, 1);
      weights += __shfl_xor_sync(ALL_LANES, weights, 2);
      const bool known = label >= 0 && label < O;
      const float of_label = known ? of_class(label) : 0.f, log_sum = log_(sum);
      const bool counts = valid && !(WEIGHTED && of_label == 0);
      const float scale = counts ? float((w ? (double)w[row + at.g + 8 * h] : 1.0) / total) : 0.f;
      // without smoothing off is 0, and an infinite logit makes NaN as in the reference
      const float rest = off * (all - (at.t == 0 ? weights * log_sum : 0.f));
      if (valid) loss -= (double)((mine ? on * of_label * (picked - log_sum) + rest : rest) * scale);
      const float factor = (on * of_label + off * weights) / sum;
#pragma unroll
      for (int n = 0; n < N; ++n)
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          const int c = 8 * n + 2 * at.t + j;
          if (c < O) z[n][2 * h + j] = (z[n][2 * h + j] * factor - of_class(c) * (c == label ? on + off : off)) * scale;
        }
    }
    return loss;
  }
};

// A loss that is an elementwise formula, as pointwise_loss of formulas.cuh. y (B, O)
template <typename Value, typename Slope> struct PointwiseLoss {
  const float *y, *w, *v;
  float smoothing;  // this and v: of the other loss
  template <int O, int N>
  __device__ __forceinline__ double operator()(float (&z)[N][4], double total, Index row, int rows, const Lane& at) const {
    const float scale = float(1.0 / (total * O));
    double loss = 0;
    Value value;
    Slope slope;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const bool valid = at.g + 8 * h < rows;
      const Index r = row + at.g + 8 * h;
      const float f = valid && w ? scale * w[r] : scale;
#pragma unroll
      for (int n = 0; n < N; ++n)
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          const int c = 8 * n + 2 * at.t + j;
          if (!valid || c >= O) continue;
          const float v = z[n][2 * h + j], target = y[r * O + c];
          loss += (double)(value(v, target) * f);
          z[n][2 * h + j] = slope(v, target) * f;
        }
    }
    return loss;
  }
};
