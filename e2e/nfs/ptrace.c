// A processor may have more registers than the user-mode kernel knows: it sets 2696 bytes of them, and since the tiles of
// AMX the host's kernel wants 11008, or refuses. This stands before its `ptrace` and fills up what is missing. The guest's
// programs can't have used any of that.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

#define MOST 65536
// XSAVE's header lies behind the 512 bytes of FXSAVE and begins with the set of the parts that are there; the last one
// that is known is PKRU, with number 9 (Intel SDM, volume 1, 13.4).
#define HEADER 512
#define KNOWN 0x3ff

typedef long (*ptrace_fn)(int, pid_t, void *, void *);

long ptrace(enum __ptrace_request request, ...) {
    static ptrace_fn next;
    static char all[MOST] __attribute__((aligned(64)));
    va_list list;
    va_start(list, request);
    pid_t pid = va_arg(list, pid_t);
    void *addr = va_arg(list, void *);
    void *data = va_arg(list, void *);
    va_end(list);
    if (!next) next = (ptrace_fn)dlsym(RTLD_NEXT, "ptrace");
    if (request == PTRACE_SETREGSET && addr == (void *)(uintptr_t)NT_X86_XSTATE) {
        struct iovec *given = data, host = {all, MOST};
        if (next(PTRACE_GETREGSET, pid, addr, &host) == 0 && host.iov_len > given->iov_len) {
            uint64_t parts;
            memcpy(all, given->iov_base, given->iov_len);
            memcpy(&parts, all + HEADER, sizeof parts);
            parts &= KNOWN;
            memcpy(all + HEADER, &parts, sizeof parts);
            return next(request, pid, addr, &host);
        }
    }
    return next(request, pid, addr, data);
}
