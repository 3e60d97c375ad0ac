/* Loaded into linux.uml, where this machine's processor has registers that its kernel knows nothing of (AMX): that kernel writes its
   processes' registers back with as many bytes as it knows (PTRACE_SETREGSET), which Linux takes only whole. The rest of what there is
   goes along as it is. */
#define _GNU_SOURCE
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

long ptrace(enum __ptrace_request request, ...) {
  static char all[64 * 1024] __attribute__((aligned(64)));
  struct iovec whole = {all, sizeof all}, *given;
  void *address, *data;
  long pid, word;
  va_list list;

  va_start(list, request);
  pid = va_arg(list, int);
  address = va_arg(list, void *);
  data = given = va_arg(list, void *);
  va_end(list);
  if (request == PTRACE_SETREGSET && address == (void *)NT_X86_XSTATE
      && syscall(SYS_ptrace, PTRACE_GETREGSET, pid, address, &whole) == 0 && given->iov_len < whole.iov_len) {
    memcpy(all, given->iov_base, given->iov_len);
    data = &whole;
  }
  /* The C library returns what these find, the system call stores it. */
  if (request == PTRACE_PEEKTEXT || request == PTRACE_PEEKDATA || request == PTRACE_PEEKUSER)
    return syscall(SYS_ptrace, request, pid, address, &word) < 0 ? -1 : word;
  return syscall(SYS_ptrace, request, pid, address, data);
}
