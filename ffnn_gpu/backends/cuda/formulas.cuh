// Kernels of elementwise formulas. A formula is a function object, whose text comes from
// backends/elementwise/cuda_function.py. kernels.py appends it, and one line for each kernel:
//
//   BIAS_ACTIVATION(entry, function object, type's suffix, type)
//   POINTWISE_LOSS(entry, function object of the loss, of its derivative, type's suffix, type)
//
// A function object computes in Arithmetic<T>.

#define FORMULA(NAME, S, TYPE, PARAMETERS, CALL)                                    \
  namespace S {                                                                     \
  typedef TYPE T;                                                                   \
  typedef Arithmetic<T> A;                                                          \
  typedef LossGradient<T> D;                                                        \
  extern "C" __global__ void __launch_bounds__(THREADS) NAME PARAMETERS { CALL; }   \
  }                                                                                 \
  using S::NAME;

// ------------------------------------------------------------------ activations (nn/activations.py)

// a ← φ(a + b), and s receives a + b        a (B, O), b (O,) or null, s (B, O) or null; n = B O
template <typename T, typename Phi>
__device__ void bias_activation(T* a, const T* b, T* s, Index n, int O, Phi phi) {
  const int width = Pack<T>::width;
  const Index packs = packs_in(n, a, s);
  FOR_EACH(k, packs) {
    Pack<T> pre, post = pack(a, k);
    Arithmetic<T> x[width];
    int c = column_of(k * width, O);
#pragma unroll
    for (int i = 0; i < width; ++i) {
      x[i] = widen(post.at[i]);
      if (b) x[i] += widen(b[c]);
      c = c + 1 == O ? 0 : c + 1;
      pre.at[i] = Narrow<T>::from(x[i]);
    }
    if (s) pack(s, k) = pre;  // first, to need fewer registers
#pragma unroll
    for (int i = 0; i < width; ++i) post.at[i] = Narrow<T>::from(phi(x[i]));
    pack(a, k) = post;
  }
#pragma unroll 1  // few iterations; without a limit, ptxas spills
  FOR_EACH(j, n - packs * width) {
    Index i = packs * width + j;
    Arithmetic<T> x = widen(a[i]);
    if (b) x += widen(b[column_of(i, O)]);
    if (s) s[i] = Narrow<T>::from(x);
    a[i] = Narrow<T>::from(phi(x));
  }
}
#define BIAS_ACTIVATION(NAME, PHI, S, TYPE) \
  FORMULA(NAME, S, TYPE, (T* a, const T* b, T* s, Index n, int O), (bias_activation<T>(a, b, s, n, O, PHI())))

// da ← da ⊙ φ′(a)        da, a (n,)
template <typename T, typename Slope>
__device__ void activation_backward(T* da, const T* a, Index n, Slope slope) {
  const int width = Pack<T>::width;
  const Index packs = packs_in(n, da, a);
  FOR_EACH(k, packs) {
    Pack<T> d = pack(da, k), p = pack(a, k);
#pragma unroll
    for (int i = 0; i < width; ++i) d.at[i] = Narrow<T>::from(widen(d.at[i]) * slope(widen(p.at[i])));
    pack(da, k) = d;
  }
#pragma unroll 1  // few iterations; without a limit, ptxas spills
  FOR_EACH(j, n - packs * width) {
    Index i = packs * width + j;
    da[i] = Narrow<T>::from(widen(da[i]) * slope(widen(a[i])));
  }
}
#define ACTIVATION_BACKWARD(NAME, SLOPE, S, TYPE) \
  FORMULA(NAME, S, TYPE, (T* da, const T* a, Index n), (activation_backward<T>(da, a, n, SLOPE())))

// ------------------------------------------------------------------ losses (nn/losses/standard.py)

// value = Σ w_b ℓ(z, y) / (O N)        dz = w_b ∂ℓ/∂z / (O N)
//   z, y, dz (B, O), w (B,), N = *total, or B if total is null; w, dz or null
template <typename T, typename Value, typename Slope>
__device__ void pointwise_loss(const T* z, const Arithmetic<T>* y, const Arithmetic<T>* w, const double* total,
                               LossGradient<T>* dz, Arithmetic<T>* value, int B, int O, double* partial, unsigned* finished,
                               Value loss, Slope slope) {
  typedef Arithmetic<T> A;
  A scale = A(1.0 / (divisor(total, B) * O));
  double sum = 0;
  FOR_EACH(i, (Index)B * O) {
    A v = widen(z[i]), t = y[i], f = scale * (w ? w[row_of(i, O)] : A(1));
    sum += (double)(loss(v, t) * f);
    if (dz) dz[i] = Narrow<LossGradient<T>>::from(slope(v, t) * f);
  }
  if (grid_sum(sum, partial, finished)) *value = (A)sum;
}
#define POINTWISE_LOSS(NAME, LOSS, SLOPE, S, TYPE)                                                                  \
  FORMULA(NAME, S, TYPE,                                                                                            \
          (const T* z, const A* y, const A* w, const double* total, D* dz, A* value, int B, int O, double* partial, \
           unsigned* finished),                                                                                     \
          (pointwise_loss<T>(z, y, w, total, dz, value, B, O, partial, finished, LOSS(), SLOPE())))
