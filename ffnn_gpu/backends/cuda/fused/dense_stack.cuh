// A stack of Dense layers, each at most 128 wide, in one kernel: its outputs, or its loss and gradients.
//
//   a_0 = x,  a_l = φ_l(a_{l−1} W_l + b_l),  L = loss(a_n, y),  dW_l = a_{l−1}ᵀ δ_l,  db_l = Σ δ_l
//
// A block computes a tile of 16 rows per warp from x to the loss and back, then the next tile. Weights stay in
// shared memory from tile to tile, and activations of the tile lie there too: only x and y come from memory.
// A warp has 16 rows in registers on the way up and down, and some 16 × 16 parts of every dW, for all rows of the
// tile. Parts are summed over the block's tiles in registers, or in the block's part of `sums` if they are
// too many; dense_stack_sums adds the blocks in a fixed order. So results are the same in every run.
//
// Outputs of layers, δ and weights have 16 bits, and products are added in float, as in the operations one by
// one. Each δ is rounded once: ∂L/∂z and ∂L/∂a have no memory in which to be rounded. db is summed in float.
//
// The text that kernels.py of this folder appends has the entries. Widths, activations and the loss are
// template arguments, so every loop over them is unrolled.

template <int n, typename First, typename... Rest> struct Nth { typedef typename Nth<n - 1, Rest...>::type type; };
template <typename First, typename... Rest> struct Nth<0, First, Rest...> { typedef First type; };

struct Same { __device__ __forceinline__ float operator()(float x) const { return x; } };  // identity
struct One { __device__ __forceinline__ float operator()(float) const { return 1.f; } };   // its derivative

// a = φ(x W + b)        W (I, O); IN, OUT: I and O up to multiples of 16
//   OF_INPUT: φ′ is a function of the pre-activation, not of a
//   DROPOUT: a is multiplied by a mask
//   IN_REGISTERS: the sums of its gradients are in registers, not in memory
template <int I_, int O_, typename Phi_, typename Slope_, bool OF_INPUT_, bool DROPOUT_, bool IN_REGISTERS_> struct Layer {
  typedef Phi_ Phi;
  typedef Slope_ Slope;
  static constexpr int I = I_, O = O_, IN = (I + 15) / 16 * 16, OUT = (O + 15) / 16 * 16;
  static constexpr bool OF_INPUT = OF_INPUT_, DROPOUT = DROPOUT_, IN_REGISTERS = IN_REGISTERS_;
  static constexpr bool KEEPS = OF_INPUT || DROPOUT;  // what φ′ reads lies apart from what the next layer reads
  static constexpr int PARTS = IN / 16 * (OUT / 16), COLUMNS = OUT / 8;  // of dW, 16 × 16; of db, 8 each
};

#define GAP 8  // elements between rows in shared memory: without it, 8 rows of a matrix are in the same banks

// A stack, with the places of its arrays in shared memory (in elements of T) and of its sums.
//   Each warp has `parts` of dW and `columns` of db of a layer, one float4 in each lane for 16 × 8 and for 8 of them
template <typename T_, int WARPS_, typename... Layers> struct Stack {
  typedef T_ T;
  static constexpr int WARPS = WARPS_, ROWS = 16 * WARPS, THREADS_OF_BLOCK = WARP * WARPS, LAYERS = sizeof...(Layers);
  template <int l> using layer = typename Nth<l, Layers...>::type;
  template <int l> static __device__ constexpr int weights() {
    if constexpr (l == 0) return 0;
    else return weights<l - 1>() + layer<l - 1>::IN * (layer<l - 1>::OUT + GAP);
  }
  template <int l> static __device__ constexpr int bias() {
    if constexpr (l == 0) return weights<LAYERS>();
    else return bias<l - 1>() + layer<l - 1>::OUT;
  }
  template <int l> static __device__ constexpr int pitch() {  // of a_l
    if constexpr (l == 0) return layer<0>::IN + GAP;
    else return layer<l - 1>::OUT + GAP;
  }
  template <int l> static __device__ constexpr int output() {  // a_l, and then δ_l for l > 0
    if constexpr (l == 0) return bias<LAYERS>();
    else return output<l - 1>() + ROWS * pitch<l - 1>();
  }
  template <int l> static __device__ constexpr int kept() {  // what φ′ of layer l reads, if it KEEPS that
    if constexpr (l == 0) return output<LAYERS + 1>();
    else return kept<l - 1>() + (layer<l - 1>::KEEPS ? ROWS * pitch<l>() : 0);
  }
  template <int l> static __device__ constexpr int parts() { return (layer<l>::PARTS + WARPS - 1) / WARPS; }
  template <int l> static __device__ constexpr int columns() { return (layer<l>::COLUMNS + WARPS - 1) / WARPS; }
  template <int l> static __device__ constexpr int sums() {  // the first float4 of layer l
    if constexpr (l == 0) return 0;
    else return sums<l - 1>() + 2 * parts<l - 1>() + columns<l - 1>();
  }
  template <int l> static __device__ constexpr int registers() {  // the same among those in registers
    if constexpr (l == 0) return 0;
    else return registers<l - 1>() + (layer<l - 1>::IN_REGISTERS ? sums<l>() - sums<l - 1>() : 0);
  }
};

struct Lane {
  int warp, lane, g, t;  // g, t: as in matrices.cuh
  __device__ __forceinline__ Lane()
      : warp(threadIdx.x / WARP), lane(threadIdx.x % WARP), g(threadIdx.x % WARP / 4), t(threadIdx.x % 4) {}
};

// to (R, pitch) ← from (rows, C), and 0 in its other rows and columns up to P, by `threads` threads
template <int C, int P, typename T>
__device__ __forceinline__ void fill(T* to, const T* from, int R, Index rows, int thread, int threads) {
  if constexpr (C % 8 == 0) {
    for (int k = thread; k < R * (P / 8); k += threads) {
      const int r = k / (P / 8), c = k % (P / 8);
      uint4 v = make_uint4(0, 0, 0, 0);
      if (r < rows && c * 8 < C) v = reinterpret_cast<const uint4*>(from + (Index)r * C)[c];
      reinterpret_cast<uint4*>(to + r * (P + GAP))[c] = v;
    }
  } else {
    for (int k = thread; k < R * P; k += threads) {
      const int r = k / P, c = k % P;
      to[r * (P + GAP) + c] = r < rows && c < C ? from[(Index)r * C + c] : Narrow<T>::from(0.f);
    }
  }
}

// shared memory ← W and b of every layer, by the block. parameters: W_0, b_0, W_1, …; a bias may be null.
template <typename Net, int l = 0>
__device__ __forceinline__ void load_parameters(typename Net::T* shared, const typename Net::T* const* parameters) {
  if constexpr (l < Net::LAYERS) {
    typedef typename Net::template layer<l> Layer;
    fill<Layer::O, Layer::OUT>(shared + Net::template weights<l>(), parameters[2 * l], Layer::IN, Layer::I, threadIdx.x,
                               Net::THREADS_OF_BLOCK);
    const typename Net::T* b = parameters[2 * l + 1];
    for (int c = threadIdx.x; c < Layer::OUT; c += Net::THREADS_OF_BLOCK)
      shared[Net::template bias<l>() + c] = b && c < Layer::O ? b[c] : Narrow<typename Net::T>::from(0.f);
    load_parameters<Net, l + 1>(shared, parameters);
  }
}

// The factors A of the warp's rows of a_0, read from shared memory one by one: x may be wider than the layers.
template <typename Net> struct InputRows {
  const typename Net::T* row;
  __device__ __forceinline__ InputRows(const typename Net::T* shared, const Lane& at)
      : row(shared + Net::template output<0>() + (16 * at.warp + at.lane % 16) * Net::template pitch<0>() + at.lane / 16 * 8) {}
  __device__ __forceinline__ void factor(unsigned (&a)[4], int k) const { load_matrices(a, row + 16 * k); }
};

// Those of a layer's outputs, in registers.
template <int K> struct Words {
  unsigned words[K][4];
  __device__ __forceinline__ void factor(unsigned (&a)[4], int k) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) a[i] = words[k][i];
  }
};

// s ← a W + b of layer l, for the warp's 16 rows
template <typename Net, int l, typename Rows, int N>
__device__ __forceinline__ void affine(const typename Net::T* shared, const Rows& rows, float (&s)[N][4], const Lane& at) {
  typedef typename Net::T T;
  const int pitch = Net::template pitch<l + 1>();
  const T *W = shared + Net::template weights<l>() + at.lane % 16 * pitch + at.lane / 16 * 8,
          *b = shared + Net::template bias<l>();
#pragma unroll
  for (int n = 0; n < N; ++n) {
    const float2 both = numbers_of(T(), reinterpret_cast<const unsigned*>(b)[4 * n + at.t]);
    s[n][0] = s[n][2] = both.x;
    s[n][1] = s[n][3] = both.y;
  }
#pragma unroll
  for (int k = 0; k < Net::template layer<l>::IN / 16; ++k) {
    unsigned a[4];
    rows.factor(a, k);
#pragma unroll
    for (int n = 0; n < N; n += 2) {
      unsigned w[4];
      load_transposed(w, W + 16 * k * pitch + 8 * n);
      multiply_add(T(), s[n], a, w[0], w[1]);
      multiply_add(T(), s[n + 1], a, w[2], w[3]);
    }
  }
}

// da ← δ Wᵀ of layer l, for the warp's 16 rows
template <typename Net, int l, int K, int N>
__device__ __forceinline__ void affine_backward(const typename Net::T* shared, const unsigned (&delta)[K][4],
                                                float (&da)[N][4], const Lane& at) {
  const int pitch = Net::template pitch<l + 1>();
  const typename Net::T* W =
      shared + Net::template weights<l>() + (at.lane % 8 + at.lane / 16 * 8) * pitch + at.lane / 8 % 2 * 8;
#pragma unroll
  for (int n = 0; n < N; ++n) da[n][0] = da[n][1] = da[n][2] = da[n][3] = 0;
#pragma unroll
  for (int k = 0; k < K; ++k)
#pragma unroll
    for (int n = 0; n < N; n += 2) {
      unsigned w[4];
      load_matrices(w, W + 8 * n * pitch + 16 * k);
      multiply_add(typename Net::T(), da[n], delta[k], w[0], w[1]);
      multiply_add(typename Net::T(), da[n + 1], delta[k], w[2], w[3]);
    }
}

// Call f(n, h, c, x, y) for each pair x, y of neighbouring numbers of v: row g + 8 h, columns c and c + 1 of the warp's.
template <int N, typename F> __device__ __forceinline__ void each_pair(float (&v)[N][4], const Lane& at, F f) {
#pragma unroll
  for (int n = 0; n < N; ++n)
#pragma unroll
    for (int h = 0; h < 2; ++h) f(n, h, 8 * n + 2 * at.t, v[n][2 * h], v[n][2 * h + 1]);
}

// The address of two neighbouring numbers of the warp's rows in an array of the tile.
template <typename T> __device__ __forceinline__ unsigned* pair_at(T* tile, int pitch, int h, int c, const Lane& at) {
  return reinterpret_cast<unsigned*>(tile + (16 * at.warp + at.g + 8 * h) * pitch + c);
}

// words ← v as 16 bits, 0 in columns from O on and in rows from `rows` on: the factor A of the next product
template <typename T, int O, int N>
__device__ __forceinline__ void round_to_words(float (&v)[N][4], unsigned (&words)[N / 2][4], int rows, const Lane& at) {
  each_pair(v, at, [&](int n, int h, int c, float x, float y) {
    const bool valid = at.g + 8 * h < rows;
    words[n / 2][n % 2 * 2 + h] =
        word_of(T(), valid && (O % 16 == 0 || c < O) ? x : 0.f, valid && (O % 16 == 0 || c + 1 < O) ? y : 0.f);
  });
}

// v ← the numbers that v is rounded to
template <typename T, int N> __device__ __forceinline__ void round_in_place(float (&v)[N][4]) {
#pragma unroll
  for (int n = 0; n < N; ++n)
#pragma unroll
    for (int i = 0; i < 4; i += 2) {
      const float2 both = numbers_of(T(), word_of(T(), v[n][i], v[n][i + 1]));
      v[n][i] = both.x, v[n][i + 1] = both.y;
    }
}

// the warp's rows of a tile ← words
template <int N, typename T>
__device__ __forceinline__ void store_words(T* tile, int pitch, const unsigned (&words)[N / 2][4], const Lane& at) {
#pragma unroll
  for (int n = 0; n < N; ++n)
#pragma unroll
    for (int h = 0; h < 2; ++h) *pair_at(tile, pitch, h, 8 * n + 2 * at.t, at) = words[n / 2][n % 2 * 2 + h];
}

// ------------------------------------------------------------------ predictions

template <typename Net, int l, typename Rows>
__device__ __forceinline__ void predict_from(const typename Net::T* shared, const Rows& a, typename Net::T* z, int rows,
                                             const Lane& at) {
  typedef typename Net::template layer<l> Layer;
  typedef typename Net::T T;
  constexpr int N = Layer::OUT / 8;
  float s[N][4];
  affine<Net, l>(shared, a, s, at);
  typename Layer::Phi phi;
  each_pair(s, at, [&](int, int, int, float& x, float& y) { x = phi(x), y = phi(y); });
  if constexpr (l + 1 < Net::LAYERS) {
    Words<N / 2> next;
    round_to_words<T, Layer::O>(s, next.words, rows, at);
    predict_from<Net, l + 1>(shared, next, z, rows, at);
  } else {
    each_pair(s, at, [&](int, int h, int c, float x, float y) {
      if (at.g + 8 * h >= rows) return;
      T* to = z + (Index)(at.g + 8 * h) * Layer::O + c;
      if (Layer::O % 2 == 0) {
        if (c < Layer::O) *reinterpret_cast<unsigned*>(to) = word_of(T(), x, y);
      } else {
        if (c < Layer::O) to[0] = Narrow<T>::from(x);
        if (c + 1 < Layer::O) to[1] = Narrow<T>::from(y);
      }
    });
  }
}

// z = a_n        x (B, I), z (B, O). Dynamic shared memory: parameters and a_0
template <typename Net>
__device__ void dense_stack(const typename Net::T* x, typename Net::T* z, int B, const typename Net::T* const* parameters) {
  typedef typename Net::T T;
  typedef typename Net::template layer<0> First;
  extern __shared__ __align__(16) unsigned char memory[];
  T* shared = reinterpret_cast<T*>(memory);
  const Lane at;
  load_parameters<Net>(shared, parameters);
  __syncthreads();
  T* mine = shared + Net::template output<0>() + 16 * at.warp * Net::template pitch<0>();
  for (Index row = ((Index)blockIdx.x * Net::WARPS + at.warp) * 16; row < B; row += (Index)gridDim.x * Net::ROWS) {
    const int rows = B - row < 16 ? (int)(B - row) : 16;
    fill<First::I, First::IN>(mine, x + row * First::I, 16, rows, at.lane, WARP);
    __syncwarp();
    predict_from<Net, 0>(shared, InputRows<Net>(shared, at), z + row * Net::template layer<Net::LAYERS - 1>::O, rows, at);
    __syncwarp();
  }
}
