// Kernels of the CuPy backend. Each computes one operation of Backend (backends/reference/). Its formula and
// shapes are above it. The conventions are in arithmetic.cuh.

// Constants of the loss scale, as in backends/reference/step_control.py. The largest scale is 2²⁴.
#define GROWTH_INTERVAL 2000
#define LARGEST_SCALE 16777216.0

// out = factor x        x, out (n,), factor one element
template <typename T>
__device__ void scaled(const Arithmetic<T>* x, const double* factor, T* out, Index n) {
  const Arithmetic<T> f = (Arithmetic<T>)*factor;
  FOR_EACH(i, n) out[i] = Narrow<T>::from(f * x[i]);
}
KERNEL(scaled, (const A* x, const double* factor, T* out, Index n), (x, factor, out, n))

#define SLAB_LANES 8

// Two sums over the rows of each slab: Σ x and Σ x y (Σ x² if y is null), with `centre` subtracted from x
//   block (32, 8) and grid (columns/32, slabs): 32 columns of rows [slab R, slab R + R)
//   x, y (B, O); first, second (slabs, O); out (O,) = Σ x if there is one slab
//   y, centre, first, second, out: or null
template <typename T>
__device__ void column_sums(const T* x, const T* y, const double* centre, double* first, double* second, Arithmetic<T>* out,
                            Index B, int O, int R) {
  __shared__ double sum[SLAB_LANES][WARP], sum_of_products[SLAB_LANES][WARP];
  int column = blockIdx.x * WARP + threadIdx.x;
  Index begin = (Index)blockIdx.y * R, end = begin + R < B ? begin + R : B;
  double s = 0, p = 0;
  if (column < O) {
#pragma unroll 4  // without a limit, ptxas spills on sm_100
    for (Index row = begin + threadIdx.y; row < end; row += SLAB_LANES) {
      double v = (double)widen(x[row * O + column]) - (centre ? centre[column] : 0.0);
      s += v;
      p += v * (y ? (double)widen(y[row * O + column]) : v);
    }
  }
  sum[threadIdx.y][threadIdx.x] = s;
  sum_of_products[threadIdx.y][threadIdx.x] = p;
  __syncthreads();
  if (threadIdx.y == 0 && column < O) {
    for (int lane = 1; lane < SLAB_LANES; ++lane) {
      s += sum[lane][threadIdx.x];
      p += sum_of_products[lane][threadIdx.x];
    }
    if (first) first[(Index)blockIdx.y * O + column] = s;
    if (second) second[(Index)blockIdx.y * O + column] = p;
    if (out) out[column] = (Arithmetic<T>)s;
  }
}
KERNEL(column_sums,
       (const T* x, const T* y, const double* centre, double* first, double* second, A* out, Index B, int O, int R),
       (x, y, centre, first, second, out, B, O, R))

// Σ_slabs partial_slab,column, by one warp
__device__ __forceinline__ double slab_sum(const double* partial, int slabs, int O, Index column) {
  double sum = 0;
  for (int slab = threadIdx.x % WARP; slab < slabs; slab += WARP) sum += partial[(Index)slab * O + column];
  return warp_sum(sum);
}

// out_c = scale Σ_slabs partial_slab,c        partial (slabs, O); wide, out (O,) or null; one warp per column
template <typename T>
__device__ void slab_sums(const double* partial, int slabs, int O, double scale, double* wide, Arithmetic<T>* out) {
  FOR_EACH_ROW(column, O) {
    double sum = scale * slab_sum(partial, slabs, O, column);
    if (threadIdx.x % WARP) continue;
    if (wide) wide[column] = sum;
    if (out) out[column] = (Arithmetic<T>)sum;
  }
}
KERNEL(slab_sums, (const double* partial, int slabs, int O, double scale, double* wide, A* out),
       (partial, slabs, O, scale, wide, out))

// ------------------------------------------------- softmax (backends/reference/softmax.py): one warp per row

// out = softmax(z), or z − log Σ e^z        z, out (B, C); out may be z
template <typename T>
__device__ void softmax(const T* z, T* out, int B, int C, int logarithm) {
  typedef Arithmetic<T> A;
  const int lane = threadIdx.x % WARP;
  FOR_EACH_ROW(row, B) {
    const T* of = z + row * C;
    A top = -INF, sum = 0;
    for (int c = lane; c < C; c += WARP) top = largest(top, (A)widen(of[c]));
    top = warp_largest(top);
    for (int c = lane; c < C; c += WARP) sum += exp_((A)widen(of[c]) - top);
    sum = warp_sum(sum);
    A log_sum = log_(sum);
    for (int c = lane; c < C; c += WARP) {
      A v = (A)widen(of[c]) - top;
      out[row * C + c] = Narrow<T>::from(logarithm ? v - log_sum : exp_(v) / sum);
    }
  }
}
KERNEL(softmax, (const T* z, T* out, int B, int C, int logarithm), (z, out, B, C, logarithm))

// da ← a ⊙ (da − Σ_k da_k a_k), or da − e^a Σ_k da_k        da, a (B, C)
template <typename T>
__device__ void softmax_backward(T* da, const T* a, int B, int C, int logarithm) {
  typedef Arithmetic<T> A;
  const int lane = threadIdx.x % WARP;
  FOR_EACH_ROW(row, B) {
    A sum = 0;
    for (int c = lane; c < C; c += WARP) {
      A d = widen(da[row * C + c]);
      sum += logarithm ? d : d * (A)widen(a[row * C + c]);
    }
    sum = warp_sum(sum);
    for (int c = lane; c < C; c += WARP) {
      A d = widen(da[row * C + c]), v = widen(a[row * C + c]);
      da[row * C + c] = Narrow<T>::from(logarithm ? d - exp_(v) * sum : v * (d - sum));
    }
  }
}
KERNEL(softmax_backward, (T* da, const T* a, int B, int C, int logarithm), (da, a, B, C, logarithm))

// ------------------------------------------------------------------ losses (backends/reference/losses.py)

// value = −Σ w_b q_bc log p_bc / N        dp = −w_b q_bc / (p_bc N), with p at least `floor`
//   p, q, dp (B, C), w (B,); w, total, dp or null
template <typename T>
__device__ void cross_entropy(const T* p, const Arithmetic<T>* q, const Arithmetic<T>* w, const double* total,
                              LossGradient<T>* dp, Arithmetic<T>* value, int B, int C, Arithmetic<T> floor, double* partial,
                              unsigned* finished) {
  typedef Arithmetic<T> A;
  A scale = A(-1.0 / divisor(total, B));
  double sum = 0;
  FOR_EACH(i, (Index)B * C) {
    A v = largest((A)widen(p[i]), floor), f = scale * q[i] * (w ? w[row_of(i, C)] : A(1));
    sum += (double)(f * log_(v));
    if (dp) dp[i] = Narrow<LossGradient<T>>::from(f / v);
  }
  if (grid_sum(sum, partial, finished)) *value = (A)sum;
}
KERNEL(cross_entropy,
       (const T* p, const A* q, const A* w, const double* total, D* dp, A* value, int B, int C, A floor, double* partial,
        unsigned* finished),
       (p, q, w, total, dp, value, B, C, floor, partial, finished))

// v_y of v (C,), 0 for a label y outside [0, C)
template <typename T>
__device__ __forceinline__ double weight_of_class(int label, const T* v, int C) {
  return label >= 0 && label < C ? (double)v[label] : 0.0;
}

// Softmax cross-entropy of class indices without class weights: the common case in a fraction of the instructions.
// LANES lanes have a row. Each holds HELD neighbouring classes at a time in registers.
#define HELD 8

template <int LANES, typename A> __device__ __forceinline__ A lanes_sum(A x) {
#pragma unroll
  for (int o = LANES / 2; o > 0; o >>= 1) x += __shfl_xor_sync(ALL_LANES, x, o);
  return x;
}
template <int LANES, typename A> __device__ __forceinline__ A lanes_largest(A x) {
#pragma unroll
  for (int o = LANES / 2; o > 0; o >>= 1) x = largest(x, __shfl_xor_sync(ALL_LANES, x, o));
  return x;
}

// v ← HELD elements of a row from class `first` on; −∞ after its end. `packed`: every row is whole packs.
template <typename T>
__device__ __forceinline__ void held(Arithmetic<T> (&v)[HELD], const T* row, int first, int C, bool packed) {
  const int width = Pack<T>::width;
  if (packed && first < C) {
#pragma unroll
    for (int i = 0; i < HELD; i += width) {
      const Pack<T> p = pack(row + first, i / width);
#pragma unroll
      for (int k = 0; k < width; ++k) v[i + k] = widen(p.at[k]);
    }
  } else {
#pragma unroll
    for (int i = 0; i < HELD; ++i) v[i] = first + i < C ? (Arithmetic<T>)widen(row[first + i]) : -INF;
  }
}

// dz ← HELD values, as `held` reads
template <typename D, typename A>
__device__ __forceinline__ void put(const A (&v)[HELD], D* row, int first, int C, bool packed) {
  const int width = Pack<D>::width;
  if (packed && first < C) {
#pragma unroll
    for (int i = 0; i < HELD; i += width) {
      Pack<D> p;
#pragma unroll
      for (int k = 0; k < width; ++k) p.at[k] = Narrow<D>::from(v[i + k]);
      pack(row + first, i / width) = p;
    }
  } else {
#pragma unroll
    for (int i = 0; i < HELD; ++i)
      if (first + i < C) row[first + i] = Narrow<D>::from(v[i]);
  }
}

// The sum of this thread's parts of N value. A row of more than HELD LANES classes is read three times.
template <int LANES, typename T>
__device__ double cross_entropy_of_labels(const T* z, const int* label, const Arithmetic<T>* w, double N, LossGradient<T>* dz,
                                          int B, int C, Arithmetic<T> smoothing) {
  typedef Arithmetic<T> A;
  const int lane = threadIdx.x % LANES, sweep = LANES * HELD, rows_of_warp = WARP / LANES;
  const bool packed = C % HELD == 0 && ((unsigned long long)z | (unsigned long long)dz) % 16 == 0, once = C <= sweep;
  const A on = A(1) - smoothing, off = smoothing / A(C);
  const Index end = ((Index)B + rows_of_warp - 1) / rows_of_warp * rows_of_warp;  // whole warps, for the shuffles
  double loss = 0;
  for (Index row = ((Index)blockIdx.x * blockDim.x + threadIdx.x) / LANES; row < end; row += (Index)gridDim.x * blockDim.x / LANES) {
    const Index safe = row < B ? row : B - 1;
    const T* of = z + safe * C;
    const int y = label[safe];
    A v[HELD], top = -INF, sum = 0, all = 0, picked = 0;
    for (int first = lane * HELD; first - lane * HELD < C; first += sweep) {
      held(v, of, first, C, packed);
#pragma unroll
      for (int i = 0; i < HELD; ++i) top = largest(top, v[i]);
    }
    top = lanes_largest<LANES>(top);
    for (int first = lane * HELD; first - lane * HELD < C; first += sweep) {
      if (!once) held(v, of, first, C, packed);
#pragma unroll
      for (int i = 0; i < HELD; ++i) {
        const A x = v[i] - top;
        if (first + i == y) picked = x;
        if (first + i < C) all += x;
        v[i] = exp_(x);
        sum += v[i];
      }
    }
    sum = lanes_sum<LANES>(sum);
    const A log_sum = log_(sum), scale = A((w ? (double)w[safe] : 1.0) / N), mass = y >= 0 && y < C ? A(1) : smoothing;
    if (row < B) {
      const bool mine = y >= 0 && y < C && y / HELD % LANES == lane;
      // without smoothing off is 0, and an infinite logit makes NaN as in the reference
      const A rest = off * (all - (lane == 0 ? A(C) * log_sum : A(0)));
      loss -= (double)((mine ? on * (picked - log_sum) + rest : rest) * scale);
    }
    if (!dz || row >= B) continue;
    const A factor = mass / sum;
    for (int first = lane * HELD; first - lane * HELD < C; first += sweep) {
      if (!once) {
        held(v, of, first, C, packed);
#pragma unroll
        for (int i = 0; i < HELD; ++i) v[i] = exp_(v[i] - top);
      }
#pragma unroll
      for (int i = 0; i < HELD; ++i) v[i] = (v[i] * factor - (first + i == y ? on + off : off)) * scale;
      put(v, dz + row * C, first, C, packed);
    }
  }
  return loss;
}

// value = −Σ_b w_b Σ_c r_bc log softmax(z_b)_c / N        dz = w_b (softmax(z_b)_c Σ_k r_bk − r_bc) / N
//   r_bc = v_c ((1 − ε) q_bc + ε/C); a row whose class has weight 0 counts
//   nothing; one warp per row, or fewer lanes (see above)
//   z, dz (B, C); label (B,) or q (B, C), the other null; w (B,), v (C,), total, dz or null
template <typename T>
__device__ void softmax_cross_entropy(const T* z, const int* label, const Arithmetic<T>* q, const Arithmetic<T>* w,
                                      const Arithmetic<T>* v, const double* total, LossGradient<T>* dz, Arithmetic<T>* value,
                                      int B, int C, Arithmetic<T> smoothing, double* partial, unsigned* finished) {
  typedef Arithmetic<T> A;
  const int lane = threadIdx.x % WARP;
  const double N = divisor(total, B);
  double loss = 0;
  const bool labels = label && !v;
  if (labels && C <= 2 * HELD) loss = cross_entropy_of_labels<2>(z, label, w, N, dz, B, C, smoothing);
  else if (labels && C <= 8 * HELD) loss = cross_entropy_of_labels<8>(z, label, w, N, dz, B, C, smoothing);
  else if (labels) loss = cross_entropy_of_labels<WARP>(z, label, w, N, dz, B, C, smoothing);
  else FOR_EACH_ROW(row, B) {
    const T* of = z + row * C;
    A scale = label && v && weight_of_class(label[row], v, C) == 0 ? A(0) : A((w ? (double)w[row] : 1.0) / N);
    A top = -INF, sum = 0, mass = 0, product = 0;
    for (int c = lane; c < C; c += WARP) top = largest(top, (A)widen(of[c]));
    top = warp_largest(top);
    for (int c = lane; c < C; c += WARP) sum += exp_((A)widen(of[c]) - top);
    A log_sum = log_(warp_sum(sum));
    for (int c = lane; c < C; c += WARP) {
      A target = label ? (c == label[row] ? A(1) : A(0)) : (A)widen(q[row * C + c]);
      A r = ((A(1) - smoothing) * target + smoothing / A(C)) * (v ? (A)widen(v[c]) : A(1));
      mass += r;
      product += r * ((A)widen(of[c]) - top - log_sum);
    }
    mass = warp_sum(mass);
    product = warp_sum(product);
    if (lane == 0) loss -= (double)(product * scale);
    if (dz)
      for (int c = lane; c < C; c += WARP) {
        A target = label ? (c == label[row] ? A(1) : A(0)) : (A)widen(q[row * C + c]);
        A r = ((A(1) - smoothing) * target + smoothing / A(C)) * (v ? (A)widen(v[c]) : A(1));
        dz[row * C + c] = Narrow<LossGradient<T>>::from((exp_((A)widen(of[c]) - top - log_sum) * mass - r) * scale);
      }
  }
  if (grid_sum(loss, partial, finished)) *value = (A)loss;
}
KERNEL(softmax_cross_entropy,
       (const T* z, const int* label, const A* q, const A* w, const A* v, const double* total, D* dz, A* value, int B, int C,
        A smoothing, double* partial, unsigned* finished),
       (z, label, q, w, v, total, dz, value, B, C, smoothing, partial, finished))

// total = Σ_b w_b v_{y_b}        w (B,), or null for 1; y (B,) and v (C,), or null for 1
//   A label outside [0, C) has weight 0.
template <typename T>
__device__ void weight_total(const Arithmetic<T>* w, const int* y, const Arithmetic<T>* v, int B, int C, double* total,
                             double* partial, unsigned* finished) {
  double sum = 0;
  FOR_EACH(b, B) {
    double of_class = v ? weight_of_class(y[b], v, C) : 1.0;
    sum += of_class * (w ? (double)w[b] : 1.0);
  }
  if (grid_sum(sum, partial, finished)) *total = sum;
}
KERNEL(weight_total,
       (const A* w, const int* y, const A* v, int B, int C, double* total, double* partial, unsigned* finished),
       (w, y, v, B, C, total, partial, finished))

// ------------------------------------------------------------------ dropout (backends/reference/philox.py)

// out = x ⊙ m, or m if x is null; m_rc = scale if word c mod 4 of Philox at (⌊c/4⌋, row + r, step, layer) ≥ threshold, else 0
//   x, out (B, O), out may be x; factor (1,) or null: with it, threshold and scale are those of the rate times *factor
// `multiply` of m computes the same bits.
template <typename T>
__device__ void dropout(const T* x, T* out, const Index* step, int B, int O, unsigned seed_low, unsigned seed_high,
                        unsigned layer, unsigned row, unsigned threshold, Arithmetic<T> scale, double rate,
                        const double* factor) {
  typedef Pack<T, 4> Four;
  const int quads = (O + 3) / 4;
  const bool packed = O % 4 == 0 && ((unsigned long long)x | (unsigned long long)out) % sizeof(Four) == 0;
  if (factor) {
    const double p = rate * *factor;
    threshold = (unsigned)smallest(rint(p * 4294967296.0), 4294967295.0);
    scale = (Arithmetic<T>)(1.0 / (1.0 - p));
  }
  const T keep = Narrow<T>::from(scale), drop = Narrow<T>::from(Arithmetic<T>(0));
  FOR_EACH(i, (Index)B * quads) {
    const unsigned r = (unsigned)row_of(i, quads), quad = (unsigned)column_of(i, quads);
    const uint4 word = philox4x32(make_uint4(quad, row + r, (unsigned)*step, layer), seed_low, seed_high);
    Four m = {word.x >= threshold ? keep : drop, word.y >= threshold ? keep : drop, word.z >= threshold ? keep : drop,
              word.w >= threshold ? keep : drop};
    const Index at = (Index)r * O + 4 * (Index)quad;
    const int here = O - 4 * (int)quad;  // the columns of this quad and of those after it
    if (packed) {
      if (x) {
        const Four v = reinterpret_cast<const Four*>(x)[at / 4];
#pragma unroll
        for (int k = 0; k < 4; ++k) m.at[k] = Narrow<T>::from(widen(v.at[k]) * widen(m.at[k]));
      }
      reinterpret_cast<Four*>(out)[at / 4] = m;
    } else {
#pragma unroll
      for (int k = 0; k < 4; ++k)
        if (k < here) out[at + k] = x ? Narrow<T>::from(widen(x[at + k]) * widen(m.at[k])) : m.at[k];
    }
  }
}
KERNEL(dropout,
       (const T* x, T* out, const Index* step, int B, int O, unsigned seed_low, unsigned seed_high, unsigned layer,
        unsigned row, unsigned threshold, A scale, double rate, const double* factor),
       (x, out, step, B, O, seed_low, seed_high, layer, row, threshold, scale, rate, factor))

// out = x ⊙ y        (n,); out may be x or y
template <typename T>
__device__ void multiply(const T* x, const T* y, T* out, Index n) {
  const int width = Pack<T>::width;
  const Index packs = packs_in(n, x, y, out);
  FOR_EACH(k, packs) {
    Pack<T> p = pack(x, k), q = pack(y, k);
#pragma unroll
    for (int i = 0; i < width; ++i) p.at[i] = Narrow<T>::from(widen(p.at[i]) * widen(q.at[i]));
    pack(out, k) = p;
  }
  FOR_EACH(j, n - packs * width) {
    Index i = packs * width + j;
    out[i] = Narrow<T>::from(widen(x[i]) * widen(y[i]));
  }
}
KERNEL(multiply, (const T* x, const T* y, T* out, Index n), (x, y, out, n))

// ------------------------------------------------- normalization (backends/reference/normalization.py)

// out = x̂ ⊙ gain + bias, x̂ = (x − μ) rstd, rstd = 1/√(σ² + ε) over each row; one warp per row
//   x, out, xhat (B, I), gain, bias (I,), rstd (B,); xhat, rstd or null
template <typename T>
__device__ void layer_norm(const T* x, const T* gain, const T* bias, T* out, T* xhat, Arithmetic<T>* rstd, int B, int I,
                           double eps) {
  typedef Arithmetic<T> A;
  const int lane = threadIdx.x % WARP;
  FOR_EACH_ROW(row, B) {
    const Index at = row * I;
    double mean = 0, variance = 0;
    for (int i = lane; i < I; i += WARP) mean += (double)widen(x[at + i]);
    mean = warp_sum(mean) / I;
    for (int i = lane; i < I; i += WARP) {
      double d = (double)widen(x[at + i]) - mean;
      variance += d * d;
    }
    double factor = 1.0 / sqrt(warp_sum(variance) / I + eps);
    for (int i = lane; i < I; i += WARP) {
      A h = (A)(((double)widen(x[at + i]) - mean) * factor);
      if (xhat) xhat[at + i] = Narrow<T>::from(h);
      out[at + i] = Narrow<T>::from(h * widen(gain[i]) + widen(bias[i]));
    }
    if (rstd && lane == 0) rstd[row] = (A)factor;
  }
}
KERNEL(layer_norm, (const T* x, const T* gain, const T* bias, T* out, T* xhat, A* rstd, int B, int I, double eps),
       (x, gain, bias, out, xhat, rstd, B, I, eps))

// dx = (dx̂ − mean(dx̂) − x̂ mean(dx̂ ⊙ x̂)) rstd, dx̂ = da ⊙ gain, over each row
//   da, xhat, dx (B, I); dx may be da
template <typename T>
__device__ void layer_norm_backward(const T* da, const T* gain, const T* xhat, const Arithmetic<T>* rstd, T* dx, int B, int I) {
  const int lane = threadIdx.x % WARP;
  FOR_EACH_ROW(row, B) {
    const Index at = row * I;
    double mean = 0, product = 0;
    for (int i = lane; i < I; i += WARP) {
      double d = (double)widen(da[at + i]) * (double)widen(gain[i]);
      mean += d;
      product += d * (double)widen(xhat[at + i]);
    }
    mean = warp_sum(mean) / I;
    product = warp_sum(product) / I;
    for (int i = lane; i < I; i += WARP) {
      double d = (double)widen(da[at + i]) * (double)widen(gain[i]) - mean - (double)widen(xhat[at + i]) * product;
      dx[at + i] = Narrow<T>::from((Arithmetic<T>)(d * (double)rstd[row]));
    }
  }
}
KERNEL(layer_norm_backward, (const T* da, const T* gain, const T* xhat, const A* rstd, T* dx, int B, int I),
       (da, gain, xhat, rstd, dx, B, I))

// σ² and rstd = 1/√(σ² + ε) from Σ (x − μ)²; one warp per column
//   squares (slabs, I); wide_mean, wide_rstd (I,) in double; the rest (I,)
template <typename T>
__device__ void batch_norm_finish(const double* squares, int slabs, const double* wide_mean, double* wide_rstd,
                                  Arithmetic<T>* mean, Arithmetic<T>* variance, Arithmetic<T>* rstd, Index B, int I, double eps) {
  FOR_EACH_ROW(c, I) {
    double sigma2 = slab_sum(squares, slabs, I, c) / B, factor = 1.0 / sqrt(sigma2 + eps);
    if (threadIdx.x % WARP) continue;
    mean[c] = (Arithmetic<T>)wide_mean[c];
    variance[c] = (Arithmetic<T>)sigma2;
    rstd[c] = (Arithmetic<T>)factor;
    wide_rstd[c] = factor;
  }
}
KERNEL(batch_norm_finish,
       (const double* squares, int slabs, const double* wide_mean, double* wide_rstd, A* mean, A* variance, A* rstd, Index B,
        int I, double eps),
       (squares, slabs, wide_mean, wide_rstd, mean, variance, rstd, B, I, eps))

// out = x̂ ⊙ gain + bias, x̂ = (x − μ) rstd by column
//   x, out, xhat (B, I), n = B I; mean, rstd (I,) in double
template <typename T>
__device__ void batch_norm_apply(const T* x, const double* mean, const double* rstd, const T* gain, const T* bias, T* out,
                                 T* xhat, Index n, int I) {
  FOR_EACH(i, n) {
    int c = column_of(i, I);
    Arithmetic<T> h = (Arithmetic<T>)(((double)widen(x[i]) - mean[c]) * rstd[c]);
    xhat[i] = Narrow<T>::from(h);
    out[i] = Narrow<T>::from(h * widen(gain[c]) + widen(bias[c]));
  }
}
KERNEL(batch_norm_apply,
       (const T* x, const double* mean, const double* rstd, const T* gain, const T* bias, T* out, T* xhat, Index n, int I),
       (x, mean, rstd, gain, bias, out, xhat, n, I))

// out = (x − mean)/√(variance + ε) ⊙ gain + bias with given statistics
//   x, out (B, I), n = B I; the rest (I,)
template <typename T>
__device__ void batch_norm_inference(const T* x, const T* gain, const T* bias, const Arithmetic<T>* mean,
                                     const Arithmetic<T>* variance, T* out, Index n, int I, Arithmetic<T> eps) {
  FOR_EACH(i, n) {
    int c = column_of(i, I);
    Arithmetic<T> factor = widen(gain[c]) / sqrt_(variance[c] + eps);
    out[i] = Narrow<T>::from((widen(x[i]) - mean[c]) * factor + widen(bias[c]));
  }
}
KERNEL(batch_norm_inference,
       (const T* x, const T* gain, const T* bias, const A* mean, const A* variance, T* out, Index n, int I, A eps),
       (x, gain, bias, mean, variance, out, n, I, eps))

// dx = gain rstd (da − mean(da) − x̂ mean(da ⊙ x̂)) by column        da, xhat, dx (B, I); dx may be da
//   sum_da, sum_da_xhat (I,) in double: Σ_B da, Σ_B da ⊙ x̂
template <typename T>
__device__ void batch_norm_backward(const T* da, const T* gain, const T* xhat, const Arithmetic<T>* rstd, const double* sum_da,
                                    const double* sum_da_xhat, T* dx, Index B, int I) {
  FOR_EACH(i, B * I) {
    int c = column_of(i, I);
    double d = (double)widen(da[i]) - sum_da[c] / B - (double)widen(xhat[i]) * (sum_da_xhat[c] / B);
    dx[i] = Narrow<T>::from((Arithmetic<T>)(d * (double)widen(gain[c]) * (double)rstd[c]));
  }
}
KERNEL(batch_norm_backward,
       (const T* da, const T* gain, const T* xhat, const A* rstd, const double* sum_da, const double* sum_da_xhat, T* dx,
        Index B, int I),
       (da, gain, xhat, rstd, sum_da, sum_da_xhat, dx, B, I))

// ------------------------------------------------- embedding (backends/reference/embedding.py)

// Is x a code, a whole number in [0, n)? A code is exact in T, and below 2⁵³.
template <typename A> __device__ __forceinline__ bool is_code(A x, Index n) {
  return x >= A(0) && x < A(n) && A((Index)x) == x;
}

// out_bc = x_bc for the first N columns, else element width code + offset of E with the code of column `source`
//   x (B, I), out (B, O); columns (O − N, 4) = source, levels, width, offset of each other column
//   A value that is no code makes NaN.
template <typename T>
__device__ void embedding(const T* x, const T* E, const Index* columns, T* out, Index n, int I, int O, int N) {
  FOR_EACH(i, n) {
    const int c = column_of(i, O);
    const T* row = x + row_of(i, O) * I;
    if (c < N) {
      out[i] = row[c];
      continue;
    }
    const Index* of = columns + 4 * (c - N);
    const Arithmetic<T> code = widen(row[of[0]]);
    out[i] = is_code(code, of[1]) ? E[of[2] * (Index)code + of[3]] : Narrow<T>::from(INF - INF);
  }
}
KERNEL(embedding, (const T* x, const T* E, const Index* columns, T* out, Index n, int I, int O, int N),
       (x, E, columns, out, n, I, O, N))

// dE_k[j] = Σ_b [x_bk = j] da_b in the columns of E_k, for every j that occurs; dE is 0 before
//   da (B, O), x (B, I), dE of E's length; columns (K, 4) = first column of E_k in da, levels, width, offset in dE
//   One warp per row and column of codes: that of the first row with a code sums all rows with it, in order.
template <typename T>
__device__ void embedding_backward(const T* da, const T* x, const Index* columns, Arithmetic<T>* dE, Index B, int I, int O,
                                   int K) {
  const int lane = threadIdx.x % WARP;
  FOR_EACH_ROW(i, B * K) {
    const Index b = row_of(i, K), *of = columns + 4 * column_of(i, K);
    const T* codes = x + I - K + column_of(i, K);  // of row 0
    const Arithmetic<T> code = widen(codes[b * I]);
    bool sums = is_code(code, of[1]);
    for (Index r = 0; sums && r < b; r += WARP)
      sums = !__any_sync(ALL_LANES, r + lane < b && widen(codes[(r + lane) * I]) == code);
    for (Index c = 0; sums && c < of[2]; c += WARP) {
      double sum = 0;
      for (Index r = b; r < B; r += WARP) {
        unsigned same = __ballot_sync(ALL_LANES, r + lane < B && widen(codes[(r + lane) * I]) == code);
        for (; same; same &= same - 1)
          if (c + lane < of[2]) sum += (double)widen(da[(r + __ffs(same) - 1) * O + of[0] + c + lane]);
      }
      if (c + lane < of[2]) dE[of[3] + of[2] * (Index)code + c + lane] = (Arithmetic<T>)sum;
    }
  }
}
KERNEL(embedding_backward, (const T* da, const T* x, const Index* columns, A* dE, Index B, int I, int O, int K),
       (da, x, columns, dE, B, I, O, K))

// ------------------------------------------------- periodic embeddings (backends/reference/periodic.py)
//
// F columns of x (B, I) have K waves each: w, b (F, K). Why each number of an output computes its own waves: D
// numbers share them, but 256 rows of 50 columns to 3 numbers of 16 waves are 614,400 cosines, less than a
// microsecond of a GPU. The sums over rows are of one warp each.

#define TURN 6.283185307179586

template <typename T>
__device__ __forceinline__ Arithmetic<T> angle(const T* x, const T* w, const T* b, Index r, int I, int f, Index k) {
  typedef Arithmetic<T> A;
  return A(TURN) * widen(w[k]) * widen(x[r * I + f]) + widen(b[k]);
}

// The gradient at the angle of wave k of column f: -sin(angle) Σ_d de_d M_kd
//   de = da + r O + f D
template <typename T>
__device__ __forceinline__ Arithmetic<T> at_angle(Arithmetic<T> theta, const T* de, const T* M, Index k, int D) {
  Arithmetic<T> dz = 0;
  for (int d = 0; d < D; ++d) dz += widen(de[d]) * widen(M[k * D + d]);
  return -sin_(theta) * dz;
}

// out = (cos(2π w_1 x_1 + b_1) M_1 + c_1, …, x)        M (F K, D), c (F, D), out (B, O), O = F D + I
template <typename T>
__device__ void periodic(const T* x, const T* w, const T* b, const T* M, const T* c, T* out, Index n, int I, int F, int K,
                         int D) {
  const int O = F * D + I;
  FOR_EACH(i, n) {
    const int column = column_of(i, O), f = column / D;
    const Index r = row_of(i, O);
    if (f >= F) {
      out[i] = x[r * I + column - F * D];
      continue;
    }
    Arithmetic<T> e = 0;
    for (Index k = (Index)f * K; k < (Index)(f + 1) * K; ++k)
      e += cos_(angle(x, w, b, r, I, f, k)) * widen(M[k * D + column % D]);
    out[i] = Narrow<T>::from(e + widen(c[column]));
  }
}
KERNEL(periodic,
       (const T* x, const T* w, const T* b, const T* M, const T* c, T* out, Index n, int I, int F, int K, int D),
       (x, w, b, M, c, out, n, I, F, K, D))

// dM_f = z_fᵀ de_f,  db = Σ dθ,  dw = 2π Σ x dθ by a warp per wave; then dc = Σ de by a warp per number
template <typename T>
__device__ void periodic_sums(const T* da, const T* x, const T* w, const T* b, const T* M, Arithmetic<T>* dw,
                              Arithmetic<T>* db, Arithmetic<T>* dM, Arithmetic<T>* dc, Index B, int I, int F, int K, int D) {
  typedef Arithmetic<T> A;
  const int lane = threadIdx.x % WARP, O = F * D + I;
  FOR_EACH_ROW(k, (Index)F * (K + D)) {
    if (k >= (Index)F * K) {
      double sum = 0;
      for (Index r = lane; r < B; r += WARP) sum += (double)widen(da[r * O + k - (Index)F * K]);
      sum = warp_sum(sum);
      if (lane == 0) dc[k - (Index)F * K] = (A)sum;
      continue;
    }
    const int f = (int)row_of(k, K);
    double of_phase = 0, of_frequency = 0;
    for (Index r = lane; r < B; r += WARP) {
      const A slope = at_angle(angle(x, w, b, r, I, f, k), da + r * O + f * D, M, k, D);
      of_phase += (double)slope;
      of_frequency += (double)slope * (double)widen(x[r * I + f]);
    }
    of_phase = warp_sum(of_phase);
    of_frequency = TURN * warp_sum(of_frequency);
    for (int d = 0; d < D; ++d) {
      double sum = 0;
      for (Index r = lane; r < B; r += WARP)
        sum += (double)cos_(angle(x, w, b, r, I, f, k)) * (double)widen(da[r * O + f * D + d]);
      sum = warp_sum(sum);
      if (lane == 0) dM[k * D + d] = (A)sum;
    }
    if (lane == 0) {
      db[k] = (A)of_phase;
      dw[k] = (A)of_frequency;
    }
  }
}
KERNEL(periodic_sums,
       (const T* da, const T* x, const T* w, const T* b, const T* M, A* dw, A* db, A* dM, A* dc, Index B, int I, int F, int K,
        int D),
       (da, x, w, b, M, dw, db, dM, dc, B, I, F, K, D))

// dx = the gradient of the copy of x in out, and for the F columns also 2π Σ_k w_k dθ_k
template <typename T>
__device__ void periodic_input(const T* da, const T* x, const T* w, const T* b, const T* M, T* dx, Index n, int I, int F, int K,
                               int D) {
  const int O = F * D + I;
  FOR_EACH(i, n) {
    const int f = column_of(i, I);
    const Index r = row_of(i, I);
    Arithmetic<T> slope = 0;
    if (f < F)
      for (Index k = (Index)f * K; k < (Index)(f + 1) * K; ++k)
        slope += at_angle(angle(x, w, b, r, I, f, k), da + r * O + f * D, M, k, D) * widen(w[k]);
    dx[i] = Narrow<T>::from(widen(da[r * O + F * D + f]) + Arithmetic<T>(TURN) * slope);
  }
}
KERNEL(periodic_input,
       (const T* da, const T* x, const T* w, const T* b, const T* M, T* dx, Index n, int I, int F, int K, int D),
       (da, x, w, b, M, dx, n, I, F, K, D))

// ------------------------------------------------------------------ data

template <typename S, typename T>
__device__ __forceinline__ T standardized(S x, const double* mean, const double* scale, int c) {
  return mean ? Cast<T>::from((widen(x) - mean[c]) / scale[c]) : Cast<T>::from(x);
}

// out_r = rows_{index_r}, or (rows_{index_r} − mean) / scale in double if mean is not null, cast to T
//   rows (N, d) of type S, index (n,), mean, scale (d,), out (n, d)
//   a thread handles W columns of a row at a time
template <int W, typename S, typename T>
__device__ void gather_by(const S* rows, const Index* index, const double* mean, const double* scale, T* out, int n, int d) {
  const int packs = d / W;
  FOR_EACH(k, (Index)n * packs) {
    const int p = column_of(k, packs), c = p * W;
    const Pack<S, W> x = reinterpret_cast<const Pack<S, W>*>(rows + index[row_of(k, packs)] * d)[p];
    Pack<T, W> y;
    for (int j = 0; j < W; ++j) y.at[j] = standardized<S, T>(x.at[j], mean, scale, c + j);
    reinterpret_cast<Pack<T, W>*>(out)[k] = y;
  }
}
template <typename S, typename T>
__device__ void gather(const S* rows, const Index* index, const double* mean, const double* scale, T* out, int n, int d) {
  const int W = sizeof(S) > 4 || sizeof(T) > 4 ? 2 : 4;
  const bool aligned = (unsigned long long)rows % sizeof(Pack<S, W>) == 0 && (unsigned long long)out % sizeof(Pack<T, W>) == 0;
  if (aligned && d % W == 0) gather_by<W>(rows, index, mean, scale, out, n, d);
  else gather_by<1>(rows, index, mean, scale, out, n, d);
}
// Why 64 registers (four blocks per multiprocessor): with 40, the choice of ptxas, it spills on sm_100 around
// the calls that a division of doubles may make.
#define GATHER(FROM, S, TO, T)                                                                                     \
  extern "C" __global__ void __launch_bounds__(THREADS, 4) gather_##FROM##_##TO(                                   \
      const S* rows, const Index* index, const double* mean, const double* scale, T* out, int n, int d) {          \
    gather(rows, index, mean, scale, out, n, d);                                                                   \
  }
#define GATHERS(TO, T)               \
  GATHER(u8, unsigned char, TO, T)   \
  GATHER(i32, int, TO, T)            \
  GATHER(i64, Index, TO, T)          \
  GATHER(f32, float, TO, T)          \
  GATHER(f64, double, TO, T)
GATHERS(f32, float)
GATHERS(f64, double)
IF_16_BIT(GATHERS(f16, __half) GATHER(f16, __half, f16, __half))
IF_16_BIT(GATHERS(bf16, __nv_bfloat16) GATHER(bf16, __nv_bfloat16, bf16, __nv_bfloat16))
GATHER(i32, int, i32, int)
GATHER(i64, Index, i64, Index)

// ------------------------------------------------------------------ updates (backends/reference/updates.py)

__device__ __forceinline__ double nadam_momentum(double t, double beta1, double psi) {  // μ_t
  return beta1 * (1 - 0.5 * pow(0.96, t * psi));
}

// t ← t + 1 and step ← step + 1, the parameters' own count of updates, unless skipped; η ← lr. One thread.
//   scalars [t, η, Π], step (1,); control [c, skip] or null; lr (1,) or null
extern "C" __global__ void advance(double* scalars, Index* step, const double* control, const double* lr) {
  if (lr) scalars[1] = *lr;
  if (control && control[1] != 0) return;
  scalars[0] += 1;
  *step += 1;
}

// Π ← Π μ_t, unless skipped. One thread.
extern "C" __global__ void advance_product(double* scalars, double beta1, double psi, const double* control) {
  if (control && control[1] != 0) return;
  scalars[2] *= nadam_momentum(scalars[0], beta1, psi);
}

// out = p x + q y, and wide receives the same unrounded        (n,); x is wide, unless wide is null
template <typename T>
__device__ void blend(Arithmetic<T>* wide, const T* x, const T* y, T* out, Index n, Arithmetic<T> p, Arithmetic<T> q) {
  typedef Pack<Arithmetic<T>, 4> Wide;
  typedef Pack<T, 4> Four;
  const bool packed = ((unsigned long long)wide % sizeof(Wide) | ((unsigned long long)x | (unsigned long long)y |
                       (unsigned long long)out) % sizeof(Four)) == 0;
  const Index packs = packed ? n / 4 : 0;
  FOR_EACH(k, packs) {
    Wide v;
    Four r = reinterpret_cast<const Four*>(wide ? y : x)[k];
    const Four s = reinterpret_cast<const Four*>(y)[k];
    if (wide) v = reinterpret_cast<const Wide*>(wide)[k];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      v.at[i] = p * (wide ? v.at[i] : widen(r.at[i])) + q * widen(s.at[i]);
      r.at[i] = Narrow<T>::from(v.at[i]);
    }
    if (wide) reinterpret_cast<Wide*>(wide)[k] = v;
    reinterpret_cast<Four*>(out)[k] = r;
  }
  FOR_EACH(j, n - 4 * packs) {
    const Index i = 4 * packs + j;
    const Arithmetic<T> v = p * (wide ? wide[i] : widen(x[i])) + q * widen(y[i]);
    if (wide) wide[i] = v;
    out[i] = Narrow<T>::from(v);
  }
}
KERNEL(blend, (A* wide, const T* x, const T* y, T* out, Index n, A p, A q), (wide, x, y, out, n, p, q))

// g ← min(max(g, −S limit), S limit); with a loss scale S, ±∞ stays
//   grad (n,); loss_scale [S, good] or null
template <typename T>
__device__ void clip_by_value(T* grad, Index n, double limit, const double* loss_scale) {
  const Arithmetic<T> bound = (Arithmetic<T>)(loss_scale ? limit * *loss_scale : limit);
  FOR_EACH(i, n) {
    Arithmetic<T> g = widen(grad[i]);
    if (!loss_scale || is_finite(g)) grad[i] = Narrow<T>::from(smallest(largest(g, -bound), bound));
  }
}
KERNEL_32_64(clip_by_value, (T* grad, Index n, double limit, const double* loss_scale), (grad, n, limit, loss_scale))

// control ← [c, 0] with c = min(1, limit/‖g/S‖)/S, and good ← good + 1; after 2000 in a row S ← min(2S, 2²⁴).
// If g is not finite, control ← [0, 1] and S ← max(S/2, 1).
//   grad (n,); control [c, skip]; loss_scale [S, good] or null
template <typename T>
__device__ void gradient_factor(const T* grad, Index n, double limit, double* control, double* loss_scale, double* partial,
                                unsigned* finished) {
  const int width = Pack<T>::width;
  const Index packs = packs_in(n, grad);
  double sum = 0;
  FOR_EACH(k, packs) {
    const Pack<T> g = pack(grad, k);
#pragma unroll
    for (int i = 0; i < width; ++i) sum += (double)widen(g.at[i]) * (double)widen(g.at[i]);
  }
  FOR_EACH(j, n - packs * width) {
    const double g = widen(grad[packs * width + j]);
    sum += g * g;
  }
  if (!grid_sum(sum, partial, finished)) return;
  const double S = loss_scale ? loss_scale[0] : 1, norm = sqrt(sum) / S;
  const bool overflow = loss_scale && !is_finite(sum);
  control[0] = overflow ? 0 : (norm > limit ? limit / norm : 1) / S;
  control[1] = overflow;
  if (!loss_scale) return;
  const double good = overflow ? 0 : loss_scale[1] + 1;
  const bool grown = good == GROWTH_INTERVAL;
  loss_scale[0] = overflow ? largest(S / 2, 1.0) : grown ? smallest(2 * S, LARGEST_SCALE) : S;
  loss_scale[1] = grown ? 0 : good;
}
KERNEL_32_64(gradient_factor,
             (const T* grad, Index n, double limit, double* control, double* loss_scale, double* partial, unsigned* finished),
             (grad, n, limit, control, loss_scale, partial, finished))

// mean ← mean + keep (values − mean), keep = 1 − decay        mean, values (n,)
template <typename T>
__device__ void average(T* mean, const T* values, Index n, Arithmetic<T> keep) {
  FOR_EACH(i, n) mean[i] = Narrow<T>::from(widen(mean[i]) + keep * (widen(values[i]) - widen(mean[i])));
}
KERNEL_32_64(average, (T* mean, const T* values, Index n, A keep), (mean, values, n, keep))
