/*
 * The process's rings, and what JavaScript calls on them.
 *
 * A ring belongs to the thread that made it. That thread has the mapped memory as ArrayBuffers and does everything
 * but entering the kernel in JavaScript. Other threads never get a second ArrayBuffer over the same memory (V8 keeps
 * account of memory by address); they come through the functions named `foreign*`.
 *
 * A foreign call counts itself in `uses` while it is inside, so the owner may close at any time: the last one out
 * unmaps. A thread that dies without closing leaves an orphan, as I/O may be in flight in it whose buffers others
 * share. Whoever takes over drains it and closes it.
 */
#include "native.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static struct ring *table[RINGS_MAX];
static uint32_t table_cursor;
static uint32_t generation;

/* An id is a table index and, above it, a count that keeps ids of closed rings from matching new ones. */
#define GENERATION_MASK ((1U << 19) - 1)
static int32_t id_of(uint32_t index) { return (int32_t)((generation++ & GENERATION_MASK) * RINGS_MAX + index); }

struct ring *ring_owned(const struct instance *self, int32_t id) {
  if (self->owned == NULL || id < 0) return NULL;
  struct ring *ring = self->owned[id % RINGS_MAX];
  return ring != NULL && ring->id == id ? ring : NULL;
}

/* Takes a ring out of the table; the lock is held. Whoever gets true has to free it. */
static bool unlist(struct ring *ring) {
  table[ring->id % RINGS_MAX] = NULL;
  ring->is_closed = true;
  return ring->uses == 0;
}

static struct ring *foreign_begin(int32_t id) {
  if (id < 0) return NULL;
  pthread_mutex_lock(&table_lock);
  struct ring *ring = table[id % RINGS_MAX];
  if (ring != NULL && ring->id == id) ring->uses += 1;
  else ring = NULL;
  pthread_mutex_unlock(&table_lock);
  return ring;
}

static void foreign_end(struct ring *ring) {
  pthread_mutex_lock(&table_lock);
  ring->uses -= 1;
  bool is_last = ring->is_closed && ring->uses == 0;
  pthread_mutex_unlock(&table_lock);
  if (is_last) ring_free(ring);
}

/* Nothing is detached: Node does that to memory from outside itself, and no JavaScript runs any more. */
void rings_forget_buffers(struct instance *self) {
  for (uint32_t index = 0; self->owned != NULL && index < RINGS_MAX; index++) {
    struct ring *ring = self->owned[index];
    for (int which = 0; ring != NULL && which < 2; which++) {
      if (ring->lent[which] != NULL) napi_delete_reference(self->env, ring->lent[which]);
      ring->lent[which] = NULL;
    }
  }
}

void rings_orphan(struct instance *self) {
  if (self->owned == NULL) return;
  pthread_mutex_lock(&table_lock);
  for (uint32_t index = 0; index < RINGS_MAX; index++) {
    struct ring *ring = self->owned[index];
    if (ring == NULL) continue;
    ring->owner = NULL;
  }
  pthread_mutex_unlock(&table_lock);
}

static bool list(struct instance *self, struct ring *ring) {
  if (self->owned == NULL) self->owned = calloc(RINGS_MAX, sizeof *self->owned);
  if (self->owned == NULL) return false;
  bool is_listed = false;
  pthread_mutex_lock(&table_lock);
  for (uint32_t tried = 0; tried < RINGS_MAX && !is_listed; tried++) {
    uint32_t index = table_cursor++ % RINGS_MAX;
    if (table[index] != NULL) continue;
    ring->id = id_of(index);
    ring->owner = self;
    table[index] = self->owned[index] = ring;
    is_listed = true;
  }
  pthread_mutex_unlock(&table_lock);
  return is_listed;
}

#define RING_FACTS 11

/* ringCreate(entries, flags, cqEntries, facts): fills `facts` in the order of RING_FACT in src/native.ts. */
static napi_value ring_create(napi_env env, napi_callback_info info) {
  struct call call = call_begin(env, info);
  uint32_t entries, flags, cq_entries;
  uint8_t *facts;
  size_t facts_bytes;
  if (!get_u32(&call, 0, &entries) || !get_u32(&call, 1, &flags) || !get_u32(&call, 2, &cq_entries) ||
      !get_view(&call, 3, &facts, &facts_bytes) || facts_bytes < RING_FACTS * sizeof(uint32_t))
    return call_end(&call, -EINVAL);
  struct uring_params params;
  struct ring *ring;
  int result = ring_open(entries, flags, cq_entries, &params, &ring);
  if (result != 0) return call_end(&call, result);
  if (!list(call.self, ring)) {
    ring_free(ring);
    return call_end(&call, -EMFILE);
  }
  const uint32_t values[RING_FACTS] = {
      (uint32_t)ring->id,   (uint32_t)ring->fd,    ring->entries,       ring->cq_entries,  ring->features,
      params.sq_off.head,   params.sq_off.tail,    params.sq_off.flags, params.cq_off.head, params.cq_off.tail,
      params.cq_off.cqes,
  };
  memcpy(facts, values, sizeof values);
  return call_end(&call, 0);
}

/* The mapping number `which` (0: both queues, 1: submission entries) of an own ring as an ArrayBuffer; asked once. */
static napi_value ring_memory(napi_env env, napi_callback_info info) {
  struct call call = call_begin(env, info);
  int32_t id, which;
  struct ring *ring = get_i32(&call, 0, &id) && get_i32(&call, 1, &which) ? ring_owned(call.self, id) : NULL;
  if (ring == NULL || which < 0 || which > 1) return call_end(&call, -EBADF);
  if (ring->lent[which] != NULL) return call_end(&call, -EBUSY);
  napi_value buffer;
  void *start = which == 0 ? ring->rings : ring->sqes;
  size_t bytes = which == 0 ? ring->rings_bytes : ring->sqes_bytes;
  /* Some embedders of V8 (Electron) refuse memory from outside. */
  if (napi_create_external_arraybuffer(env, start, bytes, NULL, NULL, &buffer) != napi_ok)
    return call_end(&call, -EOPNOTSUPP);
  if (napi_create_reference(env, buffer, 1, &ring->lent[which]) != napi_ok) {
    napi_detach_arraybuffer(env, buffer);
    return call_end(&call, -ENOMEM);
  }
  return buffer;
}

/* Detaches what JavaScript has of the memory: its views become empty instead of pointing at unmapped pages. */
static void take_back_memory(napi_env env, struct ring *ring) {
  for (int which = 0; which < 2; which++) {
    napi_value buffer;
    if (ring->lent[which] == NULL) continue;
    if (napi_get_reference_value(env, ring->lent[which], &buffer) == napi_ok && buffer != NULL)
      napi_detach_arraybuffer(env, buffer);
    napi_delete_reference(env, ring->lent[which]);
    ring->lent[which] = NULL;
  }
}

static napi_value ring_close(napi_env env, napi_callback_info info) {
  struct call call = call_begin(env, info);
  int32_t id;
  struct ring *ring = get_i32(&call, 0, &id) ? ring_owned(call.self, id) : NULL;
  if (ring == NULL) return call_end(&call, -EBADF);
  poll_stop_of(call.self, ring);
  take_back_memory(env, ring);
  call.self->owned[id % RINGS_MAX] = NULL;
  pthread_mutex_lock(&table_lock);
  bool is_last = unlist(ring);
  pthread_mutex_unlock(&table_lock);
  if (is_last) ring_free(ring);
  return call_end(&call, 0);
}

/* ringEnter(id, submit, waitFor, flush): entries taken by the kernel, or a negative errno. */
static napi_value ring_enter_call(napi_env env, napi_callback_info info) {
  struct call call = call_begin(env, info);
  int32_t id;
  uint32_t submit, wait_for, flush;
  if (!get_i32(&call, 0, &id) || !get_u32(&call, 1, &submit) || !get_u32(&call, 2, &wait_for) ||
      !get_u32(&call, 3, &flush))
    return call_end(&call, -EINVAL);
  struct ring *ring = ring_owned(call.self, id);
  if (ring == NULL) return call_end(&call, -EBADF);
  uint32_t flags = wait_for > 0 || flush != 0 ? URING_ENTER_GETEVENTS : 0;
  int taken = ring_enter(ring, submit, wait_for, flags);
  /* A signal during the wait, after entries were taken, comes back as their count: the wait is not over then. */
  if (taken >= 0 && (uint32_t)taken == submit && wait_for > 0) {
    int waited = ring_wait(ring, wait_for);
    if (waited < 0 && taken == 0) return call_end(&call, waited);
  }
  return call_end(&call, taken);
}

/* ringRegister(id, opcode, view or undefined, count, offset): zero, or a negative errno. */
static napi_value ring_register_call(napi_env env, napi_callback_info info) {
  struct call call = call_begin(env, info);
  int32_t id;
  uint32_t opcode, count, offset = 0;
  uint8_t *data = NULL;
  size_t bytes = 0;
  if (!get_i32(&call, 0, &id) || !get_u32(&call, 1, &opcode) || !get_u32(&call, 3, &count))
    return call_end(&call, -EINVAL);
  get_view(&call, 2, &data, &bytes);
  get_u32(&call, 4, &offset);
  struct ring *ring = ring_owned(call.self, id);
  if (ring == NULL) return call_end(&call, -EBADF);
  struct uring_files_update update = {.offset = offset, .fds = (uint64_t)(uintptr_t)data};
  switch (opcode) {
    case URING_REGISTER_BUFFERS: /* 16 bytes an iovec */
      if (bytes / 16 < count) return call_end(&call, -EINVAL);
      return call_end(&call, ring_register(ring->fd, opcode, data, count));
    case URING_REGISTER_FILES:
      if (bytes / sizeof(int32_t) < count) return call_end(&call, -EINVAL);
      return call_end(&call, ring_register(ring->fd, opcode, data, count));
    case URING_REGISTER_FILES_UPDATE:
      if (bytes / sizeof(int32_t) < count) return call_end(&call, -EINVAL);
      return call_end(&call, ring_register(ring->fd, opcode, &update, count));
    case URING_UNREGISTER_BUFFERS:
    case URING_UNREGISTER_FILES:
      return call_end(&call, ring_register(ring->fd, opcode, NULL, 0));
    default:
      return call_end(&call, -EINVAL);
  }
}

static napi_value foreign_copy(napi_env env, napi_callback_info info, bool takes) {
  struct call call = call_begin(env, info);
  int32_t id;
  uint32_t max;
  uint8_t *target;
  size_t bytes;
  if (!get_i32(&call, 0, &id) || !get_view(&call, 1, &target, &bytes) || !get_u32(&call, 2, &max) ||
      bytes / sizeof(struct uring_cqe) < max || (uintptr_t)target % sizeof(int32_t) != 0)
    return call_end(&call, -EINVAL);
  struct ring *ring = foreign_begin(id);
  if (ring == NULL) return call_end(&call, -EBADF);
  struct uring_cqe *completions = (struct uring_cqe *)target;
  uint32_t count = takes ? ring_reap(ring, completions, max) : ring_peek(ring, completions, max);
  foreign_end(ring);
  return call_end(&call, count);
}

/* foreignReap(id, target, max): completions copied, or a negative errno. */
static napi_value foreign_reap(napi_env env, napi_callback_info info) {
  return foreign_copy(env, info, true);
}

/* foreignPeek(id, target, max): the same, but they stay in the queue. */
static napi_value foreign_peek(napi_env env, napi_callback_info info) {
  return foreign_copy(env, info, false);
}

/* foreignAdvance(id, count): 0, -EINVAL if there are not as many, -EBADF. */
static napi_value foreign_advance(napi_env env, napi_callback_info info) {
  struct call call = call_begin(env, info);
  int32_t id;
  uint32_t count;
  if (!get_i32(&call, 0, &id) || !get_u32(&call, 1, &count)) return call_end(&call, -EINVAL);
  struct ring *ring = foreign_begin(id);
  if (ring == NULL) return call_end(&call, -EBADF);
  bool advanced = ring_advance(ring, count);
  foreign_end(ring);
  return call_end(&call, advanced ? 0 : -EINVAL);
}

/* Entries the kernel has taken and not completed, or -EBADF. */
static napi_value foreign_in_kernel(napi_env env, napi_callback_info info) {
  struct call call = call_begin(env, info);
  int32_t id;
  struct ring *ring = get_i32(&call, 0, &id) ? foreign_begin(id) : NULL;
  if (ring == NULL) return call_end(&call, -EBADF);
  uint32_t count = ring_in_kernel(ring);
  foreign_end(ring);
  return call_end(&call, count);
}

static napi_value foreign_wait(napi_env env, napi_callback_info info) {
  struct call call = call_begin(env, info);
  int32_t id;
  uint32_t wait_for;
  if (!get_i32(&call, 0, &id) || !get_u32(&call, 1, &wait_for)) return call_end(&call, -EINVAL);
  struct ring *ring = foreign_begin(id);
  if (ring == NULL) return call_end(&call, -EBADF);
  int result = ring_wait(ring, wait_for);
  foreign_end(ring);
  return call_end(&call, result);
}

static napi_value foreign_ready(napi_env env, napi_callback_info info) {
  struct call call = call_begin(env, info);
  int32_t id;
  struct ring *ring = get_i32(&call, 0, &id) ? foreign_begin(id) : NULL;
  if (ring == NULL) return call_end(&call, -EBADF);
  uint32_t count = ring_ready(ring);
  foreign_end(ring);
  return call_end(&call, count);
}

/* 1 if the ring's thread is gone, 0 if it lives, -EBADF if there is no such ring. */
static napi_value foreign_is_orphan(napi_env env, napi_callback_info info) {
  struct call call = call_begin(env, info);
  int32_t id;
  if (!get_i32(&call, 0, &id) || id < 0) return call_end(&call, -EBADF);
  pthread_mutex_lock(&table_lock);
  const struct ring *ring = table[id % RINGS_MAX];
  int result = ring == NULL || ring->id != id ? -EBADF : ring->owner == NULL;
  pthread_mutex_unlock(&table_lock);
  return call_end(&call, result);
}

/* Closes a ring whose thread is gone; -EBUSY while it lives. */
static napi_value foreign_close_orphan(napi_env env, napi_callback_info info) {
  struct call call = call_begin(env, info);
  int32_t id;
  if (!get_i32(&call, 0, &id) || id < 0) return call_end(&call, -EBADF);
  int result = 0;
  bool is_last = false;
  pthread_mutex_lock(&table_lock);
  struct ring *ring = table[id % RINGS_MAX];
  if (ring == NULL || ring->id != id) result = -EBADF;
  else if (ring->owner != NULL) result = -EBUSY;
  else is_last = unlist(ring);
  pthread_mutex_unlock(&table_lock);
  if (is_last) ring_free(ring);
  return call_end(&call, result);
}

/* orphans(ids): how many there are, the first of them written to `ids`. */
static napi_value orphans(napi_env env, napi_callback_info info) {
  struct call call = call_begin(env, info);
  uint8_t *ids;
  size_t bytes;
  if (!get_view(&call, 0, &ids, &bytes)) return call_end(&call, -EINVAL);
  uint32_t count = 0;
  pthread_mutex_lock(&table_lock);
  for (uint32_t index = 0; index < RINGS_MAX; index++) {
    if (table[index] == NULL || table[index]->owner != NULL) continue;
    if (count < bytes / sizeof(int32_t)) memcpy(ids + count * sizeof(int32_t), &table[index]->id, sizeof(int32_t));
    count += 1;
  }
  pthread_mutex_unlock(&table_lock);
  return call_end(&call, count);
}

/* probe(features): zero if io_uring works here. Asked of the kernel once a process, or while a fault is armed. */
static napi_value probe(napi_env env, napi_callback_info info) {
  static pthread_mutex_t probe_lock = PTHREAD_MUTEX_INITIALIZER;
  static bool is_known;
  static int known_result;
  static uint32_t known_features;
  struct call call = call_begin(env, info);
  uint8_t *target;
  size_t bytes;
  if (!get_view(&call, 0, &target, &bytes) || bytes < sizeof(uint32_t)) return call_end(&call, -EINVAL);
  uint32_t features = 0;
  int result;
  if (atomic_load(&faults_armed) != 0) {
    result = ring_probe(&features);
  } else {
    pthread_mutex_lock(&probe_lock);
    if (!is_known) known_result = ring_probe(&known_features);
    is_known = true;
    result = known_result;
    features = known_features;
    pthread_mutex_unlock(&probe_lock);
  }
  memcpy(target, &features, sizeof features);
  return call_end(&call, result);
}

const struct method ring_methods[] = {
    {"ringCreate", ring_create},         {"ringMemory", ring_memory},
    {"ringClose", ring_close},           {"ringEnter", ring_enter_call},
    {"ringRegister", ring_register_call}, {"foreignReap", foreign_reap},
    {"foreignWait", foreign_wait},       {"foreignReady", foreign_ready},
    {"foreignIsOrphan", foreign_is_orphan}, {"foreignCloseOrphan", foreign_close_orphan},
    {"foreignPeek", foreign_peek},       {"foreignAdvance", foreign_advance},
    {"foreignInKernel", foreign_in_kernel},
    {"orphans", orphans},                {"probe", probe},
    METHODS_END,
};
