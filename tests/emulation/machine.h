// Shared by fibers.h and shadow.h: the state of a launch, the stack switch, reports, signals.
// For Linux on x86-64.
//
// The three files are compiled once, without instrumentation, into runtime.o. Every kernel is linked to it.
#pragma once
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <ucontext.h>

#include <algorithm>

#include "cuda_on_cpu.h"

extern "C" {
extern thread_local char emu_dynamic_shared[];  // defined by the kernel's unit, also under its kernels' names
extern char __ehdr_start __attribute__((visibility("hidden"))), _end __attribute__((visibility("hidden")));
}

namespace emu {
// as emulator.ERRORS
enum Error { NONE, RACE, BOUNDS, ALIGNMENT, UNINITIALIZED, DIVERGENCE, ARITHMETIC, TIMEOUT, CRASH };
enum State { READY, BARRIER, WARP, EXITED };
enum Collective { NO_COLLECTIVE, SYNCWARP, SHUFFLE, BALLOT };
enum Order { FORWARD, REVERSED, SHUFFLED, WARPS };  // emulator.ORDERS

struct Thread {
  void* stack_pointer;
  char* stack;
  uint3 index;
  int number, lane, warp;
  State state;
  Collective collective;
  int line;                // where it waits
  unsigned mask;           // operands of a warp collective
  uint64_t word, received;
  int source;
};
struct Block { int threads, warps, alive, arrived; };

Position here;
static Thread threads[1024];
static Thread* current;  // null while the scheduler runs
static Block block;
static uint32_t block_number;  // 1, 2, … in the order of execution
static void *scheduler_stack, *call_to_run;
static void (*thunk)(void*);
static const char* kernel_name;
static char message[4096];
static Error error;
static Order order;
static uint64_t random_state;
static bool checking;
static double cpu_seconds = 10;
static size_t dynamic_bytes;
static char* dynamic_begin;
static char *shared_begin, *shared_end;  // every __shared__ variable of the library, this OS thread's copy
static volatile sig_atomic_t in_runtime, expired;
static pthread_t launching_thread;
const size_t STACK = 256 << 10, PAGE = 4096, MOST_DYNAMIC = 227 << 10;

void shadow_begin_launch();
void shadow_begin_block();
void shadow_barrier();
void shadow_warp_barrier(Thread* lanes, unsigned mask);
void shadow_fence();
void shadow_atomic(const void* address, int bytes, void* pc);

// -------------------------------------------------------------------------------- switching stacks
extern "C" void emu_switch(void** save, void* to);
asm(R"(.text
.globl emu_switch
.hidden emu_switch
.type emu_switch,@function
emu_switch:
  push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15
  mov %rsp,(%rdi)
  mov %rsi,%rsp
  pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp
  ret
.size emu_switch,.-emu_switch
)");

static void run_thread() {
  thunk(call_to_run);
  current->state = EXITED;
  block.alive--;
  emu_switch(&current->stack_pointer, scheduler_stack);
  __builtin_unreachable();
}
static void prepare_stack(Thread& t) {
  if (!t.stack) {
    t.stack = (char*)mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    // A stack overflow raises a signal. Why only in every 32nd thread: a guard page makes two mappings of one,
    // a process may have 65,530 of them, and every library has stacks of its own.
    if (t.number % 32 == 0) mprotect(t.stack, PAGE, PROT_NONE);
  }
  void** top = (void**)(t.stack + STACK);
  *--top = nullptr;
  *--top = (void*)run_thread;
  t.stack_pointer = top - 6;  // six registers for emu_switch to pop
}

// -------------------------------------------------------------------------------- reporting
// A message has code addresses as @hex, relative to the library. cuda_build.py turns them into source lines.
static long offset(const void* pc) { return pc ? (const char*)pc - &__ehdr_start - 1 : 0; }

static void report(Error kind, const char* format, va_list values) {
  int k = snprintf(message, sizeof message, "%s: ", kernel_name);
  k += vsnprintf(message + k, sizeof message - k, format, values);
  if (current && k < int(sizeof message))
    snprintf(message + k, sizeof message - k, " [block (%u,%u,%u) thread (%u,%u,%u)]", here.block.x, here.block.y, here.block.z,
             here.thread.x, here.thread.y, here.thread.z);
  error = kind;
}
// Ends the launch. On a fiber it does not return: the fiber is abandoned.
static void fail(Error kind, const char* format, ...) {
  va_list values;
  va_start(values, format);
  report(kind, format, values);
  va_end(values);
  in_runtime = 0;
  void* abandoned;
  if (current) emu_switch(&abandoned, scheduler_stack);
}
static void time_out(const void* pc) {
  fail(TIMEOUT, "more than %g s of CPU time, and this thread is still running at @%lx", cpu_seconds, offset(pc));
}
// Delays the watchdog, so that it does not abandon a fiber that is changing the containers of the shadow.
struct InRuntime {
  const void* pc;
  explicit InRuntime(const void* pc) : pc(pc) { in_runtime = 1; }
  ~InRuntime() {
    in_runtime = 0;
    if (expired && current) time_out(pc);
  }
};

static void on_signal(int number, siginfo_t* info, void* context) {
  if (number == SIGVTALRM && !pthread_equal(pthread_self(), launching_thread)) {
    pthread_kill(launching_thread, number);
    return;
  }
  const void* pc = (char*)((ucontext_t*)context)->uc_mcontext.gregs[REG_RIP] + 1;
  if (number == SIGVTALRM) {
    expired = 1;
    if (current && !in_runtime) time_out(pc);
  } else if (current) {
    const char* a = (const char*)info->si_addr;
    const bool overflow = a >= current->stack && a < current->stack + PAGE;
    fail(CRASH, "%s at @%lx", overflow ? "stack overflow" : strsignal(number), offset(pc));
  } else {
    signal(number, SIG_DFL);  // not caused by a kernel: the default action handles the repeated fault
  }
}
const int FAULTS[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
struct Signals {  // installs handlers during a launch
  struct sigaction before[4];
  stack_t stack_before;
  Signals() {
    static char* own = (char*)malloc(64 << 10);
    stack_t stack = {};
    stack.ss_sp = own;
    stack.ss_size = 64 << 10;
    sigaltstack(&stack, &stack_before);
    struct sigaction action = {};
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
    for (int i = 0; i < 4; i++) sigaction(FAULTS[i], &action, before + i);
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGVTALRM, &action, nullptr);  // stays installed: a forwarded signal may arrive late
    timer(cpu_seconds);
  }
  ~Signals() {
    timer(0);
    for (int i = 0; i < 4; i++) sigaction(FAULTS[i], before + i, nullptr);
    sigaltstack(&stack_before, nullptr);
  }
  static void timer(double seconds) {
    itimerval once = {};
    once.it_value.tv_sec = time_t(seconds);
    once.it_value.tv_usec = suseconds_t(1e6 * (seconds - double(time_t(seconds))));
    setitimer(ITIMER_VIRTUAL, &once, nullptr);
  }
};
}  // namespace emu
