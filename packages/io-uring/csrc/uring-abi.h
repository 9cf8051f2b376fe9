/*
 * What the kernel fixes about io_uring: numbers and structures of its user interface, as far as they are used here.
 *
 * Written down again instead of including <linux/io_uring.h>, so that the addon builds against the headers of any
 * distribution; the kernel never changes these. The assertions hold the sizes. JavaScript fills submission entries
 * word by word and takes 64-bit values apart into a low and a high word, which needs 64-bit pointers and a
 * little-endian machine.
 *
 * Source: include/uapi/linux/io_uring.h of Linux 6.1.
 */
#ifndef MILLRACE_URING_ABI_H
#define MILLRACE_URING_ABI_H

#include <stdint.h>

_Static_assert(sizeof(void *) == 8, "64-bit platforms only");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "little-endian platforms only");

/* The same on every architecture but alpha. */
#define URING_SYS_SETUP 425
#define URING_SYS_ENTER 426
#define URING_SYS_REGISTER 427

#define URING_OFFSET_RINGS 0ULL
#define URING_OFFSET_SQES 0x10000000ULL

#define URING_SETUP_CQSIZE (1U << 3)
#define URING_ENTER_GETEVENTS (1U << 0)
#define URING_SQ_CQ_OVERFLOW (1U << 1)

#define URING_FEATURE_SINGLE_MMAP (1U << 0)
#define URING_FEATURE_NODROP (1U << 1)
#define URING_FEATURE_SUBMIT_STABLE (1U << 2)
#define URING_FEATURE_RW_CUR_POS (1U << 3)

#define URING_REGISTER_BUFFERS 0
#define URING_UNREGISTER_BUFFERS 1
#define URING_REGISTER_FILES 2
#define URING_UNREGISTER_FILES 3
#define URING_REGISTER_FILES_UPDATE 6

#define URING_SQE_BYTES 64U

struct uring_sq_offsets {
  uint32_t head, tail, ring_mask, ring_entries, flags, dropped, array, reserved;
  uint64_t user_address;
};

struct uring_cq_offsets {
  uint32_t head, tail, ring_mask, ring_entries, overflow, cqes, flags, reserved;
  uint64_t user_address;
};

struct uring_params {
  uint32_t sq_entries, cq_entries, flags, sq_thread_cpu, sq_thread_idle, features, wq_fd, reserved[3];
  struct uring_sq_offsets sq_off;
  struct uring_cq_offsets cq_off;
};

struct uring_cqe {
  uint64_t user_data;
  int32_t res;
  uint32_t flags;
};

struct uring_files_update {
  uint32_t offset, reserved;
  uint64_t fds;
};

_Static_assert(sizeof(struct uring_params) == 120, "struct io_uring_params");
_Static_assert(sizeof(struct uring_cqe) == 16, "struct io_uring_cqe");
_Static_assert(sizeof(struct uring_files_update) == 16, "struct io_uring_files_update");

#endif
