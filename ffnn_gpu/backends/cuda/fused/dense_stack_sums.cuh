// Gradients as sums over the blocks of dense_stack_gradients.cuh.

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
