// Loss and gradients of a stack of Dense layers. See dense_stack.cuh.

// The factors of ∂L/∂z: N = *total, or B if null; *share, or 1 if null; *scale (the loss scale), or 1 if null
struct Factors {
  const double *total, *share, *scale;
};

// Softmax cross-entropy of class indices (backends/reference/losses.py). A row's outputs lie in four lanes.
//   z ← ∂L/∂z; returns this lane's part of L. y (B,), w (B,) or null; `row`: of the batch, for row 0 of the warp
struct CrossEntropyOfLabels {
  const int* y;
  const float* w;
  float smoothing;
  template <int O, int N>
  __device__ __forceinline__ double operator()(float (&z)[N][4], double total, Index row, int rows, const Lane& at) const {
    const float on = 1.f - smoothing, off = smoothing / O;
    double loss = 0;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const bool valid = at.g + 8 * h < rows;
      const int label = valid ? y[row + at.g + 8 * h] : 0;
      float top = -INF, sum = 0, all = 0, picked = 0;
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
          const float v = z[n][2 * h + j] - top;
          if (c == label) picked = v, mine = true;
          all += v;
          z[n][2 * h + j] = exp_(v);
          sum += z[n][2 * h + j];
        }
      sum += __shfl_xor_sync(ALL_LANES, sum, 1);
      sum += __shfl_xor_sync(ALL_LANES, sum, 2);
      const float log_sum = log_(sum), scale = valid ? float((w ? (double)w[row + at.g + 8 * h] : 1.0) / total) : 0.f;
      // without smoothing off is 0, and an infinite logit makes NaN as in the reference
      const float rest = off * (all - (at.t == 0 ? O * log_sum : 0.f));
      if (valid) loss -= (double)((mine ? on * (picked - log_sum) + rest : rest) * scale);
      const float factor = (label >= 0 && label < O ? 1.f : smoothing) / sum;
#pragma unroll
      for (int n = 0; n < N; ++n)
#pragma unroll
        for (int j = 0; j < 2; ++j)
          z[n][2 * h + j] = (z[n][2 * h + j] * factor - (8 * n + 2 * at.t + j == label ? on + off : off)) * scale;
    }
    return loss;
  }
};

// A loss that is an elementwise formula, as pointwise_loss of formulas.cuh. y (B, O)
template <typename Value, typename Slope> struct PointwiseLoss {
  const float *y, *w;
  float smoothing;  // of the other loss
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

// c ← c + aᵀ δ for this warp's parts of dW, and + Σ δ for its columns of db, over the rows of a tile
//   a, delta: in shared memory; c: `parts` pairs of 16 × 8, then `columns`
template <typename Net, int l>
__device__ __forceinline__ void add_gradients(const typename Net::T* shared, float (*c)[4], const Lane& at) {
  typedef typename Net::T T;
  typedef typename Net::template layer<l> Layer;
  constexpr int ACROSS = Layer::OUT / 16, S = Net::template parts<l>(), D = Net::template columns<l>();
  const int pitch_a = Net::template pitch<l>(), pitch = Net::template pitch<l + 1>();
  const T *a = shared + Net::template output<l>() + (at.lane % 8 + at.lane / 16 * 8) * pitch_a + at.lane / 8 % 2 * 8,
          *delta = shared + Net::template output<l + 1>();
#pragma unroll 1
  for (int k = 0; k < Net::ROWS; k += 16) {
    unsigned A[4], B[4];
#pragma unroll
    for (int s = 0; s < S; ++s) {
      const int part = at.warp * S + s;
      if (Layer::PARTS % Net::WARPS && part >= Layer::PARTS) break;
      if (s == 0 || ACROSS % S) load_transposed(A, a + k * pitch_a + part / ACROSS * 16);
      load_transposed(B, delta + (k + at.lane % 16) * pitch + part % ACROSS * 16 + at.lane / 16 * 8);
      multiply_add(T(), c[2 * s], A, B[0], B[1]);
      multiply_add(T(), c[2 * s + 1], A, B[2], B[3]);
    }
  }
  const unsigned one = word_of(T(), 1.f, 1.f), ones[4] = {one, one, one, one};
#pragma unroll
  for (int s = 0; s < D; ++s) {
    const int column = at.warp + s * Net::WARPS;
    if (Layer::COLUMNS % Net::WARPS && column >= Layer::COLUMNS) break;
#pragma unroll 1
    for (int k = 0; k < Net::ROWS; k += 32) {
      unsigned B[4];
      load_transposed(B, delta + (k + at.lane) * pitch + column * 8);
      multiply_add(T(), c[2 * S + s], ones, B[0], B[1]);
      multiply_add(T(), c[2 * S + s], ones, B[2], B[3]);
    }
  }
}

// The same from and to where the sums are: in registers, or at this thread's place in memory
template <typename Net, int l>
__device__ __forceinline__ void sum_gradients(const typename Net::T* shared, float (*sums)[4], float4* memory, bool first,
                                              const Lane& at) {
  if constexpr (Net::template layer<l>::IN_REGISTERS) {
    add_gradients<Net, l>(shared, sums + Net::template registers<l>(), at);
  } else {
    constexpr int n = 2 * Net::template parts<l>() + Net::template columns<l>();
    float4* place = memory + (Index)Net::template sums<l>() * Net::THREADS_OF_BLOCK;
    float c[n][4];
#pragma unroll
    for (int i = 0; i < n; ++i) {
      const float4 v = first ? make_float4(0, 0, 0, 0) : place[i * Net::THREADS_OF_BLOCK];
      c[i][0] = v.x, c[i][1] = v.y, c[i][2] = v.z, c[i][3] = v.w;
    }
    add_gradients<Net, l>(shared, c, at);
#pragma unroll
    for (int i = 0; i < n; ++i) place[i * Net::THREADS_OF_BLOCK] = make_float4(c[i][0], c[i][1], c[i][2], c[i][3]);
  }
}

// this thread's place in memory ← its sums in registers
template <typename Net, int l = 0> __device__ __forceinline__ void store_sums(float (*sums)[4], float4* memory) {
  if constexpr (l < Net::LAYERS) {
    if constexpr (Net::template layer<l>::IN_REGISTERS) {
#pragma unroll
      for (int i = 0; i < Net::template sums<l + 1>() - Net::template sums<l>(); ++i) {
        const float* c = sums[Net::template registers<l>() + i];
        memory[(Net::template sums<l>() + i) * Net::THREADS_OF_BLOCK] = make_float4(c[0], c[1], c[2], c[3]);
      }
    }
    store_sums<Net, l + 1>(sums, memory);
  }
}

// The numbers that every step of a tile needs. `row`: of the batch, for row 0 of the warp; `rows`: of the warp
template <typename T> struct Tile {
  T* shared;
  float (*sums)[4];
  float4* memory;
  Index row;
  int rows;
  bool first;
};

// From δ of layer l, as words, to the sums of its gradients and those of the layers below
template <typename Net, int l, int K>
__device__ __forceinline__ void backward_from(const Tile<typename Net::T>& tile, const unsigned (&delta)[K][4],
                                              const Lane& at) {
  typedef typename Net::T T;
  typedef typename Net::template layer<l> Layer;
  store_words<2 * K>(tile.shared + Net::template output<l + 1>(), Net::template pitch<l + 1>(), delta, at);
  __syncthreads();  // δ of all rows of the tile
  sum_gradients<Net, l>(tile.shared, tile.sums, tile.memory, tile.first, at);
  if constexpr (l > 0) {
    typedef typename Net::template layer<l - 1> Below;
    constexpr int N = Layer::IN / 8;
    float da[N][4];
    unsigned words[N / 2][4];
    affine_backward<Net, l>(tile.shared, delta, da, at);
    typename Below::Slope slope;
    T* of = tile.shared + (Below::OF_INPUT ? Net::template input<l - 1>() : Net::template output<l>());
    each_pair(da, at, [&](int, int h, int c, float& x, float& y) {
      const float2 v = numbers_of(T(), *pair_at(of, Net::template pitch<l>(), h, c, at));
      x *= slope(v.x), y *= slope(v.y);
    });
    round_to_words<T, Below::O>(da, words, tile.rows, at);
    __syncthreads();  // every warp has read a_l, whose place δ takes
    backward_from<Net, l - 1>(tile, words, at);
  }
}

// From a_l, as words, to the loss and back. Returns this lane's part of the loss
template <typename Net, typename Loss, int l, typename Rows>
__device__ __forceinline__ double forward_from(const Tile<typename Net::T>& tile, const Rows& a, const Loss& loss,
                                               const Factors& factors, int B, const Lane& at) {
  typedef typename Net::T T;
  typedef typename Net::template layer<l> Layer;
  constexpr int N = Layer::OUT / 8, PITCH = Layer::OUT + GAP;
  float s[N][4];
  Words<N / 2> next;
  affine<Net, l>(tile.shared, a, s, at);
  typename Layer::Phi phi;
  if constexpr (Layer::OF_INPUT)
    each_pair(s, at, [&](int, int h, int c, float x, float y) {
      *pair_at(tile.shared + Net::template input<l>(), PITCH, h, c, at) = word_of(T(), x, y);
    });
  each_pair(s, at, [&](int, int, int, float& x, float& y) { x = phi(x), y = phi(y); });
  if constexpr (l + 1 < Net::LAYERS) {
    round_to_words<T, Layer::O>(s, next.words, 16, at);
    store_words<N>(tile.shared + Net::template output<l + 1>(), PITCH, next.words, at);
    return forward_from<Net, Loss, l + 1>(tile, next, loss, factors, B, at);
  } else {
    round_in_place<T>(s);
    float z[N][4];
#pragma unroll
    for (int n = 0; n < N; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) z[n][i] = s[n][i];
    const double value = loss.template operator()<Layer::O>(s, divisor(factors.total, B), tile.row, tile.rows, at);
    const float factor = float((factors.share ? *factors.share : 1.0) * (factors.scale ? *factors.scale : 1.0));
    typename Layer::Slope slope;
    each_pair(s, at, [&](int n, int h, int c, float& x, float& y) {
      float2 of = make_float2(z[n][2 * h], z[n][2 * h + 1]);
      if constexpr (Layer::OF_INPUT)
        of = numbers_of(T(), *pair_at(tile.shared + Net::template input<l>(), PITCH, h, c, at));
      x *= factor * slope(of.x), y *= factor * slope(of.y);
    });
    round_to_words<T, Layer::O>(s, next.words, tile.rows, at);
    backward_from<Net, l>(tile, next.words, at);
    return value;
  }
}

// value = L; sums (blocks, float4 per thread): each block's part of every dW and db
//   Dynamic shared memory: parameters, a_0 … a_{n−1}, δ_n, and pre-activations that φ′ needs, of a tile
template <typename Net, typename Loss>
__device__ void dense_stack_gradients(const typename Net::T* x, const Loss& loss, const Factors& factors, float* value,
                                      double* partial, unsigned* finished, float* sums, int B,
                                      const typename Net::T* const* parameters) {
  typedef typename Net::T T;
  typedef typename Net::template layer<0> First;
  extern __shared__ __align__(16) unsigned char memory[];
  constexpr int COUNT = Net::template sums<Net::LAYERS>(), IN_REGISTERS = Net::template registers<Net::LAYERS>();
  const Lane at;
  T* shared = reinterpret_cast<T*>(memory);
  float own[IN_REGISTERS ? IN_REGISTERS : 1][4] = {};
  float4* place = reinterpret_cast<float4*>(sums) + (Index)blockIdx.x * COUNT * Net::THREADS_OF_BLOCK + threadIdx.x;
  load_parameters<Net>(shared, parameters);
  __syncthreads();
  T* mine = shared + Net::template output<0>() + 16 * at.warp * Net::template pitch<0>();
  double total = 0;
  for (Index start = (Index)blockIdx.x * Net::ROWS; start < B; start += (Index)gridDim.x * Net::ROWS) {
    const Index row = start + 16 * at.warp;
    const int rows = B - row < 16 ? (int)(B - row) : 16;  // none or fewer in the last warps
    fill<First::I, First::IN>(mine, x + row * First::I, 16, rows, at.lane, WARP);
    __syncwarp();
    const Tile<T> tile{shared, own, place, row, rows, start == (Index)blockIdx.x * Net::ROWS};
    total += forward_from<Net, Loss, 0>(tile, InputRows<Net>(shared, at), loss, factors, B, at);
    __syncthreads();  // every warp has read a and δ, whose places the next tile takes
  }
  store_sums<Net>(own, place);
  if (grid_sum(total, partial, finished)) *value = (float)total;
}

// ------------------------------------------------------------------ sums over blocks

// dW or db of layer l ← the sum at float4 `slot` of a layer, of one warp and lane
template <typename Net, int l>
__device__ __forceinline__ void put_sum(const double (&v)[4], int slot, int warp, int lane, float* const* gradients) {
  typedef typename Net::template layer<l> Layer;
  constexpr int S = Net::template parts<l>(), ACROSS = Layer::OUT / 16;
  for (int j = 0; j < 4; ++j) {
    const int r = lane / 4 + j / 2 * 8, c = lane % 4 * 2 + j % 2;  // of 16 × 8
    if (slot < 2 * S) {
      const int part = warp * S + slot / 2, i = part / ACROSS * 16 + r, o = part % ACROSS * 16 + slot % 2 * 8 + c;
      if (i < Layer::I && o < Layer::O) gradients[2 * l][(Index)i * Layer::O + o] = (float)v[j];
    } else {
      const int o = (warp + (slot - 2 * S) * Net::WARPS) * 8 + c;
      if (gradients[2 * l + 1] && r == 0 && o < Layer::O) gradients[2 * l + 1][o] = (float)v[j];
    }
  }
}

// Find the layer of a slot, and whether its warp has a sum there; put the sum if v is not null.
template <typename Net, int l = 0>
__device__ __forceinline__ bool with_slot(int slot, int warp, int lane, const double (*v)[4], float* const* gradients) {
  if constexpr (l == Net::LAYERS) return false;
  else {
    typedef typename Net::template layer<l> Layer;
    const int in_layer = slot - Net::template sums<l>(), S = Net::template parts<l>();
    if (slot >= Net::template sums<l + 1>()) return with_slot<Net, l + 1>(slot, warp, lane, v, gradients);
    if (v) put_sum<Net, l>(*v, in_layer, warp, lane, gradients);
    return in_layer < 2 * S ? warp * S + in_layer / 2 < Layer::PARTS : warp + (in_layer - 2 * S) * Net::WARPS < Layer::COLUMNS;
  }
}

// Each dW and db = its sum over the blocks of dense_stack_gradients, in double. One block per 32 float4.
//   gradients: dW_0, db_0, dW_1, …; a db may be null
template <typename Net> __device__ void dense_stack_sums(const float* sums, int blocks, float* const* gradients) {
  constexpr int COUNT = Net::template sums<Net::LAYERS>() * Net::THREADS_OF_BLOCK;
  __shared__ double of_part[THREADS / WARP][WARP][4];
  const int lane = threadIdx.x % WARP, part = threadIdx.x / WARP, at = blockIdx.x * WARP + lane;
  const int slot = at / Net::THREADS_OF_BLOCK, warp = at % Net::THREADS_OF_BLOCK / WARP;
  if (!with_slot<Net>(slot, warp, lane, nullptr, gradients)) return;
  double v[4] = {};
#pragma unroll 4
  for (int block = part; block < blocks; block += THREADS / WARP) {
    const float4 each = reinterpret_cast<const float4*>(sums)[(Index)block * COUNT + at];
    v[0] += each.x, v[1] += each.y, v[2] += each.z, v[3] += each.w;
  }
  for (int j = 0; j < 4; ++j) of_part[part][lane][j] = v[j];
  __syncthreads();
  if (part) return;
  for (int other = 1; other < THREADS / WARP; ++other)
    for (int j = 0; j < 4; ++j) v[j] += of_part[other][lane][j];
  with_slot<Net>(slot, warp, lane, &v, gradients);
}
