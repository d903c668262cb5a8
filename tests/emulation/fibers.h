// Run the threads of a CUDA block as fibers on one OS thread, and blocks one after another.
//
// Contains barriers, warp collectives, scheduling, launches. A fiber runs until it waits or reaches an atomic.
#pragma once
#include <link.h>

#include "machine.h"

namespace emu {
// -------------------------------------------------------------------------------- collectives
static void yield() {
  in_runtime = 0;
  emu_switch(&current->stack_pointer, scheduler_stack);
  in_runtime = 1;
}
static const char* activity(const Thread& t) {
  static const char* const collectives[] = {"?", "__syncwarp", "__shfl_sync", "__ballot_sync"};
  if (t.state == WARP) return collectives[t.collective];
  return t.state == BARRIER ? "__syncthreads" : t.state == EXITED ? "returned" : "running";
}
static void diverge(const char* why) {  // lists the positions of the threads, grouped
  char list[1024] = "";
  bool listed[1024] = {};
  size_t k = 0;
  for (int i = 0; i < block.threads && k + 100 < sizeof list; i++) {
    const Thread& t = threads[i];
    if (listed[i]) continue;
    int count = 0;
    for (int j = i; j < block.threads; j++) {
      const Thread& u = threads[j];
      if (u.state != t.state || (u.state != EXITED && (u.line != t.line || u.collective != t.collective))) continue;
      listed[j] = true;
      count++;
    }
    k += size_t(snprintf(list + k, sizeof list - k, "; %d thread(s) from %d: %s", count, i, activity(t)));
    if (t.state != EXITED) k += size_t(snprintf(list + k, sizeof list - k, " at line %d", t.line));
  }
  fail(DIVERGENCE, "%s in block (%u,%u,%u)%s", why, here.block.x, here.block.y, here.block.z, list);
}
void block_barrier(int line) {
  InRuntime guard(EMU_CALLER);
  current->state = BARRIER;
  current->line = line;
  current->collective = NO_COLLECTIVE;
  if (++block.arrived < block.threads) return yield();  // a thread that returned never arrives
  for (int i = 0; i < block.threads; i++)
    if (threads[i].line != line) diverge("threads meet at different __syncthreads");
  block.arrived = 0;
  for (int i = 0; i < block.threads; i++) threads[i].state = READY;
  if (checking) shadow_barrier();
}
// Waits until every lane of the mask is at the same collective. Returns true for the last lane, which does
// the work.
static bool meet(Collective collective, unsigned mask, int line) {
  Thread& t = *current;
  Thread* lanes = threads + 32 * t.warp;
  t.state = WARP, t.collective = collective, t.mask = mask, t.line = line;
  if (!(mask >> t.lane & 1))
    fail(DIVERGENCE, "%s at line %d: the calling lane %d is not in its mask %08x", activity(t), line, t.lane, mask);
  for (int l = 0; l < 32; l++) {
    if (!(mask >> l & 1)) continue;
    if (lanes + l >= threads + block.threads)
      fail(DIVERGENCE, "%s at line %d: the mask %08x names lane %d, which does not exist", activity(t), line, mask, l);
    if (lanes[l].state != WARP || lanes[l].collective != collective || lanes[l].mask != mask) {
      yield();
      return false;
    }
  }
  for (int l = 0; l < 32; l++)
    if (mask >> l & 1) lanes[l].state = READY;
  return true;
}
void warp_barrier(unsigned mask, int line) {
  InRuntime guard(EMU_CALLER);
  if (meet(SYNCWARP, mask, line) && checking) shadow_warp_barrier(threads + 32 * current->warp, mask);
}
uint64_t warp_shuffle(unsigned mask, uint64_t word, int source, int line) {
  InRuntime guard(EMU_CALLER);
  Thread& t = *current;
  Thread* lanes = threads + 32 * t.warp;
  t.word = word;
  t.source = source & 31;
  if (meet(SHUFFLE, mask, line))
    for (int l = 0; l < 32; l++)  // a lane outside the mask gives an undefined value on a GPU, NaN here
      if (mask >> l & 1) lanes[l].received = mask >> lanes[l].source & 1 ? lanes[lanes[l].source].word : ~0ull;
  return t.received;
}
unsigned warp_ballot(unsigned mask, bool predicate, int line) {
  InRuntime guard(EMU_CALLER);
  Thread& t = *current;
  Thread* lanes = threads + 32 * t.warp;
  t.word = predicate;
  if (meet(BALLOT, mask, line)) {
    unsigned votes = 0;
    for (int l = 0; l < 32; l++) votes |= mask >> l & 1 ? unsigned(lanes[l].word) << l : 0;
    for (int l = 0; l < 32; l++)
      if (mask >> l & 1) lanes[l].received = votes;
  }
  return unsigned(t.received);
}
void fence() {
  InRuntime guard(EMU_CALLER);
  if (checking) shadow_fence();
}
// Lets other threads run first, so that a spin on an atomic ends.
void before_atomic(const void* address, int bytes, void* pc) {
  InRuntime guard(pc);
  yield();
  if (checking) shadow_atomic(address, bytes, pc);
}

// -------------------------------------------------------------------------------- scheduling
static unsigned random_below(unsigned n) {  // xorshift64
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return unsigned((random_state >> 20) % n);
}
template <class T> static void arrange(T* sequence, unsigned n) {  // 0 … n − 1 in the order of the schedule
  for (unsigned i = 0; i < n; i++) sequence[i] = T(order == REVERSED ? n - 1 - i : i);
  if (order == SHUFFLED || order == WARPS)
    for (unsigned i = n; i-- > 1;) std::swap(sequence[i], sequence[random_below(i + 1)]);
}
static void resume(Thread& t) {
  current = &t;
  here.thread = t.index;
  here.lane = t.lane;
  void* to = t.stack_pointer;
  emu_switch(&scheduler_stack, to);
  current = nullptr;
}
// Resumes every ready thread, or only those of one warp if warp ≥ 0. Returns false if there was none.
static bool step(const uint16_t* sequence, int warp) {
  bool progress = false;
  for (int k = 0; k < block.threads && !error; k++) {
    Thread& t = threads[sequence[k]];
    if (t.state != READY || (warp >= 0 && t.warp != warp)) continue;
    progress = true;
    resume(t);
  }
  return progress;
}
static void run_block(const uint3& index) {
  here.block = index;
  block.alive = block.threads;
  block.arrived = 0;
  block_number++;
  const dim3 size = here.block_dim;
  for (unsigned i = 0; i < unsigned(block.threads); i++) {
    Thread& t = threads[i];
    t.index = {i % size.x, i / size.x % size.y, i / size.x / size.y};
    t.number = int(i), t.lane = int(i) & 31, t.warp = int(i) >> 5;
    t.state = READY, t.collective = NO_COLLECTIVE, t.line = 0;
    prepare_stack(t);
  }
  memset(shared_begin, 0xff, size_t(shared_end - shared_begin));  // NaN and −1; arbitrary on a GPU
  if (checking) shadow_begin_block();
  uint16_t sequence[1024];
  uint8_t warps[32];
  arrange(sequence, unsigned(block.threads));
  while (block.alive && !error) {
    bool progress = false;
    if (order == SHUFFLED) arrange(sequence, unsigned(block.threads));
    if (order == WARPS) {  // a random warp runs until it cannot continue
      arrange(warps, unsigned(block.warps));
      for (int w = 0; w < block.warps; w++)
        while (!expired && !error && step(sequence, warps[w])) {
          progress = true;
          if (random_below(64) == 0) break;  // a spin must not starve the other warps
        }
    } else {
      progress = step(sequence, -1);
    }
    if (!error && block.alive && !progress && !expired) diverge("threads diverged, nobody can go on:");
    if (!error && expired) fail(TIMEOUT, "more than %g s of CPU time", cpu_seconds);
  }
}

// -------------------------------------------------------------------------------- launching
static int find_shared(dl_phdr_info* info, size_t, void*) {  // finds the thread-local block of this library
  bool own = false;
  size_t bytes = 0;
  for (int k = 0; k < info->dlpi_phnum; k++) {
    const ElfW(Phdr)& h = info->dlpi_phdr[k];
    const char* at = (const char*)(info->dlpi_addr + h.p_vaddr);
    if (h.p_type == PT_LOAD && (char*)&block >= at && (char*)&block < at + h.p_memsz) own = true;
    if (h.p_type == PT_TLS) bytes = h.p_memsz;
  }
  if (own) shared_begin = (char*)info->dlpi_tls_data, shared_end = shared_begin + bytes;
  return own;
}
// geometry: grid x y z, block x y z, bytes of dynamic shared memory; emulator.py has validated it.
int launch(const char* name, void (*function)(void*), void* call, const unsigned* geometry) {
  kernel_name = name, thunk = function, call_to_run = call;
  error = NONE, current = nullptr, expired = 0, in_runtime = 0, message[0] = 0, block_number = 0;
  launching_thread = pthread_self();
  const dim3 grid(geometry[0], geometry[1], geometry[2]);
  here.grid_dim = grid;
  here.block_dim = dim3(geometry[3], geometry[4], geometry[5]);
  block.threads = int(geometry[3] * geometry[4] * geometry[5]);
  block.warps = (block.threads + 31) / 32;
  dynamic_bytes = geometry[6];
  dynamic_begin = emu_dynamic_shared;
  *(volatile char*)dynamic_begin;  // forces the allocation of the block before the search
  dl_iterate_phdr(find_shared, nullptr);
  if (checking) shadow_begin_launch();
  const unsigned blocks = grid.x * grid.y * grid.z;
  unsigned* sequence = (unsigned*)malloc(blocks * sizeof *sequence);
  arrange(sequence, blocks);
  {
    Signals signals;
    for (unsigned k = 0; k < blocks && !error; k++) {
      const unsigned i = sequence[k];
      run_block({i % grid.x, i / grid.x % grid.y, i / grid.x / grid.y});
    }
  }
  free(sequence);
  return error;
}
extern "C" __attribute__((visibility("default"))) const char* emu_message() { return message; }
extern "C" __attribute__((visibility("default"))) void emu_configure(int check, int new_order, uint64_t seed, double seconds) {
  checking = check;
  order = Order(new_order);
  random_state = 88172645463325252ull ^ (seed * 0x9E3779B97F4A7C15ull);
  cpu_seconds = seconds;
}
}  // namespace emu
