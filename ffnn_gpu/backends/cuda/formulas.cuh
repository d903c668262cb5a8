// Kernels of elementwise formulas. A formula is a function object, whose text comes from
// backends/elementwise/cuda_function.py. kernels.py appends it, and one line for each kernel:
//
//   BIAS_ACTIVATION(entry, function object, type's suffix, type)
//   POINTWISE_LOSS(entry, function object of the loss, of its derivative, type's suffix, type)
//   UPDATE_RULE(entry, function object, types' suffix, type of θ, type of its 16-bit copy)
//
// A function object computes in Arithmetic<T>.

#define FORMULA(NAME, S, TYPE, PARAMETERS, ARGUMENTS, CALL)                         \
  namespace S {                                                                     \
  typedef TYPE T;                                                                   \
  typedef Arithmetic<T> A;                                                          \
  typedef LossGradient<T> D;                                                        \
  extern "C" __global__ void __launch_bounds__(THREADS)                             \
      NAME OF_ENTRY(PARAMETERS) { OF_MEMBER(ARGUMENTS) CALL; }                      \
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
#define BIAS_ACTIVATION(NAME, PHI, S, TYPE)                                         \
  FORMULA(NAME, S, TYPE, (T* a, const T* b, T* s, Index n, int O), (a, b, s, n, O), \
          (bias_activation<T>(a, b, s, n, O, PHI())))

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
  FORMULA(NAME, S, TYPE, (T* da, const T* a, Index n), (da, a, n), (activation_backward<T>(da, a, n, SLOPE())))

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
          (z, y, w, total, dz, value, B, O, partial, finished),                                                     \
          (pointwise_loss<T>(z, y, w, total, dz, value, B, O, partial, finished, LOSS(), SLOPE())))

// ------------------------------------------------------------------ update rules (backends/reference/updates.py)

// The arguments common to all rules.
//   theta, grad (n,) of type M, the first n_decayed in matrices; scalars [t, η, Π]; control [c, skip] or null
//   lr_factor multiplies η; *decay, unless decay is null, multiplies weight_decay
//   shadow (n,) of the 16-bit type T, read by products, or null
template <typename M, typename T> struct Update {
  M* theta;
  const M* grad;
  T* shadow;
  Index n, n_decayed;
  const double *scalars, *control;
  M l2, l1;
  double weight_decay, lr_factor;
  const double* decay;
};
#define UPDATE_PARAMETERS                                                                                                     \
  M *theta, const M *grad, T *shadow, Index n, Index n_decayed, const double *scalars, const double *control, M l2, M l1,     \
      double weight_decay, double lr_factor, const double *decay
#define UPDATE_ARGUMENTS theta, grad, shadow, n, n_decayed, scalars, control, l2, l1, weight_decay, lr_factor, decay
#define THE_UPDATE Update<M, T>{UPDATE_ARGUMENTS}

// θ ← rule(θ, g) with g = c ∇θ, and for matrices g + λ₂ θ + λ₁ sign θ and θ (1 − η λ). No change if skipped.
//   m, v (n,): the rule's moments, or null; rule(x, g, p, q) changes x = θ_i, p = m_i and q = v_i
template <typename M, typename T, typename Rule>
__device__ __forceinline__ void each_parameter(const Update<M, T>& u, M* m, M* v, Rule rule) {
  if (u.control && u.control[1] != 0) return;
  const double decay = u.decay ? u.weight_decay * *u.decay : u.weight_decay;
  const M c = u.control ? M(u.control[0]) : M(1), kept = M(1 - decay * (u.scalars[1] * u.lr_factor));
  T* const shadow = sizeof(T) < sizeof(M) ? u.shadow : nullptr;
  auto apply = [&](bool in_matrix, M& x, M g, M& p, M& q) {
    g *= c;
    if (in_matrix) {
      if (u.l2 != 0) g += u.l2 * x;
      if (u.l1 != 0) g += u.l1 * sign(x);
      x *= kept;
    }
    rule(x, g, p, q);
  };
  const int width = Pack<M>::width;
  // no pack is partly in a matrix
  const Index packs = u.n_decayed % width ? 0 : packs_in(u.n, u.theta, u.grad, shadow, m, v);
  FOR_EACH(k, packs) {
    Pack<M> x = pack(u.theta, k), p = {}, q = {};
    const Pack<M> g = pack(u.grad, k);
    if (m) p = pack(m, k);
    if (v) q = pack(v, k);
    Pack<T, width> y;
#pragma unroll
    for (int i = 0; i < width; ++i) {
      apply(k * width < u.n_decayed, x.at[i], g.at[i], p.at[i], q.at[i]);
      y.at[i] = Narrow<T>::from(x.at[i]);
    }
    pack(u.theta, k) = x;
    if (m) pack(m, k) = p;
    if (v) pack(v, k) = q;
    if (shadow) reinterpret_cast<Pack<T, width>*>(shadow)[k] = y;
  }
#pragma unroll 1  // few iterations; without a limit, ptxas spills
  FOR_EACH(j, u.n - packs * width) {
    const Index i = packs * width + j;
    M x = u.theta[i], p = m ? m[i] : M(0), q = v ? v[i] : M(0);
    apply(i < u.n_decayed, x, u.grad[i], p, q);
    u.theta[i] = x;
    if (m) m[i] = p;
    if (v) v[i] = q;
    if (shadow) shadow[i] = Narrow<T>::from(x);
  }
}

// θ, m, v ← rule(θ, g, m, v). The rule has `numbers` values that are the same for all elements.
//   m, v (n,): the rule's moments, or null; n0, …: its settings
// Why one thread of each block computes them: powers in double take longer than the rest of the update.
template <typename M, typename T, typename Rule>
__device__ void update_rule(const Update<M, T>& u, M* m, M* v, double n0, double n1, double n2, double n3, Rule rule) {
  __shared__ M of_block[Rule::numbers];
  if (threadIdx.x == 0) rule.prepare(u.scalars[0], u.scalars[1] * u.lr_factor, u.scalars[2], n0, n1, n2, n3, of_block);
  __syncthreads();
  M number[Rule::numbers];
#pragma unroll
  for (int i = 0; i < Rule::numbers; ++i) number[i] = of_block[i];
  each_parameter(u, m, v, [&](M& x, M g, M& p, M& q) { rule(number, x, g, p, q); });
}
#define UPDATE_RULE(NAME, RULE, S, MASTER, SHADOW)                                                               \
  namespace S {                                                                                                  \
  typedef MASTER M;                                                                                              \
  typedef SHADOW T;                                                                                              \
  extern "C" __global__ void __launch_bounds__(THREADS)                                                          \
      NAME OF_ENTRY((UPDATE_PARAMETERS, M* m, M* v, double n0, double n1, double n2, double n3)) {               \
    OF_MEMBER((UPDATE_ARGUMENTS, m, v, n0, n1, n2, n3))                                                          \
    update_rule(THE_UPDATE, m, v, n0, n1, n2, n3, RULE());                                                       \
  }                                                                                                              \
  }                                                                                                              \
  using S::NAME;
