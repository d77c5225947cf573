// guard.cpp: what interrupts a launch from outside: the time limit, and faults of the processor (a wild
// address, an integer division by zero). The signal's handler gives the launch up; its fibres are never
// resumed.
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "state.h"

extern "C" char __ehdr_start[] __attribute__((visibility("hidden")));  // where this library is loaded

namespace gpunet {

extern sigjmp_buf interrupted;

namespace {

#ifdef GPUNET_ADDRESS
const int signals[] = {0};  // the sanitizer reports the faults
#else
const int signals[] = {0, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
#endif
const int signal_count = sizeof signals / sizeof *signals;
struct sigaction before[signal_count];
stack_t stack_before;
alignas(16) char signal_stack[64 * 1024];
timer_t timer;
bool timer_runs;

int signal_number(int i) { return i ? signals[i] : SIGRTMIN + 7; }

size_t program_counter(void* context) {
#if defined(__x86_64__)
    return static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
    return static_cast<ucontext_t*>(context)->uc_mcontext.pc;
#else
    return (void)context, 0;
#endif
}

void report(Outcome outcome, const char* what, void* context) {
    char where[64] = "";
    const size_t base = reinterpret_cast<size_t>(__ehdr_start), counter = program_counter(context);
    if (counter) snprintf(where, sizeof where, " at {%zx}", counter - base);
    state.outcome = outcome;
    state.message = what + std::string(where);
    if (state.current) state.message += ", " + place(*state.current);
}

void limit_time(double seconds) {
    itimerspec limit = {};
    limit.it_value.tv_sec = time_t(seconds);
    limit.it_value.tv_nsec = long((seconds - double(limit.it_value.tv_sec)) * 1e9);
    if (timer_runs) timer_settime(timer, 0, &limit, nullptr);
}

void handle(int number, siginfo_t* info, void* context) {
    char what[128];
    if (number == SIGFPE) {
        report(kernel_error, "integer division by zero (or its overflow)", context);
    } else if (number == SIGILL || number == SIGTRAP) {  // what -fsanitize=alignment compiles into
        report(address_error, "misaligned address", context);
    } else if (number != signal_number(0)) {
        snprintf(what, sizeof what, "invalid or misaligned address [%p]", info->si_addr);
        report(address_error, what, context);
    } else if (state.uninterruptible) {
        limit_time(0.01);
        return;
    } else if (state.idle_spins > 1000) {
        state.outcome = deadlock_error;
        snprintf(what, sizeof what, "no end in sight after %g s: ", state.launch->timeout);
        state.message = what + who_waits_where();
    } else {
        snprintf(what, sizeof what, "not finished after %g s: interrupted", state.launch->timeout);
        report(time_limit, what, context);
        state.message += "; " + who_waits_where();
    }
#ifdef GPUNET_ADDRESS
    end_program();
#else
    siglongjmp(interrupted, 1);
#endif
}

}  // namespace

void start_guard(double timeout) {
    const stack_t stack = {signal_stack, 0, sizeof signal_stack};
    sigaltstack(&stack, &stack_before);
    for (int i = 0; i < signal_count; ++i) {
        struct sigaction action = {};
        action.sa_sigaction = handle;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK;
        sigaction(signal_number(i), &action, &before[i]);
    }
    // To this thread, and by its processor time: a busy machine does not make a launch late.
    sigevent event = {};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = signal_number(0);
    event._sigev_un._tid = syscall(SYS_gettid);
    timer_runs = timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &timer) == 0;
    limit_time(timeout);
}

void stop_guard() {
    if (timer_runs) timer_delete(timer);
    for (int i = 0; i < signal_count; ++i) sigaction(signal_number(i), &before[i], nullptr);
    sigaltstack(&stack_before, nullptr);
}

}  // namespace gpunet
