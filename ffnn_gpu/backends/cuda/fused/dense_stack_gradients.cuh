// Loss and gradients of a stack of Dense layers. See dense_stack.cuh.

// The largest divisor of n that is at most 8: the parts of dW that a warp sums at a time in memory
__device__ constexpr int parts_at_once(int n) {
  int k = 8;
  while (n % k) --k;
  return k;
}

// c ← c + aᵀ δ for PARTS parts of this warp, from its part `first` on, over the rows of a tile
//   a, delta: in shared memory; c: a pair of 16 × 8 for each part
template <typename Net, int l, int PARTS>
__device__ __forceinline__ void add_parts(const typename Net::T* shared, float (*c)[4], int first, const Lane& at) {
  typedef typename Net::T T;
  typedef typename Net::template layer<l> Layer;
  constexpr int ACROSS = Layer::OUT / 16, S = Net::template parts<l>();
  const int pitch_a = Net::template pitch<l>(), pitch = Net::template pitch<l + 1>();
  const T *a = shared + Net::template output<l>() + (at.lane % 8 + at.lane / 16 * 8) * pitch_a + at.lane / 8 % 2 * 8,
          *delta = shared + Net::template output<l + 1>() + at.lane % 16 * pitch + at.lane / 16 * 8;
#pragma unroll 1
  for (int k = 0; k < Net::ROWS; k += 16) {
    unsigned A[4], B[4];
#pragma unroll
    for (int s = 0; s < PARTS; ++s) {
      const int part = at.warp * S + first + s;
      if (Layer::PARTS % Net::WARPS && part >= Layer::PARTS) break;
      // neighbouring parts have the same 16 columns of a
      if (s == 0 || ACROSS % PARTS) load_transposed(A, a + k * pitch_a + part / ACROSS * 16);
      load_transposed(B, delta + k * pitch + part % ACROSS * 16);
      multiply_add(T(), c[2 * s], A, B[0], B[1]);
      multiply_add(T(), c[2 * s + 1], A, B[2], B[3]);
    }
  }
}

// c ← c + Σ δ for this warp's columns of db, 8 of them in each c, over the rows of a tile
template <typename Net, int l>
__device__ __forceinline__ void add_columns(const typename Net::T* shared, float (*c)[4], const Lane& at) {
  typedef typename Net::T T;
  typedef typename Net::template layer<l> Layer;
  const int pitch = Net::template pitch<l + 1>();
  const unsigned one = word_of(T(), 1.f, 1.f), ones[4] = {one, one, one, one};
#pragma unroll
  for (int s = 0; s < Net::template columns<l>(); ++s) {
    const int column = at.warp + s * Net::WARPS;
    if (Layer::COLUMNS % Net::WARPS && column >= Layer::COLUMNS) break;
#pragma unroll 1
    for (int k = 0; k < Net::ROWS; k += 32) {
      unsigned B[4];
      load_transposed(B, shared + Net::template output<l + 1>() + (k + at.lane) * pitch + column * 8);
      multiply_add(T(), c[s], ones, B[0], B[1]);
      multiply_add(T(), c[s], ones, B[2], B[3]);
    }
  }
}

// n sums of this thread from and to memory. `first`: nothing is there yet
template <typename Net, int n> __device__ __forceinline__ void get_sums(float (&c)[n][4], const float4* place, bool first) {
#pragma unroll
  for (int i = 0; i < n; ++i) {
    const float4 v = first ? make_float4(0, 0, 0, 0) : place[i * Net::THREADS_OF_BLOCK];
    c[i][0] = v.x, c[i][1] = v.y, c[i][2] = v.z, c[i][3] = v.w;
  }
}
template <typename Net> __device__ __forceinline__ void put_sums(float (*c)[4], float4* place, int n) {
#pragma unroll
  for (int i = 0; i < n; ++i) place[i * Net::THREADS_OF_BLOCK] = make_float4(c[i][0], c[i][1], c[i][2], c[i][3]);
}

// Add a tile's gradients of layer l to the sums: in registers, or at this thread's place in memory
template <typename Net, int l>
__device__ __forceinline__ void sum_gradients(const typename Net::T* shared, float (*sums)[4], float4* memory, bool first,
                                              const Lane& at) {
  constexpr int S = Net::template parts<l>(), D = Net::template columns<l>(), PARTS = parts_at_once(S);
  if constexpr (Net::template layer<l>::IN_REGISTERS) {
    float (*c)[4] = sums + Net::template registers<l>();
    add_parts<Net, l, S>(shared, c, 0, at);
    add_columns<Net, l>(shared, c + 2 * S, at);
  } else {
    float4* place = memory + (Index)Net::template sums<l>() * Net::THREADS_OF_BLOCK;
#pragma unroll 1
    for (int s = 0; s < S; s += PARTS) {
      float c[2 * PARTS][4];
      float4* from = place + 2 * s * Net::THREADS_OF_BLOCK;
      get_sums<Net, 2 * PARTS>(c, from, first);
      add_parts<Net, l, PARTS>(shared, c, s, at);
      put_sums<Net>(c, from, 2 * PARTS);
    }
    float c[D][4];
    get_sums<Net, D>(c, place + 2 * S * Net::THREADS_OF_BLOCK, first);
    add_columns<Net, l>(shared, c, at);
    put_sums<Net>(c, place + 2 * S * Net::THREADS_OF_BLOCK, D);
  }
}

// this thread's place in memory ← its sums in registers
template <typename Net, int l = 0> __device__ __forceinline__ void store_sums(float (*sums)[4], float4* memory) {
  if constexpr (l < Net::LAYERS) {
    if constexpr (Net::template layer<l>::IN_REGISTERS)
      put_sums<Net>(sums + Net::template registers<l>(), memory + Net::template sums<l>() * Net::THREADS_OF_BLOCK,
                    Net::template sums<l + 1>() - Net::template sums<l>());
    store_sums<Net, l + 1>(sums, memory);
  }
}

// The numbers that every step of a tile needs. `row`: of the batch, for row 0 of the warp; `rows`: of the warp
//   kept: for each layer the bits of its dropout
template <typename T> struct Tile {
  T* shared;
  unsigned (*kept)[2];
  float (*sums)[4];
  float4* memory;
  Index row;
  int rows;
  bool first;
};

// From δ of layer l, as words, to the sums of its gradients and those of the layers below
template <typename Net, int l, int K>
__device__ __forceinline__ void backward_from(const Tile<typename Net::T>& tile, const unsigned (&delta)[K][4],
                                              const Random& random, const Lane& at) {
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
    T* of = tile.shared + (Below::KEEPS ? Net::template kept<l - 1>() : Net::template output<l>());
    if constexpr (Below::DROPOUT) drop<T>(da, tile.kept[l - 1], random.of_layer[l - 1], at);
    each_pair(da, at, [&](int, int h, int c, float& x, float& y) {
      const float2 v = numbers_of(T(), *pair_at(of, Net::template pitch<l>(), h, c, at));
      x *= slope(v.x), y *= slope(v.y);
    });
    round_to_words<T, Below::O>(da, words, tile.rows, at);
    __syncthreads();  // every warp has read a_l, whose place δ takes
    backward_from<Net, l - 1>(tile, words, random, at);
  }
}

// From a_l, as words, to the loss and back. Returns this lane's part of the loss
template <typename Net, typename Loss, int l, typename Rows>
__device__ __forceinline__ double forward_from(const Tile<typename Net::T>& tile, const Rows& a, const Loss& loss,
                                               const Factors& factors, const Random& random, int B, const Lane& at) {
  typedef typename Net::T T;
  typedef typename Net::template layer<l> Layer;
  constexpr int N = Layer::OUT / 8, PITCH = Layer::OUT + GAP;
  float s[N][4];
  Words<N / 2> next;
  affine<Net, l>(tile.shared, a, s, at);
  typename Layer::Phi phi;
  if constexpr (Layer::OF_INPUT)
    each_pair(s, at, [&](int, int h, int c, float x, float y) {
      *pair_at(tile.shared + Net::template kept<l>(), PITCH, h, c, at) = word_of(T(), x, y);
    });
  each_pair(s, at, [&](int, int, int, float& x, float& y) { x = phi(x), y = phi(y); });
  if constexpr (l + 1 < Net::LAYERS) {
    round_to_words<T, Layer::O>(s, next.words, tile.rows, at);
    if constexpr (Layer::DROPOUT) {
      if constexpr (!Layer::OF_INPUT) store_words<N>(tile.shared + Net::template kept<l>(), PITCH, next.words, at);
      round_in_place<T>(s);
      draw<N>(tile.kept[l], random, random.of_layer[l], random.row + (unsigned)tile.row, at);
      drop<T>(s, tile.kept[l], random.of_layer[l], at);
      round_to_words<T, Layer::O>(s, next.words, tile.rows, at);
    }
    store_words<N>(tile.shared + Net::template output<l + 1>(), PITCH, next.words, at);
    return forward_from<Net, Loss, l + 1>(tile, next, loss, factors, random, B, at);
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
        of = numbers_of(T(), *pair_at(tile.shared + Net::template kept<l>(), PITCH, h, c, at));
      x *= factor * slope(of.x), y *= factor * slope(of.y);
    });
    round_to_words<T, Layer::O>(s, next.words, tile.rows, at);
    backward_from<Net, l>(tile, next.words, random, at);
    return value;
  }
}

// value = L; sums (blocks, float4 per thread): each block's part of every dW and db
//   Dynamic shared memory: parameters, a_0 … a_{n−1}, δ_n, and what layers keep for φ′, of a tile
template <typename Net, typename Loss>
__device__ void dense_stack_gradients(const typename Net::T* x, const Loss& loss, const Factors& factors, const Random& random,
                                      float* value, double* partial, unsigned* finished, float* sums, int B,
                                      const typename Net::T* const* parameters) {
  typedef typename Net::T T;
  typedef typename Net::template layer<0> First;
  extern __shared__ __align__(16) unsigned char memory[];
  constexpr int COUNT = Net::template sums<Net::LAYERS>(), IN_REGISTERS = Net::template registers<Net::LAYERS>();
  const Lane at;
  T* shared = reinterpret_cast<T*>(memory);
  float own[IN_REGISTERS ? IN_REGISTERS : 1][4] = {};
  unsigned kept[Net::LAYERS][2];
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
    const Tile<T> tile{shared, kept, own, place, row, rows, start == (Index)blockIdx.x * Net::ROWS};
    total += forward_from<Net, Loss, 0>(tile, InputRows<Net>(shared, at), loss, factors, random, B, at);
    __syncthreads();  // every warp has read a and δ, whose places the next tile takes
  }
  store_sums<Net>(own, place);
  if (grid_sum(total, partial, finished)) *value = (float)total;
}
