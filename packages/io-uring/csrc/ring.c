/*
 * One ring: setup and mapping, entering the kernel, waiting, reaping in C. No Node-API here.
 *
 * The mapped memory is shared with the kernel and with other threads of this process. Head and tail are re-read on
 * every call and nothing is remembered; whoever reaps holds a lock of the callers' own, so the kernel is the only
 * party that this file synchronises with.
 *
 * The result of an entry is copied before the head moves on, since the kernel may then write over it: PostgreSQL
 * 18.0 and 18.1 had it the other way round.
 */
#include "native.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

void ring_free(struct ring *ring) {
  if (ring->sqes != NULL) munmap(ring->sqes, ring->sqes_bytes);
  if (ring->rings != NULL) munmap(ring->rings, ring->rings_bytes);
  if (ring->fd >= 0) close(ring->fd);
  free(ring);
}

static int map(struct ring *ring, uint64_t offset, size_t bytes, uint8_t **mapping) {
  void *start = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring->fd, (off_t)offset);
  if (start == MAP_FAILED) return -errno;
  *mapping = start;
  return 0;
}

int ring_open(uint32_t entries, uint32_t flags, uint32_t cq_entries, struct uring_params *params,
                     struct ring **opened) {
  /* One mapping for both queues, no lost completions, iovecs free after submit, READ and WRITE: Linux 5.6. */
  static const uint32_t needed = URING_FEATURE_SINGLE_MMAP | URING_FEATURE_NODROP | URING_FEATURE_SUBMIT_STABLE |
                                 URING_FEATURE_RW_CUR_POS;
  struct ring *ring = calloc(1, sizeof *ring);
  if (ring == NULL) return -ENOMEM;
  memset(params, 0, sizeof *params);
  params->flags = flags | (cq_entries != 0 ? URING_SETUP_CQSIZE : 0);
  params->cq_entries = cq_entries;
  int64_t fault = fault_take(FAULT_SETUP);
  ring->fd = fault != FAULT_NONE ? -1 : (int)syscall(URING_SYS_SETUP, entries, params);
  int result = fault != FAULT_NONE ? (int)fault : ring->fd < 0 ? -errno : 0;
  if (result == 0 && (params->features & needed) != needed) result = -ENOSYS;
  ring->rings_bytes = params->cq_off.cqes + params->cq_entries * sizeof(struct uring_cqe);
  size_t array_end = params->sq_off.array + params->sq_entries * sizeof(uint32_t);
  if (array_end > ring->rings_bytes) ring->rings_bytes = array_end;
  ring->sqes_bytes = (size_t)params->sq_entries * URING_SQE_BYTES;
  if (result == 0) result = map(ring, URING_OFFSET_RINGS, ring->rings_bytes, &ring->rings);
  if (result == 0) result = map(ring, URING_OFFSET_SQES, ring->sqes_bytes, &ring->sqes);
  if (result != 0) {
    ring_free(ring);
    return result;
  }
  ring->entries = params->sq_entries;
  ring->cq_entries = params->cq_entries;
  ring->features = params->features;
  ring->sq_head = (_Atomic uint32_t *)(ring->rings + params->sq_off.head);
  ring->cq_head = (_Atomic uint32_t *)(ring->rings + params->cq_off.head);
  ring->cq_tail = (_Atomic uint32_t *)(ring->rings + params->cq_off.tail);
  ring->sq_flags = (_Atomic uint32_t *)(ring->rings + params->sq_off.flags);
  ring->cq_mask = *(uint32_t *)(ring->rings + params->cq_off.ring_mask);
  ring->cqes = (struct uring_cqe *)(ring->rings + params->cq_off.cqes);
  /* Slot n always holds entry n: the indirection has no use here, and JavaScript never looks at it again. */
  uint32_t *array = (uint32_t *)(ring->rings + params->sq_off.array);
  for (uint32_t index = 0; index < params->sq_entries; index++) array[index] = index;
  *opened = ring;
  return 0;
}

int ring_register(int fd, uint32_t opcode, const void *argument, uint32_t count) {
  int64_t fault = fault_take(FAULT_REGISTER);
  if (fault != FAULT_NONE) return (int)fault;
  int result = (int)syscall(URING_SYS_REGISTER, fd, opcode, argument, count);
  return result < 0 ? -errno : result;
}

/* A signal is no reason to come back: the caller would only call again. */
int ring_enter(const struct ring *ring, uint32_t submit, uint32_t wait_for, uint32_t flags) {
  int result;
  do {
    int64_t fault = fault_take(FAULT_ENTER);
    if (fault != FAULT_NONE) result = (int)fault;
    else result = (int)syscall(URING_SYS_ENTER, ring->fd, submit, wait_for, flags, NULL, 0);
    if (fault == FAULT_NONE && result < 0) result = -errno;
  } while (result == -EINTR);
  return result;
}

static uint32_t ring_queued(const struct ring *ring) {
  uint32_t tail = atomic_load_explicit(ring->cq_tail, memory_order_acquire);
  return tail - atomic_load_explicit(ring->cq_head, memory_order_relaxed);
}

/* The kernel counts what is in the queue already towards `wait_for`, and clamps it to the queue's size: so do we. */
int ring_wait(const struct ring *ring, uint32_t wait_for) {
  if (wait_for > ring->cq_entries) wait_for = ring->cq_entries;
  while (ring_queued(ring) < wait_for) {
    int result = ring_enter(ring, 0, wait_for, URING_ENTER_GETEVENTS);
    if (result < 0) return result;
  }
  return 0;
}

/* Copies completions and leaves them: the same ones come again. */
uint32_t ring_peek(const struct ring *ring, struct uring_cqe *target, uint32_t max) {
  uint32_t count = ring_queued(ring);
  if (count > max) count = max;
  uint32_t head = atomic_load_explicit(ring->cq_head, memory_order_relaxed);
  for (uint32_t index = 0; index < count; index++) target[index] = ring->cqes[(head + index) & ring->cq_mask];
  return count;
}

/* Behind the head the kernel may write. */
bool ring_advance(struct ring *ring, uint32_t count) {
  if (count > ring_queued(ring)) return false;
  uint32_t head = atomic_load_explicit(ring->cq_head, memory_order_relaxed);
  atomic_store_explicit(ring->cq_head, head + count, memory_order_release);
  return true;
}

/* Entries the kernel has taken and not completed: each taken one makes one completion. */
uint32_t ring_in_kernel(const struct ring *ring) {
  uint32_t completed = atomic_load_explicit(ring->cq_tail, memory_order_acquire);
  return atomic_load_explicit(ring->sq_head, memory_order_acquire) - completed;
}

static uint32_t ring_copy(struct ring *ring, struct uring_cqe *target, uint32_t max) {
  uint32_t count = ring_peek(ring, target, max);
  ring_advance(ring, count);
  return count;
}

/* The kernel keeps completions that found the queue full, and brings them when it is entered. */
static bool ring_flush(const struct ring *ring) {
  uint32_t flags = atomic_load_explicit(ring->sq_flags, memory_order_relaxed);
  return (flags & URING_SQ_CQ_OVERFLOW) != 0 && ring_enter(ring, 0, 0, URING_ENTER_GETEVENTS) >= 0;
}

/* Zero only if the kernel keeps nothing back either. */
uint32_t ring_ready(const struct ring *ring) {
  uint32_t count = ring_queued(ring);
  return count == 0 && ring_flush(ring) ? ring_queued(ring) : count;
}

uint32_t ring_reap(struct ring *ring, struct uring_cqe *target, uint32_t max) {
  uint32_t count = ring_copy(ring, target, max);
  while (count < max && ring_flush(ring)) {
    uint32_t more = ring_copy(ring, target + count, max - count);
    if (more == 0) break;
    count += more;
  }
  return count;
}

/* Whether the kernel lets this process use a ring from end to end: sets one up, has it do nothing once. */
int ring_probe(uint32_t *features) {
  struct uring_params params;
  struct ring *ring;
  int result = ring_open(1, 0, 0, &params, &ring);
  if (result != 0) return result;
  *features = ring->features;
  /* The entry is all zeros, which is a NOP. */
  atomic_store_explicit((_Atomic uint32_t *)(ring->rings + params.sq_off.tail), 1, memory_order_release);
  int entered = ring_enter(ring, 1, 1, URING_ENTER_GETEVENTS);
  struct uring_cqe done;
  if (entered != 1) result = entered < 0 ? entered : -EIO;
  else if (ring_copy(ring, &done, 1) != 1) result = -EIO;
  else result = done.res;
  ring_free(ring);
  return result;
}
