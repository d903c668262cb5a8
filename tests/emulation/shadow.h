// Shadow memory: detects races, out-of-bounds or misaligned accesses, and uninitialized shared memory.
//
// With -fsanitize=thread, the compiler calls __tsan_read4(address) and similar functions before every access.
// They are defined here; the library of the sanitizer is not linked. For each byte, a Cell holds the last
// write and the reads since then. An access that is not ordered after them is a race. The order ("happens
// before") follows from a global counter, `now`, which each event increments:
//   the block's barrier            orders all threads of the block;
//   __syncwarp(mask)               orders the lanes of the mask (shuffles order nothing, see CUDA's manual);
//   __threadfence, then an atomic  orders accesses before the fence before those of a thread that later
//                                  updates the same address.
// Thread v knows an access by thread u at time t if the events so far order u's accesses up to t before v.
#pragma once
#include <map>

#include "machine.h"

namespace emu {
using Time = uint32_t;
using Id = uint32_t;                      // block_number << 10 | thread
enum Kind { READ, WRITE, ATOMIC };
enum Readers : uint8_t { ONE_WARP, ONE_BLOCK, SEVERAL_BLOCKS };

// The accesses of one byte. A time before the launch (in shared memory: before the block) means never.
struct Cell {
  Id writer; Time written; uint32_t write_pc;
  Id reader; Time read; uint32_t read_pc;
  uint32_t lanes;                         // of the reader's warp that have read it
  bool atomic;                            // the last write was atomic
  Readers readers;
};
struct Region { char *begin, *end; Cell* cells; bool shared; char label[80]; };

struct Knowledge {                        // the time up to which accesses of a block or thread are known
  std::map<uint32_t, Time> blocks;
  std::map<Id, Time> threads;
  bool empty() const { return blocks.empty() && threads.empty(); }
  void clear() { blocks.clear(), threads.clear(); }
  void learn(const Knowledge& other) {
    for (auto& [number, time] : other.blocks) blocks[number] = std::max(blocks[number], time);
    for (auto& [id, time] : other.threads) threads[id] = std::max(threads[id], time);
  }
  bool has_block(uint32_t number, Time time) const {
    auto found = blocks.find(number);
    return found != blocks.end() && time <= found->second;
  }
  bool has(Id id, Time time) const {
    auto found = threads.find(id);
    return (found != threads.end() && time <= found->second) || has_block(id >> 10, time);
  }
};

static Time now = 1, launch_began, block_began, last_barrier;
static Time warp_knows[1024][32];         // [thread][lane of its warp]: by __syncwarp since the last barrier
static Knowledge acquired[1024], released[1024], block_acquired, block_released;  // by atomics; by fences
static bool any_knowledge;
static std::map<const void*, Knowledge> published;  // per address: passed on by atomics
static Region regions[68];                // [0] shared memory, [1] variables of the library, then the arguments
static int region_count = 2;
// sorted offsets in shared memory of the compiler's "is constructed" flags
static size_t guards[1024];
static int guard_count;

// -------------------------------------------------------------------------------- the order of events
static Id id_of(const Thread& t) { return block_number << 10 | Id(t.number); }

static bool knows(Id id, Time time) {
  const Id own = id_of(*current);
  if (id == own) return true;
  if (id >> 10 == block_number) {
    if (time <= last_barrier) return true;
    if (id >> 5 == own >> 5 && time <= warp_knows[current->number][id & 31]) return true;
  }
  return any_knowledge && (acquired[current->number].has(id, time) || block_acquired.has(id, time));
}
static bool knows_block(uint32_t number, Time time) {
  if (number == block_number && time <= last_barrier) return true;
  return any_knowledge && (acquired[current->number].has_block(number, time) || block_acquired.has_block(number, time));
}
static void forget(int threads) {
  for (int i = 0; i < threads; i++) acquired[i].clear(), released[i].clear();
  block_acquired.clear(), block_released.clear();
}
void shadow_begin_block() {
  block_began = last_barrier = now++;
  if (!any_knowledge) return;
  forget(block.threads);
  any_knowledge = !published.empty();
}
void shadow_barrier() {
  last_barrier = now++;
  if (!any_knowledge) return;
  for (int i = 0; i < block.threads; i++) {
    block_acquired.learn(acquired[i]), acquired[i].clear();
    block_released.learn(released[i]), released[i].clear();
  }
}
void shadow_warp_barrier(Thread* lanes, unsigned mask) {
  Time joined[32] = {};
  Knowledge all_acquired, all_released;
  for (int l = 0; l < 32; l++) {
    if (!(mask >> l & 1)) continue;
    for (int j = 0; j < 32; j++) joined[j] = std::max(joined[j], warp_knows[lanes[l].number][j]);
    if (any_knowledge) all_acquired.learn(acquired[lanes[l].number]), all_released.learn(released[lanes[l].number]);
  }
  for (int l = 0; l < 32; l++) {
    if (!(mask >> l & 1)) continue;
    for (int j = 0; j < 32; j++) warp_knows[lanes[l].number][j] = mask >> j & 1 ? now : joined[j];
    if (any_knowledge) acquired[lanes[l].number] = all_acquired, released[lanes[l].number] = all_released;
  }
  now++;
}
// Later atomics of the caller pass on its knowledge at this fence. A barrier or __syncwarp after the fence
// passes it on to other threads, so "every thread fences, barrier, thread 0 counts" is accepted, too.
void shadow_fence() {
  const int me = current->number;
  any_knowledge = true;
  Knowledge& out = released[me];
  out.learn(acquired[me]);
  out.learn(block_acquired);
  out.blocks[block_number] = last_barrier;
  out.threads[id_of(*current)] = now;
  for (Id l = 0; l < 32; l++)
    if (Time t = warp_knows[me][l]; t > last_barrier) {
      Time& known = out.threads[(id_of(*current) & ~31u) | l];
      known = std::max(known, t);
    }
  now++;
}
static void synchronize_at(const void* address) {
  const int me = current->number;
  if (!any_knowledge) return;
  Knowledge& here = published[address];
  acquired[me].learn(here);
  here.learn(released[me]);
  here.learn(block_released);
}

// -------------------------------------------------------------------------------- checks
static const char* verb(Kind kind) { return kind == READ ? "read" : kind == WRITE ? "write" : "atomic"; }

static void race(const Region& r, const Cell* c, int bytes, Kind kind, const void* pc, bool with_write) {
  Id other = with_write ? c->writer : c->reader;
  if (!with_write && c->readers == ONE_WARP)  // names a lane whose read is not ordered before this access
    for (Id l = 0; l < 32; l++)
      if (c->lanes >> l & 1 && !knows((c->reader & ~31u) | l, c->read)) other = (c->reader & ~31u) | l;
  char who[64], place[128];
  if (other >> 10 != block_number) snprintf(who, sizeof who, "another block");
  else snprintf(who, sizeof who, "thread %u of the block", other & 1023);
  const long at = r.begin + (c - r.cells) - (r.shared ? dynamic_begin : r.begin);
  if (r.shared && (at < 0 || at >= long(dynamic_bytes))) snprintf(place, sizeof place, "static shared memory");
  else snprintf(place, sizeof place, "byte %ld of %s", at, r.shared ? "dynamic shared memory" : r.label);
  fail(RACE, "race on %s: a %s of %d byte(s) at @%lx is not ordered after the %s at @%x by %s", place, verb(kind), bytes,
       offset(pc), with_write ? verb(c->atomic ? ATOMIC : WRITE) : "read", with_write ? c->write_pc : c->read_pc, who);
}
static bool readers_known(const Cell& c) {
  if (c.readers == SEVERAL_BLOCKS) return false;
  if (c.readers == ONE_BLOCK || c.reader >> 10 != block_number) {
    if (knows_block(c.reader >> 10, c.read)) return true;
    if (c.readers == ONE_BLOCK) return false;
  } else if (c.read <= last_barrier) {
    return true;
  }
  for (Id l = 0; l < 32; l++)
    if (c.lanes >> l & 1 && !knows((c.reader & ~31u) | l, c.read)) return false;
  return true;
}
static void note_read(Cell& c, Time since, uint32_t pc) {
  const Id me = id_of(*current);
  const uint32_t lane = 1u << current->lane;
  const bool fresh = c.read <= since;
  const Id reader = c.reader;
  if (fresh || (c.read != now && readers_known(c))) c.readers = ONE_WARP, c.lanes = lane, c.reader = me, c.read_pc = pc;
  else if (c.readers == ONE_WARP && reader >> 5 == me >> 5) c.lanes |= lane;
  else if (c.readers != SEVERAL_BLOCKS && reader >> 10 == block_number) c.readers = ONE_BLOCK;
  else c.readers = SEVERAL_BLOCKS;
  if (reader == me) c.read_pc = pc;
  c.read = now;
}
static void check_bytes(Region& r, const char* p, int bytes, Kind kind, const void* pc) {
  const Time since = r.shared ? block_began : launch_began;
  for (Cell *c = r.cells + (p - r.begin), *end = c + bytes; c < end; c++) {
    const bool written = c->written > since;
    if (r.shared && !written && kind != WRITE)
      fail(UNINITIALIZED, "%s of %d byte(s) of shared memory that this block has not written, at @%lx", verb(kind), bytes, offset(pc));
    if (written && !(kind == ATOMIC && c->atomic) && !knows(c->writer, c->written)) race(r, c, bytes, kind, pc, true);
    if (kind == READ) {
      note_read(*c, since, uint32_t(offset(pc)));
      continue;
    }
    if (c->read > since && !readers_known(*c)) race(r, c, bytes, kind, pc, false);
    c->writer = id_of(*current), c->written = now, c->write_pc = uint32_t(offset(pc)), c->atomic = kind == ATOMIC;
    c->read = 0;
  }
}
static Region* region_of(const char* p) {
  static int last = 0;
  if (last < region_count && p >= regions[last].begin && p < regions[last].end) return regions + last;
  for (last = 0; last < region_count; last++)
    if (p >= regions[last].begin && p < regions[last].end) return regions + last;
  last = 0;
  return nullptr;
}
static void out_of_bounds(const char* p, int bytes, Kind kind, const void* pc) {
  if ((uintptr_t)p < PAGE) fail(BOUNDS, "%s through a null pointer at @%lx", verb(kind), offset(pc));
  const Region* nearest = regions;
  long least = -1;
  for (const Region* r = regions; r < regions + region_count; r++) {
    const long distance = p < r->begin ? r->begin - p : p - r->end;
    if (r != regions + 1 && (least < 0 || distance < least)) least = distance, nearest = r;
  }
  fail(BOUNDS, "out of bounds: a %s of %d byte(s) at @%lx, %ld byte(s) %s %s", verb(kind), bytes, offset(pc), least,
       p < nearest->begin ? "before" : "after the end of", nearest->label);
}
static void access(const void* address, int bytes, Kind kind, const void* pc, bool aligned = true) {
  const char* p = (const char*)address;
  if (!current || !checking) return;
  if (p >= current->stack && p < current->stack + STACK) return;  // the thread's own variables
  if (p >= (char*)&here && p < (char*)(&here + 1)) return;        // threadIdx and similar
  InRuntime guard(pc);
  Region* r = region_of(p);
  if (!r) return out_of_bounds(p, bytes, kind, pc);
  if (p + bytes > r->end) fail(BOUNDS, "out of bounds: a %s of %d bytes at @%lx crosses the end of %s", verb(kind), bytes, offset(pc), r->label);
  if (aligned && ((uintptr_t)p & uintptr_t(bytes - 1)))
    fail(ALIGNMENT, "misaligned: a %s of %d bytes at @%lx, at byte %ld of %s", verb(kind), bytes, offset(pc), long(p - r->begin), r->label);
  const long dynamic = p - dynamic_begin;
  if (r->shared && dynamic >= 0 && dynamic < long(MOST_DYNAMIC) && dynamic + bytes > long(dynamic_bytes))
    fail(BOUNDS, "out of bounds: a %s of %d byte(s) at @%lx, at byte %ld of %zu bytes of dynamic shared memory", verb(kind), bytes,
         offset(pc), dynamic, dynamic_bytes);
  if (r->shared && bytes == 1 && std::binary_search(guards, guards + guard_count, size_t(p - shared_begin))) return;
  if (r->cells) check_bytes(*r, p, bytes, kind, pc);
}
void shadow_atomic(const void* address, int bytes, void* pc) {
  const char* p = (const char*)address;
  Region* r = region_of(p);
  if (r && !((uintptr_t)p & uintptr_t(bytes - 1))) synchronize_at(address);
  access(address, bytes, ATOMIC, pc);
}

// -------------------------------------------------------------------------------- regions
static void set_region(Region& r, char* begin, char* end, const char* label) {
  r.begin = begin, r.end = end;
  snprintf(r.label, sizeof r.label, "%s", label);
}
void shadow_begin_launch() {
  Region &shared = regions[0], &own = regions[1];
  if (!shared.cells) {  // reused: times of earlier blocks and launches mean never
    set_region(shared, shared_begin, shared_end, "shared memory");
    set_region(own, &__ehdr_start, &_end, "a __device__ variable");
    shared.shared = true;
    shared.cells = (Cell*)calloc(size_t(shared.end - shared.begin), sizeof(Cell));
    own.cells = (Cell*)calloc(size_t(own.end - own.begin), sizeof(Cell));
  }
  launch_began = now++;
  if (any_knowledge) forget(1024);  // otherwise it would grow with each launch
  published.clear();
  any_knowledge = false;
}
#define EMU_EXPORT extern "C" __attribute__((visibility("default")))
// g++ adds an "is constructed" flag to shared arrays of __half, which has constructors. The initial fill of
// shared memory sets the flag, which is correct: the default constructor does nothing.
EMU_EXPORT void emu_ignore_guards(const size_t* sorted_offsets, int count) {
  guard_count = std::min(count, 1024);
  std::copy(sorted_offsets, sorted_offsets + guard_count, guards);
}
EMU_EXPORT void emu_forget_regions() {
  for (int i = 2; i < region_count; i++) free(regions[i].cells);
  region_count = 2;
}
EMU_EXPORT void emu_add_region(char* begin, size_t bytes, const char* label) {
  Region& r = regions[region_count++];
  set_region(r, begin, begin + bytes, label);
  r.shared = false;
  r.cells = (Cell*)calloc(bytes + 1, sizeof(Cell));
}
}  // namespace emu

// -------------------------------------------------------------------------------- the compiler's calls
extern "C" {
#define EMU_ACCESS(N)                                                                                              \
  void __tsan_read##N(void* p) { emu::access(p, N, emu::READ, EMU_CALLER); }                                       \
  void __tsan_write##N(void* p) { emu::access(p, N, emu::WRITE, EMU_CALLER); }                                     \
  void __tsan_unaligned_read##N(void* p) { emu::access(p, N, emu::READ, EMU_CALLER, false); }                      \
  void __tsan_unaligned_write##N(void* p) { emu::access(p, N, emu::WRITE, EMU_CALLER, false); }
EMU_ACCESS(1) EMU_ACCESS(2) EMU_ACCESS(4) EMU_ACCESS(8) EMU_ACCESS(16)
void __tsan_read_range(char* p, size_t n) { for (size_t i = 0; i < n; i++) emu::access(p + i, 1, emu::READ, EMU_CALLER); }
void __tsan_write_range(char* p, size_t n) { for (size_t i = 0; i < n; i++) emu::access(p + i, 1, emu::WRITE, EMU_CALLER); }
void __tsan_init() {}

// every report of -fsanitize=bounds,shift,… starts with one
struct EmuPlace { const char* file; unsigned line, column; };
#define EMU_ARITHMETIC(HANDLER, KIND, TEXT)                                                                        \
  void __ubsan_handle_##HANDLER(EmuPlace* place, ...) {                                                            \
    if (emu::current) emu::fail(emu::KIND, TEXT " at line %u", place->line);                                       \
  }
EMU_ARITHMETIC(out_of_bounds, BOUNDS, "array index out of bounds")
EMU_ARITHMETIC(shift_out_of_bounds, ARITHMETIC, "shift by a negative number or by the width or more")
EMU_ARITHMETIC(divrem_overflow, ARITHMETIC, "integer division by zero or overflow")
EMU_ARITHMETIC(add_overflow, ARITHMETIC, "signed overflow")
EMU_ARITHMETIC(sub_overflow, ARITHMETIC, "signed overflow")
EMU_ARITHMETIC(mul_overflow, ARITHMETIC, "signed overflow")
EMU_ARITHMETIC(negate_overflow, ARITHMETIC, "signed overflow")
EMU_ARITHMETIC(float_cast_overflow, ARITHMETIC, "a float beyond the range of the integer")
}
