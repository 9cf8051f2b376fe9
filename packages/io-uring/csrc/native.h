/*
 * What the parts of the addon share: the ring, the state of one JavaScript thread, the fault hook, argument helpers.
 *
 * The addon is loaded once a process and initialised once a thread. What belongs to a thread is in `struct instance`
 * and dies with it; rings belong to the process and are in the table of ring-table.c. Every function returns a number to
 * JavaScript: zero or a count, or a negative errno. Nothing throws: TypeScript has checked the arguments before,
 * and what is checked here again (bounds, kinds, owned rings) protects memory and gives -EINVAL or -EBADF.
 *
 * Node-API 8 and libuv's stable interface only, so one binary serves Node 20 and everything newer.
 */
#ifndef MILLRACE_NATIVE_H
#define MILLRACE_NATIVE_H

#define NAPI_VERSION 8
#include <node_api.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "uring-abi.h"

/* Bumped whenever the functions or their arguments change; the loader compares it. */
#define NATIVE_VERSION 3

/* Rings in a process: far above any sane number of threads, small enough for one flat table of pointers. */
#define RINGS_MAX 4096

/* Entries of one vectored call; PostgreSQL's largest combined I/O is as long. */
#define IOVECS_MAX 128

struct instance;
struct poll;

/*
 * One ring. `fd`, the mappings and the pointers into them never change while the ring exists. `owner`, `uses` and
 * `is_closed` change under the table's lock. The owner's thread may use a ring without the lock: nobody else closes
 * a ring that has an owner.
 */
struct ring {
  int32_t id;
  int fd;
  uint32_t entries, cq_entries, features;
  uint8_t *rings;
  size_t rings_bytes;
  uint8_t *sqes;
  size_t sqes_bytes;
  _Atomic uint32_t *sq_head, *cq_head, *cq_tail, *sq_flags;
  uint32_t cq_mask;
  struct uring_cqe *cqes;
  napi_ref lent[2];       /* the owner's ArrayBuffers over `rings` and `sqes` */
  struct instance *owner; /* NULL: the thread that made it is gone, and it is an orphan */
  int uses;               /* calls of other threads that are inside right now */
  bool is_closed;         /* out of the table; the last one inside frees it */
};

/* What one thread has open. */
struct instance {
  napi_env env;
  struct ring **owned; /* by table index; RINGS_MAX pointers, allocated with the first ring */
  struct poll *polls;
  int polls_closing;
  napi_async_cleanup_hook_handle teardown; /* set while the thread is being torn down */
};

/* A call's state and arguments; missing ones are undefined. */
#define ARGUMENTS_MAX 8
struct call {
  napi_env env;
  struct instance *self;
  napi_value arguments[ARGUMENTS_MAX];
};

struct call call_begin(napi_env env, napi_callback_info info);
napi_value call_end(const struct call *call, int64_t result);
bool get_i32(const struct call *call, int index, int32_t *value);
bool get_u32(const struct call *call, int index, uint32_t *value);
bool get_i64(const struct call *call, int index, int64_t *value);
/* The memory of a typed array, also of one over shared memory. Never moves: asking makes V8 take it off its heap. */
bool get_view(const struct call *call, int index, uint8_t **data, size_t *bytes);

struct method {
  const char *name;
  napi_callback function;
};
#define METHODS_END { NULL, NULL }
extern const struct method ring_methods[], poll_methods[], file_methods[], memory_methods[], fault_methods[];

/* ring.c: zero or a count, or a negative errno. */
int ring_open(uint32_t entries, uint32_t flags, uint32_t cq_entries, struct uring_params *params, struct ring **opened);
void ring_free(struct ring *ring);
int ring_enter(const struct ring *ring, uint32_t submit, uint32_t wait_for, uint32_t flags);
int ring_wait(const struct ring *ring, uint32_t wait_for);
int ring_register(int fd, uint32_t opcode, const void *argument, uint32_t count);
uint32_t ring_ready(const struct ring *ring);
uint32_t ring_reap(struct ring *ring, struct uring_cqe *target, uint32_t max);
uint32_t ring_peek(const struct ring *ring, struct uring_cqe *target, uint32_t max);
bool ring_advance(struct ring *ring, uint32_t count);
uint32_t ring_in_kernel(const struct ring *ring);
int ring_probe(uint32_t *features);

/* ring-table.c */
struct ring *ring_owned(const struct instance *self, int32_t id);
void rings_forget_buffers(struct instance *self);
void rings_orphan(struct instance *self);

/* poll.c */
void polls_close(struct instance *self);
void poll_stop_of(struct instance *self, const struct ring *ring);

/* faults.c: one relaxed load and one branch while nothing is armed. */
enum fault {
  FAULT_SETUP,
  FAULT_ENTER,
  FAULT_REGISTER,
  FAULT_PREAD,
  FAULT_PWRITE,
  FAULT_PREADV,
  FAULT_PWRITEV,
  FAULT_FSYNC,
  FAULT_FDATASYNC,
  FAULT_FADVISE,
  FAULT_FALLOCATE,
  FAULT_SYNC_FILE_RANGE,
  FAULTS
};
#define FAULT_NONE INT64_MIN
extern _Atomic int faults_armed;
int64_t fault_take_armed(enum fault operation);
static inline int64_t fault_take(enum fault operation) {
  if (__builtin_expect(atomic_load_explicit(&faults_armed, memory_order_relaxed) == 0, 1)) return FAULT_NONE;
  return fault_take_armed(operation);
}

#endif
